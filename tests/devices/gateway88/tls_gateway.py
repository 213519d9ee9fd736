"""A gateway behind TLS, in memory: what a socket would carry goes from one to the other by hand."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone

from broker.devices.gateway88.container import AS_WRITTEN, encode
from broker.devices.gateway88.frames import encode_frame
from broker.listening.tls_transport import OverTLS
from tests.devices.gateway88.bed import Bed
from tests.transports import ADDRESS, PeerTransport


def client_context(certificate: Path | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """As gateways have it: nothing of the server is checked. ``certificate``: a PEM file with key and certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


class Socket(PeerTransport):
    """Closes although there is a producer, as sockets do once what was written is gone."""

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.clock.callLater(0, self.lose, ConnectionDone())


class TlsGateway:
    """``contexts``: what `broker.tls.Certificate.asking` gives. ``session``: one that is to be resumed."""

    def __init__(
        self,
        bed: Bed,
        contexts: Any,
        mac: bytes,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        address: str = ADDRESS,
    ) -> None:
        self.bed = bed
        self.mac = mac
        self.transport = Socket(bed.clock, address)
        self.server: Any = OverTLS(contexts, False, bed.listener).buildProtocol(self.transport.getPeer())
        self.transport.protocol = self.server
        self.connection: Any = self.server.wrappedProtocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._incoming, self._outgoing, session=session)
        self.received = b""
        self.alert: ssl.SSLError | None = None
        self._met = False
        self.server.makeConnection(self.transport)

    @property
    def reason(self) -> str:
        """Why it ended, or is about to; empty while it is open."""
        return str(self.connection.reason) if self.connection.closing else ""

    def shake_hands(self) -> TlsGateway:
        self._met = True
        for _ in range(8):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.alert = error
            self.pump()
        return self

    def send(self, data: bytes) -> None:
        self.client.write(data)
        self.pump()

    def say(self, value: dict[str, Any], number: int) -> None:
        self.send(encode_frame(self.mac, number, encode(value, AS_WRITTEN)))

    def take_outgoing(self) -> bytes:
        """What the client has written and the server has not been given."""
        return self._outgoing.read()

    def give(self, data: bytes) -> None:
        """Bytes of TLS arrive at the server."""
        if data and self.transport.connected:
            self.server.dataReceived(data)
        self.pump()

    def pump(self) -> None:
        """Carry what there is from one to the other."""
        for _ in range(4):
            data = self._outgoing.read()
            if data and self.transport.connected:
                self.server.dataReceived(data)
            self.bed.tick()
            if written := self.transport.value():
                self.transport.clear()
                self._incoming.write(written)
            if not self._met:  # to read would be to begin
                continue
            try:
                self.received += self.client.read(1 << 20)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
            except ssl.SSLError as error:
                self.alert = error
