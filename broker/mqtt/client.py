"""An MQTT client (3.1, 3.1.1 or 5.0, QoS 0 and 1) on the broker's own codec, over as many connections as it takes.

::

    start ─> connect ─> CONNECT ─> CONNACK 0 ─> up: subscribe all, send again what is unacknowledged
               ^                      │ refused, silent         │ lost
               └── 1, 2, 4 ... 60 s ──┴─────────────────────────┘        stop ─> DISCONNECT, close

Connecting again is `ClientService`'s; the delays are ours, as they grow until a server has accepted us and not only a
connection. Subscriptions outlive the connection. Publishes at QoS 1 go through a window and wait while there is no
connection; those at QoS 0 are refused then.

With ``clean`` false the server keeps the session (in 5.0 for ``session_expiry`` seconds), and with it what is sent to
us at QoS 1 while we are away. With ``manual`` true such a message is acknowledged when `Message.acknowledge` is called,
after what it says is safe: what is not comes again. The calls have to be made in the order of the messages
[MQTT-4.6.0-2]. What of it is unacknowledged at once is bounded by ``receive_maximum``: in 5.0 the server keeps to it,
else nothing more is read at that many. ``max_packet`` is told to servers of 5.0, which leave out what is longer; of
older ones a longer packet ends the connection.

What it does not do: QoS 2.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.client_connection import ClientConnection, Message, PendingPublish, refusal
from broker.mqtt.codec import LARGEST_PACKET
from broker.mqtt.properties import (
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
    number,
)

__all__ = ["FIRST_DELAY", "LONGEST_DELAY", "MAX_WAITING", "Message", "MqttClient", "MqttRefused"]

#: Seconds between attempts, at first and at most.
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0
#: How much longer chance makes them: those that lost the same server must not come back in one moment.
SPREAD: Final = 0.2
#: Publishes at QoS 1 that may wait for the window or a connection.
MAX_WAITING: Final = 10_000
#: Seconds that a server has to read our goodbye.
GOODBYE: Final = 5.0


class MqttRefused(Exception):
    """The server said no, or the client cannot take a publish now. The text says what."""


class MqttClient:
    """One client with its subscriptions and publishes.

    ``on_message(message)`` is called for each message; ``on_change(what)`` with ``"connected"`` or with why there is no
    connection. ``window`` publishes at QoS 1 may be unacknowledged at once, fewer where a server of 5.0 wants that.
    ``version`` is `packets.MQTT_3_1`, `MQTT_3_1_1` or `MQTT_5`; ``keep_alive`` and ``session_expiry`` are in seconds.
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
        clean: bool = True,
        session_expiry: int = 0,
        manual: bool = False,
        receive_maximum: int = 65_535,
        max_packet: int = LARGEST_PACKET,
        on_message: Callable[[Message], object] | None = None,
        on_change: Callable[[str], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.reactor = reactor
        self.manual = manual
        self.receive_maximum = receive_maximum
        self.max_packet = max_packet
        self._connect = p.Connect(
            client_id,
            version,
            clean=clean,
            keep_alive=keep_alive,
            user=user,
            password=None if password is None else password.encode(),
            will=will,
        )
        if version == p.MQTT_5:
            self._connect.properties = {
                SESSION_EXPIRY_INTERVAL: session_expiry,
                RECEIVE_MAXIMUM: receive_maximum,
                MAXIMUM_PACKET_SIZE: max_packet,
            }
        self._window = window
        self._on_message = on_message
        self._on_change = on_change
        self._subscriptions: dict[str, int] = {}
        self._granting: dict[str, list[Deferred[int]]] = {}
        self._inflight: dict[int, PendingPublish] = {}
        self._waiting: deque[PendingPublish] = deque()
        self._next_id = 1
        self._connection: ClientConnection | None = None
        #: What the present server takes: publishes at once, bytes of a packet, QoS.
        self._takes = (window, LARGEST_PACKET, 1)
        self._jitter = jitter
        self._failures = 0
        self._service = ClientService(
            _ToldWhenItFails(endpoint, self.down), _Connections(self), retryPolicy=self._delay, clock=reactor
        )

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
        if not self._service.running:
            self._service.startService()

    def stop(self) -> Deferred[None]:
        """Say goodbye and close; fires when that is done. What is not acknowledged by then fails with MqttRefused."""
        connection = self._connection
        if connection is not None:
            connection.leave(GOODBYE)
        stopped: Deferred[None] = self._service.stopService() if self._service.running else succeed(None)
        error = MqttRefused("the client was stopped")
        waiting: list[Deferred[Any]] = [publish.done for publish in (*self._inflight.values(), *self._waiting)]
        waiting += [granted for several in self._granting.values() for granted in several]
        self._inflight.clear()
        self._waiting.clear()
        self._granting.clear()
        for deferred in waiting:
            deferred.errback(error)
        return stopped

    def cut(self) -> None:
        """Cut the connection, if there is one."""
        if self._connection is not None:
            self._connection.cut("cut by its owner")

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

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> Deferred[int]:
        """Fires when it is written (QoS 0) or acknowledged (QoS 1), with the server's reason code, else 0.

        `reasons.NO_MATCHING_SUBSCRIBERS` is one: a server of 5.0 may say that nobody was there to take it. Fails with
        MqttRefused.
        """
        if qos == 0:
            if self._connection is None or not self._connection.accepted:
                return fail(MqttRefused("not connected"))
            self._connection.send(p.Publish(topic, payload, retain=retain))
            return succeed(0)
        if len(self._waiting) >= MAX_WAITING:
            return fail(MqttRefused(f"{MAX_WAITING} publishes wait already"))
        publish = PendingPublish(topic, payload, retain)
        self._waiting.append(publish)
        self._fill()
        return publish.done

    # -- for the connection ----------------------------------------------------------------------------------------

    def opened(self, connection: ClientConnection) -> p.Connect:
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

    def up(self, connection: ClientConnection, answer: p.ConnAck) -> None:
        """The server accepted us."""
        self._failures = 0
        told = answer.properties
        self._takes = (
            min(self._window, number(told, RECEIVE_MAXIMUM, 65_535)),
            number(told, MAXIMUM_PACKET_SIZE, LARGEST_PACKET),
            number(told, MAXIMUM_QOS, 1),
        )
        if self._subscriptions:
            connection.subscribe(list(self._subscriptions.items()))
        # Those that were sent come first, in their order; what exceeds a smaller window than before waits again.
        again, self._inflight = list(self._inflight.items()), {}
        room = self._takes[0]
        self._waiting.extendleft(publish for _, publish in reversed(again[room:]))
        for packet_id, publish in again[:room]:
            self._send(connection, packet_id, publish)
        self._fill()
        self._say("connected")

    def down(self, why: str) -> None:
        """The connection is gone, or there was none."""
        self._connection = None
        self._say(why)

    def message(self, message: Message) -> None:
        if self._on_message is not None:
            self._on_message(message)

    def granted(self, topic_filter: str, code: int) -> None:
        """The server's answer to one filter."""
        refused = code >= p.SUBSCRIPTION_REFUSED
        if refused:
            self._subscriptions.pop(topic_filter, None)
        for waiting in self._granting.pop(topic_filter, ()):
            if refused:
                waiting.errback(MqttRefused(f"subscription to {topic_filter} refused"))
            else:
                waiting.callback(code)

    def acknowledged(self, packet_id: int, code: int) -> None:
        publish = self._inflight.pop(packet_id, None)
        if publish is None:
            return
        self._fill()
        if code >= r.UNSPECIFIED_ERROR:
            publish.done.errback(MqttRefused(f"publish refused: {refusal(p.MQTT_5, code)}"))
        else:
            publish.done.callback(code)

    def _fill(self) -> None:
        connection = self._connection
        while self._waiting and len(self._inflight) < self._takes[0] and connection is not None and connection.accepted:
            self._send(connection, self.new_id(), self._waiting.popleft())

    def _send(self, connection: ClientConnection, packet_id: int, publish: PendingPublish) -> None:
        """At QoS 1, or at 0 where the server takes no other."""
        _, longest, qos = self._takes
        if publish.size + 32 > longest:
            publish.done.errback(MqttRefused(f"the server takes packets of {longest} bytes at most"))
        elif qos == 0:
            connection.send(p.Publish(publish.topic, publish.payload, retain=publish.retain))
            publish.done.callback(0)
        else:
            self._inflight[packet_id] = publish
            connection.publish(packet_id, publish)

    def _delay(self, attempt: int) -> float:
        """Seconds until the next attempt. That a server took the connection does not count, as it may refuse us."""
        delay: float = min(FIRST_DELAY * 2.0 ** min(self._failures, 30), LONGEST_DELAY)
        self._failures += 1
        return delay * (1 + self._jitter() * SPREAD)

    def _say(self, what: str) -> None:
        if self._on_change is not None:
            self._on_change(what)


@implementer(IStreamClientEndpoint)
class _ToldWhenItFails:
    """An endpoint that says why there is no connection; `ClientService` tells nobody but its log."""

    def __init__(self, endpoint: IStreamClientEndpoint, failed: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        attempt: Any = self._endpoint.connect(protocolFactory)

        def failed(failure: Any) -> Any:
            self._failed(failure.getErrorMessage())
            return failure

        connecting: Deferred[Any] = attempt.addErrback(failed)
        return connecting

    def __repr__(self) -> str:
        return repr(self._endpoint)  # in the log of `ClientService`


class _Connections(Factory):
    """Makes the client's connections, one after the other."""

    noisy = False

    def __init__(self, client: MqttClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> ClientConnection:
        return ClientConnection(self._client)
