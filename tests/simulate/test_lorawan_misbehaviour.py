"""Motes that answer MAC commands as no mote should, in every region: none of them wedges, then or later.

Each region has one network with a mote of each kind, and a good one. All are told data rates and channels, and asked
how they are. Commands are ordered in the bad phase, when it ends, and some hours later.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.traits import Misbehaviour

#: Hours of misbehaving, and until the last command: long enough for a mote that lost its channels to find back by
#: itself (ADR_ACK_LIMIT, and ADR_ACK_DELAY for each of its data rates). After that, what the last command takes.
BAD: Final = 2.0
RECOVERING: Final = 6.0
LAST: Final = 0.5
EVERY: Final = 60.0


class BadTown(Day):
    """A small town in which each mote misbehaves in its own way, but the last.

    ``phases``: ids of commands by DevEUI, a phase each.
    """

    def __init__(self, region: str, **settings: Any) -> None:
        kinds = [*Misbehaviour, None]
        scenario = Scenario(
            region=region,
            motes=len(kinds),
            gateways=2,
            radius=0.3,
            every=EVERY,
            hours=BAD + RECOVERING + LAST,
            commands=0.0,
            class_c=0.0,
            confirmed=0.1,
            switching_on=60.0,
        )
        shorter = {"status_interval": 1800.0, "mac_pause": 1800.0, "mac_forgive": 5400.0}
        super().__init__(scenario, **{"duty_cycle": False, "transmissions": 8, **shorter, **settings})
        self.kinds = dict(zip((mote.name for mote in self.motes), kinds, strict=True))
        for mote in self.motes:
            mote.mac.misbehaviour = self.kinds[mote.name]
        self.phases: list[dict[str, str]] = []
        for hours, call in ((BAD / 2, self.command), (BAD, self.be_good), (BAD, self.command)):
            self.clock.callLater(hours * 3600.0, call)
        self.clock.callLater((BAD + RECOVERING) * 3600.0, self.command)

    def command(self) -> None:
        number = bytes((len(self.phases),))
        self.phases.append(
            {mote.name: self.inside.order(mote.name, number, port=9, confirm=True) for mote in self.motes}
        )

    def be_good(self) -> None:
        for mote in self.motes:
            mote.mac.misbehaviour = None


class MisbehaviourTests(SynchronousTestCase):
    def play(self, region: str, **settings: Any) -> BadTown:
        town = BadTown(region, **settings)
        town.run()
        states = town.inside.watcher.states
        for number, phase in enumerate(town.phases):
            # On channels that no gateway hears nothing is acknowledged: it fails, and what follows goes on.
            good_ends = ("succeeded", "failed") if number < 2 else ("succeeded",)
            for name, id in phase.items():
                self.assertIn(states.get(id), good_ends, (region, town.kinds[name], number))
        fastest = town.motes[-1].mac.rate
        for mote in town.motes:
            kind = (region, town.kinds[mote.name])
            self.assertIn((9, b"\2"), mote.tally.commands, kind)
            # The network has got through to it: it is at the data rate that its good neighbour has.
            self.assertEqual(mote.mac.rate, fastest, kind)
        self.assertGreater(fastest, 2)
        self.assertEqual(town.inside.faults, [])
        self.assertEqual(town.inside.watcher.twice, 0)
        # None of the motes of this town lies about its windows, so none of their downlinks may miss them.
        self.assertEqual(town.air.violations, [])
        good = town.motes[-1]
        self.assertGreater(good.mac.asked, 0)
        self.assertEqual((good.mac.refused, good.mac.misbehaviour), (0, None))
        self.assertTrue(all(states[phase[good.name]] == "succeeded" for phase in town.phases))
        return town


def _add(region: str) -> None:
    def test(self: MisbehaviourTests) -> None:
        self.play(region)

    name = f"test_{region.replace('-', '_')}"
    test.__name__ = name
    setattr(MisbehaviourTests, name, test)


for _region in REGIONS:
    _add(_region)
