"""The router: everybody who listens is told, whoever else fails."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from broker.model.interfaces import IConsumer
from broker.model.messages import DATA, Command, DeviceRef, Presence, Uplink
from broker.routing.router import Router

ONE, TWO = DeviceRef("p", "one"), DeviceRef("p", "two")


@implementer(IConsumer)
class Listening:
    """Keeps what it is told."""

    def __init__(self, name: str, heard: list[tuple[str, str, Any]]) -> None:
        self.name = name
        self.heard = heard

    def uplink(self, message: Uplink) -> None:
        self.heard.append((self.name, "uplink", message))

    def presence(self, change: Presence) -> None:
        self.heard.append((self.name, "presence", change))

    def command(self, change: Command) -> None:
        self.heard.append((self.name, "command", change))


class Failing(Listening):
    def uplink(self, message: Uplink) -> None:
        raise ValueError("uplink")

    def presence(self, change: Presence) -> None:
        raise ValueError("presence")

    def command(self, change: Command) -> None:
        raise ValueError("command")


class Choosy(Listening):
    def wants(self, device: DeviceRef, kind: str) -> bool:
        return device == ONE


class RouterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self.heard: list[tuple[str, str, Any]] = []
        self.router = Router(lambda what, error: self.faults.append((what, str(error))))

    def consumer(self, name: str) -> Listening:
        return Listening(name, self.heard)

    def tell(self, device: DeviceRef = ONE) -> tuple[Uplink, Presence, Command]:
        told = (
            Uplink(device, DATA, {}, 1.0),
            Presence(device, True, "connected", 1.0),
            Command("c", device.id, "p", {}, "admin", 1.0, 2.0),
        )
        self.router.uplink(told[0])
        self.router.presence(told[1])
        self.router.command(told[2])
        return told

    def names(self) -> list[str]:
        return [name for name, _, _ in self.heard]

    def test_the_fake_is_a_consumer(self) -> None:
        verifyObject(IConsumer, self.consumer("a"))

    def test_everything_is_told_as_it_is(self) -> None:
        self.router.listen(self.consumer("a"))
        uplink, presence, command = self.tell()
        self.assertEqual(self.heard, [("a", "uplink", uplink), ("a", "presence", presence), ("a", "command", command)])
        self.assertEqual(self.router.uplinks, 1)

    def test_one_device(self) -> None:
        self.router.listen(self.consumer("a"), "one")
        self.tell(ONE)
        self.tell(TWO)
        self.assertEqual({message.device for _, what, message in self.heard if what == "uplink"}, {ONE})
        self.assertEqual(len(self.heard), 3)

    def test_order_is_that_of_listening_everyone_first(self) -> None:
        self.router.listen(self.consumer("named"), "one")
        self.router.listen(self.consumer("a"))
        self.router.listen(self.consumer("b"))
        self.router.uplink(Uplink(ONE, DATA, {}, 1.0))
        self.assertEqual(self.names(), ["a", "b", "named"])

    def test_who_listens_quietly_hears_no_uplinks(self) -> None:
        quiet = self.consumer("quiet")
        self.router.listen_quietly(quiet)
        self.router.listen_quietly(quiet)
        self.router.listen(self.consumer("a"))
        self.tell()
        self.assertEqual(
            [(name, what) for name, what, _ in self.heard],
            [("a", "uplink"), ("a", "presence"), ("quiet", "presence"), ("a", "command"), ("quiet", "command")],
        )
        self.router.ignore_quietly(quiet)
        self.router.ignore_quietly(quiet)
        self.heard.clear()
        self.tell()
        self.assertEqual(set(self.names()), {"a"})

    def test_listening_twice_is_once(self) -> None:
        consumer = self.consumer("a")
        for device in (None, "one"):
            self.router.listen(consumer, device)
            self.router.listen(consumer, device)
        self.router.uplink(Uplink(ONE, DATA, {}, 1.0))
        self.assertEqual(len(self.heard), 2)

    def test_ignore(self) -> None:
        stay, go = self.consumer("stay"), self.consumer("go")
        for device in (None, "one"):
            for consumer in (stay, go):
                self.router.listen(consumer, device)
            self.router.ignore(go, device)
            self.router.ignore(go, device)
            self.router.ignore(go, "unknown")
        self.tell()
        self.assertEqual(set(self.names()), {"stay"})
        self.router.ignore(stay, "one")
        self.assertEqual(self.router._by_device, {})

    def test_those_that_only_look_equal_are_two(self) -> None:
        class Same(Listening):
            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]  # a consumer need not be hashable

        one, two = Same("one", self.heard), Same("two", self.heard)
        for device in (None, "one"):
            self.router.listen(one, device)
            self.router.listen(two, device)
        self.router.ignore(one)
        self.router.uplink(Uplink(ONE, DATA, {}, 1.0))
        self.assertEqual(self.names(), ["two", "one", "two"])

    def test_a_fault_stops_nobody(self) -> None:
        for device in (None, "one"):
            self.router.listen(Failing("bad", self.heard), device)
            self.router.listen(self.consumer("good"), device)
        self.tell()
        self.assertEqual(self.names(), ["good"] * 6)
        self.assertEqual(self.faults, [(what, what) for what in ("uplink", "presence", "command") for _ in range(2)])
        self.assertEqual(self.router.faults, 6)

    def test_a_change_while_telling_counts_from_the_next_message(self) -> None:
        router, late, leaving = self.router, self.consumer("late"), self.consumer("leaving")

        class Changing(Listening):
            def uplink(self, message: Uplink) -> None:
                for device in (None, "one"):
                    router.listen(late, device)
                    router.ignore(leaving, device)

        router.listen(Changing("changing", self.heard))
        for device in (None, "one"):
            router.listen(leaving, device)
        router.uplink(Uplink(ONE, DATA, {}, 1.0))
        router.uplink(Uplink(ONE, DATA, {}, 1.0))
        # Whom the first message reaches by name is looked up after everyone was told.
        self.assertEqual(self.names(), ["leaving", "late", "late", "late"])

    def test_what_nobody_wants_is_counted(self) -> None:
        router = self.router
        self.assertFalse(router.wanted(ONE, DATA))
        self.assertEqual(router.uplinks, 1)
        choosy = Choosy("choosy", self.heard)
        router.listen(choosy)
        self.assertEqual([router.wanted(one, DATA) for one in (ONE, TWO)], [True, False])
        self.assertEqual((router.uplinks, self.heard), (2, []))

    def test_who_listens_to_one_device_wants_its_uplinks(self) -> None:
        listening = Listening("one", self.heard)
        self.router.listen(listening, "one")
        self.assertEqual([self.router.wanted(one, DATA) for one in (ONE, TWO)], [True, False])
        self.router.ignore(listening, "one")
        self.assertFalse(self.router.wanted(ONE, DATA))

    def test_who_does_not_say_wants_everything(self) -> None:
        listening = Listening("all", self.heard)
        self.router.listen(Choosy("choosy", self.heard))
        self.router.listen(listening)
        self.assertTrue(self.router.wanted(TWO, DATA))
        self.router.ignore(listening)
        self.assertFalse(self.router.wanted(TWO, DATA))
