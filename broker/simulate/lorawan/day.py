"""A town with gateways and motes for some hours of simulated time, with the broker's own network in it.

Everything follows from the seed: where things stand, what fades, when who speaks. Two days that differ in ADR alone are
the same town.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.devices.lorawan import Settings
from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.clock import SimulatedClock
from broker.simulate.lorawan.forwarder import Forwarder
from broker.simulate.lorawan.inside import Inside
from broker.simulate.lorawan.ledger import HOUR
from broker.simulate.lorawan.links import Wire, WireLink
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import mote_identity
from broker.simulate.lorawan.town import (
    Place,
    check_rate,
    gateway_eui,
    gateway_places,
    heard_channels,
    join_block,
    mote_paths,
)
from broker.simulate.lorawan.traits import Traits

#: Seconds after the last message in which what is under way still arrives.
SETTLING: Final = 30.0
#: Seconds between two looks of who watches the progress.
LOOK_EVERY: Final = 600.0
#: Forwarders of a simulated day pull less often than they might; the broker gives them 30 s.
PULL_EVERY: Final = 10.0

Share = Annotated[float, Meta(ge=0, le=1)]
Progress = Callable[[float, str], None]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated. Times in seconds unless their names say otherwise."""

    region: str = "eu868"
    motes: Annotated[int, Meta(ge=1, le=10_000)] = 500
    gateways: Annotated[int, Meta(ge=1, le=100)] = 5
    hours: Annotated[float, Meta(gt=0, le=24 * 31)] = 24.0
    seed: int = 1
    adr: bool = True
    #: Kilometres from the middle of the town to its edge.
    radius: Annotated[float, Meta(gt=0, le=50)] = 3.0
    every: Annotated[float, Meta(ge=10)] = 600.0
    payload: Annotated[int, Meta(ge=6, le=40)] = 12
    #: Shares of the messages that ask for an acknowledgement, and of the motes that are class C.
    confirmed: Share = 0.02
    class_c: Share = 0.02
    #: Commands an hour for all motes together, and the share of them that are confirmed.
    commands: Annotated[float, Meta(ge=0)] = 30.0
    confirmed_commands: Share = 0.3
    #: Motes are switched on one after the other in this time.
    switching_on: float = 1800.0
    #: Eight channels of a plan with more; None: eight on which motes can join.
    block: int | None = None
    #: The data rate that motes begin with; None: the slowest.
    rate: int | None = None
    orthogonal: bool = False


class Day:
    """One run. ``settings`` are further ones of [listeners.lorawan]. Raises ValueError for what the region has not."""

    def __init__(self, scenario: Scenario, **settings: Any) -> None:
        self.scenario = scenario
        self.plan = PLANS[scenario.region]
        region = REGIONS[scenario.region]
        if scenario.rate is not None:
            check_rate(self.plan, scenario.rate)
        self.block = join_block(scenario.region) if scenario.block is None else scenario.block
        if region.fixed:
            settings.setdefault("channel_block", self.block)
        self.clock = SimulatedClock()
        # Two sources of chance, so that what the network does changes nothing about where things are.
        self.air = Air(self.clock, random.Random(f"air {scenario.seed}"), orthogonal=scenario.orthogonal)
        self._dice = random.Random(f"town {scenario.seed}")
        self._wire = Wire(self.clock, random.Random(f"wire {scenario.seed}"))
        self._settings = {"region": scenario.region, "unknown": "accept", **settings}
        self.inside = Inside(self.clock, self._wire, Settings(**self._settings))
        self.forwarders: list[Forwarder] = []
        self.motes: list[SimulatedMote] = []
        #: Ids of commands, the DevEUI of each.
        self.orders: dict[str, str] = {}
        self._build()

    def _build(self) -> None:
        scenario = self.scenario
        heard = heard_channels(scenario.region, self.block)
        places = gateway_places(scenario.gateways, scenario.radius)
        for number in range(scenario.gateways):
            link = WireLink(self._wire, f"10.0.{number // 250}.{number % 250 + 1}")
            eui = gateway_eui(scenario.seed, number)
            self.forwarders.append(Forwarder(self.air, eui, link, heard, self.plan.range, pull_every=PULL_EVERY))
        for number in range(scenario.motes):
            self.motes.append(self._mote(number, places))

    def _mote(self, number: int, gateways: list[Place]) -> SimulatedMote:
        scenario, dice = self.scenario, self._dice
        paths = mote_paths(dice, scenario.radius, gateways)
        class_c = number < round(scenario.class_c * scenario.motes)
        traits = Traits(
            every=scenario.every,
            payload=scenario.payload,
            confirmed=scenario.confirmed,
            class_c=class_c,
            adr=scenario.adr,
            rate=scenario.rate,
        )
        identity = mote_identity(scenario.seed, number)
        self.inside.register(identity, region=scenario.region, **({"class": "C"} if class_c else {}))
        own = random.Random(f"mote {scenario.seed} {number}")
        return SimulatedMote(self.air, self.plan, identity, traits, paths, own, nonce=dice.randrange(1 << 16))

    def change(self, **settings: Any) -> None:
        """The broker is given other settings while it runs."""
        self._settings |= settings
        self.inside.listener.reload(Settings(**self._settings))

    def restart(self) -> None:
        """The broker is killed and starts again."""
        self.inside.kill()
        self.inside = Inside(self.clock, self._wire, Settings(**self._settings), self.inside)

    def run(self, progress: Progress | None = None) -> None:
        """From the first join to the last message, and what follows from that."""
        end = self.scenario.hours * HOUR
        for forwarder in self.forwarders:
            forwarder.start()
        for number, mote in enumerate(self.motes):
            mote.start(1.0 + number * self.scenario.switching_on / len(self.motes))
        self._next_order()
        while self.clock.seconds() < end:
            self.clock.run_until(min(end, self.clock.seconds() + LOOK_EVERY))
            if progress is not None:
                progress(self.clock.seconds() / end, self._figures())
        for mote in self.motes:
            mote.hush()
        self.clock.advance(SETTLING)
        self.inside.stop()

    def _figures(self) -> str:
        joined = sum(mote.joined for mote in self.motes)
        return f"{joined} motes joined, {sum(mote.tally.messages for mote in self.motes)} messages"

    def _next_order(self) -> None:
        rate = self.scenario.commands / HOUR
        if rate:
            self.clock.callLater(self._dice.expovariate(rate), self._order)

    def _order(self) -> None:
        self._next_order()
        mote = self._dice.choice(self.motes)
        confirm = self._dice.random() < self.scenario.confirmed_commands
        payload = self._dice.randbytes(6)
        if mote.joined:
            id = self.inside.order(mote.name, payload, port=mote.traits.port, confirm=confirm)
            self.orders[id] = mote.name
