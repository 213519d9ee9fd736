"""Air time of an hour, against an oracle that looks at every emission and every hour where something could change."""

from __future__ import annotations

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.air import AirTime, Emission
from broker.devices.lorawan.ledger import HOUR, Ledger
from broker.devices.lorawan.regions import EU868, Band

#: Start, end of the span, length.
Entry = tuple[int, int, int]

BAND = Band(868_000_000, 868_600_000, 0.01)


def air(entries: list[Entry], begin: int) -> int:
    """The most that can be on air in the hour that begins then."""
    return sum(
        min(length, max(0, min(end, begin + HOUR) - max(start, begin)))
        if min(end, begin + HOUR) > max(start, begin)
        else 0
        for start, end, length in entries
    )


def lawful(entries: list[Entry], allowed: int) -> bool:
    """Whether no hour has more; the air time of an hour changes its direction at ends and beginnings only."""
    edges = {
        edge - offset
        for start, end, length in entries
        for edge in (start, end, start + length, end - length)
        for offset in (0, HOUR)
    }
    return all(air(entries, edge) <= allowed for edge in edges)


def overlap(entries: list[Entry], new: Entry) -> bool:
    """Whether two would, if all begin as early as they may, or all as late, or are not in the same order then."""
    start, end, length = new
    for one, until, long in entries:
        before = one + long <= start and until <= end - length
        after = start + length <= one and end <= until - long
        if not before and not after:
            return True
    return False


#: Many at the edges of hours, where it matters: a place is an hour, and a little.
places = st.builds(
    lambda hour, tick: hour * HOUR + tick * 500_000, st.integers(0, 2), st.integers(0, 40)
) | st.integers(0, 3 * HOUR)
lengths = st.sampled_from([1, 250_000, 500_000, 1_000_000, 1_500_000]) | st.integers(1, 3_000_000)
entries_of = st.tuples(places, lengths, st.sampled_from([0, 0, 0, 250_000, 1_200_000]))
allowances = st.sampled_from([2_000_000, 3_000_000, 3_600_000, 5_000_000])


