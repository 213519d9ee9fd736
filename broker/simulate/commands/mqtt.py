"""``mqtt``: an application on MQTT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from broker.mqtt.client import MqttClient
from broker.simulate.options import add_api, add_tls, api_of, endpoint_of
from broker.simulate.registration import ensure_application
from broker.simulate.running import FIGURES_EVERY, CommandError, repeat, run_until_done, say


def add(several: Any) -> None:
    parser = several.add_parser(
        "mqtt",
        help="an application on MQTT",
        description="Prints what arrives on its subscriptions, and sends a command if one is given, until Ctrl-C. With "
        "--api the application is registered (it gets a new secret) and bound to the devices of --bind.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where the broker is (default: %(default)s)")
    parser.add_argument("--port", type=int, default=1883, help="its MQTT port (default: %(default)s)")
    parser.add_argument("--user", default="simulated", help="the application's id (default: %(default)s)")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="its secret")
    parser.add_argument("--bind", action="append", default=[], metavar="DEVICE", help="with --api: may use this device")
    parser.add_argument(
        "--subscribe", action="append", metavar="FILTER", help="default: devices/# (may be given more than once)"
    )
    parser.add_argument("--command", nargs=2, metavar=("DEVICE", "PAYLOAD"), help="send this JSON object as a command")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="send the command again and again")
    add_tls(parser)
    add_api(parser)
    parser.set_defaults(run=lambda reactor, arguments: run_until_done(reactor, _mqtt(reactor, arguments)))


async def _mqtt(reactor: Any, arguments: argparse.Namespace) -> None:
    body = b""
    if arguments.command is not None:
        try:
            payload = msgspec.json.decode(arguments.command[1].encode(), type=dict[str, Any])
        except ValueError as error:
            raise CommandError(f"--command: not a JSON object: {error}") from None
        body = msgspec.json.encode({"payload": payload})
    client = MqttClient(
        reactor,
        endpoint_of(reactor, arguments),
        user=arguments.user,
        password=await _secret(reactor, arguments),
        on_message=lambda message: say(f"{message.topic}  {message.payload.decode('utf-8', 'replace')}"),
        on_change=lambda what: say(f"mqtt: {what}"),
    )
    reactor.addSystemEventTrigger("before", "shutdown", client.stop)
    client.start()
    for topic_filter in arguments.subscribe or ["devices/#"]:
        await client.subscribe(topic_filter)

    def command() -> None:
        topic = f"devices/{arguments.command[0]}/command"
        client.publish(topic, body, 1).addErrback(lambda failure: say(f"mqtt: {failure.getErrorMessage()}"))

    if body:
        command()
    await repeat(reactor, command if body and arguments.every else lambda: None, arguments.every or FIGURES_EVERY)


async def _secret(reactor: Any, arguments: argparse.Namespace) -> str:
    api = api_of(reactor, arguments)
    if api is not None:
        secret = await ensure_application(api, arguments.user, "mqtt", arguments.bind)
        await api.close()
        return secret
    if arguments.secret_file is None:
        raise CommandError("--secret-file or --api is needed")
    text: str = arguments.secret_file.read_text("utf-8")
    return text.strip()
