"""The sub-commands of ``python -m broker.simulate``: their options, and what they do until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from broker.simulate import demo, novacloud
from broker.simulate.api import Api, ApiError
from broker.simulate.mqtt import MqttClient, MqttRefused
from broker.simulate.registration import ensure_application

#: Seconds between two lines of figures.
FIGURES_EVERY: Final = 10.0


class CommandError(Exception):
    """A command cannot go on; the text is one line."""


def say(line: str) -> None:
    """A line for whoever watches. When nobody can read it any more, that is taken as Ctrl-C."""
    try:
        print(line, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        signal.raise_signal(signal.SIGINT)


def run_until_done(reactor: Any, work: Coroutine[Any, Any, None]) -> int:
    """Run the reactor until ``work`` is done or has failed (status 1, one line), or until Ctrl-C (status 0)."""
    status = [0]

    def failed(failure: Any) -> None:
        failure.trap(CommandError, ApiError, MqttRefused, ConnectError, OSError, ValueError)
        print(f"broker.simulate: {failure.getErrorMessage()}", file=sys.stderr, flush=True)
        status[0] = 1

    def fault(failure: Any) -> None:
        print(failure.getTraceback(), file=sys.stderr, flush=True)
        status[0] = 1

    def begin() -> None:
        done = Deferred.fromCoroutine(work).addErrback(failed).addErrback(fault)
        done.addCallback(lambda _: reactor.stop() if reactor.running else None)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status[0]


# -- demo --------------------------------------------------------------------------------------------------------------


def add_demo(several: Any) -> None:
    parser = several.add_parser(
        "demo",
        help="the broker with a small fleet and three applications, a line for each message",
        description="Starts `twistd -n broker` with its defaults, and lets five NovaCloud devices and three "
        "applications talk through it until Ctrl-C. Settings come from BROKER__<TABLE>__<KEY> variables.",
    )
    parser.set_defaults(run=lambda reactor, arguments: demo.main(reactor, say))


# -- novacloud ---------------------------------------------------------------------------------------------------------


def add_novacloud(several: Any) -> None:
    parser = several.add_parser(
        "novacloud",
        help="NovaCloud devices",
        description="Simulated NovaCloud devices, until Ctrl-C. With --api they are registered first; what is "
        "registered already stays as it is. The same --seed gives the same devices.",
    )
    novacloud.add_arguments(parser)
    _add_tls(parser)
    _add_api(parser)
    parser.add_argument("--verbose", action="store_true", help="a line for each login, loss and error")
    parser.set_defaults(run=_run_novacloud)


def _run_novacloud(reactor: Any, arguments: argparse.Namespace) -> int:
    if arguments.registrations:
        novacloud.run(arguments, reactor)
        return 0
    return run_until_done(reactor, _novacloud(reactor, arguments))


async def _novacloud(reactor: Any, arguments: argparse.Namespace) -> None:
    identities = novacloud.identities(arguments)
    api = _api(reactor, arguments)
    if api is not None:
        answer = await api.import_devices(one.registration(name="simulated") for one in identities)
        say(f"registered {answer['created']} of {len(identities)} devices")
        for failed in answer["failed"][:1]:
            say(f"not registered: {len(answer['failed'])}, the first because: {failed['error']}")
        await api.close()

    def told(device: novacloud.SimulatedDevice, what: str) -> None:
        say(f"{device.identity.id}  {what}")

    fleet = novacloud.build_fleet(
        reactor, arguments, told if arguments.verbose else None, _endpoint(reactor, arguments)
    )
    reactor.addSystemEventTrigger("before", "shutdown", fleet.stop)
    fleet.start()

    def figures() -> None:
        counts = [device.counts for device in fleet.devices]
        data, commands = sum(one.data for one in counts), sum(one.commands for one in counts)
        refused = sum(one.refused for one in counts)
        say(
            f"{fleet.online} of {len(counts)} online, {data} data sent, {commands} commands received, {refused} refused"
        )

    await _repeat(reactor, figures)


# -- mqtt --------------------------------------------------------------------------------------------------------------


def add_mqtt(several: Any) -> None:
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
    _add_tls(parser)
    _add_api(parser)
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
        _endpoint(reactor, arguments),
        user=arguments.user,
        password=await _secret(reactor, arguments),
        on_message=lambda topic, message, qos, retained: say(f"{topic}  {message.decode('utf-8', 'replace')}"),
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
    await _repeat(reactor, command if body and arguments.every else lambda: None, arguments.every or FIGURES_EVERY)


async def _secret(reactor: Any, arguments: argparse.Namespace) -> str:
    api = _api(reactor, arguments)
    if api is not None:
        secret = await ensure_application(api, arguments.user, "mqtt", arguments.bind)
        await api.close()
        return secret
    if arguments.secret_file is None:
        raise CommandError("--secret-file or --api is needed")
    text: str = arguments.secret_file.read_text("utf-8")
    return text.strip()


# -- what they share ---------------------------------------------------------------------------------------------------


def _add_api(parser: Any) -> None:
    parser.add_argument("--api", metavar="URL", help="register through the API there, such as http://127.0.0.1:8080")
    parser.add_argument(
        "--token-file",
        type=Path,
        default=Path("var/admin.token"),
        metavar="FILE",
        help="the administrator's token for --api (default: %(default)s)",
    )


def _add_tls(parser: Any) -> None:
    parser.add_argument("--tls", action="store_true", help="over TLS; the certificate is not checked without --ca")
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="over TLS, with a certificate that this one vouches for"
    )


def _api(reactor: Any, arguments: argparse.Namespace) -> Api | None:
    if arguments.api is None:
        return None
    return Api(reactor, arguments.api, arguments.token_file.read_text("utf-8").strip())


@implementer(IOpenSSLClientConnectionCreator)
class _Unchecked:
    """TLS to whoever answers: brokers on one's own machine have certificates that nobody vouches for."""

    def __init__(self) -> None:
        self._context = CertificateOptions().getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def _endpoint(reactor: Any, arguments: argparse.Namespace) -> Any:
    plain = HostnameEndpoint(reactor, arguments.host, arguments.port)
    if arguments.ca is not None:
        authority = Certificate.loadPEM(arguments.ca.read_bytes())
        return wrapClientTLS(optionsForClientTLS(arguments.host, trustRoot=authority), plain)
    return wrapClientTLS(_Unchecked(), plain) if arguments.tls else plain


async def _repeat(reactor: Any, call: Any, seconds: float = FIGURES_EVERY) -> None:
    """Call it every so often, for ever."""
    loop = LoopingCall(call)
    loop.clock = reactor
    await loop.start(seconds, now=False)