class LedgerTests(SynchronousTestCase):
    @settings(max_examples=400, deadline=None)
    @given(st.lists(entries_of, max_size=25), allowances)
    def test_the_law_holds_in_any_order_of_booking(self, wishes: list[tuple[int, int, int]], allowed: int) -> None:
        ledger = Ledger()
        entries: list[Entry] = []
        for start, length, slack in wishes:
            new = (start, start + length + slack, length)
            if overlap(entries, new):
                continue
            fits = ledger.wait(*new, allowed) == 0
            self.assertEqual(fits, lawful([*entries, new], allowed), (entries, new))
            if fits:
                ledger.add(*new)
                entries.append(new)
        self.assertEqual(list(ledger), sorted(entries))

    @settings(max_examples=400, deadline=None)
    @given(st.lists(entries_of, max_size=25), st.lists(entries_of, max_size=4), allowances, entries_of)
    @example([(0, 2_000_000, 0)], [], 2_000_000, (HOUR - 500_000, 500_000, 0))
    def test_the_wait_is_exact(
        self, past: list[Entry], ahead: list[Entry], allowed: int, wish: tuple[int, int, int]
    ) -> None:
        """At that time it is lawful, and a microsecond before it is not, nor at any edge before."""
        ledger = Ledger()
        entries: list[Entry] = []
        for start, length, slack in [*past, *ahead]:
            new = (start, start + length + slack, length)
            if not overlap(entries, new) and ledger.wait(*new, allowed) == 0:
                ledger.add(*new)
                entries.append(new)
        kept = list(ledger)
        start, length, slack = 2 * HOUR + 10_000_000 + wish[0] % HOUR, wish[1], wish[2]
        entries = [entry for entry in kept if entry[0] < start + 60_000_000]
        for entry in kept:
            if entry not in entries:
                ledger.remove(*entry)
        wait = ledger.wait(start, start + length + slack, length, allowed)
        if length > allowed:
            self.assertIsNone(wait)
            return
        assert wait is not None

        def at(time: int) -> Entry:
            return start + time, start + time + length + slack, length

        self.assertTrue(overlap(entries, at(wait)) or lawful([*entries, at(wait)], allowed))
        earlier = {wait - 1, wait - 10_000}
        earlier |= {edge + HOUR - length - start for _, end, long in entries for edge in (end, end - long)}
        for one in earlier:
            if 0 <= one < wait and not overlap(entries, at(one)):
                self.assertFalse(lawful([*entries, at(one)], allowed), (entries, at(one), wait))

    @given(st.lists(entries_of, max_size=25), st.data())
    def test_removed(self, wishes: list[tuple[int, int, int]], data: st.DataObject) -> None:
        ledger, other = Ledger(), Ledger()
        entries: list[Entry] = []
        for start, length, slack in sorted(wishes):
            new = (start, start + length + slack, length)
            if not overlap(entries, new):
                entries.append(new)
        gone = data.draw(st.lists(st.sampled_from(entries), unique=True)) if entries else []
        for entry in entries:
            ledger.add(*entry)
        for entry in gone:
            ledger.remove(*entry)
            self.assertFalse(ledger.remove(*entry))
        for entry in entries:
            if entry not in gone:
                other.add(*entry)
        for place in range(0, 3 * HOUR, HOUR // 7):
            self.assertEqual(ledger.used(place), other.used(place))
            self.assertEqual(
                ledger.wait(place, place + 100, 100, 3_000_000), other.wait(place, place + 100, 100, 3_000_000)
            )

    def test_used(self) -> None:
        ledger = Ledger()
        ledger.add(0, 1_000_000, 1_000_000)
        ledger.add(5_000_000, 7_000_000, 500_000)
        self.assertEqual(
            [ledger.used(at) for at in (0, 400_000, 1_000_000, 5_300_000, 6_000_000, HOUR + 250_000, 2 * HOUR)],
            [0, 400_000, 1_000_000, 1_300_000, 1_500_000, 1_250_000, 0],
        )

    def test_hours_that_begin_before_later_bookings(self) -> None:
        """What lies between now and a booking is bound by the hour that ends with that booking."""
        ledger = Ledger()
        ledger.add(0, 1_000_000, 1_000_000)
        ledger.add(HOUR - 1_000_000, HOUR, 1_000_000)
        # The hour up to its own end has room, but not the one up to the end of what is booked.
        at = HOUR - 3_000_000
        self.assertNotEqual(ledger.wait(at, at + 500_000, 500_000, 2_000_000), 0)
        self.assertEqual(ledger.wait(at, at + 500_000, 500_000, 2_500_000), 0)

    def test_the_cost_does_not_grow(self) -> None:
        """A full hour of the largest band, two months long: entries are bounded, and so is the time for each."""
        ledger = Ledger()
        started, at = time.process_time(), 0
        for _ in range(20_000):
            wait = ledger.wait(at, at + 40_000, 40_000, 36_000_000)
            assert wait is not None
            at += wait
            ledger.add(at, at + 40_000, 40_000)
            at += 60_000
        # Those of an hour, of a minute before it, and some.
        self.assertLess(len(ledger), 36_000_000 // 40_000 + 600 + 100)
        self.assertLess((time.process_time() - started) / 20_000, 0.001)


class AirTimeTests(SynchronousTestCase):
    def emission(self, start: int, length: int, frequency: int = 868_100_000, band: Band | None = BAND) -> Emission:
        return Emission(start, start + length, length, frequency, band)

    def test_ceilings_share_one_budget(self) -> None:
        air = AirTime()
        air.add(self.emission(0, 18_000_000))
        one = self.emission(20_000_000, 1_000_000)
        self.assertEqual([air.wait(one, share) == 0 for share in (0.4, 0.52, 0.53, 1.0)], [False, False, True, True])
        # Where it is the only one, the ceiling is no obstacle; the law is.
        self.assertEqual(AirTime().wait(self.emission(0, 20_000_000), 0.4), 0)
        self.assertIsNone(AirTime().wait(self.emission(0, 36_000_001), 1.0))

    def test_no_law(self) -> None:
        air = AirTime()
        one = self.emission(0, 3_000_000, 505_300_000, None)
        air.add(one)
        air.remove(one)
        self.assertEqual((air.wait(one, 0.1), air.bands(())), (0, []))

    def test_another_region_does_not_forget(self) -> None:
        """The bands of two regions overlap, and a gateway has sent in the one before it was given the other."""
        air, other = AirTime(), Band(867_000_000, 868_200_000, 0.01)
        air.add(self.emission(0, 30_000_000))
        late = Emission(40_000_000, 50_000_000, 10_000_000, 868_100_000, other)
        self.assertEqual(air.wait(late, 1.0), HOUR - 40_000_000 - 10_000_000 + 4_000_000)
        later = self.emission(60_000_000, 6_000_000)
        air.add(later)  # lies in both
        self.assertEqual((air.used(BAND, HOUR), air.used(other, HOUR)), (36.0, 36.0))
        air.remove(later)
        self.assertEqual((air.used(BAND, HOUR), air.used(other, HOUR)), (30.0, 30.0))

    def test_what_is_shown(self) -> None:
        air = AirTime()
        air.add(self.emission(0, 9_000_000))
        self.assertEqual(air.bands(EU868.bands)[:2], list(EU868.bands[:2]))
        self.assertEqual([band.name for band in EU868.bands[2:5]], ["868.0-868.6", "868.7-869.2", "869.4-869.65"])
        self.assertEqual((air.filled(BAND, HOUR), air.filled(None, HOUR)), (0.25, 0.0))
        self.assertTrue(air.forget(HOUR + 8_999_999))
        self.assertFalse(air.forget(HOUR + 9_000_000 + HOUR))
