"""Which gateways a group is sent through."""

from __future__ import annotations

import random
import time
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.multicast.coverage import Target, cover
from broker.devices.lorawan.regions import EU868

GATEWAYS = [Gateway(f"AA555A00000000{number:02X}", EU868, None) for number in range(6)]


def anybody(gateway: Gateway) -> bool:
    return True


def idle(gateway: Gateway) -> int:
    return 0


def least(targets: list[Target]) -> int:
    """How few gateways reach all, by trying."""
    for count in range(len(GATEWAYS) + 1):
        for some in combinations(GATEWAYS, count):
            if all(set(target) & set(some) for target in targets):
                return count
    raise AssertionError("they are not all reached by all")


class CoverageTests(SynchronousTestCase):
    def test_examples(self) -> None:
        a, b, c, d, *_ = GATEWAYS
        for targets, taken in (
            ([], []),
            ([()], []),
            ([(a,)], [a]),
            ([(a, b), (b, c), (b,)], [b]),
            ([(a,), (a, b), (c,)], [a, c]),
            ([(a, b), (b, a)], [a]),  # both reach both, and as well
            ([(b, a), (b, a)], [b]),  # heard better
            ([(a,), (b,), (c,), (c, d)], [c, a, b]),
            # The one in the middle reaches most, and is not needed when all are reached.
            ([(a,), (a,), (a, b), (a, b), (b, c), (b, c), (c,), (c,)], [a, c]),
            ([(a,), (a, b), (b, a), (a, b), (b, c), (b, c), (c, b), (c,)], [a, c]),
        ):
            self.assertEqual(cover(targets, anybody, idle), taken, targets)

    def test_the_idle_one_of_two(self) -> None:
        a, b, *_ = GATEWAYS
        self.assertEqual(cover([(a, b)], anybody, lambda one: 1 if one is a else 0), [b])

    def test_who_is_not_usable_is_asked_once_and_passed_over(self) -> None:
        a, b, *_ = GATEWAYS
        asked: list[Gateway] = []

        def usable(gateway: Gateway) -> bool:
            asked.append(gateway)
            return gateway is not a

        self.assertEqual(cover([(a, b), (a,), (a,)], usable, idle), [b])
        self.assertEqual(asked, [a, b])
        self.assertEqual(cover([(a,)], lambda one: False, idle), [])

    @given(st.lists(st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=3, unique=True).map(tuple), max_size=30))
    def test_all_are_reached_by_few(self, targets: list[Target]) -> None:
        taken = cover(targets, anybody, idle)
        self.assertTrue(all(set(target) & set(taken) for target in targets))
        for gateway in taken:
            others = set(taken) - {gateway}
            self.assertFalse(all(set(target) & others for target in targets), f"{gateway} is needless")
        self.assertLessEqual(len(taken), least(targets) + 1)

    def test_ten_thousand_motes(self) -> None:
        """The work is done between two frames: it must not hold up the others."""
        gateways = [Gateway(f"AA555A000001{number:04X}", EU868, None) for number in range(300)]
        dice = random.Random(1)
        targets = [tuple(dice.sample(gateways[at : at + 6], 3)) for at in dice.choices(range(295), k=10_000)]
        began = time.process_time()
        taken = cover(targets, anybody, idle)
        self.assertLess(time.process_time() - began, 1.0)
        self.assertTrue(all(set(target) & set(taken) for target in targets))
