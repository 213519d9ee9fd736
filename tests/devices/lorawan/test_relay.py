"""The network in several processes: whose it is, and what a process does that others took for dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import TestCase

from broker.model.cluster import Taken
from broker.model.errors import Unavailable
from tests.devices.lorawan.bed import GATEWAY, OTHER, Bed, Forwarder


class Plane:
    """A backplane with a directory of one entry. ``owner``: who has the network, "" for nobody."""

    alone = False

    def __init__(self, owner: str = "") -> None:
        self.node = "us.1"
        self.owner = owner
        self.away = False
        #: To whom datagrams were passed on.
        self.passed_on: list[str] = []
        self._fenced: list[Callable[[], object]] = []
        self._joined: list[Callable[[], Any]] = []

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        if self.away:
            return fail(Unavailable("Redis is away"))
        before = self.owner
        self.owner = self.owner or self.node
        return succeed(Taken(self.owner == self.node, before, ""))

    def find(self, space: str, key: str) -> Deferred[Taken]:
        return succeed(Taken(False, self.owner, ""))

    def cast(self, kind: str, body: bytes, node: str | None = None) -> None:
        if kind == "lora.up":
            self.passed_on.append(node or "")

    def hear(self, kind: str, call: Any) -> None:
        """Nobody says anything."""

    def answer(self, kind: str, call: Any) -> None:
        """Nobody asks for anything."""

    def others(self) -> tuple[str, ...]:
        return ()

    def watch(self, fenced: Any = None, joined: Any = None, **others: Any) -> None:
        self._fenced += [fenced] if fenced else []
        self._joined += [joined] if joined else []

    def fence(self, owner: str) -> None:
        """Others took us for dead, and the network with it."""
        self.node, self.owner = "", owner
        for call in self._fenced:
            call()

    def join(self, node: str) -> list[Deferred[Any]]:
        self.node = node
        return [Deferred.fromCoroutine(call()) for call in self._joined]


class RelayTests(TestCase):
    def setUp(self) -> None:
        self.plane = Plane()
        self.bed = Bed(backplane=self.plane)
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))

    @property
    def relay(self) -> Any:
        return self.bed.listener.relay

    def join(self, node: str) -> None:
        for joined in self.plane.join(node):
            self.successResultOf(joined)

    def test_the_first_has_it(self) -> None:
        self.assertEqual((self.relay.leads, self.plane.owner, self.relay.trouble()), (True, "us.1", ""))

    def test_what_was_under_way_is_dropped_at_a_fence(self) -> None:
        """The window of a frame is open: whoever has the network by now has heard it through other gateways."""
        mote, forwarder = self.bed.abp(), self.bed.forwarder()
        mote.says(b"\x01", forwarder, confirmed=True)
        writes = self.bed.storage.writes
        self.plane.fence("other.2")
        self.bed.advance(5.0)
        self.assertEqual((self.bed.heard.payloads(), forwarder.sent()), ([], []))
        self.assertEqual((self.bed.storage.writes, self.relay.leads), (writes, False))

    def test_datagrams_are_passed_on_once_it_is_anothers(self) -> None:
        mote, forwarder = self.bed.abp(), self.bed.forwarder()
        self.plane.fence("other.2")
        mote.says(b"\x01", forwarder)
        self.assertEqual((self.plane.passed_on, self.relay.lost), ([], 1))
        self.join("us.3")
        mote.says(b"\x02", forwarder)
        self.assertEqual(self.plane.passed_on, ["other.2"])
        self.assertEqual(len(self.bed.network.motes), 1)  # for who asks what is registered

    def test_it_has_the_network_again_when_the_other_is_gone(self) -> None:
        """With the counters that are on disk by then, and not those that it knew."""
        mote, forwarder = self.bed.abp(), self.bed.forwarder()
        mote.says(b"\x01", forwarder)
        self.bed.advance(3.0)
        self.plane.fence("other.2")
        self.join("us.3")
        other = Bed(self.bed.storage, self.bed.clock, backplane=Plane())
        far = Forwarder(other, OTHER, "192.0.2.2", 2)
        far.pull()
        while_away = mote.says(b"\x02", far)
        other.advance(3.0)
        self.assertEqual(other.heard.payloads(), [b"\x02"])
        other.network.stop()

        self.plane.owner = ""
        self.relay._left("other.2")
        self.assertTrue(self.relay.leads)
        forwarder.pull()
        forwarder.hears(while_away)
        mote.says(b"\x03", forwarder)
        self.bed.command(b"\x09", mote)
        self.bed.advance(3.0)
        self.assertEqual(self.bed.heard.payloads(), [b"\x01", b"\x03"])
        (down,) = [mote.reads(frame) for frame in forwarder.frames()]
        self.assertEqual(down.payload, b"\x09")

    def test_a_fence_while_it_is_read(self) -> None:
        self.plane.owner = "other.2"
        self.bed = bed = Bed(self.bed.storage, self.bed.clock, backplane=self.plane)
        bed.abp()
        self.assertFalse(self.relay.leads)
        self.plane.owner, bed.storage.held = "", True
        self.relay._left("other.2")
        self.plane.fence("third.4")
        for _ in range(20):
            bed.storage.go_on()
        bed.storage.held = False
        self.assertEqual((self.relay.leads, len(bed.network.motes)), (False, 0))

    def test_the_directory_is_away(self) -> None:
        self.plane.fence("")
        self.plane.away = True
        (joined,) = self.plane.join("us.3")
        self.failureResultOf(joined, Unavailable)
        self.assertEqual(self.relay.trouble(), "no process has the LoRaWAN network")
        self.plane.away = False
        self.relay.tick()
        self.assertTrue(self.relay.leads)
        self.assertEqual(Forwarder(self.bed, GATEWAY, "192.0.2.1", 2).asked, [])
