"""One connection of `broker.mqtt.client.MqttClient`: the handshake, the ticks of keep-alive, packets both ways.

A server that says nothing between two of our pings, not even PINGRESP, is taken for dead and left: half a keep-alive
later than it would leave us at most. While we ourselves read nothing, as too much is unacknowledged, its silence means
nothing.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.codec import Decoder, ProtocolError
from broker.mqtt.properties import SERVER_KEEP_ALIVE, number

#: Seconds until the server must have answered the CONNECT.
LOGIN_TIMEOUT: Final = 10.0
#: Of the keep-alive: when a ping goes out. The server's patience is one and a half times as long.
PING_AFTER: Final = 0.75

_REFUSALS: Final = {
    p.REFUSED_LEVEL: "unacceptable protocol version",
    p.REFUSED_CLIENT_ID: "client id rejected",
    p.REFUSED_UNAVAILABLE: "server unavailable",
    p.REFUSED_CREDENTIALS: "bad user name or password",
    p.REFUSED_RIGHTS: "not authorized",
}
_REFUSALS_5: Final = {
    r.UNSUPPORTED_PROTOCOL_VERSION: "unacceptable protocol version",
    r.CLIENT_IDENTIFIER_NOT_VALID: "client id rejected",
    r.BAD_USER_NAME_OR_PASSWORD: "bad user name or password",
    r.NOT_AUTHORIZED: "not authorized",
    r.SERVER_UNAVAILABLE: "server unavailable",
    r.SERVER_BUSY: "server busy",
    r.BANNED: "banned",
    r.SERVER_SHUTTING_DOWN: "server shutting down",
    r.KEEP_ALIVE_TIMEOUT: "keep-alive timeout",
    r.SESSION_TAKEN_OVER: "another client has connected with the same client id",
    r.PACKET_TOO_LARGE: "packet too large",
    r.QUOTA_EXCEEDED: "quota exceeded",
}


def refusal(version: int, code: int) -> str:
    """A return code or reason code in words."""
    words = (_REFUSALS_5 if version == p.MQTT_5 else _REFUSALS).get(code)
    return words or f"reason code {code:#04x}"


class PendingPublish:
    """A publish at QoS 1 until its acknowledgement."""

    __slots__ = ("done", "payload", "retain", "sent", "topic")

    def __init__(self, topic: str, payload: bytes, retain: bool) -> None:
        self.topic = topic
        self.payload = payload
        self.retain = retain
        self.sent = False
        self.done: Deferred[int] = Deferred()

    @property
    def size(self) -> int:
        """Bytes of topic and payload."""
        return len(self.topic.encode()) + len(self.payload)


class Message:
    """A PUBLISH that came. ``repeated``: the server may have sent it before (DUP)."""

    __slots__ = ("_connection", "_packet_id", "payload", "qos", "repeated", "retained", "topic")

    def __init__(self, packet: p.Publish, connection: ClientConnection) -> None:
        self.topic = packet.topic
        self.payload = packet.payload
        self.qos = packet.qos
        self.retained = packet.retain
        self.repeated = packet.dup
        self._packet_id = packet.packet_id
        self._connection: ClientConnection | None = connection if packet.qos else None

    def acknowledge(self) -> None:
        """PUBACK, once; nothing at QoS 0, and nothing when the connection is gone: then it comes again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.acknowledge(self._packet_id)


class Owner(Protocol):
    """What a connection uses of its client."""

    reactor: Any
    manual: bool
    receive_maximum: int
    max_packet: int

    @property
    def version(self) -> int: ...
    def opened(self, connection: ClientConnection) -> p.Connect: ...
    def new_id(self) -> int: ...
    def up(self, connection: ClientConnection, answer: p.ConnAck) -> None: ...
    def down(self, why: str) -> None: ...
    def message(self, message: Message) -> None: ...
    def granted(self, topic_filter: str, code: int) -> None: ...
    def acknowledged(self, packet_id: int, code: int) -> None: ...


