"""Client endpoints for a `RedisAddress`: TCP, TLS with verification, a Unix socket, and the master that Sentinel names.

With TLS the certificate has to be good for the host of the URL, or for the address that Sentinel gave, be it a name
or an IP address (service-identity, through `optionsForClientTLS`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

from broker.model.errors import Unavailable
from broker.storage.deferred import deferred
from broker.storage.redis.address import RedisAddress
from broker.storage.redis.replies import text_of
from broker.storage.redis.settings import RedisTable

#: Seconds before the next address of a name is tried as well; it is also what a refused attempt takes.
NEXT_ADDRESS = 0.05
#: Seconds that one Sentinel has to say who is master.
SENTINEL_TIMEOUT = 2.0


class Tls:
    """Whom we trust and who we are. Reads the files at once: raises Unavailable for one that cannot be used."""

    def __init__(self, settings: RedisTable) -> None:
        try:
            self._trust: Any = _authorities(settings.ca) if settings.ca else platformTrust()
            self._own = _own(settings.certificate, settings.private_key) if settings.certificate else None
        except (OSError, ValueError, crypto.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise Unavailable(f"a file of [redis] ca, certificate or private_key cannot be used: {why}") from None

    def wrap(self, host: str, endpoint: Any) -> Any:
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._trust, clientCertificate=self._own), endpoint)


def _authorities(file: str) -> Any:
    found = x509.load_pem_x509_certificates(Path(file).read_bytes())
    return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(one)) for one in found])


def _own(certificate: str, private_key: str) -> PrivateCertificate:
    pem = Path(private_key or certificate).read_bytes() + Path(certificate).read_bytes()
    loaded: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    return loaded


def endpoint_of(reactor: Any, address: RedisAddress, settings: RedisTable) -> Any:
    """Where to connect. Raises Unavailable for files of certificates that cannot be used."""
    tls = Tls(settings) if address.tls else None
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, timeout=settings.connect_timeout)
    if address.service:
        return SentinelEndpoint(reactor, address, settings, tls)
    (server,) = address.hosts
    return _to(reactor, server, settings.connect_timeout, tls)


def _to(reactor: Any, server: tuple[str, int], timeout: float, tls: Tls | None) -> Any:
    host, port = server
    plain = HostnameEndpoint(reactor, host, port, timeout=timeout, attemptDelay=NEXT_ADDRESS)
    return plain if tls is None else tls.wrap(host, plain)


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Asks the Sentinels, one after another, at each attempt; the one that knew is asked first the next time."""

    def __init__(self, reactor: Any, address: RedisAddress, settings: RedisTable, tls: Tls | None) -> None:
        self._reactor = reactor
        self._sentinels = list(address.hosts)
        self._service = address.service
        self._settings = settings
        self._tls = tls

    @deferred
    async def connect(self, protocolFactory: Any) -> Any:
        master = await self._master()
        return await _to(self._reactor, master, self._settings.connect_timeout, self._tls).connect(protocolFactory)

    async def _master(self) -> tuple[str, int]:
        why = ""
        for place in list(self._sentinels):
            try:
                found = await self._ask(place)
            except Exception as error:  # whatever is wrong with this one, another may know
                why = f"; {place[0]}:{place[1]}: {error}"
                continue
            if found is not None:
                self._sentinels.remove(place)
                self._sentinels.insert(0, place)
                return found
        raise Unavailable(f"no Sentinel knows a master of {self._service!r}{why}"[:300])

    async def _ask(self, place: tuple[str, int]) -> tuple[str, int] | None:
        from broker.storage.redis.link import bare_protocol

        settings = self._settings
        factory = Factory.forProtocol(bare_protocol)
        factory.noisy = False
        endpoint = _to(self._reactor, place, SENTINEL_TIMEOUT, self._tls)
        protocol = await endpoint.connect(factory)
        try:
            if settings.sentinel_password:
                user = [settings.sentinel_username] if settings.sentinel_username else []
                await self._timed(protocol.execute_command("AUTH", *user, settings.sentinel_password))
            question = protocol.execute_command("SENTINEL", "get-master-addr-by-name", self._service)
            reply = await self._timed(question)
        finally:
            protocol.transport.abortConnection()
        if not isinstance(reply, list) or len(reply) != 2:
            return None
        return text_of(reply[0]), int(text_of(reply[1]))

    def _timed(self, answer: Deferred[Any]) -> Deferred[Any]:
        return answer.addTimeout(SENTINEL_TIMEOUT, self._reactor)
