"""A WebSocket client in memory: a `Peer` whose bytes go as binary messages, and that answers what a client answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, RejectConnection, Request

from broker.listening.connection import Connection
from broker.listening.websocket import WebSocketFactory, WebSocketProtocol
from tests.transports import ADDRESS, CHUNK, Peer, PeerTransport


class HeardTransport(PeerTransport):
    """Tells its peer, in another turn, that something was written."""

    peer_of: WebSocketPeer

    def write(self, data: bytes) -> None:
        super().write(data)
        self.clock.callLater(0, self.peer_of.react)


class WebSocketPeer(Peer):
    """``subprotocols`` are offered; ``silent`` answers neither pings nor Close frames."""

    def __init__(
        self,
        factory: Any,
        clock: Clock,
        address: str = ADDRESS,
        *,
        subprotocols: tuple[str, ...] = ("toy",),
        target: str = "/mqtt",
        silent: bool = False,
        begin: bool = True,
    ) -> None:
        assert isinstance(factory, WebSocketFactory)
        self.clock = clock
        self.transport = transport = HeardTransport(clock, address)
        transport.peer_of = self
        protocol = factory.buildProtocol(self.transport.getPeer())
        if protocol is None:
            raise ConnectionRefusedError(address)
        self.protocol: WebSocketProtocol = protocol
        self.connection: Connection = protocol.connection
        self.transport.protocol = protocol
        self.silent = silent
        self.backlog = b""
        self.client = WSConnection(ConnectionType.CLIENT)
        #: What came, but for the data.
        self.events: list[Event] = []
        self._got = b""
        protocol.makeConnection(self.transport)
        self.request = Request(host="broker.example", target=target, subprotocols=list(subprotocols))
        if begin:
            self.raw(self.client.send(self.request))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, in one chunk."""
        if self.transport.connected:
            self.protocol.dataReceived(data)
        self.clock.advance(0)
        self.clock.advance(0)

    def say(self, event: Event) -> None:
        self.raw(self.client.send(event))

    def pump(self) -> None:
        while self.backlog and self.open and self.transport.producerState == "producing":
            if self.client.state is not ConnectionState.OPEN:
                break
            chunk, self.backlog = self.backlog[:CHUNK], self.backlog[CHUNK:]
            self.say(BytesMessage(data=chunk))
        self.clock.advance(0)
        self.clock.advance(0)

    def react(self) -> None:
        """Read what was written, as far as this client reads."""
        written = self.transport.value()
        if not (self.transport.reads and written):
            return
        self.transport.clear()
        if self.client.state is ConnectionState.CLOSED:
            return
        self.client.receive_data(written)
        for event in self.client.events():
            if isinstance(event, BytesMessage):
                self._got += event.data
                continue
            self.events.append(event)
            if isinstance(event, CloseConnection | Ping) and self.answers:
                self.protocol.dataReceived(self.client.send(event.response()))

    @property
    def answers(self) -> bool:
        return (
            not self.silent
            and self.transport.connected
            and self.client.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)
        )

    def take(self) -> bytes:
        self.react()
        got, self._got = self._got, b""
        return got

    @property
    def open(self) -> bool:
        return self.transport.connected and not self.connection.closing

    @property
    def accepted(self) -> AcceptConnection | None:
        return next((event for event in self.events if isinstance(event, AcceptConnection)), None)

    @property
    def rejected(self) -> RejectConnection | None:
        return next((event for event in self.events if isinstance(event, RejectConnection)), None)

    @property
    def pongs(self) -> list[bytes]:
        return [bytes(event.payload) for event in self.events if isinstance(event, Pong)]

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Code and text of the Close frame that came."""
        found = next((event for event in self.events if isinstance(event, CloseConnection)), None)
        return None if found is None else (int(found.code), found.reason or "")