class ClientConnection(TwistedProtocol):
    """One connection of a client."""

    def __init__(self, client: Owner) -> None:
        self.client = client
        self.accepted = False
        self._decoder = Decoder(client.max_packet, role="client", version=client.version)
        self._timeout: Any = None
        self._pings = LoopingCall(self._ping)
        self._heard = True
        self._asked: dict[int, list[str]] = {}
        self._why = ""
        self._keep_alive = 0
        #: Messages that have come and are not acknowledged, and whether nothing is read for that.
        self._unacknowledged = 0
        self._paused = False
        self._closed = False

    # -- what the client does --------------------------------------------------------------------------------------

    def send(self, packet: p.Packet) -> None:
        self._write(encode.encode(packet, self.client.version))

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        packet_id = self.client.new_id()
        while packet_id in self._asked:
            packet_id = self.client.new_id()
        self._asked[packet_id] = [text for text, _ in filters]
        self.send(p.Subscribe(packet_id, filters))

    def publish(self, packet_id: int, publish: PendingPublish) -> None:
        """Send it at QoS 1, marked as a repetition if it is one [MQTT-3.3.1-1]."""
        dup, publish.sent = publish.sent, True
        make = encode5.publish if self.client.version == p.MQTT_5 else encode.publish
        self._write(make(publish.topic.encode(), publish.payload, 1, packet_id, publish.retain, dup))

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK."""
        if self._closed:
            return
        self._unacknowledged -= 1
        self._write(encode.puback(packet_id))
        if self._paused and self._unacknowledged < self.client.receive_maximum:
            self._paused = False
            transport: Any = self.transport
            transport.resumeProducing()

    def leave(self, patience: float) -> None:
        """Say goodbye, if the server knows us, and close; cut what it does not read in ``patience`` seconds."""
        if not self.accepted:
            self.cut("the client was stopped")
            return
        self.send(p.Disconnect())
        transport: Any = self.transport
        transport.loseConnection()
        self._timeout = self.client.reactor.callLater(patience, self.cut, "the client was stopped")

    def cut(self, why: str) -> None:
        self._why = self._why or why
        transport: Any = self.transport
        transport.abortConnection()

    # -- from Twisted ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._timeout = self.client.reactor.callLater(LOGIN_TIMEOUT, self.cut, "no answer to CONNECT")
        connect = self.client.opened(self)
        self._keep_alive = connect.keep_alive
        self.send(connect)

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        try:
            for packet in self._decoder.feed(data):
                self._packet(packet)
        except ProtocolError as error:
            self.cut(f"the server broke the protocol: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        self.accepted = False
        if self._pings.running:
            self._pings.stop()
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        why = self._why or ("connection closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        self.client.down(why)

    # -- packets ---------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def _packet(self, packet: p.Packet) -> None:
        client = self.client
        if not self.accepted and not isinstance(packet, p.ConnAck):
            raise ProtocolError("connack")
        match packet:
            case p.ConnAck():
                self._accepted(packet)
            case p.Publish() if packet.qos < 2 and packet.topic:
                self._message(packet)
            case p.PubAck():
                client.acknowledged(packet.packet_id, packet.reason)
            case p.SubAck():
                filters = self._asked.pop(packet.packet_id, [])
                if len(filters) != len(packet.codes):
                    raise ProtocolError("suback_code")
                for text, code in zip(filters, packet.codes, strict=True):
                    client.granted(text, code)
            case p.Disconnect():
                self.cut(f"closed by the server: {refusal(p.MQTT_5, packet.reason)}")
            case p.PingResp() | p.UnsubAck():
                """That it came is all there is to know."""
            case _:
                raise ProtocolError("direction")

    def _accepted(self, packet: p.ConnAck) -> None:
        if self.accepted:
            raise ProtocolError("connack")
        self._timeout.cancel()
        if packet.code:
            self.cut(f"refused: {refusal(self.client.version, packet.code)}")
            return
        self.accepted = True
        keep_alive = number(packet.properties, SERVER_KEEP_ALIVE, self._keep_alive)
        if keep_alive:
            self._pings.clock = self.client.reactor
            self._pings.start(keep_alive * PING_AFTER, now=False)
        self.client.up(self, packet)

    def _message(self, packet: p.Publish) -> None:
        message = Message(packet, self)
        if packet.qos:
            self._unacknowledged += 1
        self.client.message(message)
        if not self.client.manual:
            message.acknowledge()
        elif self._unacknowledged >= self.client.receive_maximum and not self._paused:
            self._paused = True
            transport: Any = self.transport
            transport.pauseProducing()

    def _ping(self) -> None:
        if not self._heard and not self._paused:
            self.cut("the server fell silent")
            return
        self._heard = False
        self.send(p.PingReq())
