"""A gateway's clock, and what it is booked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.bookings import FORGOTTEN, GUARD, Bookings
from broker.devices.lorawan.clock import KNOWN_FOR, GatewayClock

WRAP = 1 << 32


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = GatewayClock()

    def test_wrapping(self) -> None:
        start = self.clock.take(4_294_000_000, 100.0)
        self.assertEqual(self.clock.take(32_704, 101.0), start + 1_000_000)
        self.assertEqual(self.clock.reading(101.5), start + 1_500_000)
        self.assertEqual(self.clock.tmst(start + 1_500_000), 532_704)
        self.assertEqual(self.clock.tmst(start), 4_294_000_000)

    def test_known_only_for_a_while(self) -> None:
        self.assertFalse(self.clock.known(1.0))
        self.clock.take(5, 2.0)
        self.assertTrue(self.clock.known(2.0 + KNOWN_FOR))
        self.assertFalse(self.clock.known(2.1 + KNOWN_FOR))

    def test_a_packet_out_of_order(self) -> None:
        now = self.clock.take(5_000_000, 100.0)
        self.assertEqual(self.clock.take(4_900_000, 100.01), now - 100_000)
        self.assertEqual(self.clock.take(5_010_000, 100.02), now + 10_000)

    def test_started_again(self) -> None:
        """Its tmst begins anew, and its local time goes on: what was booked stays where it was."""
        now = self.clock.take(500_000_000, 100.0)
        again = self.clock.take(1_000, 101.0)
        self.assertEqual(again, now + 1_000_000)
        self.assertEqual(self.clock.tmst(again + 7), 1_007)
        self.assertEqual(self.clock.take(2_001_000, 103.0), again + 2_000_000)

    def test_silent_for_hours(self) -> None:
        now = self.clock.take(7, 100.0)
        hours = 3 * 3_600_000_000
        self.assertEqual(self.clock.take((7 + hours + 900) % WRAP, 100.0 + 3 * 3600), now + hours + 900)

    @given(st.lists(st.tuples(st.integers(0, 4_000_000_000), st.integers(-40_000, 40_000)), max_size=20))
    def test_it_never_goes_back_and_tells_the_gateway_its_own_time(self, packets: list[tuple[int, int]]) -> None:
        clock = GatewayClock()
        true, before = 0, None
        for step, delay in packets:
            true += step
            local = clock.take(true % WRAP, 1000.0 + (true + delay + 40_000) / 1e6)
            self.assertEqual(clock.tmst(local), true % WRAP)
            if before is not None:
                self.assertEqual(local - before[1], true - before[0])
            before = true, local


class BookingTests(SynchronousTestCase):
    def test_conflicts(self) -> None:
        bookings = Bookings()
        bookings.add(1_000_000, 2_000_000, 868_100_000)
        for start, end, free in (
            (0, 1_000_000 - GUARD, True),
            (0, 1_000_001 - GUARD, False),
            (1_500_000, 1_600_000, False),
            (0, 9_000_000, False),
            (2_000_000 + GUARD, 3_000_000, True),
            (1_999_999 + GUARD, 3_000_000, False),
        ):
            self.assertEqual(bookings.conflict(start, end) is None, free, (start, end))
        bookings.remove(1_000_000, 2_000_000)
        bookings.remove(1_000_000, 2_000_000)
        self.assertIsNone(bookings.conflict(1_500_000, 1_600_000))

    def test_at_once(self) -> None:
        """Nobody knows when that is, but of two such frames the second is later by as much as it was told later."""
        bookings = Bookings()
        bookings.add(0, 1_300_000, 1, 100_000)
        self.assertEqual(bookings.conflict(200_000, 300_000), 1_300_000 + GUARD)
        self.assertTrue(bookings.conflict_at_once(99_999 + GUARD, 1_500_000))
        self.assertFalse(bookings.conflict_at_once(100_000 + GUARD, 1_500_000))
        bookings.add(100_000 + GUARD, 1_500_000, 1, 200_000)
        self.assertEqual(bookings.free_from(0, 50_000), 1_500_000 + GUARD)
        bookings.add(2_000_000, 2_100_000, 1)
        self.assertFalse(bookings.conflict_at_once(400_000, 2_000_000 - GUARD))
        self.assertTrue(bookings.conflict_at_once(400_000, 2_000_001 - GUARD))

    def test_what_is_over_is_forgotten(self) -> None:
        bookings = Bookings()
        for second in range(1000):
            bookings.add(second * 1_000_000, second * 1_000_000 + 500_000, 1)
        self.assertLess(len(bookings._starts), 40)
        self.assertEqual(bookings.lately(999_600_000), FORGOTTEN // 1_000_000)

    @given(
        st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 300_000), st.sampled_from([1, 200_001]))),
        st.integers(0, 2_000_000),
        st.integers(1, 300_000),
    )
    def test_against_looking_at_every_one(self, wishes: list[tuple[int, int, int]], start: int, length: int) -> None:
        bookings = Bookings()
        spans: list[tuple[int, int, int]] = []
        for begin, long, frequency in wishes:
            free = all(begin + long <= other - GUARD or begin >= end + GUARD for other, end, _ in spans)
            self.assertEqual(bookings.conflict(begin, begin + long) is None, free)
            if free:
                bookings.add(begin, begin + long, frequency)
                spans.append((begin, begin + long, frequency))
        found = bookings.free_from(start, length)
        starts = [start, *(end + GUARD for _, end, _ in spans if end + GUARD > start)]
        self.assertEqual(
            found,
            min(
                at for at in starts if all(at + length <= begin - GUARD or at >= end + GUARD for begin, end, _ in spans)
            ),
        )
        clash = [end for begin, end, at in spans if at == 1 and begin < start + length and end > start]
        self.assertEqual(bookings.clash(start, start + length, 1), max(clash, default=None))
