"""Messages as they travel between processes. Pure.

What its first byte says it is::

    0x30 0x32 0x34    PUBLISH packets of 3.1.1, whole, with one head (first byte, length, topic), one behind the other
    0x96              [topic, payload, qos, retain, properties, expires_at]     a message that is more than that
    0x94              [group, filter, hops, one of these two]                   for a shared subscription

The packets of a publisher go on as they came, many at a time: packet ids have no meaning here, whoever passes the
messages on writes its own over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from broker.mqtt.codec import LARGEST_PACKET, frame
from broker.mqtt.message import Message
from broker.mqtt.packets import MQTT_3_1_1, ProtocolError

#: First bytes of arrays of four and of six (MessagePack).
_FOR_GROUP: Final = b"\x94"
_MESSAGE: Final = 0x96

_encode = msgspec.msgpack.Encoder().encode
_message = msgspec.msgpack.Decoder(tuple[bytes, bytes, int, bool, bytes, float | None]).decode
_for_group = msgspec.msgpack.Decoder(tuple[str, str, int, bytes]).decode

#: What one batch had for one receiver, and back; the latter raises ValueError.
encode_bodies = _encode
decode_bodies = msgspec.msgpack.Decoder(list[bytes]).decode


def pack(message: Message) -> bytes:
    """For all that want it; the same bytes for each of them."""
    if message.retain or message.shared or message.expires_at is not None:
        fields = (message.name, message.payload, message.qos, message.retain, message.shared, message.expires_at)
        return _encode(fields)
    head = message.head(MQTT_3_1_1, message.qos, False)
    return head + b"\0\0" + message.payload if message.qos else head + message.payload


def for_group(group: str, topic_filter: str, hops: int, body: bytes) -> bytes:
    """What is packed already, for a group. ``hops``: passed on so often."""
    return _encode((group, topic_filter, hops, body))


def is_for_group(body: bytes) -> bool:
    return body[:1] == _FOR_GROUP


def open_for_group(body: bytes) -> tuple[str, str, int, bytes]:
    """Raises ValueError."""
    return _for_group(body)


class Run:
    """PUBLISH packets with one head, which ends at ``at``, each ``step`` bytes long. Raises ValueError.

    Behind the head are, at QoS 1 and 2, two bytes for a packet id, then the payload.
    """

    __slots__ = ("at", "body", "name", "qos", "step")

    def __init__(self, body: bytes) -> None:
        try:
            start, self.step = frame(body, 0, LARGEST_PACKET)
        except ProtocolError as error:
            raise ValueError(f"not a run of packets: {error}") from None
        if not start or start + 2 > len(body) or len(body) % self.step:
            raise ValueError("not a run of packets")
        self.at = start + 2 + (body[start] << 8 | body[start + 1])
        self.body = body
        self.name = body[start + 2 : self.at]
        self.qos = body[0] >> 1 & 3

    def payloads(self) -> Iterator[bytes]:
        """In their order."""
        body, step = self.body, self.step
        at = self.at + 2 if self.qos else self.at
        return (body[start + at : start + step] for start in range(0, len(body), step))

    def messages(self) -> Iterator[Message]:
        """In their order."""
        name, qos = self.name, self.qos
        return (Message(name, payload, qos) for payload in self.payloads())


def opened(body: bytes) -> Run | Message:
    """What is not for a group. Raises ValueError."""
    if not body:
        raise ValueError("nothing")
    return Message(*_message(body)) if body[0] == _MESSAGE else Run(body)


def messages(body: bytes) -> list[Message]:
    """The same, one by one."""
    found = opened(body)
    return [found] if isinstance(found, Message) else list(found.messages())
