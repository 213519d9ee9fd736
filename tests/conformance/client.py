"""A client that does one thing after the other, so that a scenario reads from top to bottom. It blocks.

What arrives is decoded by our own codec in its client's role. Messages are acknowledged as they arrive unless
`acknowledging` is switched off; everything else waits in `answers` until somebody asks for it.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Final, TypeVar

from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder
from broker.mqtt.encode import encode
from broker.mqtt.packets import Packet, Properties, PropertyValue
from tests.conformance.rows import Difference

#: Seconds for anything that must come.
PATIENCE: Final = 3.0
#: Seconds in which what must not come would have come.
QUIET: Final = 0.3

A = TypeVar("A")


class Client:
    """One connection. Use `Room.client`."""

    def __init__(self, port: int, version: int) -> None:
        self.version = version
        self.connack = p.ConnAck()
        self.acknowledging = True
        self.messages: deque[p.Publish] = deque()
        self.answers: deque[Packet] = deque()
        self.closed = False
        #: QoS 2 messages that the server has released.
        self.releases = 0
        self._ids = 0
        self._decoder = Decoder(LARGEST_PACKET, "client", version)
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, *packets: Packet) -> None:
        """All of them in one write."""
        self.send_bytes(b"".join([encode(packet, self.version) for packet in packets]))

    def send_bytes(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except ConnectionError as error:
            raise Difference("the server had closed the connection") from error

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def subscribe(
        self, *filters: str | tuple[str, int], qos: int = 2, properties: Properties | None = None
    ) -> p.SubAck:
        """Subscribe and wait for the answer. A filter: its text, or its text and options."""
        listed = [(one, qos) if isinstance(one, str) else one for one in filters]
        packet = p.Subscribe(self.next_id(), listed, properties)
        self.send(packet)
        answer = self.expect(p.SubAck)
        expect(answer.packet_id, packet.packet_id, "packet id of SUBACK")
        return answer

    def unsubscribe(self, *filters: str) -> p.UnsubAck:
        self.send(p.Unsubscribe(self.next_id(), list(filters)))
        return self.expect(p.UnsubAck)

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 0, retain: bool = False, properties: Properties | None = None
    ) -> int:
        """Publish, with all of the exchange; the reason code of the first answer (0 before 5.0 and at QoS 0)."""
        packet_id = self.next_id() if qos else 0
        self.send(p.Publish(topic, payload, qos, packet_id, retain, False, properties))
        if qos == 1:
            ack = self.expect(p.PubAck)
            expect(ack.packet_id, packet_id, "packet id of PUBACK")
            return ack.reason
        if qos == 2:
            rec = self.expect(p.PubRec)
            expect(rec.packet_id, packet_id, "packet id of PUBREC")
            if rec.reason < 0x80:
                self.send(p.PubRel(packet_id))
                expect(self.expect(p.PubComp).packet_id, packet_id, "packet id of PUBCOMP")
            return rec.reason
        return 0

    def ping(self) -> None:
        self.send(p.PingReq())
        self.expect(p.PingResp)

    def released(self, count: int) -> None:
        """Wait until so many QoS 2 messages are: their PUBREL waits for the disk."""
        until = time.monotonic() + PATIENCE
        while self.releases < count:
            if self.closed or not self._read(until):
                raise Difference(f"{self.releases} of {count} messages were released")

    def disconnect(self, reason: int = 0, properties: Properties | None = None) -> None:
        """The orderly end; returns once the server has closed."""
        self.send(p.Disconnect(reason, properties))
        self.ends()

    def abort(self) -> None:
        """The disorderly one."""
        self._socket.close()
        self.closed = True

    # -- receiving -------------------------------------------------------------------------------------------------

    def expect(self, kind: type[A], patience: float = PATIENCE) -> A:
        """The next packet that is no message; it must be of this kind."""
        until = time.monotonic() + patience
        while not self.answers:
            if self.closed or not self._read(until):
                raise Difference(f"expected {kind.__name__}, got {'a close' if self.closed else 'silence'}")
        packet = self.answers.popleft()
        if not isinstance(packet, kind):
            raise Difference(f"expected {kind.__name__}, got {packet}")
        return packet

    def message(self, patience: float = PATIENCE) -> p.Publish:
        """The next message."""
        until = time.monotonic() + patience
        while not self.messages:
            if self.closed or not self._read(until):
                raise Difference(f"expected a message, got {'a close' if self.closed else 'silence'}")
        return self.messages.popleft()

    def payloads(self, count: int, patience: float = PATIENCE) -> list[bytes]:
        """The payloads of the next messages."""
        until = time.monotonic() + patience
        return [self.message(until - time.monotonic()).payload for _ in range(count)]

    def nothing(self, seconds: float = QUIET) -> None:
        """No message comes, and the connection stays open."""
        self.collect(seconds)
        if self.messages:
            raise Difference(f"expected no message, got {self.messages[0]}")
        if self.closed:
            raise Difference("expected no message, got a close")

    def collect(self, seconds: float = QUIET) -> None:
        """Whatever comes meanwhile, into `messages`."""
        until = time.monotonic() + seconds
        while self._read(until):
            pass

    def ends(self, patience: float = PATIENCE) -> None:
        """The server closes without a further word."""
        until = time.monotonic() + patience
        while not self.closed:
            if not self._read(until):
                if not self.closed:
                    raise Difference("expected a close, got silence")
                break
        if self.answers:
            raise Difference(f"expected a close, got {self.answers[0]}")

    def dismissed(self, reason: int, patience: float = PATIENCE) -> None:
        """The server ends it: in 5.0 with a DISCONNECT of this reason."""
        if self.version == p.MQTT_5:
            expect(self.expect(p.Disconnect, patience).reason, reason, "reason of DISCONNECT")
        self.ends(patience)

    def is_over(self, patience: float = PATIENCE) -> None:
        """The server ends it, with whatever last word."""
        until = time.monotonic() + patience
        while self._read(until):
            pass
        if not self.closed:
            raise Difference("expected a close, got silence")

    def _read(self, until: float) -> bool:
        left = until - time.monotonic()
        if left <= 0 or self.closed:
            return False
        self._socket.settimeout(left)
        try:
            chunk = self._socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            chunk = b""
        if not chunk:
            self.closed = True
            self._socket.close()
            return False
        try:
            for packet in self._decoder.feed(chunk):
                self._arrived(packet)
        except p.ProtocolError as error:
            raise Difference(f"the server sent what is no MQTT ({error.reason}): {chunk[:80].hex(' ')}") from error
        return True

    def _arrived(self, packet: Packet) -> None:
        if isinstance(packet, p.Publish):
            self.messages.append(packet)
            if self.acknowledging and packet.qos:
                self.send(p.PubAck(packet.packet_id) if packet.qos == 1 else p.PubRec(packet.packet_id))
        elif isinstance(packet, p.PubRel) and self.acknowledging:
            self.releases += 1
            self.send(p.PubComp(packet.packet_id))
        else:
            self.answers.append(packet)


class Room:
    """One scenario's own corner of a server: client ids and topics of its own, and clients that end with it."""

    def __init__(self, port: int, version: int) -> None:
        self.port = port
        self.version = version
        self.name = token_hex(4)
        #: Whether new clients acknowledge by themselves, from their first packet on.
        self.acknowledging = True
        self._clients: list[Client] = []

    def topic(self, name: str) -> str:
        return f"{self.name}/{name}"

    def socket(self) -> Client:
        """A connection on which nothing was said."""
        client = Client(self.port, self.version)
        client.acknowledging = self.acknowledging
        self._clients.append(client)
        return client

    def offer(self, connect: p.Connect) -> Client:
        """A connection that sent this CONNECT and got an answer, of whatever kind."""
        client = self.socket()
        client.send(connect)
        client.connack = client.expect(p.ConnAck)
        return client

    def client(
        self,
        name: str = "a",
        clean: bool = True,
        keep_alive: int = 60,
        will: p.Will | None = None,
        properties: Properties | None = None,
        present: bool | None = None,
    ) -> Client:
        """A client that is connected. `present`: what CONNACK must say of an earlier session (3.1 does not say)."""
        connect = p.Connect(f"{self.name}{name}", self.version, clean, keep_alive, None, None, will, properties)
        client = self.offer(connect)
        expect(client.connack.code, 0, "code of CONNACK")
        if present is not None and self.version > p.MQTT_3_1:
            expect(client.connack.session_present, present, "session present")
        return client

    def lasting(self, name: str = "a", clean: bool = False, expiry: int = 600, present: bool | None = None) -> Client:
        """A client whose session outlives its connection, in any version."""
        if self.version == p.MQTT_5:
            return self.client(name, clean, properties={0x11: expiry}, present=present)
        if clean:
            self.client(name).disconnect()
        return self.client(name, False, present=None if clean else present)

    def close(self) -> None:
        for client in self._clients:
            client.abort()


def property_of(packet: Any, identifier: int) -> PropertyValue | list[PropertyValue] | None:
    """A property of a packet, None if it has not got it."""
    properties: Properties | None = packet.properties
    return (properties or {}).get(identifier)


def expect(got: object, wanted: object, what: str) -> None:
    """Raises Difference where they differ."""
    if got != wanted:
        raise Difference(f"{what}: expected {wanted!r}, got {got!r}")


def expect_messages(got: Sequence[p.Publish], wanted: Sequence[tuple[str, bytes, int, bool]]) -> None:
    """Topic, payload, QoS and retain, in this order."""
    expect([(one.topic, one.payload, one.qos, one.retain) for one in got], list(wanted), "messages")
