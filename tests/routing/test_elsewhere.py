"""What the routing knows of other processes: who listens here, what they are told, and devices that go away."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from broker.model.errors import Invalid, LimitExceeded, NotFound
from broker.model.interfaces import IConsumer, IFarConsumer
from broker.model.messages import DATA, Command, DeviceRef, Presence, Uplink
from broker.routing.live import LiveDevices
from broker.routing.router import Router
from broker.routing.traces import IN, TracedPacket, Traces
from broker.routing.values import LastValues

ONE = DeviceRef("p", "one")


@implementer(IFarConsumer)
class Far:
    """Wants to hear of devices elsewhere."""

    def __init__(self, *wanted: str) -> None:
        self.wanted = set(wanted)
        self.heard: list[Any] = []

    def interests(self) -> set[str]:
        return self.wanted

    def uplink(self, message: Uplink) -> None:
        if message.payload == {"fail": True}:
            raise ValueError("uplink")
        self.heard.append(message)

    def presence(self, change: Presence) -> None:
        self.heard.append(change)

    def command(self, change: Command) -> None:
        self.heard.append(change)


@implementer(IConsumer)
class Near:
    """Hears of devices here alone."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def uplink(self, message: Uplink) -> None:
        self.heard.append(message)

    def presence(self, change: Presence) -> None:
        self.heard.append(change)

    def command(self, change: Command) -> None:
        self.heard.append(change)


class Link:
    """A connection that can be traced."""

    def __init__(self) -> None:
        self.tells: list[Any] = []

    def trace(self, tell: Any) -> None:
        self.tells.append(tell)


class FarTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self.router = Router(lambda what, error: self.faults.append((what, str(error))))

    def test_interests_are_those_of_all_who_have_some(self) -> None:
        consumers: tuple[Any, ...] = (Far("d:one", "a:app"), Near(), Far("d:two"))
        for consumer in consumers:
            self.router.listen(consumer)
        self.assertEqual(self.router.interests(), {"d:one", "a:app", "d:two"})

    def test_only_those_with_interests_are_told_and_a_fault_stops_nobody(self) -> None:
        first, near, last = Far(), Near(), Far()
        consumers: tuple[Any, ...] = (first, near, last)
        for consumer in consumers:
            self.router.listen(consumer)
        said = Uplink(ONE, DATA, {"n": 1}, 1.0)
        gone = Presence(ONE, False, "timeout", 2.0)
        self.router.told_elsewhere("uplink", said)
        self.router.told_elsewhere("presence", gone)
        self.assertEqual((first.heard, near.heard, last.heard), ([said, gone], [], [said, gone]))
        self.router.told_elsewhere("uplink", Uplink(ONE, DATA, {"fail": True}, 3.0))
        self.assertEqual((self.faults, self.router.faults), ([("uplink", "uplink")] * 2, 2))
        self.assertEqual(self.router.uplinks, 0)  # they are counted where they came in


class SurrenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told = Near()
        self.router = Router(lambda what, error: self.fail(f"{what}: {error}"))
        self.router.listen(self.told)
        self.devices = LiveDevices(self.router, self.clock.seconds)

    def test_a_device_that_is_elsewhere_now_goes_without_a_word(self) -> None:
        link: Any = Link()
        live = self.devices.attach(ONE, link, lambda: (LastValues(), {}))
        before = len(self.told.heard)
        self.assertEqual(self.devices.online_by_protocol["p"], 1)
        self.assertIs(self.devices.surrender(live), link)
        self.assertIsNone(self.devices.get("one"))
        self.assertEqual(self.devices.online_by_protocol["p"], 0)
        self.assertIsNone(self.devices.surrender(live))  # a second time nothing is counted down
        self.assertEqual(self.devices.online_by_protocol["p"], 0)
        self.assertEqual(len(self.told.heard), before)


class TraceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        router = Router(lambda what, error: self.fail(f"{what}: {error}"))
        self.devices = LiveDevices(router, self.clock.seconds)
        self.traces = Traces(self.devices, self.clock.seconds, max_devices=2, max_seconds=100.0)
        self.changes: list[tuple[str, float]] = []
        self.traces.on_change.append(lambda device, seconds: self.changes.append((device, seconds)))

    def attach(self, name: str = "one") -> Link:
        link = Link()
        taken: Any = link
        self.devices.attach(DeviceRef("p", name), taken, lambda: (LastValues(), {}))
        return link

    def test_what_may_not_be_traced(self) -> None:
        for seconds in (0.0, -1.0, 100.5):
            self.assertRaises(Invalid, self.traces.begin, "one", seconds)
        self.traces.begin("one", 100.0)
        self.traces.begin("two", 1.0)
        self.assertRaises(LimitExceeded, self.traces.begin, "three", 1.0)
        self.assertEqual(self.traces.begin("two", 5.0), 5.0)  # who is traced already may be for longer
        self.assertRaises(NotFound, self.traces.end, "three")
        self.assertEqual(self.changes, [("one", 100.0), ("two", 1.0), ("two", 5.0)])

    def test_one_that_another_process_has_begun_and_ended(self) -> None:
        link = self.attach()
        self.traces.follow("one", 10.0)
        self.assertEqual(self.traces.until("one"), 10.0)
        self.assertEqual([tell is not None for tell in link.tells], [True])
        self.traces.follow("one", 20.0)  # longer: the connection knows already
        self.assertEqual((self.traces.every(), len(link.tells)), ([("one", 20.0)], 1))
        self.traces.follow("one", 0.0)
        self.assertEqual((self.traces.every(), link.tells[1:]), ([], [None]))
        self.assertEqual(self.changes, [])  # nobody is told of what others have begun

    def test_packets_of_connections_elsewhere_reach_those_who_watch_here(self) -> None:
        seen: list[TracedPacket] = []
        self.traces.watchers.append(seen.append)
        packet = TracedPacket("one", "p", IN, b"\x01\xff", {"kind": "hb"}, 1.23456)
        self.traces.told_elsewhere(packet)
        self.assertEqual(seen, [packet])
        self.assertEqual(
            packet.as_dict(),
            {
                "device": "one",
                "protocol": "p",
                "direction": "in",
                "at": 1.235,
                "raw": "01ff",
                "decoded": {"kind": "hb"},
            },
        )
        self.assertIsNone(TracedPacket("one", "p", IN, None, {}, 0.0).as_dict()["raw"])  # it holds secrets
