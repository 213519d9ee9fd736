"""``novacloud``: a fleet of NovaCloud devices."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.simulate.fleet import Fleet
from broker.simulate.novacloud import LIVELY, Behaviour, Identity, SimulatedDevice, identity
from broker.simulate.options import add_api, add_tls, api_of, endpoint_of
from broker.simulate.running import repeat, run_until_done, say


def add(several: Any) -> None:
    parser = several.add_parser(
        "novacloud",
        help="NovaCloud devices",
        description="Simulated NovaCloud devices, until Ctrl-C. With --api they are registered first; what is "
        "registered already stays as it is. The same --seed gives the same devices.",
    )
    add_arguments(parser)
    add_tls(parser)
    add_api(parser)
    parser.add_argument("--verbose", action="store_true", help="a line for each login, loss and error")
    parser.set_defaults(run=_run_novacloud)


def _run_novacloud(reactor: Any, arguments: argparse.Namespace) -> int:
    if arguments.registrations:
        print_registrations(arguments)
        return 0
    return run_until_done(reactor, _novacloud(reactor, arguments))


async def _novacloud(reactor: Any, arguments: argparse.Namespace) -> None:
    identities = identities_of(arguments)
    api = api_of(reactor, arguments)
    if api is not None:
        answer = await api.import_devices(one.registration(name="simulated") for one in identities)
        say(f"registered {answer['created']} of {len(identities)} devices")
        for failed in answer["failed"][:1]:
            say(f"not registered: {len(answer['failed'])}, the first because: {failed['error']}")
        await api.close()

    def told(device: SimulatedDevice, what: str) -> None:
        say(f"{device.identity.id}  {what}")

    fleet = build_fleet(reactor, arguments, told if arguments.verbose else None, endpoint_of(reactor, arguments))
    reactor.addSystemEventTrigger("before", "shutdown", fleet.stop)
    fleet.start()

    def figures() -> None:
        counts = [device.counts for device in fleet.devices]
        data, commands = sum(one.data for one in counts), sum(one.commands for one in counts)
        refused = sum(one.refused for one in counts)
        say(
            f"{fleet.online} of {len(counts)} online, {data} data sent, {commands} commands received, {refused} refused"
        )

    await repeat(reactor, figures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``novacloud``."""
    parser.add_argument("--host", default="127.0.0.1", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8100, help="its NovaCloud port (default: %(default)s)")
    parser.add_argument("--count", type=int, default=10, help="how many devices (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="ids, keys and values follow from it (default: %(default)s)"
    )
    parser.add_argument("--every", type=float, default=5.0, help="seconds between data messages (default: %(default)s)")
    parser.add_argument("--flat", action="store_true", help="speak the dialect of the shipped server")
    parser.add_argument(
        "--faults", action="store_true", help="a malformed line, a late answer, a lost connection at times"
    )
    parser.add_argument("--devices", type=Path, help="a file with a JSON object {id, secret} a line, instead of a seed")
    parser.add_argument(
        "--registrations",
        action="store_true",
        help="only print what POST /api/v1/devices/import takes for these devices",
    )


def identities_of(arguments: argparse.Namespace) -> list[Identity]:
    """The devices that are meant. Raises OSError or ValueError for a file that cannot be used."""
    if arguments.devices is None:
        return [identity(arguments.seed, number) for number in range(arguments.count)]
    found = []
    for number, line in enumerate(arguments.devices.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found.append(Identity(str(entry["id"]), str(entry["secret"])))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{arguments.devices}, line {number}: not a JSON object with id and secret") from None
    return found


def build_fleet(
    reactor: Any,
    arguments: argparse.Namespace,
    told: Callable[[SimulatedDevice, str], None] | None,
    endpoint: Any,
) -> Fleet[SimulatedDevice]:
    """The fleet that the options describe, not started."""
    base = LIVELY if arguments.faults else Behaviour()
    behaviour = Behaviour(
        **{name: getattr(base, name) for name in Behaviour.__slots__ if name not in ("data_every", "flat")},
        data_every=arguments.every,
        flat=arguments.flat,
    )
    return Fleet(
        reactor,
        [SimulatedDevice(reactor, endpoint, who, arguments.seed, behaviour, told) for who in identities_of(arguments)],
    )


def print_registrations(arguments: argparse.Namespace) -> None:
    """What ``POST /api/v1/devices/import`` takes for these devices, a line each."""
    for number, who in enumerate(identities_of(arguments), 1):
        print(json.dumps(who.registration(name=f"simulated {number}")))
