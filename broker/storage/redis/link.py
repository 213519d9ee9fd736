"""One live connection to Redis: txredisapi's protocol, with its corners taken off.

- txredisapi is imported when the first protocol is made, as it installs a reactor.
- Arguments are packed and replies are parsed by hiredis; strings stay bytes, numbers stay what they are.
- The commands of a turn leave in one piece at its end, straight to the socket where it has room; the answer to each is
  one Deferred.
- A reply that does not come in time aborts the connection, and so does silence after a PING: one timer for each
  connection and none for a command.
- It counts as connected when its owner has greeted the server (log-in, database, scripts), and not before: so the time
  between attempts grows also when a server takes connections and then has no use for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import hiredis
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from broker.model.errors import BrokerError, Unavailable
from broker.routing.turns import at_turn_end
from broker.storage.redis.replies import FATAL, Argument, Lost, Refused, Reply


class Owner(Protocol):
    """What a `Link` tells."""

    subscribes: bool

    def link_made(self, link: Link) -> Deferred[None]:
        """Greet the server; fails where the connection is of no use."""

    def link_ready(self, link: Link) -> None:
        """It may be used from now on."""

    def link_lost(self, link: Link, why: str) -> None:
        """It is over. Told once for each that was made."""

    def link_message(self, channel: bytes, message: bytes) -> None:
        """Something came on a channel that it subscribed to."""


class Link:
    """``clock`` gives monotonic seconds. `tick` has to be called now and then."""

    def __init__(self, owner: Owner, clock: Callable[[], float], reply_timeout: float, keep_alive: float) -> None:
        self.protocol: Any = None
        #: Why it is being ended, when that is known before it is over.
        self.why = ""
        self._owner = owner
        self._clock = clock
        self._reply_timeout = reply_timeout
        self._keep_alive = keep_alive
        #: When the answer to each command that is under way is due, in their order.
        self._due: deque[float] = deque()
        self._heard = clock()

    @property
    def outstanding(self) -> int:
        """Commands without an answer so far."""
        return len(self._due)

    def send(self, arguments: tuple[Argument, ...], wait: float = 0.0) -> Deferred[Reply]:
        """One command; ``wait``: seconds that it may block in the server. Fails with Refused or Lost."""
        self._due.append(self._clock() + self._reply_timeout + wait)
        try:
            answer: Deferred[Reply] = self.protocol.execute_command(*arguments)
        except Exception:
            self._due.pop()
            raise
        answer.addErrback(self._failed)
        return answer

    def _failed(self, failure: Failure) -> Any:
        error = failure.value
        if isinstance(error, BrokerError):
            return failure
        if isinstance(error, hiredis.HiredisError):
            raise Unavailable(f"what Redis sent is not its protocol: {error}"[:300]) from None
        module = _txredisapi()
        if isinstance(error, module.ResponseError):
            refused = Refused(str(error))
            if refused.code in FATAL:
                self.drop(refused.message)
            raise refused from None
        if isinstance(error, module.RedisError):
            raise Lost(f"the connection to Redis was lost: {self.why or error}"[:300]) from None
        return failure

    def drop(self, why: str) -> None:
        """End it at once; what is under way fails."""
        if not self.why:
            self.why = why
        self.protocol.transport.abortConnection()

    def close(self) -> None:
        """End it as nothing is under way; else at once, as in a TLS handshake that nobody answers."""
        self.why = self.why or "closed"
        if self._due:
            self.protocol.transport.abortConnection()

    def tick(self) -> None:
        """Look for answers that are overdue, and for silence."""
        now = self._clock()
        if self._due:
            if now >= self._due[0]:
                self.drop(f"it has not answered for {self._reply_timeout:g} s")
        elif now - self._heard >= self._keep_alive:
            # Whoever asks next is told what it fails with.
            self.send(("PING",)).addErrback(lambda failure: failure.trap(Unavailable))

    def replied(self) -> None:
        """The protocol has an answer, or what stands for one."""
        if self._due:
            self._due.popleft()

    def heard(self) -> None:
        self._heard = self._clock()

    def made(self) -> Deferred[None]:
        return self._owner.link_made(self)

    def ready(self) -> None:
        self._owner.link_ready(self)

    def lost(self) -> None:
        self._owner.link_lost(self, self.why)

    def message(self, channel: bytes, message: bytes) -> None:
        self._owner.link_message(channel, message)


def plainly(failure: Failure) -> str:
    """Why a connection could not be made, or was lost, in words for an operator."""
    error = failure.value
    if isinstance(error, BrokerError):
        return error.message
    if isinstance(error, (SSL.Error, VerificationError, CertificateError)):
        return f"TLS: {_of_tls(error)}"
    if isinstance(error, ConnectionDone):
        return "the server ended it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return failure.getErrorMessage().rstrip(".")


def _of_tls(error: Exception) -> str:
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "; ".join(str(reason[-1]) for reason in reasons) or "the handshake failed"
    return "the server's certificate is for another name"


def _txredisapi() -> Any:
    import txredisapi

    return txredisapi


def bare_protocol() -> Any:
    """One without a `Link`, for a single question."""
    return _bare_class()(charset=None, convertNumbers=False)


def make_factory(make_link: Callable[[], Link], subscribes: bool, retry_first: float, retry_longest: float) -> Any:
    """A `txredisapi.RedisFactory` of one connection that comes back for ever: ``startConnecting``, ``disconnect``."""
    base: Any = _txredisapi().RedisFactory
    protocol = _subscriber_class() if subscribes else _protocol_class()

    class Factory(base):  # type: ignore[misc]  # txredisapi has no types
        initialDelay = retry_first
        maxDelay = retry_longest
        factor = 2.0
        #: Many brokers lose one Redis at the same moment: they shall not all come back at the same moment.
        jitter = 0.2

        def buildProtocol(self, addr: Any) -> Any:
            built = protocol(charset=None, convertNumbers=False)
            built.factory = self
            built.link = make_link()
            built.link.protocol = built
            built.whenConnected().addCallback(self._connectionReady)
            return built

    return Factory(None, None, 1, isLazy=True, charset=None, convertNumbers=False)


def send_now(transport: Any, data: bytes) -> None:
    """Write, without a turn through the poller where nothing waits and the socket has room."""
    if isinstance(transport, Connection) and not (
        transport.TLS or transport._tempDataBuffer or transport.dataBuffer or transport.disconnecting
    ):
        try:
            data = data[transport.socket.send(data) :]
        except OSError:
            pass  # it is full, or broken: writing says which
    if data:
        transport.write(data)


@cache
def _bare_class() -> Any:
    base: Any = _txredisapi().RedisProtocol

    class Bare(base):  # type: ignore[misc]  # txredisapi has no types
        def connectionMade(self) -> None:
            self._reader = hiredis.Reader(protocolError=hiredis.ProtocolError, replyError=_txredisapi().ResponseError)
            #: What is asked and not answered, and what has to be sent yet.
            self._asked: deque[Deferred[Any]] = deque()
            self._unsent: list[bytes] = []
            self._at_turn_end = at_turn_end(self.transport.reactor)

        def execute_command(self, *arguments: Any, **_: Any) -> Deferred[Any]:
            if not self.connected:
                raise _txredisapi().ConnectionError("Not connected")
            packed: bytes = hiredis.pack_command(arguments)
            answer: Deferred[Any] = Deferred()
            self._asked.append(answer)
            if not self._unsent:
                self._at_turn_end(self._send)
            self._unsent.append(packed)
            return answer

        def _send(self) -> None:
            unsent, self._unsent = self._unsent, []
            if self.connected:
                send_now(self.transport, unsent[0] if len(unsent) == 1 else b"".join(unsent))

        def replyReceived(self, reply: Any) -> None:
            if not self._asked:
                self.transport.abortConnection()  # it answers what nobody has asked
            elif isinstance(reply, Exception):
                self._asked.popleft().errback(reply)
            else:
                self._asked.popleft().callback(reply)

        def connectionLost(self, why: Any) -> None:
            super().connectionLost(why)
            while self._asked:
                self._asked.popleft().errback(_txredisapi().ConnectionError("Lost connection"))

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            reader = self._reader
            reader.feed(data)
            try:
                while (reply := reader.gets()) is not False:
                    self.replyReceived(reply)
            except hiredis.ProtocolError:
                self.transport.abortConnection()

    return Bare


def _linked(base: Any) -> Any:
    """``base``, a protocol of txredisapi, with a `Link`."""

    class Linked(base):  # type: ignore[misc]  # txredisapi has no types
        link: Link

        def connectionMade(self) -> None:
            super().connectionMade()
            transport = self.transport
            if isinstance(transport, Connection) and not transport.TLS:
                # Twisted's endpoint and service have put two protocols around this one: what comes need not pass them.
                transport.protocol.dataReceived = self.dataReceived  # type: ignore[method-assign]  # for this one object
            self.link.made().addCallbacks(self._greeted, self._rejected)

        def _greeted(self, _: None) -> None:
            if not self.link.why:
                # What it does when nothing is left to be sent: the factory has this one from now on.
                _txredisapi().BaseRedisProtocol.connectionMade(self)
                self.link.ready()

        def _rejected(self, failure: Failure) -> None:
            self.link.drop(failure.getErrorMessage())

        def connectionLost(self, why: Any) -> None:
            if not self.link.why:
                self.link.why = plainly(why)
            # Told first: who hears that his command is lost shall not take this connection for one that is there.
            self.link.lost()
            super().connectionLost(why)

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            self.link.heard()
            super().dataReceived(data)

    return Linked


@cache
def _protocol_class() -> Any:
    class Commands(_linked(_bare_class())):  # type: ignore[misc]
        def replyReceived(self, reply: Any) -> None:
            self.link.replied()
            super().replyReceived(reply)

    return Commands


@cache
def _subscriber_class() -> Any:
    class Subscriber(_linked(_bare_class())):  # type: ignore[misc]
        def replyReceived(self, reply: Any) -> None:
            if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
                self.link.message(reply[1], reply[2])
                return
            self.link.replied()
            super().replyReceived(reply)

    return Subscriber
