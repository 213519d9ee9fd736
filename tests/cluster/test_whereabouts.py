"""Who is connected where, as every process knows it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.cluster.lives import LivesAcross
from broker.cluster.presence import PresenceAcross, Whereabouts
from broker.model.messages import DeviceRef, Presence
from broker.routing.live import LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from tests.cluster.hub import Hub

REF = DeviceRef("novacloud", "d")


class Link:
    protocol, peer = "novacloud", "192.0.2.1"

    def close_link(self, reason: str) -> None: ...


class Process:
    def __init__(self, hub: Hub, node: str) -> None:
        self.faults: list[BaseException] = []
        self.router = Router(lambda what, error: self.faults.append(error))
        self.devices = LiveDevices(self.router, lambda: 5.0)
        self.whereabouts = Whereabouts()
        self.told: list[tuple[bool, str]] = []
        self.whereabouts.listeners.append(self._told)
        plane = hub.join(node)
        PresenceAcross(plane, self.router, self.devices, self.whereabouts, lambda: 9.0).begin()
        self.lives = LivesAcross(plane, self.devices, self.whereabouts)
        self.lives.begin()

    def _told(self, change: Presence) -> None:
        self.told.append((change.online, change.reason))

    def connect(self) -> Any:
        link: Any = Link()
        values = LastValues({"temperature": (21.5, 4.0)}, {})
        return self.devices.attach(REF, link, lambda: (values, {"sw": "1"}))


class WhereaboutsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hub = Hub()
        self.a, self.b = Process(self.hub, "a"), Process(self.hub, "b")

    def tearDown(self) -> None:
        self.assertEqual(self.a.faults + self.b.faults, [])

    def where(self, process: Process) -> str:
        return process.whereabouts.node_of("d")

    def test_it_comes_and_goes(self) -> None:
        live = self.a.connect()
        self.assertEqual((self.where(self.a), self.where(self.b)), ("", "a"))
        self.a.devices.detach(live, live.link, "client_closed")
        self.assertEqual(self.where(self.b), "")
        self.assertEqual(self.b.told, [(True, "connected"), (False, "client_closed")])

    def test_it_moves(self) -> None:
        live = self.a.connect()
        self.b.connect()
        self.assertEqual((self.where(self.a), self.where(self.b)), ("b", ""))
        self.a.devices.surrender(live)
        self.assertEqual(self.where(self.a), "b")

    def test_who_has_lost_it_is_not_believed(self) -> None:
        c = Process(self.hub, "c")
        live = self.a.connect()
        self.b.connect()
        self.a.devices.detach(live, live.link, "idle")  # noticed late
        self.assertEqual(self.where(c), "b")

    def test_its_process_dies(self) -> None:
        self.a.connect()
        self.hub.kill("a")
        self.assertEqual((self.where(self.b), self.b.told[-1]), ("", (False, "lost")))
        self.assertEqual([change.device.id for change in self.b.whereabouts.lost()], ["d"])
        self.b.connect()
        self.assertEqual(self.b.whereabouts.lost(), [])

    def test_one_that_starts_later_is_told(self) -> None:
        self.a.connect()
        c = Process(self.hub, "c")
        self.assertEqual((self.where(c), c.whereabouts.by_protocol()), ("a", {"novacloud": 1}))

    def test_what_is_known_there(self) -> None:
        live = self.a.connect()
        live.last_seen = 8.0
        found = self.successResultOf(self.b.lives.of(["d", "nothing"]))
        self.assertEqual(list(found), ["d"])
        far = found["d"]
        self.assertEqual((far.last_seen, far.peer, far.info), (8.0, "192.0.2.1", {"sw": "1"}))
        self.assertEqual(far.values["temperature"][0], 21.5)
        self.assertEqual(self.successResultOf(self.a.lives.of(["d"])), {})
