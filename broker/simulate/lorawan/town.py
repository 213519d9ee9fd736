"""Where gateways and motes stand, and what both are set to: by whoever runs a network of such a region."""

from __future__ import annotations

import math
import random
from typing import Final

from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan import radio
from broker.simulate.lorawan.plans import PLANS, Plan

#: Where gateways stand: one in the middle, the others on a circle of this share of the radius.
RING: Final = 0.6

Place = tuple[float, float]


def gateway_eui(seed: int, number: int) -> str:
    return f"5EED{seed & 0xFFFF:04X}FFFE{number:04X}"


def heard_channels(region: str, block: int) -> frozenset[int]:
    """Frequencies that gateways are set to: as whoever runs the network sets them. Raises ValueError for a block."""
    row = REGIONS[region]
    if row.fixed:
        chosen = row.block(block)
        return frozenset(channel.frequency for channel in row.channels_up if channel.index in chosen)
    return frozenset((*(channel.frequency for channel in row.channels_up), *row.extra))


def join_block(region: str) -> int:
    """The first block of a fixed plan on which motes can join."""
    row, plan = REGIONS[region], PLANS[region]
    if not row.fixed or not plan.join_channels:
        return 0
    joins = {channel.frequency for channel in plan.join_channels}
    return next(number for number in range(row.blocks) if heard_channels(region, number) & joins)


def preset(region: str, block: int) -> frozenset[int]:
    """Channels of a fixed plan that motes use which were set to one block by hand; none for other plans."""
    heard = heard_channels(region, block)
    if not REGIONS[region].fixed:
        return frozenset()
    return frozenset(number for number, channel in enumerate(PLANS[region].channels) if channel.frequency in heard)


def check_rate(plan: Plan, rate: int) -> int:
    """A data rate that motes can begin with. Raises ValueError for others."""
    usable = [number for number in plan.uplink_rates if plan.payload(number, plan.dwell_at_first)]
    if rate not in usable:
        raise ValueError(f"data rates of {plan.name} are {', '.join(map(str, usable))}, of which {rate} is none")
    return rate


def gateway_places(count: int, radius: float) -> list[Place]:
    """Kilometres from the middle of the town."""
    places: list[Place] = []
    for number in range(count):
        angle = 2 * math.pi * number / max(1, count - 1)
        ring = 0.0 if number == 0 else RING * radius
        places.append((ring * math.cos(angle), ring * math.sin(angle)))
    return places


def mote_paths(dice: random.Random, radius: float, gateways: list[Place]) -> list[float]:
    """dB from a mote somewhere in the town to each gateway."""
    distance, angle = radius * math.sqrt(dice.random()), dice.uniform(0, 2 * math.pi)
    here = (distance * math.cos(angle), distance * math.sin(angle))
    return [radio.path_loss(math.dist(here, there)) + dice.gauss(0.0, radio.SHADOWING) for there in gateways]
