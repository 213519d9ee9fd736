"""Live devices: who is the way to a device, and who may say that it is gone."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from broker.model.interfaces import IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from tests.routing.fakes import FakeLink

REF = DeviceRef("novacloud", "d-1")


@implementer(IConsumer)
class Presences:
    def __init__(self) -> None:
        self.heard: list[tuple[str, bool, str, float]] = []

    def uplink(self, message: Uplink) -> None:
        raise AssertionError(message)

    def command(self, change: Command) -> None:
        raise AssertionError(change)

    def presence(self, change: Presence) -> None:
        self.heard.append((change.device.id, change.online, change.reason, change.at))


class LiveDevicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.faults: list[BaseException] = []
        self.router = Router(lambda what, error: self.faults.append(error))
        self.presences = Presences()
        self.router.listen(self.presences)
        self.devices = LiveDevices(self.router, lambda: self.now)
        self.asked = 0

    def known(self) -> tuple[LastValues, dict[str, Any]]:
        self.asked += 1
        return LastValues({"t": (1, 1.0)}), {"version": "1"}

    def attach(self, link: FakeLink, ref: DeviceRef = REF) -> LiveDevice:
        return self.devices.attach(ref, link, self.known)

    def test_attach(self) -> None:
        link = FakeLink()
        live = self.attach(link)
        self.assertIs(self.devices.get("d-1"), live)
        self.assertIs(live.link, link)
        self.assertEqual(
            (live.online, live.ready, live.late, live.since, live.last_seen), (True, False, False, 100, 100)
        )
        self.assertEqual((live.values.values, live.info), ({"t": (1, 1.0)}, {"version": "1"}))
        self.assertEqual(self.presences.heard, [("d-1", True, "connected", 100.0)])
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 1})
        self.assertEqual((list(self.devices), len(self.devices)), ([live], 1))

    def test_detach(self) -> None:
        link = FakeLink()
        live = self.attach(link)
        live.ready = True
        self.now = 110.0
        self.assertTrue(self.devices.detach(live, link, "idle"))
        self.assertEqual((live.online, live.ready, live.since, live.presence_reason), (False, False, 110.0, "idle"))
        self.assertEqual(self.presences.heard[1:], [("d-1", False, "idle", 110.0)])
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 0})
        self.assertFalse(self.devices.detach(live, link, "idle"))
        self.assertEqual(len(self.presences.heard), 2)

    def test_takeover(self) -> None:
        old, new = FakeLink(), FakeLink()
        live = self.attach(old)
        live.ready = live.late = True
        self.now = 110.0
        self.assertIs(self.attach(new), live)
        self.assertEqual((old.closed, new.closed), (["takeover"], []))
        self.assertIs(live.link, new)
        self.assertEqual((live.ready, live.late, live.since), (False, False, 110.0))
        self.assertFalse(self.devices.detach(live, old, "takeover"))
        self.assertTrue(live.online)
        self.assertEqual(len(self.presences.heard), 1)
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 1})

    def test_takeovers_are_told(self) -> None:
        told: list[LiveDevice] = []

        def fails(live: LiveDevice) -> None:
            raise RuntimeError("never mind")

        self.devices.on_takeover += [fails, told.append]
        one = FakeLink()
        live = self.attach(one)
        self.attach(one)
        self.assertEqual(told, [])
        self.attach(FakeLink())
        self.assertEqual((told, [str(error) for error in self.faults]), ([live], ["never mind"]))

    def test_an_old_link_that_detaches_while_it_is_closed(self) -> None:
        old, new = FakeLink(), FakeLink()
        live = self.attach(old)
        old.on_close = lambda: self.assertFalse(self.devices.detach(live, old, "takeover"))
        self.attach(new)
        self.assertEqual(old.closed, ["takeover"])
        self.assertIs(live.link, new)
        self.assertEqual(len(self.presences.heard), 1)

    def test_the_same_link_again_changes_nothing(self) -> None:
        link = FakeLink()
        live = self.attach(link)
        live.ready = True
        self.assertIs(self.attach(link), live)
        self.assertEqual((link.closed, live.ready), ([], True))
        self.assertEqual(len(self.presences.heard), 1)
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 1})

    def test_storage_is_asked_only_when_nothing_newer_is_here(self) -> None:
        link = FakeLink()
        live = self.attach(link)
        live.values.update({"t": 2}, 50.0)
        self.devices.detach(live, link, "idle")
        self.assertIs(self.attach(FakeLink()), live)
        self.assertEqual((self.asked, live.values.values), (1, {"t": (2, 50.0)}))
        self.assertEqual([online for _, online, _, _ in self.presences.heard], [True, False, True])

    def test_forget(self) -> None:
        link = FakeLink()
        live = self.attach(link)
        self.devices.forget(live)
        self.assertIs(self.devices.get("d-1"), live)
        self.devices.detach(live, link, "idle")
        self.devices.forget(live)
        self.assertIsNone(self.devices.get("d-1"))
        again = self.attach(FakeLink())
        self.assertIsNot(again, live)
        self.devices.forget(live)
        self.assertIs(self.devices.get("d-1"), again)
        self.assertEqual(self.asked, 2)

    def test_an_id_that_was_given_to_a_device_of_another_protocol(self) -> None:
        link = FakeLink()
        self.devices.detach(self.attach(link), link, "removed")
        live = self.attach(FakeLink(), DeviceRef("lorawan", "d-1"))
        self.assertEqual(live.ref.protocol, "lorawan")
        self.assertEqual(self.asked, 2)
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 0, "lorawan": 1})

    def test_online_is_counted_by_protocol(self) -> None:
        links = [FakeLink() for _ in range(4)]
        lives = [self.attach(link, DeviceRef("ab"[number % 2], str(number))) for number, link in enumerate(links)]
        self.devices.detach(lives[0], links[0], "idle")
        self.assertEqual(self.devices.online_by_protocol, {"a": 1, "b": 2})

    def test_devices_may_come_and_go_while_they_are_looked_at(self) -> None:
        links = {str(number): FakeLink() for number in range(3)}
        for name, link in links.items():
            self.attach(link, DeviceRef("p", name))
        for live in self.devices:
            self.devices.detach(live, links[live.ref.id], "idle")
            self.devices.forget(live)
            self.attach(FakeLink(), DeviceRef("p", "new" + live.ref.id))
        self.assertEqual(sorted(live.ref.id for live in self.devices), ["new0", "new1", "new2"])

    def test_a_consumer_that_closes_the_link_when_told(self) -> None:
        link = FakeLink()
        devices = self.devices

        class Closing(Presences):
            def presence(self, change: Presence) -> None:
                live = devices.get(change.device.id)
                if change.online and live is not None:
                    devices.detach(live, link, "removed")

        self.router.listen(Closing())
        live = self.attach(link)
        self.assertFalse(live.online)
        self.assertEqual(self.devices.online_by_protocol, {"novacloud": 0})
        self.assertEqual(self.faults, [])

    def test_repeated_attachment_by_many_links_closes_each_once(self) -> None:
        links = [FakeLink() for _ in range(5)]
        for link in links:
            self.attach(link)
        self.assertEqual([link.closed for link in links], [["takeover"]] * 4 + [[]])
