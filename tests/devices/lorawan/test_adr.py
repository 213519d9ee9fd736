"""Adaptive data rate as a decision: from a history to a data rate, a power and a number of repetitions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.mac.adr import History, Limits, Sending, decide, drops, gain, need
from broker.devices.lorawan.regions import EU868, REGIONS, DataRate

NEEDS = tuple(None if rate is None else need(rate) for rate in EU868.rates)
LIMITS = Limits(
    needs=NEEDS,
    gains=(0.0,) * len(NEEDS),
    rates=tuple(EU868.uplink_rates),
    drops=drops(EU868.powers),
    margin=10.0,
    history=20,
    max_repetitions=3,
    min_power=0,
    max_power=7,
)


def heard(snr: float, frames: int = 20, every: int = 1) -> History:
    history = History()
    for number in range(frames):
        history.add(number * every, snr, 20)
    return history


class HistoryTests(SynchronousTestCase):
    def test_the_last_ones_count(self) -> None:
        history = History()
        for number, snr in enumerate((9.0, *[-3.25] * 20)):
            history.add(number, snr, 20)
        self.assertEqual((len(history), history.best, history.lost), (20, -3.25, 0.0))

    def test_lost_frames(self) -> None:
        self.assertEqual(heard(0.0).lost, 0.0)
        self.assertAlmostEqual(heard(0.0, 20, 2).lost, 1 - 20 / 39)
        history = heard(0.0, 10)
        history.clear()
        # What was lost before the change is nothing to do with what comes after it.
        history.add(100, 0.0, 20)
        history.add(102, 0.0, 20)
        self.assertAlmostEqual(history.lost, 1 / 3)

    @given(st.lists(st.tuples(st.integers(1, 70_000), st.floats(-200, 200)), min_size=1), st.integers(1, 30))
    def test_whatever_is_heard(self, frames: list[tuple[int, float]], most: int) -> None:
        history, fcnt = History(), 0
        for gap, snr in frames:
            fcnt += gap
            history.add(fcnt, snr, most)
        kept = [snr for _, snr in frames][-most:]
        self.assertEqual(len(history), len(kept))
        self.assertTrue(0.0 <= history.lost < 1.0)
        self.assertApproximates(history.best, max(-32.0, min(31.75, max(kept))), 0.25)

    def test_memory(self) -> None:
        history = heard(5.0, 100)
        self.assertLessEqual(len(history._frames), 40)


class DecideTests(SynchronousTestCase):
    def decide(self, snr: float, now: Sending, frames: int = 20, every: int = 1, **limits: object) -> Sending:
        return decide(heard(snr, frames, every), now, LIMITS._replace(**limits))  # type: ignore[arg-type]

    def test_rows(self) -> None:
        for snr, now, then in (
            # SF7 needs -7.5 dB, and 10 more are kept.
            (2.5, Sending(0, 0, 1), Sending(5, 0, 1)),
            (2.25, Sending(0, 0, 1), Sending(4, 1, 1)),
            (-10.0, Sending(0, 0, 1), Sending(0, 0, 1)),
            (-7.5, Sending(0, 0, 1), Sending(1, 0, 1)),
            (6.5, Sending(0, 0, 1), Sending(5, 2, 1)),
            (30.0, Sending(5, 0, 1), Sending(5, 7, 1)),
            # Heard with less power than it could have: that is given back for speed.
            (-7.5, Sending(2, 5, 1), Sending(5, 0, 1)),
            # Enough, and not worth a change.
            (2.5, Sending(5, 0, 1), Sending(5, 0, 1)),
            (0.0, Sending(5, 2, 1), Sending(5, 2, 1)),
            # Louder, as much as it takes.
            (-1.0, Sending(5, 2, 1), Sending(5, 0, 1)),
            (-1.0, Sending(5, 7, 1), Sending(5, 5, 1)),
            # At full power, and heard badly, but nothing is lost.
            (-5.0, Sending(5, 0, 1), Sending(5, 0, 1)),
            # What no ADR is for.
            (20.0, Sending(7, 0, 1), Sending(7, 0, 1)),
        ):
            self.assertEqual(self.decide(snr, now), then, (snr, now))

    def test_faster_soon_and_the_rest_later(self) -> None:
        self.assertEqual(self.decide(6.5, Sending(0, 0, 1), 4), Sending(0, 0, 1))
        self.assertEqual(self.decide(6.5, Sending(0, 0, 1), 5), Sending(5, 2, 1))
        self.assertEqual(self.decide(6.5, Sending(5, 0, 1), 19), Sending(5, 0, 1))
        self.assertEqual(self.decide(6.5, Sending(5, 0, 1), 20), Sending(5, 2, 1))
        self.assertEqual(self.decide(-20.0, Sending(5, 7, 1), 19), Sending(5, 7, 1))
        self.assertEqual(decide(History(), Sending(0, 0, 1), LIMITS), Sending(0, 0, 1))

    def test_repetitions(self) -> None:
        def frames(lost: int) -> History:
            history = History()
            for number in range(20):
                history.add(number + (lost if number == 19 else 0), 2.5, 20)
            return history

        for lost, now, then in ((0, 1, 1), (0, 3, 2), (2, 2, 2), (3, 1, 2), (3, 3, 3), (10, 1, 3)):
            got = decide(frames(lost), Sending(5, 0, now), LIMITS)
            self.assertEqual(got, Sending(5, 0, then), (lost, now))
        self.assertEqual(decide(frames(10), Sending(5, 0, 1), LIMITS._replace(max_repetitions=1)), Sending(5, 0, 1))

    def test_slower_when_much_is_lost_at_full_power(self) -> None:
        self.assertEqual(self.decide(-5.0, Sending(5, 0, 3), every=2)[:2], (4, 0))
        self.assertEqual(self.decide(-25.0, Sending(0, 0, 1), every=2)[:2], (0, 0))

    def test_within_limits(self) -> None:
        self.assertEqual(self.decide(30.0, Sending(0, 0, 1), rates=(0, 1, 2, 3)), Sending(3, 7, 1))
        self.assertEqual(self.decide(30.0, Sending(0, 0, 1), max_power=2), Sending(5, 2, 1))
        self.assertEqual(self.decide(2.5, Sending(5, 0, 1), min_power=1), Sending(5, 1, 1))
        # Above what may be: back to it, whatever the history.
        self.assertEqual(self.decide(2.5, Sending(5, 0, 1), 5, rates=(0, 1, 2))[:1], (2,))
        self.assertEqual(self.decide(-25.0, Sending(3, 0, 1), every=2, rates=(3, 4, 5))[:1], (3,))

    @given(
        st.sampled_from(sorted(REGIONS)),
        st.lists(st.tuples(st.integers(1, 300), st.floats(-40, 40)), max_size=30),
        st.integers(0, 15),
        st.integers(0, 15),
        st.integers(1, 15),
        st.tuples(st.integers(0, 15), st.integers(0, 15)),
    )
    def test_whatever_the_state(
        self,
        name: str,
        frames: list[tuple[int, float]],
        rate: int,
        power: int,
        repetitions: int,
        powers: tuple[int, int],
    ) -> None:
        region = REGIONS[name]
        limits = Limits(
            tuple(None if one is None else need(one) for one in region.rates),
            (0.0,) * len(region.rates),
            tuple(region.uplink_rates),
            drops(region.powers),
            10.0,
            20,
            3,
            min(*powers, len(region.powers) - 1),
            min(max(powers), len(region.powers) - 1),
        )
        history, fcnt = History(), 0
        for gap, snr in frames:
            fcnt += gap
            history.add(fcnt, snr, 20)
        now = Sending(rate, power, repetitions)
        then = decide(history, now, limits)
        if then != now:
            self.assertIn(then.rate, (*region.uplink_rates, rate))
            self.assertTrue(then.power == power or then.power < len(region.powers))
            self.assertLessEqual(then.repetitions, max(3, repetitions))

    def test_bandwidth(self) -> None:
        self.assertEqual(need(DataRate(7, 125_000)), -7.5)
        self.assertAlmostEqual(need(DataRate(7, 250_000)) or 0, -4.49, places=2)
        self.assertIsNone(need(DataRate(0, 50_000)))
        self.assertEqual(gain(DataRate(12, 125_000)), 0.0)
        self.assertAlmostEqual(gain(DataRate(7, 500_000)), 6.02, places=2)
