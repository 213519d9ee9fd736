"""``lorawan``: packet forwarders with motes."""

from __future__ import annotations

import argparse
import random
from typing import Any, Final

from broker.devices.lorawan.regions import REGIONS
from broker.simulate.api import Api, ApiError, segment
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.forwarder import Forwarder
from broker.simulate.lorawan.links import UdpLink
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import GroupSession, mote_identity
from broker.simulate.lorawan.town import (
    check_rate,
    gateway_eui,
    gateway_places,
    heard_channels,
    join_block,
    mote_paths,
    preset,
)
from broker.simulate.lorawan.traits import Traits
from broker.simulate.options import add_api, api_of
from broker.simulate.running import CommandError, repeat, run_until_done, say

#: Bytes of a message.
PAYLOAD: Final = 6


def add(several: Any) -> None:
    parser = several.add_parser(
        "lorawan",
        help="LoRaWAN packet forwarders and motes",
        description="Simulated Semtech packet forwarders with motes that join over the air, until Ctrl-C. With --api "
        "all of them are registered first; what is registered already stays as it is. The same --seed gives the same "
        "gateways and motes.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address of the broker (default: %(default)s)")
    parser.add_argument("--port", type=int, default=1700, help="its LoRaWAN port (default: %(default)s)")
    parser.add_argument("--gateways", type=int, default=2, help="how many gateways (default: %(default)s)")
    parser.add_argument("--motes", type=int, default=10, help="how many motes (default: %(default)s)")
    parser.add_argument("--class-c", type=int, default=2, help="how many of them are class C (default: %(default)s)")
    parser.add_argument("--group", help="a multicast group of the class C motes with this id; needs --api")
    parser.add_argument("--region", choices=sorted(REGIONS), default="cn470", help="(default: %(default)s)")
    parser.add_argument("--block", type=int, help="which eight channels, if there are more (default: the first of use)")
    parser.add_argument("--radius", type=float, default=0.5, help="of the town, km (default: %(default)s)")
    parser.add_argument("--rate", type=int, help="data rate that motes begin with (default: a fast one)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between messages (default: %(default)s)")
    parser.add_argument("--confirmed", type=float, default=0.1, help="share of confirmed ones (default: %(default)s)")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets lost in the air (default: 0)")
    parser.add_argument("--late", type=float, default=0.0, help="share of TX_ACK that come late (default: 0)")
    parser.add_argument("--silent", action="store_true", help="forwarders of version 1, which send no TX_ACK")
    parser.add_argument("--seed", type=int, default=1, help="ids, keys and values follow from it (default: 1)")
    add_api(parser)
    parser.add_argument("--verbose", action="store_true", help="a line for each join and each command")
    parser.set_defaults(run=_run)


def _run(reactor: Any, arguments: argparse.Namespace) -> int:
    return run_until_done(reactor, _lorawan(reactor, arguments))


async def _lorawan(reactor: Any, arguments: argparse.Namespace) -> None:
    if arguments.gateways < 1:
        raise CommandError("--gateways: motes need one")
    api = api_of(reactor, arguments)
    keys: dict[str, str] | None = None
    if api is not None:
        await _register(api, arguments)
        if arguments.group is not None:
            keys = await _group(api, arguments)
        await api.close()
    elif arguments.group is not None:
        raise CommandError("--group: the group is made by the broker, so --api is needed")
    forwarders, motes = _town(reactor, arguments)
    if keys is not None:
        for mote in motes[: arguments.class_c]:
            mote.hold(group_session(keys))

    def stop() -> None:
        for mote in motes:
            mote.stop()
        for forwarder in forwarders:
            forwarder.stop()

    reactor.addSystemEventTrigger("before", "shutdown", stop)
    for forwarder in forwarders:
        forwarder.start()
    for number, mote in enumerate(motes):
        mote.start(0.5 + number * min(0.1, arguments.every / len(motes)))

    def figures() -> None:
        joined = sum(mote.joined for mote in motes)
        sent, commands = (sum(getattr(mote.tally, name) for mote in motes) for name in ("messages", "commanded"))
        refused = sum(forwarder.refused for forwarder in forwarders)
        say(f"{joined} of {len(motes)} joined, {sent} messages sent, {commands} commands received, {refused} refused")

    await repeat(reactor, figures)


