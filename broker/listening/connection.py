"""The life of one connection, the same for every protocol over a stream.

::

    connectionMade ─> received(chunk) ... ─> close(reason) ─> connectionLost
                          │
                          ├─ send / outbox: collected, one joined write a turn
                          ├─ pause / resume: each cause on its own, reading stops while there is one
                          └─ deadline / overdue: looked at once a second, no timer per connection

A protocol implements `received` (feed the codec, dispatch) and calls `close` with a reason of the catalogue; it never
sees another byte after that. An exception that escapes the protocol's `opened`, `received` or `check` is a fault of
ours: logged with its traceback, and the connection is closed with ``internal_error``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet import tcp
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.listening.peer_certificate import verified_name
from broker.listening.settings import Limits
from broker.listening.stats import ListenerStats
from broker.listening.tap import PacketDecoder, Tap, Tell
from broker.routing.outbox import Outbox, Turn

#: See `Connection.dismiss`. Short, as the session and the will wait for the end of the connection.
LINGER: Final = 0.25
#: Bytes that are thrown away after a close that we started, while the peer is waited for. Over TLS the socket is read
#: until the peer has said goodbye, too: one that does not stop would keep us busy until ``close_timeout``.
MAX_IGNORED: Final = 1_048_576


class Home(Shape):
    """What a connection needs of its listener."""

    name: str
    limits: Limits
    turn: Turn
    stats: ListenerStats
    reactor: Any
    clock: Callable[[], float]
    monotonic: Callable[[], float]

    def opened(self, connection: Any) -> None: ...

    def ended(self, connection: Any) -> None: ...

    def login_failed(self, host: str) -> float: ...


@implementer(IPushProducer)
class Connection(Protocol):
    """Base of every stream protocol. ``identity`` is who the peer has proven to be, empty until then."""

    # Twisted's base has a dictionary all the same, but one with few names stays small: an instance with more than
    # thirty would get a table of its own, of two kilobytes.
    __slots__ = (
        "_auth_deadline",
        "_blocked_since",
        "_cutting",
        "_ignored",
        "_lingers",
        "_opened_at",
        "_paused_for",
        "_refilled_at",
        "_tokens",
        "_unthrottle",
        "closing",
        "deadline",
        "home",
        "host",
        "identity",
        "messages_in",
        "outbox",
        "port",
        "reason",
    )
    log = Logger(namespace="broker.connection")

    def __init__(self, home: Home, host: str, port: int = 0) -> None:
        self.home = home
        self.host = host
        self.port = port
        self.identity = ""
        #: Why it ended, or is ending.
        self.reason = "connection_lost"
        self.closing = False
        self.messages_in = 0
        #: The monotonic time at which `overdue` should look next.
        self.deadline = inf
        self.outbox = Outbox(home.turn, self._write, home.limits.max_outbox, home.stats)
        self._opened_at = 0.0
        self._auth_deadline = inf
        self._blocked_since: float | None = None
        #: A new one at each change: even an empty set of its own is 200 bytes of a connection that is idle.
        self._paused_for: frozenset[str] = frozenset()
        self._tokens = float(home.limits.message_burst)
        self._refilled_at = 0.0
        self._unthrottle: Any = None
        self._lingers = False
        self._cutting: Any = None
        self._ignored = 0

    # -- for protocols ---------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The connection is up. Override for what a protocol does first."""

    def received(self, data: bytes) -> None:
        """Bytes came. Never called after `close`."""
        raise NotImplementedError

    def check(self, now: float) -> float:
        """Look at the protocol's own time limits; return when to look next. Override where there are any."""
        return inf

    def ended(self, reason: str) -> None:
        """The connection is gone for good. Override to tell the rest of the broker."""

    def goodbye(self, reason: str) -> bytes:
        """The protocol's own last words for a close that we start, or nothing."""
        return b""

    @property
    def certificate_subject(self) -> str | None:
        """The common name in the client's certificate, which TLS has verified; None without one.

        It is known when the first byte is `received`, not yet when the connection is `opened`.
        """
        return verified_name(self._transport)

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return self.home.monotonic() - self._opened_at

    def authenticated(self, identity: str) -> None:
        """The peer has proven who it is: the login limit no longer runs."""
        self.identity = identity
        self._auth_deadline = inf
        self.home.stats.authenticated += 1

    def account(self, messages: int) -> None:
        """Count messages of one chunk, and pause reading for a while if they come too fast."""
        self.messages_in += messages
        home = self.home
        home.stats.messages_in += messages
        if home.limits.max_message_rate:
            self.charge(messages)

    def charge(self, count: int) -> None:
        """Count work against the message rate, be it messages or not."""
        if self.home.limits.max_message_rate:
            self._tokens -= count
            if self._tokens < 0:
                self._throttle(count)

    def send(self, data: bytes) -> None:
        """Write at the end of this turn, joined with whatever else there is."""
        self.outbox.put(data)

    def close(self, reason: str, last: bytes | None = None) -> None:
        """End the connection: what waits and ``last`` (default: `goodbye`) go out first. Harmless twice."""
        if self.closing:
            return
        self.closing = True
        self.reason = reason
        transport = self.transport
        if transport is None:
            return
        self.deadline = self.home.monotonic() + self.home.limits.close_timeout
        words = self.goodbye(reason) if last is None else last
        if words:
            self.outbox.put(words)
        self.outbox.unblock()
        self.outbox.clear()
        if self._paused_for:  # a paused transport would not see the peer's close
            self._paused_for = frozenset()
            self._transport.resumeProducing()
        self._transport.unregisterProducer()
        if self._lingers and words and isinstance(transport, tcp.Connection):
            transport.loseWriteConnection()
            self._cutting = self.home.reactor.callLater(LINGER, self._cut)
        else:
            self._transport.loseConnection()

    def dismiss(self, reason: str, last: bytes) -> None:
        """`close` for a peer that may be in the middle of sending: over TCP, what comes is thrown away for `LINGER`
        seconds more. A socket that is shut to it would answer with a reset, which may cost the peer our last words or
        fail its next write before it has read them.
        """
        self._lingers = not self.closing
        self.close(reason, last)

    def abort(self, reason: str) -> None:
        """End the connection at once; what waits is thrown away."""
        if not self.closing:
            self.closing = True
            self.reason = reason
            self.outbox.clear()
        if self.transport is not None:
            self._transport.abortConnection()

    def pause(self, cause: str) -> None:
        """Read no more until `resume` with the same cause. Bytes that are already here are still handled."""
        if not self._paused_for and not self.closing:
            self._transport.pauseProducing()
        self._paused_for |= {cause}

    def resume(self, cause: str) -> None:
        if cause in self._paused_for:
            self._paused_for -= {cause}
            if not self._paused_for and self.connected and not self.closing:
                self._transport.resumeProducing()

    def look_at(self, when: float) -> None:
        """Have `check` called no later than ``when`` (monotonic; a second late at most)."""
        if when < self.deadline:
            self.deadline = when

    def shut_down(self) -> None:
        """The broker stops."""
        self.close("shutdown")

    @property
    def peer(self) -> str:
        """The other end, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def tap(self, incoming: PacketDecoder, outgoing: PacketDecoder, tell: Tell | None, pending: bytes = b"") -> None:
        """Tell of each packet that comes or goes, or of no more (see `broker.listening.tap`)."""
        before: Tap | None = self.__dict__.pop("_tap", None)
        if before is not None:
            before.remove()
        if tell is not None:
            self.__dict__["_tap"] = Tap(self, self.outbox, incoming, outgoing, tell, pending)

    # -- from the listener -----------------------------------------------------------------------------------------

    def overdue(self, now: float) -> None:
        """``deadline`` has passed: see which limit it was."""
        if self.closing:
            self._transport.abortConnection()
            return
        slow_at = inf
        if self._blocked_since is not None:
            slow_at = self._blocked_since + self.home.limits.slow_reader_timeout
            if slow_at <= now:
                self.abort("slow_reader")
                return
        if self._auth_deadline <= now:
            self.close("auth_timeout")
            return
        self.deadline = inf
        try:
            self.look_at(min(self.check(now), slow_at, self._auth_deadline))
        except Exception:
            self._fault("looking at its time limits")

    # -- from Twisted ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        now = self.home.monotonic()
        self._opened_at = self._refilled_at = now
        self._auth_deadline = now + self.home.limits.auth_timeout
        self.look_at(self._auth_deadline)
        transport = self._transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        # As a push producer we are told when the transport's own buffer is full and when it has room again.
        transport.registerProducer(self, True)
        self.outbox.write = transport.write
        self.home.opened(self)
        try:
            self.opened()
        except Exception:
            self._fault("opening")

    def dataReceived(self, data: bytes) -> None:
        self.home.stats.bytes_in += len(data)
        if self.closing:
            self._ignored += len(data)
            if self._ignored > MAX_IGNORED:
                self._transport.abortConnection()
            return
        try:
            self.received(data)
        except Exception:
            self._fault("reading")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.closing:
            self.closing = True
            self.reason = "client_closed" if reason.check(type(connectionDone.value)) else "connection_lost"
        self.outbox.clear()
        if self._unthrottle is not None:
            self._unthrottle.cancel()
        if self._cutting is not None:
            self._cutting.cancel()
        try:
            self.home.ended(self)
        finally:  # the rest of the broker must hear of it, whatever else is wrong
            self.ended(self.reason)
        self.log.info(
            "{listener} {host}:{port} {identity} ended: {reason} after {seconds:.1f} s, {messages} messages in",
            listener=self.home.name,
            host=self.host,
            port=self.port,
            identity=self.identity or "(not logged in)",
            reason=self.reason,
            seconds=self.home.monotonic() - self._opened_at,
            messages=self.messages_in,
        )

    def pauseProducing(self) -> None:
        """The transport's buffer is full: keep what comes in the outbox."""
        if self._blocked_since is None:
            self._blocked_since = self.home.monotonic()
            self.outbox.block()
            self.look_at(self._blocked_since + self.home.limits.slow_reader_timeout)

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._blocked_since = None
        if not self.closing:
            self.outbox.unblock()
            self.writable()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def writable(self) -> None:
        """There is room again after a jam. Override to go on with what was held back."""

    def _cut(self) -> None:
        self._cutting = None
        self._transport.loseConnection()

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _transport(self) -> Any:
        """The transport, whatever its interfaces are: TCP, TLS and in-memory ones all have what is used here."""
        return self.transport

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    def _throttle(self, messages: int) -> None:
        """``messages`` used up the burst: refill by the time that passed before, and pause if that is not enough."""
        limits = self.home.limits
        now = self.home.monotonic()
        refill = (now - self._refilled_at) * limits.max_message_rate
        self._tokens = min(self._tokens + refill, float(limits.message_burst - messages))
        self._refilled_at = now
        if self._tokens < 0 and "rate" not in self._paused_for and not self.closing:
            self.home.stats.throttled += 1
            self.pause("rate")
            wait = -self._tokens / limits.max_message_rate
            self._unthrottle = self.home.reactor.callLater(wait, self._go_on)

    def _go_on(self) -> None:
        """The time that the burst cost is over."""
        self._unthrottle = None
        self.resume("rate")

    def _fault(self, doing: str) -> None:
        """Called while an exception of ours is handled."""
        self.log.failure("{listener} {host}: fault while {doing}", listener=self.home.name, host=self.host, doing=doing)
        self.close("internal_error")
