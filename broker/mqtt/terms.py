"""What a principal may ask of the server for its own connections, beyond the listener's settings.

Some clients need more care than the standard asks for: a limit on pings, one packet at a time, a look at what they
publish before it goes on. Whoever has ``terms = None`` pays a comparison at CONNECT and at PINGREQ for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final

from broker.mqtt.codec import frame
from broker.routing.outbox import Outbox
from broker.routing.topic_index import Route

#: Seconds after which a packet that a client was sent is taken as read, answered or not.
_READ_BY_THEN: Final = 0.25
#: Unread packets that are counted.
_MANY: Final = 64
#: Larger than any packet: what is cut apart here is our own.
_ANY: Final = 1 << 28


class Terms:
    """How one principal's connection is kept. Times are seconds, ``now`` is monotonic."""

    #: A longer keep-alive, or none, is treated as this one.
    max_keep_alive: float = inf
    #: How many messages the client has published, as far as they may be answers to what it was sent; see `Paced`.
    answers: int = 0

    #: The connection that they are of, once it is up: a `broker.mqtt.connection.MqttConnection`.
    connection: Any = None

    def ping(self, now: float) -> bool:
        """A PINGREQ came. False closes the connection as a flood."""
        return True

    def gap(self, version: int) -> float | None:
        """How long two packets to a client of this protocol level are kept apart; None: they may share a segment."""
        return None

    def left(self, reason: str) -> None:
        """The connection is over, and why; `IMqttPrincipal.disconnected` follows."""


class Watched:
    """A topic on which a principal may publish what somebody has looked at: `IMqttPrincipal.publisher` answers with it.

    ``look(payload)`` is called with each publish; False drops it, counted as malformed. True lets it through to the
    subscribers, RETAIN disregarded. The server keeps the topic's route in ``route``; make a new one for each answer.
    """

    __slots__ = ("look", "route")

    def __init__(self, look: Callable[[bytes], bool]) -> None:
        self.look = look
        self.route: Route[Any, Any] | None = None


class Paced:
    """Writes one packet at a time, for clients that lose the second of two that they receive together.

    The outbox goes on collecting while packets are kept apart. ``answers()`` is how many messages have come from the
    client: when it has said as many as it was sent, it has read those and is not kept waiting. (That it has said
    something since the last one is not enough: that may have been on its way.) ``jammed()``: the socket is full.
    ``emptied()`` is called when packets were kept apart and there is room again.
    """

    def __init__(
        self,
        outbox: Outbox,
        gap: float,
        reactor: Any,
        monotonic: Callable[[], float],
        answers: Callable[[], int],
        jammed: Callable[[], bool],
        emptied: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._gap = gap
        self._reactor = reactor
        self._monotonic = monotonic
        self._answers = answers
        self._jammed = jammed
        self._emptied = emptied
        self._packets: deque[bytes] = deque()
        self._wrote_at = -inf
        #: When packets were written that may not have been read, and how many had come when we last looked.
        self._unread: deque[float] = deque()
        self._answered = 0
        self._call: Any = None
        self._write = outbox.redirect(self.write)

    def write(self, data: bytes) -> None:
        """What the outbox writes to: whole packets, joined."""
        at = 0
        while at < len(data):
            end = frame(data, at, _ANY)[1]
            self._packets.append(data[at:end])
            at = end
        if self._call is None:
            self._next()

    def finish(self) -> None:
        """The connection ends: what is left goes out as it is."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._outbox.redirect(self._write)
        left = b"".join(self._packets)
        self._packets.clear()
        if left:
            self._write(left)

    def _next(self) -> None:
        self._call = None
        now = self._monotonic()
        wait = self._wrote_at + self._gap - now
        if self._may_be_unread(now) and wait > 0:
            self._later(wait)
            return
        if self._jammed():  # the socket is full: the outbox is told when there is room again, and nothing is lost here
            self._later(max(self._gap, 0.1))
            return
        self._wrote_at = now
        if len(self._unread) < _MANY:
            self._unread.append(now)
        self._write(self._packets.popleft())
        if self._packets:
            self._later(self._gap)
        elif self._outbox.blocked and not self._jammed():
            self._outbox.unblock()
            if self._call is None:
                self._emptied()

    def _may_be_unread(self, now: float) -> bool:
        """Whether something that was written may still lie before the client."""
        unread = self._unread
        answers = self._answers()
        for _ in range(min(answers - self._answered, len(unread))):
            unread.pop()
        self._answered = answers
        # Not everything is answered.
        while unread and unread[0] < now - max(_READ_BY_THEN, self._gap):
            unread.popleft()
        return bool(unread)

    def _later(self, wait: float) -> None:
        self._outbox.block()
        self._call = self._reactor.callLater(wait, self._next)
