"""Options that several sub-commands have: where the broker is, TLS, and registering through the API."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS
from zope.interface import implementer

from broker.simulate.api import Api


def add_api(parser: Any) -> None:
    parser.add_argument("--api", metavar="URL", help="register through the API there, such as http://127.0.0.1:8080")
    parser.add_argument(
        "--token-file",
        type=Path,
        default=Path("var/admin.token"),
        metavar="FILE",
        help="the administrator's token for --api (default: %(default)s)",
    )


def add_tls(parser: Any) -> None:
    parser.add_argument("--tls", action="store_true", help="over TLS; the certificate is not checked without --ca")
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="over TLS, with a certificate that this one vouches for"
    )


def add_updates(parser: Any) -> None:
    """What devices make of firmware."""
    parser.add_argument(
        "--fail", type=float, default=0.0, metavar="RATE", help="so many, from 0 to 1, fail at firmware updates"
    )
    parser.add_argument(
        "--lie",
        type=float,
        default=0.0,
        metavar="RATE",
        help="so many lie about their version: they fetch firmware and keep the old one, or claim the new one",
    )
    parser.add_argument(
        "--late", type=float, default=0.0, metavar="RATE", help="so many are switched on a minute after the others"
    )


def update_of(arguments: argparse.Namespace, number: int, failing: Sequence[str]) -> Any:
    """What the device with this number does with firmware: one of ``failing``, ``keeps``, ``claims``, or ``does``."""
    random = Random(f"{arguments.seed} {number} update")
    place = random.random()
    if place < arguments.fail:
        return random.choice(failing)
    return random.choice(("keeps", "claims")) if place < arguments.fail + arguments.lie else "does"


def is_late(arguments: argparse.Namespace, number: int) -> bool:
    """Whether the device with this number is switched on later."""
    return bool(Random(f"{arguments.seed} {number} late").random() < arguments.late)


def api_of(reactor: Any, arguments: argparse.Namespace) -> Api | None:
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


def endpoint_of(reactor: Any, arguments: argparse.Namespace) -> Any:
    plain = HostnameEndpoint(reactor, arguments.host, arguments.port)
    if arguments.ca is not None:
        authority = Certificate.loadPEM(arguments.ca.read_bytes())
        return wrapClientTLS(optionsForClientTLS(arguments.host, trustRoot=authority), plain)
    return wrapClientTLS(_Unchecked(), plain) if arguments.tls else plain