def _town(reactor: Any, arguments: argparse.Namespace) -> tuple[list[Forwarder], list[SimulatedMote]]:
    """Gateways, and motes around them."""
    region = REGIONS[arguments.region]
    block = join_block(region.name) if arguments.block is None else arguments.block
    if region.fixed and not 0 <= block < region.blocks:
        raise CommandError(f"--block: {region.name} has {region.blocks} blocks of channels, from 0 on")
    plan = PLANS[region.name]
    rate = plan.join_rates[0] if arguments.rate is None else check_rate(plan, arguments.rate)
    # Not from the seed: a mote that begins anew has to have other nonces.
    dice = random.Random()
    air = Air(reactor, dice, loss=arguments.loss, keep=False)
    forwarders = [
        Forwarder(
            air,
            gateway_eui(arguments.seed, number),
            UdpLink(reactor, (arguments.host, arguments.port)),
            heard_channels(region.name, block),
            plan.range,
            version=1 if arguments.silent else 2,
            late=arguments.late,
        )
        for number in range(arguments.gateways)
    ]
    places = gateway_places(arguments.gateways, arguments.radius)

    def told(mote: SimulatedMote, what: str) -> None:
        if arguments.verbose:
            say(f"{mote.name}  {what}")

    def mote(number: int) -> SimulatedMote:
        traits = Traits(
            every=arguments.every,
            payload=PAYLOAD,
            confirmed=arguments.confirmed,
            class_c=number < arguments.class_c,
            rate=rate,
            channels=preset(region.name, block),
        )
        paths = mote_paths(dice, arguments.radius, places)
        identity = mote_identity(arguments.seed, number)
        return SimulatedMote(air, plan, identity, traits, paths, dice, nonce=dice.randrange(1 << 16), told=told)

    return forwarders, [mote(number) for number in range(arguments.motes)]


async def _group(api: Api, arguments: argparse.Namespace) -> dict[str, str]:
    """Make the group, or take the one that is there; its address and keys."""
    members = [mote_identity(arguments.seed, number).dev_eui for number in range(arguments.class_c)]
    try:
        made = await api.call(
            "POST", "/lorawan/groups", {"id": arguments.group, "region": arguments.region, "devices": members}
        )
    except ApiError as error:
        if error.slug != "conflict":
            raise
        for member in members:
            await api.call("PUT", f"/lorawan/groups/{segment(arguments.group)}/devices/{member}")
        made = await api.call("GET", f"/lorawan/groups/{segment(arguments.group)}/keys")
    say(f"group {arguments.group}: {len(members)} motes at {made['dev_addr']}")
    keys: dict[str, str] = made
    return keys


def group_session(keys: dict[str, str]) -> GroupSession:
    """What a member is given."""
    nwk_s_key, app_s_key = (bytes.fromhex(keys[name]) for name in ("mc_nwk_s_key", "mc_app_s_key"))
    return GroupSession(int(keys["dev_addr"], 16), nwk_s_key, app_s_key)


async def _register(api: Api, arguments: argparse.Namespace) -> None:
    for number in range(arguments.gateways):
        gateway = {"eui": gateway_eui(arguments.seed, number), "name": "simulated", "region": arguments.region}
        try:
            await api.call("POST", "/lorawan/gateways", gateway)
        except ApiError as error:
            if error.slug != "conflict":
                raise
    motes = [
        mote_identity(arguments.seed, number).registration(
            name="simulated", region=arguments.region, **({"class": "C"} if number < arguments.class_c else {})
        )
        for number in range(arguments.motes)
    ]
    answer = await api.import_devices(motes)
    say(f"registered {answer['created']} of {len(motes)} motes")
    for failed in answer["failed"][:1]:
        say(f"not registered: {len(answer['failed'])}, the first because: {failed['error']}")
