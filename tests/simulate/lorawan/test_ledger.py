"""The fullest hour, exactly."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.lorawan.ledger import HOUR, Ledger, fullest
from broker.simulate.lorawan.plans import EU868


def slowly(emissions: list[tuple[float, float, float]], begin: float, window: float) -> float:
    """Seconds of all emissions in one stretch."""
    return sum(max(0.0, min(at + long, begin + window) - max(at, begin)) for at, long, _ in emissions)


class FullestTests(SynchronousTestCase):
    def test_parts_count(self) -> None:
        """An hour that begins and ends in the middle of emissions: what lies in it counts."""
        emissions = [(0.0, 10.0, 14.0), (95.0, 10.0, 14.0)]
        self.assertEqual(fullest(emissions, 100.0), (15.0, 0.0))
        self.assertEqual(fullest(emissions, 105.0), (20.0, 0.0))
        self.assertEqual(fullest(emissions, 5.0)[0], 5.0)

    def test_nothing(self) -> None:
        self.assertEqual(fullest([], 10.0), (0.0, 0.0))

    def test_against_every_beginning(self) -> None:
        dice = random.Random(3)
        for _ in range(30):
            at, emissions = 0.0, []
            for _ in range(40):
                at += dice.expovariate(1 / 20.0)
                long = dice.uniform(0.1, 8.0)
                emissions.append((at, long, 14.0))
                at += long
            best, begins = fullest(emissions, 120.0)
            self.assertAlmostEqual(slowly(emissions, begins, 120.0), best, 6)
            for step in range(int(at) * 4):
                self.assertLessEqual(slowly(emissions, step / 4 - 120.0, 120.0), best + 1e-6)


class LedgerTests(SynchronousTestCase):
    def test_sub_bands(self) -> None:
        ledger = Ledger()
        for number in range(20):
            ledger.sent(number * 100.0, 1.5, 868_100_000, 14.0)
        ledger.sent(50.0, 2.0, 869_525_000, 27.0)
        low, high = ledger.shares(EU868)
        self.assertEqual((low.band.low, low.used, low.allowed, low.emissions), (868_000_000, 30.0, 36.0, 20))
        self.assertEqual((high.used, high.allowed, high.power), (2.0, 360.0, 27.0))
        self.assertTrue(low.lawful and high.lawful)
        self.assertEqual(ledger.seconds, 32.0)

    def test_over(self) -> None:
        """A millisecond too much in a window that no clock hour is; too much power."""
        ledger = Ledger()
        ledger.sent(1_000.0, 18.0, 868_100_000, 14.0)
        ledger.sent(1_000.0 + HOUR - 18.001, 18.001, 868_300_000, 14.0)
        (share,) = ledger.shares(EU868)
        self.assertFalse(share.lawful)
        self.assertAlmostEqual(share.used, 36.001, 6)
        loud = Ledger()
        loud.sent(0.0, 1.0, 868_100_000, 20.0)
        self.assertFalse(loud.shares(EU868)[0].lawful)

    def test_overlaps(self) -> None:
        ledger = Ledger()
        ledger.sent(0.0, 1.0, 868_100_000, 14.0)
        ledger.sent(1.0, 1.0, 868_100_000, 14.0)
        self.assertEqual(ledger.overlaps(), 0)
        ledger.sent(1.5, 1.0, 868_300_000, 14.0)
        self.assertEqual(ledger.overlaps(), 1)

    def test_without_keeping(self) -> None:
        ledger = Ledger(keep=False)
        ledger.sent(0.0, 1.5, 868_100_000, 14.0)
        self.assertEqual((len(ledger), ledger.seconds, ledger.emissions()), (0, 1.5, []))
