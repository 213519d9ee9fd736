"""Where an MQTT client connects to, from a URL.

========================  ==========================================================================================
``mqtt://host[:1883]``    TCP
``mqtts://host[:8883]``   TLS: the certificate has to be vouched for by ``ca``, or by the system's authorities, and to
                          be the host's (service-identity)
``mqtt+unix:///path``     a UNIX socket
========================  ==========================================================================================

Credentials do not belong into the URL: it is logged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from OpenSSL import SSL
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, platformTrust
from twisted.internet.ssl import trustRootFromCertificates as vouched_for_by

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_UNIX: Final = "mqtt+unix"
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Place(NamedTuple):
    """Where a URL points to. ``path`` is of a UNIX socket, else empty."""

    host: str
    port: int
    secure: bool
    path: str


def parse_url(text: str) -> Place:
    """Raises ValueError, with a sentence for whoever wrote it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme == _UNIX and not parts.netloc and len(parts.path) > 1:
        return Place("", 0, False, unquote(parts.path))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("must be mqtt://HOST[:PORT], mqtts://HOST[:PORT] or mqtt+unix:///PATH")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must be without user name and password, which have keys of their own")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must end with the host or its port")
    return Place(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", "")


def endpoint_of(reactor: Any, url: str, ca: str = "", certificate: str = "", private_key: str = "") -> Any:
    """The client endpoint. ``ca``, ``certificate``, ``private_key``: PEM files. Raises ValueError."""
    place = parse_url(url)
    if place.path:
        return UNIXClientEndpoint(reactor, place.path)
    plain = HostnameEndpoint(reactor, place.host, place.port)
    if not place.secure:
        return plain
    trusted = _authorities(ca) if ca else platformTrust()
    own = _own_certificate(certificate, private_key) if certificate else None
    return wrapClientTLS(optionsForClientTLS(place.host, trustRoot=trusted, clientCertificate=own), plain)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def _authorities(file: str) -> Any:
    found = _CERTIFICATE.findall(_read(file))
    try:
        certificates = [Certificate.loadPEM(pem) for pem in found]
    except (SSL.Error, ValueError):
        certificates = []
    if not certificates:
        raise ValueError(f"{file} has no certificate in PEM form")
    return vouched_for_by(certificates)


def _own_certificate(certificate: str, private_key: str) -> Any:
    pem = _read(certificate) + b"\n" + _read(private_key or certificate)
    try:
        return PrivateCertificate.loadPEM(pem)
    except (SSL.Error, ValueError):
        raise ValueError(f"{certificate} and {private_key or certificate} are no certificate with its key") from None
