"""``gizwits`` and ``gizwits-app``: Gizwits devices, and an app that is bound to some."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint

from broker.devices.gizwits import codec as g
from broker.simulate.fleet import Fleet
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_app import GizwitsApp, OpenApiError
from broker.simulate.gizwits_lamp import DATAPOINTS, READ, control
from broker.simulate.gizwits_traits import GizwitsBehaviour, gizwits_identity
from broker.simulate.options import add_api, add_updates, api_of, is_late, update_of
from broker.simulate.registration import ensure_application, ensure_product
from broker.simulate.running import FIGURES_EVERY, CommandError, repeat, run_until_done, say

#: The product of simulated devices.
PRODUCT = "51a1c0de51a1c0de51a1c0de51a1c0de"
APPLICATION = "simulated-gizwits"


def add(several: Any) -> None:
    _add_devices(several)
    _add_app(several)


def _add_devices(several: Any) -> None:
    parser = several.add_parser(
        "gizwits",
        help="Gizwits devices",
        description="Simulated Gizwits devices, until Ctrl-C: they register themselves, ask for firmware, log in over "
        "MQTT 3.1, report and answer. With --api their product is registered first. The same --seed gives the same "
        "devices.",
    )
    _add_place(parser)
    parser.add_argument("--count", type=int, default=10, help="how many devices (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="MACs and values follow from it (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between reports (default: %(default)s)")
    parser.add_argument(
        "--strict", action="store_true", help="understand no more of HTTP and MQTT than a real module does"
    )
    parser.add_argument("--faults", action="store_true", help="a lost connection at times")
    add_updates(parser)
    parser.add_argument("--verbose", action="store_true", help="a line for each thing that happens")
    add_api(parser)
    parser.set_defaults(run=lambda reactor, arguments: run_until_done(reactor, _devices(reactor, arguments)))


def _add_app(several: Any) -> None:
    parser = several.add_parser(
        "gizwits-app",
        help="a Gizwits app",
        description="A simulated app of one user, until Ctrl-C: it binds devices of --count and --seed, prints what "
        "they say, and switches them. With --api the application is registered first.",
    )
    _add_place(parser)
    parser.add_argument("--appid", default=APPLICATION, help="the application's id (default: %(default)s)")
    parser.add_argument("--phone", default="phone-1", help="who the user is (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1, help="how many devices it binds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the devices (default: %(default)s)")
    parser.add_argument("--switch", choices=("on", "off"), help="switch the devices' lamps")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="ask the devices for their state so often")
    add_api(parser)
    parser.set_defaults(run=lambda reactor, arguments: run_until_done(reactor, _app(reactor, arguments)))


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="the port of its GService (default: %(default)s)")
    parser.add_argument(
        "--product", default=PRODUCT, metavar="KEY", help="product key, 32 hexadecimal digits (default: %(default)s)"
    )


async def _devices(reactor: Any, arguments: argparse.Namespace) -> None:
    api = api_of(reactor, arguments)
    if api is not None:
        await ensure_product(api, {"key": arguments.product, "name": "Simulated lamp", "protocol": "gizwits"})
        await api.call("PUT", f"/gizwits/products/{arguments.product}/datapoints", {"datapoints": DATAPOINTS})
        await api.close()

    def told(device: SimulatedGizwits, what: str) -> None:
        say(f"{device.identity.mac} {device.did}  {what}")

    fleet = build_fleet(reactor, arguments, told if arguments.verbose else None)
    reactor.addSystemEventTrigger("before", "shutdown", fleet.stop)
    fleet.start()

    def figures() -> None:
        counts = [device.counts for device in fleet.devices]
        said = ", ".join(
            f"{sum(getattr(one, name) for one in counts)} {text}"
            for name, text in (
                ("reports", "reports sent"),
                ("commands", "commands received"),
                ("upgrades", "upgrades"),
                ("refused", "refused"),
                ("failures", "failures"),
                ("lost_packets", "packets lost"),
            )
        )
        say(f"{fleet.online} of {len(counts)} online, {said}")

    await repeat(reactor, figures)


def build_fleet(reactor: Any, arguments: argparse.Namespace, told: Any = None) -> Fleet[SimulatedGizwits]:
    """The fleet that the options describe, not started."""
    usual = GizwitsBehaviour(
        report_every=arguments.every,
        strict=arguments.strict,
        disconnect_rate=0.01 if arguments.faults else 0.0,
    )
    gservice = HostnameEndpoint(reactor, arguments.host, arguments.port)
    host = f"{arguments.host}:{arguments.port}"
    devices = [
        SimulatedGizwits(
            reactor,
            gservice,
            host,
            lambda name, port: HostnameEndpoint(reactor, name, port),
            gizwits_identity(arguments.product, arguments.seed, number),
            arguments.seed,
            replace(usual, update=update_of(arguments, number, ("breaks", "dumb"))),
            told,
        )
        for number in range(arguments.count)
    ]
    return Fleet(reactor, devices, late={n for n in range(arguments.count) if is_late(arguments, n)})


async def _app(reactor: Any, arguments: argparse.Namespace) -> None:
    api = api_of(reactor, arguments)
    if api is not None:
        await ensure_application(api, arguments.appid, "gizwits", [])
        await api.close()
    app = GizwitsApp(
        reactor,
        f"http://{arguments.host}:{arguments.port}",
        arguments.appid,
        arguments.phone,
        lambda name, port: HostnameEndpoint(reactor, name, port),
        on_report=lambda did, packet: say(f"{did}  {_text(packet)}"),
        on_change=lambda what: say(f"app: {what}"),
    )
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(app.stop()))
    try:
        await app.log_in()
        for number in range(arguments.count):
            mac = gizwits_identity(arguments.product, arguments.seed, number).mac
            await app.bind(*await app.find(arguments.product, mac))
    except OpenApiError as error:
        raise CommandError(str(error)) from None
    await app.start()
    if arguments.switch is not None:
        for did in app.devices:
            app.control(did, control(power=arguments.switch == "on"), acknowledged=True)

    def ask() -> None:
        for did in app.devices:
            app.control(did, bytes((READ,)))

    await repeat(reactor, ask if arguments.every else lambda: None, arguments.every or FIGURES_EVERY)


def _text(packet: g.Business) -> str:
    match packet:
        case g.Report() | g.Request() | g.Ack() | g.Control():
            return f"{type(packet).__name__.lower()} {packet.data.hex()}"
        case g.Log():
            return f"log {packet.text.decode('utf-8', 'replace')}"
        case _:
            return type(packet).__name__.lower()
