"""Motes that answer MAC commands as no mote should, in every region: none of them wedges, neither while nor after it does.

Each region has one network with a mote of each kind, and a good one. All are told things: data rates and channels (ADR),
status, and what a region's plan needs besides. A command is ordered in the bad phase and one after it.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.traits import Misbehaviour

#: Hours of misbehaving, and of what follows: long enough for a mote that lost its channels to find back (ADR_ACK_LIMIT and
#: ADR_ACK_DELAY for each of its data rates and powers).
BAD: Final = 3.0
GOOD: Final = 12.0
EVERY: Final = 60.0


class BadTown(Day):
    """A small town in which each mote misbehaves in its own way, but the last."""

    def __init__(self, region: str, **settings: Any) -> None:
        kinds = [*Misbehaviour, None]
        scenario = Scenario(
            region=region,
            motes=len(kinds),
            gateways=2,
            radius=0.3,
            every=EVERY,
            hours=BAD + GOOD,
            commands=0.0,
            class_c=0.0,
            confirmed=0.1,
            switching_on=60.0,
        )
        super().__init__(scenario, status_interval=1800.0, duty_cycle=False, **settings)
        self.kinds = dict(zip((mote.name for mote in self.motes), kinds, strict=True))
        for mote in self.motes:
            mote.mac.misbehaviour = self.kinds[mote.name]

    def command(self, mote: SimulatedMote, payload: bytes) -> str:
        return self.inside.order(mote.name, payload, port=9, confirm=True)

    def play(self) -> tuple[dict[str, str], dict[str, str]]:
        """Both phases; the ids of the commands of each."""
        orders: tuple[dict[str, str], dict[str, str]] = ({}, {})

        def order(phase: int) -> None:
            for mote in self.motes:
                orders[phase][mote.name] = self.command(mote, bytes((phase,)))

        def be_good() -> None:
            for mote in self.motes:
                mote.mac.misbehaviour = None

        self.clock.callLater(BAD * 3600.0 / 2, order, 0)
        self.clock.callLater(BAD * 3600.0, be_good)
        self.clock.callLater(BAD * 3600.0 + 1.0, order, 1)
        self.run()
        return orders


class MisbehaviourTests(SynchronousTestCase):
    def play(self, region: str, **settings: Any) -> BadTown:
        town = BadTown(region, **settings)
        orders = town.play()
        states = town.inside.watcher.states
        wrong = {
            (str(town.kinds[mote]), phase): states.get(id, "?")
            for phase, ids in enumerate(orders)
            for mote, id in ids.items()
            if states.get(id) != "succeeded"
        }
        self.assertEqual(wrong, {}, region)
        for mote in town.motes:
            self.assertEqual(set(mote.tally.commands), {(9, b"\0"), (9, b"\1")}, (region, town.kinds[mote.name]))
        self.assertEqual(town.inside.faults, [])
        self.assertEqual(town.inside.watcher.twice, 0)
        # None of the motes of this town lies about its windows, so none of their downlinks may miss them.
        self.assertEqual(town.air.violations, [])
        good = town.motes[-1]
        self.assertGreater(good.mac.asked, 0)
        self.assertEqual((good.mac.refused, good.mac.misbehaviour), (0, None))
        return town


def _add(region: str) -> None:
    def test(self: MisbehaviourTests) -> None:
        self.play(region)

    name = f"test_{region.replace('-', '_')}"
    test.__name__ = name
    setattr(MisbehaviourTests, name, test)


for _region in REGIONS:
    _add(_region)
