"""``customer``: a LoRaCenter customer server."""

from __future__ import annotations

import argparse
import json
from typing import Any

from broker.simulate.customer import CustomerIdentity, SimulatedCustomer
from broker.simulate.options import add_api, add_tls, api_of, endpoint_of
from broker.simulate.registration import ensure_customer
from broker.simulate.running import CommandError, repeat, run_until_done, say


def add(several: Any) -> None:
    parser = several.add_parser(
        "customer",
        help="a LoRaCenter customer server",
        description="A simulated customer server, which shows what it is told until Ctrl-C. With --api it is "
        "registered first, with rights on the devices of --bind.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", type=int, default=6666, help="its LoRaCenter port (default: %(default)s)")
    parser.add_argument("--id", default="simulated-customer", help="the application's id (default: %(default)s)")
    parser.add_argument("--cs-eui", default="AA555A0000000000", metavar="EUI", help="(default: %(default)s)")
    parser.add_argument(
        "--app-key", default="00112233445566778899AABBCCDDEEFF", metavar="KEY", help="(default: %(default)s)"
    )
    parser.add_argument("--service", type=int, metavar="N", help="the ServiceId (default: none is sent)")
    parser.add_argument("--reversed", action="store_true", help="the challenge in the reversed order of bytes")
    parser.add_argument("--old", action="store_true", help="as older documents have it: AppEUI, no proof")
    parser.add_argument("--bind", action="append", default=[], metavar="ID", help="a device to get rights on (repeat)")
    parser.add_argument(
        "--send",
        action="append",
        nargs=2,
        default=[],
        metavar=("DEVEUI", "HEX"),
        help="a SENDTO once it is registered (repeat)",
    )
    parser.add_argument("--send-port", type=int, default=231, metavar="N", help="their port (default: %(default)s)")
    parser.add_argument("--confirm", action="store_true", help="they are to be acknowledged")
    parser.add_argument("--quiet", action="store_true", help="figures only")
    add_tls(parser)
    add_api(parser)
    parser.set_defaults(run=_run)


def _run(reactor: Any, arguments: argparse.Namespace) -> int:
    return run_until_done(reactor, _customer(reactor, arguments))


async def _customer(reactor: Any, arguments: argparse.Namespace) -> None:
    try:
        orders = [(eui, bytes.fromhex(text)) for eui, text in arguments.send]
        bytes.fromhex(arguments.app_key)
    except ValueError:
        raise CommandError("--send and --app-key: bytes are given in hexadecimal digits") from None
    cs_eui = arguments.cs_eui.upper().zfill(16)
    api = api_of(reactor, arguments)
    if api is not None:
        key = "" if arguments.old else arguments.app_key
        await ensure_customer(api, arguments.id, cs_eui, key, arguments.bind)
        await api.close()

    def told(message: dict[str, Any]) -> None:
        if not arguments.quiet:
            say(json.dumps(message))

    identity = CustomerIdentity(cs_eui, arguments.app_key, arguments.service, arguments.reversed, arguments.old)
    customer = SimulatedCustomer(reactor, endpoint_of(reactor, arguments), identity, told)

    def send() -> None:
        customer.on_registered.remove(send)
        for eui, payload in orders:
            customer.send_to(eui, payload, arguments.send_port, **({"Confirm": True} if arguments.confirm else {}))

    customer.on_registered.append(send)
    reactor.addSystemEventTrigger("before", "shutdown", customer.stop)
    customer.start()

    def figures() -> None:
        counted = ", ".join(f"{count} {cmd} {code}" for (cmd, code), count in sorted(customer.counts.items()))
        say(f"{'registered' if customer.registered else 'not registered'}; {counted}")

    await repeat(reactor, figures)
