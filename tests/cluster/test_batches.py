"""What goes out in one piece, and how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.cluster import bus as bus_module
from broker.cluster.batches import Batches
from broker.cluster.bus import Bus
from broker.cluster.wire import open_envelope


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turn: list[Callable[[], None]] = []
        self.sent: list[tuple[list[bytes], Deferred[Any]]] = []

    def send(self, items: list[bytes]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.sent.append((items, answer))
        return answer

    def pieces(self, batches: Batches[bytes], *items: bytes) -> list[list[bytes]]:
        for item in items:
            batches.add(item)
        while self.turn:
            self.turn.pop()()
            if self.sent and not self.sent[-1][1].called:
                self.sent[-1][1].callback(None)
        return [piece for piece, _ in self.sent]

    def test_so_many(self) -> None:
        batches = Batches(self.send, self.turn.append, 2)
        self.assertEqual(self.pieces(batches, b"1", b"2", b"3"), [[b"1", b"2"], [b"3"]])
        self.assertTrue(batches.idle)

    def test_so_much(self) -> None:
        batches: Batches[bytes] = Batches(self.send, self.turn.append, 3, len, 10)
        items = (b"1" * 4, b"2" * 4, b"3" * 4, b"4" * 30, b"5", b"6", b"7", b"8")
        expected = [[*items[:2]], [items[2]], [items[3]], [*items[4:7]], [items[7]]]
        self.assertEqual(self.pieces(batches, *items), expected)
        self.assertEqual(batches.weight, 0)
        batches.add(b"123")
        self.assertEqual((batches.weight, batches.clear(), batches.weight), (3, [b"123"], 0))

    def test_what_waits_for_a_channel_is_bounded_in_bytes(self) -> None:
        self.patch(bus_module, "MAX_WAITING_BYTES", 100)
        published: list[bytes] = []

        def call(*arguments: Any) -> Deferred[Any]:
            published.append(arguments[2])
            return Deferred()

        bus = Bus(call, self.turn.append, None, "p:", lambda: "a.1")
        for _ in range(5):
            bus.cast("mqtt", b"x" * 60, "b.1")
        self.turn.pop()()
        self.assertEqual([len(open_envelope(one)[2]) for one in published], [2])
        self.assertEqual((bus.counts.sent, bus.counts.dropped), (2, 3))
