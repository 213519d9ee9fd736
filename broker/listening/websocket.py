"""WebSocket as a transport for a protocol over a byte stream, such as MQTT (MQTT 3.1.1 and 5.0, section 6).

::

    socket (plain or TLS) ──> WebSocketProtocol ──payload of the binary frames──> Connection
                                    ▲                                                │
                                    └────── a write, one binary frame ──── Wire <────┘

The bytes in binary messages are one stream; where a message or a frame begins and ends means nothing [MQTT-6.0.0-2].
So no message is ever collected: what a chunk from the socket holds goes to the connection in one piece, and the limit
on the size of a message is the protocol's own. Text closes the connection [MQTT-6.0.0-1], with code 1003.

The connection exists from the first byte on: the listener counts it, and its login limit holds for the handshake as
well. Frames count against the message rate where they are more than the messages in them, so that a flood of pings,
empty frames or crumbs is slowed down like any other. Of several pings in one chunk the last is answered (RFC 6455,
5.5.3), and none while the client does not read.

A close of ours is a Close frame behind the last data; the client's own Close frame ends the connection, or
``close_timeout`` does. A close of the client's is answered, and what was to be sent is not.

The subprotocol that is answered is the one that was offered (MQTT 5.0 [MQTT-6.0.0-4]), over a transport that keeps the
order and loses nothing [MQTT-4.2.0-1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from zope.interface import implementer

from broker.listening.connection import Connection
from broker.listening.frames import CLOSE_CODES, NORMAL, binary_frame
from broker.listening.handshake import Handshake, Refused, refusal
from broker.listening.settings import WebSocketSettings

#: For a message that is text (RFC 6455, 7.4.1: a type of data that cannot be accepted).
UNSUPPORTED: Final = 1003
#: Bytes that may still come behind our Close frame: what was on its way, but not a flood.
MAX_LATE: Final = 262_144


def websocket_factory(
    listener: Factory,
    subprotocols: Sequence[str],
    settings: Callable[[], WebSocketSettings] = WebSocketSettings,
) -> Factory:
    """What ``ws:`` and ``wss:`` bindings of a `Listener` serve: its connections, each over a WebSocket.

    ``subprotocols`` are ours, the one that we like best first; ``settings`` is asked for each connection.
    """
    return WebSocketFactory(listener, subprotocols, settings)


class WebSocketFactory(Factory):
    """See `websocket_factory`."""

    noisy = False

    def __init__(
        self, listener: Factory, subprotocols: Sequence[str], settings: Callable[[], WebSocketSettings]
    ) -> None:
        self.listener = listener
        self._subprotocols = subprotocols
        self._settings = settings

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, which closes the socket, when the listener says so."""
        connection: Any = self.listener.buildProtocol(addr)
        if connection is None:
            return None
        return WebSocketProtocol(connection, Handshake(self._subprotocols, self._settings()))


