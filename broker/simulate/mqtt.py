"""An MQTT client (3.1 or 3.1.1, QoS 0 and 1) on the broker's own codec, for the demo, the tests and the command line.

::

    start ─> connect ─> CONNECT ─> CONNACK 0 ─> up: subscribe all, send again what is unacknowledged
               ^                      │ refused, silent         │ lost
               └── 1, 2, 4 ... 60 s ──┴─────────────────────────┘        stop ─> DISCONNECT, close

Subscriptions outlive the connection. Publishes at QoS 1 go through a window and wait while there is no connection;
those at QoS 0 are refused then. What it does not do: QoS 2, persistent sessions, MQTT 5.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder, ProtocolError

#: Seconds until the server must have answered the CONNECT.
LOGIN_TIMEOUT: Final = 10.0
#: Seconds between attempts, at first and at most.
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0
#: Publishes at QoS 1 that may wait for the window or a connection.
MAX_WAITING: Final = 10_000

_REFUSALS: Final = {
    p.REFUSED_LEVEL: "unacceptable protocol version",
    p.REFUSED_CLIENT_ID: "client id rejected",
    p.REFUSED_UNAVAILABLE: "server unavailable",
    p.REFUSED_CREDENTIALS: "bad user name or password",
    p.REFUSED_RIGHTS: "not authorized",
}


class MqttRefused(Exception):
    """The server said no, or the client cannot take a publish now. The text says what."""


class _Publish:
    """A publish at QoS 1 until its acknowledgement."""

    __slots__ = ("done", "payload", "retain", "sent", "topic")

    def __init__(self, topic: str, payload: bytes, retain: bool) -> None:
        self.topic = topic
        self.payload = payload
        self.retain = retain
        self.sent = False
        self.done: Deferred[None] = Deferred()


class MqttClient:
    """One client with its subscriptions and publishes, over as many connections as it takes.

    ``on_message(topic, payload, qos, retained)`` is called for each message; ``on_change(what)`` with ``"connected"``
    or with why there is no connection. ``window`` publishes at QoS 1 may be unacknowledged at once.
    ``version`` is `packets.MQTT_3_1` or `MQTT_3_1_1`.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        *,
        client_id: str = "",
        user: str | None = None,
        password: str | None = None,
        keep_alive: int = 60,
        version: int = p.MQTT_3_1_1,
        window: int = 32,
        will: p.Will | None = None,
        on_message: Callable[[str, bytes, int, bool], object] | None = None,
        on_change: Callable[[str], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.reactor = reactor
        self._connect = p.Connect(
            client_id,
            version,
            keep_alive=keep_alive,
            user=user,
            password=None if password is None else password.encode(),
        )
        self._connect.will = will
        self._window = window
        self._on_message = on_message
        self._on_change = on_change
        self._subscriptions: dict[str, int] = {}
        self._granting: dict[str, list[Deferred[int]]] = {}
        self._inflight: dict[int, _Publish] = {}
        self._waiting: deque[_Publish] = deque()
        self._next_id = 1
        self._connection: _Connection | None = None
        self._endpoint = endpoint
        self._jitter = jitter
        self._delay = FIRST_DELAY
        self._attempt: Deferred[Any] | None = None
        self._retry: Any = None
        self._running = False
        self._stopped: list[Deferred[None]] = []

    @property
    def version(self) -> int:
        """The protocol level."""
        return self._connect.version

    @property
    def connected(self) -> bool:
        """Whether the server has accepted us."""
        return self._connection is not None and self._connection.accepted

    @property
    def unacknowledged(self) -> int:
        """Publishes at QoS 1 that are not done, sent or not."""
        return len(self._inflight) + len(self._waiting)

    def start(self) -> None:
        """Connect, and again whenever the connection is lost, until `stop`."""
        if not self._running:
            self._running = True
            self._try()

    def stop(self) -> Deferred[None]:
        """Say goodbye and close; fires when that is done. What is not acknowledged by then fails with MqttRefused."""
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        self._running = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connection is not None:
            self._connection.leave()
        elif self._attempt is not None:
            self._attempt.cancel()
        error = MqttRefused("the client was stopped")
        waiting: list[Deferred[Any]] = [publish.done for publish in (*self._inflight.values(), *self._waiting)]
        waiting += [granted for several in self._granting.values() for granted in several]
        self._inflight.clear()
        self._waiting.clear()
        self._granting.clear()
        for deferred in waiting:
            deferred.errback(error)
        self._finish()
        return stopped

    def subscribe(self, topic_filter: str, qos: int = 1) -> Deferred[int]:
        """The QoS that was granted; fails with MqttRefused. Said again on each new connection."""
        granted: Deferred[int] = Deferred()
        self._subscriptions[topic_filter] = qos
        self._granting.setdefault(topic_filter, []).append(granted)
        if self._connection is not None and self._connection.accepted:
            self._connection.subscribe([(topic_filter, qos)])
        return granted

    def unsubscribe(self, topic_filter: str) -> None:
        """No more messages for this filter."""
        self._subscriptions.pop(topic_filter, None)
        if self._connection is not None and self._connection.accepted:
            self._connection.send(p.Unsubscribe(self.new_id(), [topic_filter]))

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> Deferred[None]:
        """Fires when it is written (QoS 0) or acknowledged (QoS 1). Fails with MqttRefused."""
        if qos == 0:
            if self._connection is None or not self._connection.accepted:
                return fail(MqttRefused("not connected"))
            self._connection.send(p.Publish(topic, payload, retain=retain))
            return succeed(None)
        if len(self._waiting) >= MAX_WAITING:
            return fail(MqttRefused(f"{MAX_WAITING} publishes wait already"))
        publish = _Publish(topic, payload, retain)
        self._waiting.append(publish)
        self._fill()
        return publish.done

    # -- for the connection ----------------------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> p.Connect:
        """There is a connection; what it has to say first."""
        self._connection = connection
        return self._connect

    def new_id(self) -> int:
        """A packet id that is not in use [MQTT-2.3.1-2]."""
        packet_id = self._next_id
        while packet_id in self._inflight:
            packet_id = packet_id % 65535 + 1
        self._next_id = packet_id % 65535 + 1
        return packet_id

    def up(self, connection: _Connection) -> None:
        """The server accepted us."""
        self._delay = FIRST_DELAY
        if self._subscriptions:
            connection.subscribe(list(self._subscriptions.items()))
        for packet_id, publish in self._inflight.items():
            connection.publish(packet_id, publish)
        self._fill()
        self._say("connected")

    def down(self, why: str) -> None:
        """The connection is gone, or there was none."""
        self._connection = self._attempt = None
        self._say(why)
        if self._running:
            delay = self._delay * (1 + self._jitter() * 0.2)
            self._delay = min(self._delay * 2, LONGEST_DELAY)
            self._retry = self.reactor.callLater(delay, self._try)
        self._finish()

    def message(self, packet: p.Publish) -> None:
        if self._on_message is not None:
            self._on_message(packet.topic, packet.payload, packet.qos, packet.retain)

    def granted(self, topic_filter: str, code: int) -> None:
        """The server's answer to one filter."""
        refused = code == p.SUBSCRIPTION_REFUSED
        if refused:
            self._subscriptions.pop(topic_filter, None)
        for waiting in self._granting.pop(topic_filter, ()):
            if refused:
                waiting.errback(MqttRefused(f"subscription to {topic_filter} refused"))
            else:
                waiting.callback(code)

    def acknowledged(self, packet_id: int) -> None:
        publish = self._inflight.pop(packet_id, None)
        if publish is not None:
            self._fill()
            publish.done.callback(None)

    def _fill(self) -> None:
        connection = self._connection
        while self._waiting and len(self._inflight) < self._window and connection is not None and connection.accepted:
            packet_id = self.new_id()
            publish = self._inflight[packet_id] = self._waiting.popleft()
            connection.publish(packet_id, publish)

    def _try(self) -> None:
        self._retry = None
        attempt: Any = self._endpoint.connect(_Connections(self))
        self._attempt = attempt
        # A connection that was made tells of its own end.
        attempt.addCallbacks(self._made, lambda failure: self.down(failure.getErrorMessage()))

    def _made(self, connection: _Connection) -> None:
        self._attempt = None

    def _finish(self) -> None:
        """Tell those who wait for the end, if this is it."""
        if self._attempt is None and self._connection is None and not self._running:
            stopped, self._stopped = self._stopped, []
            for deferred in stopped:
                deferred.callback(None)

    def _say(self, what: str) -> None:
        if self._on_change is not None:
            self._on_change(what)


class _Connections(Factory):
    """Makes the client's connections, one after the other."""

    noisy = False

    def __init__(self, client: MqttClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._client)


class _Connection(Protocol):
    """One connection of a client."""

    def __init__(self, client: MqttClient) -> None:
        self.client = client
        self._decoder = Decoder(LARGEST_PACKET, role="client", version=client.version)
        self.accepted = False
        self._timeout: Any = None
        self._pings = LoopingCall(self._ping)
        self._heard = True
        self._asked: dict[int, list[str]] = {}
        self._why = ""
        self._keep_alive = 0

    def send(self, packet: p.Packet) -> None:
        self._write(encode.encode(packet))

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        packet_id = self.client.new_id()
        while packet_id in self._asked:
            packet_id = self.client.new_id()
        self._asked[packet_id] = [text for text, _ in filters]
        self.send(p.Subscribe(packet_id, filters))

    def publish(self, packet_id: int, publish: _Publish) -> None:
        """Send it at QoS 1, marked as a repetition if it is one [MQTT-3.3.1-1]."""
        dup, publish.sent = publish.sent, True
        self._write(encode.publish(publish.topic.encode(), publish.payload, 1, packet_id, publish.retain, dup))

    def leave(self) -> None:
        """Say goodbye, if the server knows us, and close."""
        if not self.accepted:
            self.abort("the client was stopped")
            return
        self.send(p.Disconnect())
        transport: Any = self.transport
        transport.loseConnection()

    def abort(self, why: str) -> None:
        self._why = why
        transport: Any = self.transport
        transport.abortConnection()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._timeout = self.client.reactor.callLater(LOGIN_TIMEOUT, self.abort, "no answer to CONNECT")
        connect = self.client.opened(self)
        self._keep_alive = connect.keep_alive
        self.send(connect)

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        try:
            for packet in self._decoder.feed(data):
                self._packet(packet)
        except ProtocolError as error:
            self.abort(f"the server broke the protocol: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pings.running:
            self._pings.stop()
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        why = self._why or ("connection closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        self.client.down(why)

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def _packet(self, packet: p.Packet) -> None:
        client = self.client
        match packet:
            case p.ConnAck():
                self._accepted(packet)
            case p.Publish() if packet.qos < 2:
                client.message(packet)
                if packet.qos:
                    self.send(p.PubAck(packet.packet_id))
            case p.PubAck():
                client.acknowledged(packet.packet_id)
            case p.SubAck():
                filters = self._asked.pop(packet.packet_id, [])
                if len(filters) != len(packet.codes):
                    raise ProtocolError("suback_code")
                for text, code in zip(filters, packet.codes, strict=True):
                    client.granted(text, code)
            case p.PingResp() | p.UnsubAck():
                """That it came is all there is to know."""
            case _:
                raise ProtocolError("direction")

    def _accepted(self, packet: p.ConnAck) -> None:
        if self.accepted:
            raise ProtocolError("connack")
        self._timeout.cancel()
        if packet.code:
            self.abort(f"refused: {_REFUSALS[packet.code]}")
            return
        self.accepted = True
        if self._keep_alive:
            self._pings.clock = self.client.reactor
            # Well before the server's patience ends, which is one and a half times as long.
            self._pings.start(self._keep_alive * 0.75, now=False)
        self.client.up(self)

    def _ping(self) -> None:
        if not self._heard:
            self.abort("the server fell silent")
            return
        self._heard = False
        self.send(p.PingReq())
