"""``gateway88``: a fleet of 0x88 gateways."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint

from broker.devices.gateway88.container import FLAVOURS
from broker.simulate.fleet import Fleet
from broker.simulate.gateway88.behaviour import LIVELY, Behaviour, mac_of, registration
from broker.simulate.gateway88.connecting import unchecked_context
from broker.simulate.gateway88.gateway import SimulatedGateway
from broker.simulate.options import add_api, add_updates, api_of, is_late, update_of
from broker.simulate.running import repeat, run_until_done, say

#: Each gateway of the fleet has the next of them.
ALL_FLAVOURS = "all"


def add(several: Any) -> None:
    parser = several.add_parser(
        "gateway88",
        help="0x88 gateways",
        description="Simulated 0x88 gateways over TLS, until Ctrl-C; they fetch firmware, post backups and go back to "
        "them. With --api they are registered first; what is registered already stays as it is. The same --seed gives "
        "the same gateways.",
    )
    add_arguments(parser)
    add_api(parser)
    parser.add_argument("--verbose", action="store_true", help="a line for each connection, command and error")
    parser.set_defaults(run=_run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``gateway88``."""
    parser.add_argument("--host", default="127.0.0.1", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", type=int, default=30000, help="its 0x88 port (default: %(default)s)")
    parser.add_argument("--count", type=int, default=10, help="how many gateways (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="MACs and values follow from it (default: %(default)s)")
    parser.add_argument(
        "--every", type=float, default=30.0, help="seconds between heartbeats (default: %(default)s, the document's)"
    )
    parser.add_argument(
        "--container",
        choices=[*FLAVOURS, ALL_FLAVOURS],
        default="zlib(base64)",
        metavar="NAME",
        help=f"how messages are packed (default: %(default)s): {', '.join(FLAVOURS)}; {ALL_FLAVOURS}: each another one",
    )
    add_updates(parser)
    parser.add_argument("--plain", action="store_true", help="without TLS, for a tcp: binding")
    parser.add_argument(
        "--faults", action="store_true", help="lost frames, late answers, refused operations, new devices at times"
    )
    parser.add_argument(
        "--registrations",
        action="store_true",
        help="only print what POST /api/v1/devices/import takes for these gateways",
    )


def _run(reactor: Any, arguments: argparse.Namespace) -> int:
    if arguments.registrations:
        for number in range(arguments.count):
            print(json.dumps(registration(mac_of(arguments.seed, number), name=f"simulated {number + 1}")))
        return 0
    return run_until_done(reactor, _gateways(reactor, arguments))


async def _gateways(reactor: Any, arguments: argparse.Namespace) -> None:
    api = api_of(reactor, arguments)
    if api is not None:
        macs = [mac_of(arguments.seed, number) for number in range(arguments.count)]
        answer = await api.import_devices(registration(mac, name="simulated") for mac in macs)
        say(f"registered {answer['created']} of {len(macs)} gateways")
        for failed in answer["failed"][:1]:
            say(f"not registered: {len(answer['failed'])}, the first because: {failed['error']}")
        await api.close()

    def told(gateway: SimulatedGateway, what: str) -> None:
        say(f"{gateway.id}  {what}")

    fleet = build_fleet(reactor, arguments, told if arguments.verbose else None)
    reactor.addSystemEventTrigger("before", "shutdown", fleet.stop)
    fleet.start()

    def figures() -> None:
        counts = [gateway.counts for gateway in fleet.devices]
        beats, commands = sum(one.heartbeats for one in counts), sum(one.commands for one in counts)
        resent = sum(one.resent for one in counts)
        say(f"{fleet.online} of {len(counts)} online, {beats} heartbeats, {resent} repeated, {commands} commands")

    await repeat(reactor, figures)


def build_fleet(
    reactor: Any,
    arguments: argparse.Namespace,
    told: Callable[[SimulatedGateway, str], None] | None,
) -> Fleet[SimulatedGateway]:
    """The fleet that the options describe, not started."""
    endpoint = HostnameEndpoint(reactor, arguments.host, arguments.port)
    context = unchecked_context()
    faults: dict[str, Any] = LIVELY if arguments.faults else {}
    names = list(FLAVOURS)
    gateways = []
    for number in range(arguments.count):
        container = names[number % len(names)] if arguments.container == ALL_FLAVOURS else arguments.container
        behaviour = Behaviour(
            heartbeat_every=arguments.every,
            container=container,
            update=update_of(arguments, number, ("refuses", "breaks", "idles", "dumb")),
            # Both kinds are about.
            wrong_type=Random(f"{arguments.seed} {number}").random() < 0.5,
            **faults,
        )
        gateways.append(
            SimulatedGateway(
                reactor,
                endpoint,
                mac_of(arguments.seed, number),
                arguments.seed,
                behaviour,
                told,
                context=context,
                plain=arguments.plain,
            )
        )
    return Fleet(reactor, gateways, late={n for n in range(arguments.count) if is_late(arguments, n)})