@implementer(IPushProducer)
class WebSocketProtocol(Protocol):
    """What the socket has for its protocol."""

    def __init__(self, connection: Connection, handshake: Handshake) -> None:
        self.connection = connection
        self.wire = Wire(self)
        #: Until the request is answered; then either ``frames``, or nothing more is read.
        self.handshake: Handshake | None = handshake
        self.frames: Frames | None = None
        #: What the connection wrote before there were frames.
        self.early: list[bytes] = []
        self.producer: Any = None
        self.blocked = False
        #: The payload of a ping that was not answered yet.
        self._ping: bytes | None = None
        #: The code to close with, where the connection's reason does not say it.
        self._code: int | None = None
        #: Nothing that still comes can be read.
        self._broken = False
        self._late = 0

    @property
    def socket(self) -> Any:
        return self.transport

    @property
    def open(self) -> bool:
        return self.frames is not None and self.frames.state is ConnectionState.OPEN

    # -- from the socket -------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.connection.makeConnection(self.wire)

    def dataReceived(self, data: bytes) -> None:
        if self.frames is not None:
            if self.connection.closing:
                self._late += len(data)
                if self._late > MAX_LATE or self._broken:
                    self.socket.loseConnection()
                    return
            self.frames.receive_data(data)
            self._read(self.frames)
        elif self.handshake is not None and not self.connection.closing:
            self._shake_hands(self.handshake, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.open and reason.check(ConnectionDone):
            reason = Failure(ConnectionLost("no Close frame"))
        self.connection.connectionLost(reason)

    def pauseProducing(self) -> None:
        """The socket is full."""
        self.blocked = True
        self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The socket has room again."""
        self.blocked = False
        self._answer_ping()
        self.producer.resumeProducing()

    def stopProducing(self) -> None:
        """The socket is gone; connectionLost follows."""

    # -- reading ---------------------------------------------------------------------------------------------------

    def _shake_hands(self, handshake: Handshake, data: bytes) -> None:
        try:
            accepted = handshake.receive(data)
        except Refused as refused:
            self.handshake = None
            self.connection.home.stats.malformed += 1
            self.socket.write(refused.answer)
            self.connection.close(refused.reason, b"")
            return
        if accepted is not None:
            self.handshake = None
            answer, self.frames = accepted
            early, self.early = b"".join(self.early), []
            self.socket.write(answer + (binary_frame(early) if early else b""))
            self._read(self.frames)

    def _read(self, frames: Frames) -> None:
        """Everything that has come, up to what ends it."""
        parts: list[bytes | bytearray] = []
        count = 0
        end: Event | None = None
        for event in frames.events():
            if isinstance(event, BytesMessage):
                parts.append(event.data)
                count += event.frame_finished
            elif isinstance(event, Ping):
                self._ping = bytes(event.payload)
                count += 1
            elif isinstance(event, Pong):
                count += 1
            else:
                end = event
                break
        connection = self.connection
        before = connection.messages_in
        if parts:
            connection.dataReceived(b"".join(parts))
        if end is not None:
            self._end(frames, end)
            return
        if self._ping is not None:
            self._answer_ping()
        extra = count - (connection.messages_in - before)
        if extra > 0:
            connection.charge(extra)

    def _end(self, frames: Frames, event: Event) -> None:
        """Text, a Close frame, or something that is no frame: nothing behind it is read."""
        if isinstance(event, CloseConnection) and frames.state is ConnectionState.CLOSED:
            self.socket.loseConnection()  # the answer to our own
        elif isinstance(event, CloseConnection) and frames.state is ConnectionState.REMOTE_CLOSING:
            self._code = int(event.code)  # echoed
            self.connection.close("client_closed", b"")
        elif isinstance(event, CloseConnection):
            self.connection.home.stats.malformed += 1
            self._fail("malformed", int(event.code))
        else:
            assert isinstance(event, TextMessage)
            self._fail("protocol_error", UNSUPPORTED)

    def _fail(self, reason: str, code: int) -> None:
        """RFC 6455, 7.1.7: say so and close, without waiting for an answer."""
        self._broken = True
        if self.connection.closing:
            self.socket.loseConnection()
        else:
            self._code = code
            self.connection.close(reason, b"")

    def _answer_ping(self) -> None:
        ping = self._ping
        if ping is not None and not self.blocked and self.open:
            assert self.frames is not None
            self._ping = None
            self.socket.write(bytes(self.frames.send(Pong(payload=ping))))

    # -- closing ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The connection has written its last and closes."""
        reason = self.connection.reason
        frames = self.frames
        if frames is None:
            if self.handshake is not None:
                self.handshake = None
                status = 408 if reason == "auth_timeout" else 503
                self.socket.write(refusal(status, "the request did not arrive in time" if status == 408 else reason))
            self.socket.loseConnection()
        elif frames.state is ConnectionState.OPEN:
            code = self._code or CLOSE_CODES.get(reason, NORMAL)
            self.socket.write(bytes(frames.send(CloseConnection(code=code, reason=reason))))
            if self._broken:
                self.socket.loseConnection()
        elif frames.state is ConnectionState.REMOTE_CLOSING:
            self.socket.write(bytes(frames.send(CloseConnection(code=self._code or NORMAL))))
            self.socket.loseConnection()


@implementer(ITransport, IConsumer, IPushProducer)
class Wire:
    """What the connection has for its transport."""

    def __init__(self, protocol: WebSocketProtocol) -> None:
        self._protocol = protocol

    @property
    def disconnecting(self) -> bool:
        return self._protocol.connection.closing

    def write(self, data: bytes) -> None:
        protocol = self._protocol
        if protocol.open:
            protocol.socket.write(binary_frame(data))
        elif protocol.handshake is not None:
            protocol.early.append(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._protocol.close()

    def abortConnection(self) -> None:
        self._protocol.socket.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._protocol.producer = producer
        self._protocol.socket.registerProducer(self._protocol, streaming)

    def unregisterProducer(self) -> None:
        self._protocol.socket.unregisterProducer()

    def pauseProducing(self) -> None:
        self._protocol.socket.pauseProducing()

    def resumeProducing(self) -> None:
        self._protocol.socket.resumeProducing()

    def stopProducing(self) -> None:
        self._protocol.socket.stopProducing()

    def getPeer(self) -> Any:
        return self._protocol.socket.getPeer()

    def getHost(self) -> Any:
        return self._protocol.socket.getHost()

    def getHandle(self) -> Any:
        """The TLS connection or the socket, None in memory."""
        socket = self._protocol.socket
        return socket.getHandle() if hasattr(socket, "getHandle") else None

    def setTcpNoDelay(self, enabled: bool) -> None:
        socket = self._protocol.socket
        if hasattr(socket, "setTcpNoDelay"):
            socket.setTcpNoDelay(enabled)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        socket = self._protocol.socket
        if hasattr(socket, "setTcpKeepAlive"):
            socket.setTcpKeepAlive(enabled)
