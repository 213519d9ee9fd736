"""The outbox: one joined write a turn, nothing lost while the socket is full, nothing kept once the peer is gone."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.routing.outbox import Outbox, Turn


class Turns:
    """Runs what a `Turn` schedules, when told to."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.turn = Turn(self.scheduled.append)

    def end(self) -> None:
        scheduled, self.scheduled[:] = list(self.scheduled), []
        for call in scheduled:
            call()


class Counted:
    bytes_out = 0


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counts = Counted()
        self.turns = Turns()
        self.written: list[bytes] = []
        self.outbox = self.make(self.written.append)

    def make(self, write: Callable[[bytes], object], limit: int = 10) -> Outbox:
        return Outbox(self.turns.turn, write, limit, self.counts)

    def test_one_joined_write_a_turn(self) -> None:
        for data in (b"a", b"b", b"c"):
            self.outbox.put(data)
        self.assertEqual((self.written, len(self.turns.scheduled)), ([], 1))
        self.turns.end()
        self.assertEqual((self.written, self.counts.bytes_out), ([b"abc"], 3))

    def test_a_single_piece_is_not_copied(self) -> None:
        data = bytes(range(100))
        self.outbox.put(data)
        self.turns.end()
        self.assertIs(self.written[0], data)

    def test_one_schedule_for_all_outboxes_of_a_turn(self) -> None:
        other = self.make(self.written.append)
        self.outbox.put(b"a")
        other.put(b"b")
        self.outbox.put(b"c")
        self.assertEqual(len(self.turns.scheduled), 1)
        self.turns.end()
        self.assertEqual(self.written, [b"ac", b"b"])
        self.assertEqual(self.turns.scheduled, [])

    def test_the_first_lone_piece_of_a_turn_is_written_at_once(self) -> None:
        for _ in range(2):
            self.written.clear()
            self.outbox.put_alone(b"a")
            self.assertEqual((self.written, len(self.turns.scheduled)), ([b"a"], 1))
            self.assertTrue(self.outbox.offer_alone(b"b"))
            self.outbox.put_alone(b"c")
            self.assertEqual(self.written, [b"a"])
            self.turns.end()
            self.assertEqual(self.written, [b"a", b"bc"])
        self.assertEqual(self.counts.bytes_out, 6)

    def test_a_lone_piece_overtakes_nothing(self) -> None:
        self.outbox.put(b"a")
        self.outbox.put_alone(b"b")
        self.assertTrue(self.outbox.offer_alone(b"c"))
        self.assertEqual(self.written, [])
        self.turns.end()
        self.assertEqual(self.written, [b"abc"])
        self.outbox.block()
        self.outbox.put_alone(b"d")
        self.assertTrue(self.outbox.offer_alone(b"e" * 10))
        self.assertFalse(self.outbox.offer_alone(b"f"))
        self.assertEqual(self.written, [b"abc"])
        self.outbox.unblock()
        self.assertEqual(self.written, [b"abc", b"d" + b"e" * 10])
        self.outbox.clear()
        self.outbox.put_alone(b"g")
        self.assertFalse(self.outbox.offer_alone(b"h"))
        self.turns.end()
        self.assertEqual(len(self.written), 2)

    def test_the_next_turn_is_scheduled_anew(self) -> None:
        for _ in range(3):
            self.outbox.put(b"a")
            self.turns.end()
        self.assertEqual(self.written, [b"a"] * 3)

    def test_size_is_what_waits(self) -> None:
        self.outbox.put(b"abc")
        self.outbox.offer(b"d")
        self.assertEqual(self.outbox.size, 4)
        self.turns.end()
        self.assertEqual(self.outbox.size, 0)

    def test_best_effort_is_refused_over_the_limit(self) -> None:
        self.assertTrue(self.outbox.offer(b"x" * 9))
        self.assertTrue(self.outbox.offer(b"yy"))
        self.assertFalse(self.outbox.offer(b"z"))
        self.assertEqual(self.outbox.dropped, 1)
        self.outbox.put(b"!")
        self.turns.end()
        self.assertEqual(self.written, [b"x" * 9 + b"yy!"])
        self.assertTrue(self.outbox.offer(b"z"))

    def test_blocked_keeps_and_unblock_writes_at_once(self) -> None:
        self.outbox.block()
        self.outbox.put(b"a")
        self.outbox.offer(b"b")
        self.turns.end()
        self.assertEqual(self.written, [])
        self.outbox.unblock()
        self.assertEqual(self.written, [b"ab"])

    def test_blocked_between_put_and_the_end_of_the_turn(self) -> None:
        self.outbox.put(b"a")
        self.outbox.block()
        self.turns.end()
        self.outbox.put(b"b")
        self.turns.end()
        self.assertEqual(self.written, [])
        self.outbox.unblock()
        self.assertEqual(self.written, [b"ab"])

    def test_put_after_unblock_leaves_with_its_turn(self) -> None:
        self.outbox.block()
        self.outbox.put(b"a")
        self.outbox.unblock()
        self.outbox.put(b"b")
        self.turns.end()
        self.assertEqual(self.written, [b"a", b"b"])

    def test_block_and_unblock_within_a_turn(self) -> None:
        self.outbox.put(b"a")
        self.outbox.block()
        self.outbox.unblock()
        self.outbox.put(b"b")
        self.turns.end()
        self.turns.end()
        self.assertEqual(self.written, [b"a", b"b"])

    def test_unblock_with_nothing_writes_nothing(self) -> None:
        self.outbox.unblock()
        self.outbox.block()
        self.outbox.unblock()
        self.assertEqual(self.written, [])

    def test_put_while_writing_goes_into_the_next_turn(self) -> None:
        def write(data: bytes) -> None:
            self.written.append(data)
            if data == b"a":
                outbox.put(b"b")

        outbox = self.make(write)
        outbox.put(b"a")
        self.turns.end()
        self.assertEqual((self.written, len(self.turns.scheduled)), ([b"a"], 1))
        self.turns.end()
        self.assertEqual(self.written, [b"a", b"b"])

    def test_put_to_another_while_writing_goes_into_the_next_turn(self) -> None:
        first = self.make(lambda data: self.outbox.put(b"answer"))
        self.outbox.put(b"own")
        first.put(b"question")
        self.turns.end()
        self.turns.end()
        self.assertEqual(self.written, [b"own", b"answer"])

    def test_blocked_by_its_own_write(self) -> None:
        def write(data: bytes) -> None:
            self.written.append(data)
            outbox.block()
            outbox.put(b"more")

        outbox = self.make(write)
        outbox.put(b"a")
        self.turns.end()
        self.turns.end()
        self.assertEqual(self.written, [b"a"])
        outbox.unblock()
        self.assertEqual(self.written, [b"a", b"more"])

    def test_cleared_writes_nothing_any_more(self) -> None:
        self.outbox.put(b"a")
        self.outbox.clear()
        self.turns.end()
        self.outbox.put(b"b")
        self.outbox.unblock()
        self.turns.end()
        self.assertEqual(self.written, [])

    def test_cleared_keeps_nothing(self) -> None:
        for already in (b"", b"waiting"):
            outbox = self.make(self.written.append)
            if already:
                outbox.put(already)
            outbox.clear()
            for _ in range(100):
                outbox.put(b"x" * 100)
                self.assertFalse(outbox.offer(b"y"))
            self.assertEqual((outbox.size, outbox.chunks, outbox.dropped), (0, [], 100))

    def test_cleared_while_it_was_full(self) -> None:
        self.outbox.block()
        self.outbox.put(b"a")
        self.outbox.clear()
        self.outbox.put(b"b")
        self.outbox.unblock()
        self.assertEqual((self.written, self.outbox.size), ([], 0))

    def test_cleared_by_its_own_write(self) -> None:
        def write(data: bytes) -> None:
            self.written.append(data)
            outbox.clear()
            outbox.put(b"more")

        outbox = self.make(write)
        outbox.put(b"a")
        self.turns.end()
        self.turns.end()
        self.assertEqual((self.written, outbox.size), ([b"a"], 0))

    def test_a_write_that_raises_stops_nobody_else(self) -> None:
        def fail(data: bytes) -> None:
            raise OSError("broken")

        broken, other = self.make(fail), self.make(self.written.append)
        self.outbox.put(b"a")
        broken.put(b"b")
        other.put(b"c")
        self.assertRaises(OSError, self.turns.end)
        self.turns.end()
        self.assertEqual(self.written, [b"a", b"c"])
        other.put(b"d")
        self.turns.end()
        self.assertEqual(self.written, [b"a", b"c", b"d"])

    @given(st.lists(st.sampled_from(["put", "block", "unblock", "end"]), max_size=30))
    def test_nothing_is_lost_or_reordered(self, steps: list[str]) -> None:
        turns = Turns()
        written: list[bytes] = []
        outbox = Outbox(turns.turn, written.append, 1000, Counted())
        for number, step in enumerate(steps):
            if step == "put":
                outbox.put(b"%d," % number)
            elif step == "end":
                turns.end()
            else:
                getattr(outbox, step)()
        outbox.unblock()
        turns.end()
        wanted = b"".join(b"%d," % number for number, step in enumerate(steps) if step == "put")
        self.assertEqual((b"".join(written), outbox.size), (wanted, 0))
