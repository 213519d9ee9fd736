"""The MQTT connection of a simulated Gizwits device: MQTT 3.1, and a reader as simple as that of a GAgent.

::

    CONNECT ─> CONNACK 0 ─> SUBSCRIBE 1 ─> SUBACK ─> 2 ─> SUBACK ─> 3 ─> SUBACK ─> up ─ 2 s ─> PINGREQ, again and again
                 │ other                                                  three PINGREQs unanswered: it reconnects
                 └ the connection is still there after 6 s: the same CONNECT again

A ``strict`` one takes what arrives together as one packet of at most 1,024 bytes: what stands behind it is lost, and
what is longer is dropped. It never says DISCONNECT and never acknowledges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from broker.devices.gizwits.topics import commands_filter, notice_topic, response_topic
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.codec import ProtocolError, frame

RECEIVED: Final = 1024
#: Seconds: from a refusal to the next CONNECT on the same connection; from being up to the first ping.
REFUSED_WAIT: Final = 6.0
FIRST_PING: Final = 2.0
#: Pings that may be unanswered.
UNANSWERED: Final = 2
#: Bytes that a device can hold of a packet when it is not strict.
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in, and how the connection is kept; times are in seconds."""

    did: str
    product: str
    passcode: str = field(repr=False)
    keep_alive: int = 120
    ping_every: float = 60.0
    strict: bool = False


class Owner(Shape):
    """What the link asks of its device."""

    def link_up(self) -> None: ...

    def link_refused(self, code: int) -> None: ...

    def message(self, topic: str, payload: bytes) -> None: ...

    def lost_packet(self) -> None: ...


class AgentLink(Protocol):
    """``gone`` fires when the connection is over; who cancels it ends the connection, and ``closed`` tells when."""

    def __init__(self, reactor: Any, login: Login, owner: Owner) -> None:
        self.gone: Deferred[None] = Deferred(lambda _: self.drop())
        self.closed: Deferred[None] = Deferred()
        self.up = False
        self._reactor = reactor
        self._login = login
        self._owner = owner
        self._filters = (notice_topic(login.product), response_topic(login.did), commands_filter(login.did))
        self._subscribed = 0
        self._unanswered = 0
        self._held = b""
        self._timer: Any = None

    # -- what it says ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._connect()

    def _connect(self) -> None:
        login = self._login
        connect = p.Connect(
            login.did, p.MQTT_3_1, keep_alive=login.keep_alive, user=login.did, password=login.passcode.encode()
        )
        self.write(encode.encode(connect))

    def publish(self, topic: str, payload: bytes) -> None:
        """At QoS 0."""
        self.write(encode.publish(topic.encode(), payload))

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def drop(self) -> None:
        """Close without a word."""
        self._later(None)
        if self.transport is not None:
            self.transport.loseConnection()

    def _subscribe(self) -> None:
        self.write(encode.encode(p.Subscribe(self._subscribed + 1, [(self._filters[self._subscribed], 0)])))

    def _ping(self) -> None:
        if self._unanswered > UNANSWERED:
            self.drop()
            return
        self._unanswered += 1
        self.write(b"\xc0\0")
        self._later(self._login.ping_every, self._ping)

    # -- what it hears ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._login.strict:
            for at in range(0, len(data), RECEIVED):
                self._received(data[at : at + RECEIVED])
            return
        data = self._held + data
        at = 0
        while at < len(data):
            try:
                body, end = frame(data, at, _LARGEST)
            except ProtocolError:
                self.drop()
                return
            if not end or end > len(data):
                break
            self._packet(data[at], data[body:end])
            at = end
        self._held = data[at:]

    def _received(self, data: bytes) -> None:
        """What a real agent gets from one ``recv``."""
        try:
            body, end = frame(data, 0, _LARGEST)
        except ProtocolError:
            end = 0
        if not end or end > len(data):
            self._owner.lost_packet()
            return
        if end < len(data):
            self._owner.lost_packet()
        self._packet(data[0], data[body:end])

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == p.PUBLISH:
            self._published(first, body)
        elif kind == p.CONNACK and len(body) >= 2:
            self._answered(body[1])
        elif kind == p.SUBACK and len(body) >= 2 and body[1] == self._subscribed + 1 and not self.up:
            self._subscribed += 1
            if self._subscribed < len(self._filters):
                self._subscribe()
            else:
                self.up = True
                self._later(FIRST_PING, self._ping)
                self._owner.link_up()
        elif kind == p.PINGRESP:
            self._unanswered = 0

    def _answered(self, code: int) -> None:
        if code:
            self._later(REFUSED_WAIT, self._connect)
            self._owner.link_refused(code)
        else:
            self._later(None)
            self._subscribe()

    def _published(self, first: int, body: bytes) -> None:
        size = int.from_bytes(body[:2], "big")
        start = 2 + size + (2 if first & 6 else 0)
        if len(body) >= start:
            self._owner.message(body[2 : 2 + size].decode("utf-8", "replace"), body[start:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._later(None)
        self.up = False
        if not self.gone.called:
            self.gone.callback(None)
        self.closed.callback(None)

    def _later(self, delay: float | None, call: Any = None) -> None:
        """There is one timer; None for none."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if delay is None else self._reactor.callLater(delay, call)
