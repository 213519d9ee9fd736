"""One HTTP connection: the broker's own `Connection` outside, Twisted's HTTP/1.1 parser inside.

::

    socket ──> WebConnection ──received──> WebChannel (twisted.web) ──> WebRequest
                  ▲    outbox <──write──── _Wire <─────────┘
                  └ limits, figures, slow readers, close reasons: as for every other protocol

Time limits are looked at on the listener's slow tick, not with a timer a connection: a request has ``request_timeout``
to arrive and its body a least rate on top; without a request the connection lives for ``keep_alive_timeout``.

When a request is refused before all of its body was read, what still comes is thrown away for a few seconds before the
socket is closed: a reset would take the answer away from a client that is still sending.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from broker.listening.connection import Connection
from broker.listening.frames import close_frame
from broker.model.errors import BrokerError, Invalid
from broker.web.problems import HeadTooLarge, TooSlow
from broker.web.request import WebRequest
from broker.web.settings import WebSettings
from broker.web.websocket import WebSocketPeer

#: Seconds for which the rest of a refused body is read and thrown away.
LINGER = 5.0
#: Requests of one connection that are answered before it is the others' turn.
MAX_IN_A_ROW = 50
#: The first byte of a WebSocket's close frame, and the codes by which the parser says that the client broke the rules.
CLOSE_FRAME = 0x88
NOT_WEBSOCKET = frozenset({1002, 1007})
#: The first byte of a TLS record with a ClientHello; no request begins with it.
TLS_HANDSHAKE = b"\x16"


@implementer(ITransport, IConsumer, IPushProducer)
class _Wire:
    """What the parser takes for its transport: writing goes to the outbox, pausing to the connection's own causes."""

    def __init__(self, connection: WebConnection) -> None:
        self._connection = connection
        self.producer: Any = None
        #: Of the close frame that the parser has written to a WebSocket's client.
        self.close_code = 0

    @property
    def disconnecting(self) -> bool:
        return self._connection.closing

    def write(self, data: bytes) -> None:
        if data and not self._connection.closing:
            if self._connection.websocket is not None and data[0] == CLOSE_FRAME:
                self.close_code = int.from_bytes(data[2:4], "big")
            self._connection.send(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.close_code in NOT_WEBSOCKET:
            self._connection.home.stats.malformed += 1
            self._connection.finish("malformed")
        else:
            self._connection.finish("client_closed")

    def abortConnection(self) -> None:
        self._connection.abort("client_closed")

    def getPeer(self) -> Any:
        return self._connection.socket.getPeer()

    def getHost(self) -> Any:
        return self._connection.socket.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self._connection.pause("http")

    def resumeProducing(self) -> None:
        self._connection.resume("http")

    def stopProducing(self) -> None:
        self._connection.finish("client_closed")


class WebChannel(HTTPChannel):
    """Twisted's parser, with refusals of ours for what it refuses itself, and lingering."""

    requestFactory: Any = WebRequest
    timeOut = None

    def __init__(self, connection: WebConnection) -> None:
        HTTPChannel.__init__(self)
        self.connection = connection
        self.lingering = False
        #: Requests answered since others had their turn.
        self._in_a_row = 0

    def request_line(self) -> tuple[str, bytes]:
        """Method and URI of the request whose head has come."""
        return self._command.decode("latin-1"), self._path

    def linger(self, reason: str) -> None:
        """Nothing more is read from this client: answer, wait for it to stop, close."""
        self.lingering = True
        self.persistent = False
        self.requests[-1].responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self.connection.linger(reason)

    def refuse(self, error: BrokerError) -> None:
        """Answer what cannot be taken for a request and close."""
        if not self.lingering:
            self.lingering = True
            self.connection.refuse(error)

    def rawDataReceived(self, data: bytes) -> None:
        if not self.lingering:
            HTTPChannel.rawDataReceived(self, data)

    def allContentReceived(self) -> None:
        if not self.lingering:
            HTTPChannel.allContentReceived(self)

    def lineReceived(self, line: bytes) -> None:
        if not self.lingering:
            HTTPChannel.lineReceived(self, line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HeadTooLarge(f"no line of the head may be longer than {self.MAX_LENGTH} bytes"))

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(HTTPChannel.headerReceived(self, line))
        except ValueError:  # a Content-Length of more digits than Python makes a number of
            self._respondToBadRequestAndDisconnect()
            return False

    def requestDone(self, request: WebRequest) -> None:
        self.connection.request_answered()
        # Requests that are here already have to wait while the answers before them do: a few kilobytes of them can ask
        # for a hundred megabytes. Only a socket that is full says when it has room again.
        outbox = self.connection.outbox
        if outbox.size > outbox.limit:
            outbox.flush()
        self._in_a_row += 1
        if (outbox.blocked and outbox.size > outbox.limit // 2) or self._in_a_row >= MAX_IN_A_ROW:
            self._hold()
        HTTPChannel.requestDone(self, request)

    def _hold(self) -> None:
        """Take no further request in this turn; `go_on` when there is room, too."""
        if not self.paused:
            self.paused = True
            self.connection.pause("answers")
        self.connection.home.reactor.callLater(0, self.go_on)

    def go_on(self) -> None:
        """Take the requests that are here already, if the answers before them are under way."""
        if self.paused and not self.connection.closing and not self.connection.outbox.blocked:
            self.paused = False
            self._in_a_row = 0
            self.connection.resume("answers")
            self.dataReceived(b"")

    def loseConnection(self) -> None:
        if not self.lingering:
            HTTPChannel.loseConnection(self)

    def _send100Continue(self) -> None:
        if not self.lingering and not self.requests[-1].holds_continue():
            HTTPChannel._send100Continue(self)

    def go_on_sending(self) -> None:
        """Tell a client that asked whether its body is wanted that it is."""
        HTTPChannel._send100Continue(self)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(Invalid("this is not HTTP, or its head is longer than allowed"))


class WebConnection(Connection):
    """``home`` is the `broker.web.listener.WebListener`."""

    home: Any

    def __init__(self, home: Any, host: str, port: int = 0) -> None:
        super().__init__(home, host, port)
        self.channel = WebChannel(self)
        self.websocket: WebSocketPeer | None = None
        self._wire = _Wire(self)
        #: When the request began that is being read, or None.
        self._reading_since: float | None = None
        self._body_bytes = 0
        #: Since when an upload is not read because what came of it waits.
        self._held_since: float | None = None
        self._answering = False
        self._idle_since = 0.0
        self._ping_at = inf
        #: Who waits until the socket takes more.
        self._wants_room: list[Deferred[None]] = []
        self._gone = False
        #: Why, and until when, what comes is thrown away.
        self._lingering: tuple[str, float] | None = None

    @property
    def socket(self) -> Any:
        return self.transport

    # -- Connection ------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self._auth_deadline = inf  # each request proves who sends it
        self._idle_since = self.home.monotonic()
        self.channel.makeConnection(self._wire)
        self.look_at(self.check(self._idle_since))

    def received(self, data: bytes) -> None:
        if self._lingering is not None:
            return
        peer = self.websocket
        if peer is not None:
            peer.unfinished += len(data)
            if peer.unfinished > peer.max_message:
                self.close("too_long")
                return
        elif not self._answering:
            if data[:1] == TLS_HANDSHAKE and self._reading_since is None:
                self.refuse(Invalid("this port speaks HTTP without TLS"))
                return
            self.request_begun()
            self._body_bytes += len(data)
        self.channel.dataReceived(data)

    def check(self, now: float) -> float:
        settings: WebSettings = self.home.settings
        if self._lingering is not None:
            reason, until = self._lingering
            if until > now:
                return until
            self.close(reason)
            return inf
        if self.websocket is not None:
            return self._check_websocket(now, self.websocket)
        if self._answering:
            return inf
        if self._reading_since is None:
            until = self._idle_since + settings.keep_alive_timeout
            if until > now:
                return until
            self.close("idle")
            return inf
        if self._held_since is not None:  # the client waits for us
            return now + settings.request_timeout
        until = self._reading_since + settings.request_timeout + self._body_bytes / settings.min_body_rate
        if until > now:
            return until
        self.refuse(TooSlow("the request did not arrive in time"), "idle")
        return inf

    def ended(self, reason: str) -> None:
        self._gone = True
        self.channel.connectionLost(Failure(connectionDone.value))
        self._has_room()

    def goodbye(self, reason: str) -> bytes:
        # A client that closes, or whose frames were none, has had its answer.
        if self.websocket is None or self._wire.close_code or reason == "client_closed":
            return b""
        return close_frame(reason)

    def shut_down(self) -> None:
        """A request that is being answered is finished first; those that wait for a device are answered now."""
        if self._answering and self.websocket is None:
            self.channel.persistent = False
            self.channel.requests[0].stop_waiting()
        else:
            self.close("shutdown")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._lingering is not None and not self.closing:
            self.closing = True
            self.reason = self._lingering[0]
        super().connectionLost(reason)

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if self._wire.producer is not None and self.websocket is None:
            self._wire.producer.pauseProducing()

    def resumeProducing(self) -> None:
        # First the parser: what is written now may fill the socket, and pause it, again.
        if self._wire.producer is not None and self.websocket is None:
            self._wire.producer.resumeProducing()
        super().resumeProducing()

    def writable(self) -> None:
        if self.websocket is not None:
            self.websocket.writable()
        else:
            self._has_room()
            self.channel.go_on()

    # -- from the request ------------------------------------------------------------------------------------------

    def request_begun(self) -> None:
        """The first bytes of a request have come."""
        if self._reading_since is None and not self._answering:
            self._body_bytes = 0
            self._reading_since = self.home.monotonic()
            self.look_at(self._reading_since + self.home.settings.request_timeout)

    def hold_body(self) -> None:
        """Read no more of an upload: what has come waits for the disk."""
        self._held_since = self.home.monotonic()
        self.pause("upload")

    def release_body(self) -> None:
        """Go on reading. The time that the client had to wait for us does not count as its own."""
        if self._held_since is not None:
            if self._reading_since is not None:
                self._reading_since += self.home.monotonic() - self._held_since
            self._held_since = None
            self.resume("upload")

    def request_complete(self) -> None:
        """All of a request has come; until it is answered, no time limit runs."""
        self._answering = True
        self._reading_since = None

    def request_answered(self) -> None:
        self._answering = False
        self.release_body()
        self._idle_since = self.home.monotonic()
        self.look_at(self._idle_since + self.home.settings.keep_alive_timeout)

    def upgrade(self, peer: WebSocketPeer) -> None:
        """From now on this is a WebSocket."""
        self.websocket = peer
        self.resume("http")
        self._ping_at = self.home.monotonic() + peer.ping_interval
        self.look_at(self._ping_at)

    async def room(self) -> None:
        """Wait until the socket takes more. Returns, too, when it is gone."""
        self.outbox.flush()
        if self.outbox.blocked and self.transport is not None and not self._gone:
            waiting: Deferred[None] = Deferred()
            self._wants_room.append(waiting)
            await waiting

    def linger(self, reason: str) -> None:
        """An answer is on its way and the client is still sending."""
        until = self.home.monotonic() + LINGER
        self._lingering = (reason, until)
        self.look_at(until)

    def refuse(self, error: BrokerError, reason: str = "malformed") -> None:
        """Answer something that never became a request, and close."""
        if reason == "malformed":
            self.home.stats.malformed += 1
        answer = self.home.surface.refusal(None, error)
        body = answer.body
        more = ((b"Connection", b"close"),)
        self.send(self.home.head(b"HTTP/1.1", answer.status, answer.media, len(body), answer.headers, more) + body)
        self.linger(reason)

    def finish(self, reason: str) -> None:
        """The last answer is written: close, and give a slow client time to read it."""
        if self.closing:
            return
        self.close("shutdown" if self.home.stopping else reason)
        self.deadline = self.home.monotonic() + self.home.limits.slow_reader_timeout

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_websocket(self, now: float, peer: WebSocketPeer) -> float:
        if self._ping_at <= now:
            if not peer.ping():
                self.close("idle")
                return inf
            self._ping_at = now + peer.ping_interval
        return min(self._ping_at, peer.check(now))

    def _has_room(self) -> None:
        waiting, self._wants_room = self._wants_room, []
        for one in waiting:
            one.callback(None)
