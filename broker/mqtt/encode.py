"""MQTT packets -> bytes, sans-IO. The other way, and the wire's picture, is `codec`.

`encode` takes any packet of either direction. The functions beside it make what a server sends most without an object
a packet. For a fan-out at QoS 1 or 2 only the packet id differs between receivers; the packet is made once, in parts:

    head = publish_head(topic, len(payload), qos)       first byte, length, topic
    packet = head + packet_id_bytes(n) + payload        n: the receiver's own

At QoS 0 the packet is the same for everybody: `publish`, or the very bytes that came, when their first byte is 0x30.

These are for 3.1 and 3.1.1; `encode5` has those of 5.0.

Arguments are our own: a wrong one is a ValueError, never sent. Nothing here knows what the receiver's limits are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.mqtt import encode5
from broker.mqtt import packets as p
from broker.mqtt.fields import binary_bytes, length_bytes, packet_id_bytes, text_bytes, two_bytes
from broker.mqtt.packets import MQTT_3_1, MQTT_3_1_1, MQTT_5, Packet

__all__ = [
    "DISCONNECT",
    "PINGREQ",
    "PINGRESP",
    "connack",
    "encode",
    "length_bytes",
    "packet_id_bytes",
    "puback",
    "pubcomp",
    "publish",
    "publish_head",
    "pubrec",
    "pubrel",
    "suback",
    "unsuback",
]

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
DISCONNECT: Final = b"\xe0\x00"

_NAMES: Final[dict[int, bytes]] = {MQTT_3_1: b"\x00\x06MQIsdp\x03", MQTT_3_1_1: b"\x00\x04MQTT\x04"}


def publish_head(topic: bytes, payload_size: int, qos: int = 0, retain: bool = False, dup: bool = False) -> bytes:
    """A PUBLISH up to its packet id, or to its payload at QoS 0 (§3.3). `topic` is a valid name in UTF-8."""
    size = len(topic)
    if not 0 < size < 65536:
        raise ValueError(f"a topic of {size} bytes")
    if not 0 <= qos <= 2 or (dup and not qos):
        raise ValueError(f"qos {qos}, dup {dup}")
    first = 0x30 | qos << 1 | retain | dup << 3
    length = 2 + size + payload_size + (2 if qos else 0)
    # Every uplink passes here: the usual sizes are written without a call.
    if length < 128:
        return b"%c%c%c%c%b" % (first, length, size >> 8, size & 255, topic)
    if length < 16384:
        return b"%c%c%c%c%c%b" % (first, length & 127 | 128, length >> 7, size >> 8, size & 255, topic)
    return b"%c%b%c%c%b" % (first, length_bytes(length), size >> 8, size & 255, topic)


def publish(
    topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 0, retain: bool = False, dup: bool = False
) -> bytes:
    """A whole PUBLISH (§3.3); `packet_id` is 0 exactly at QoS 0 [MQTT-2.3.1-5]."""
    head = publish_head(topic, len(payload), qos, retain, dup)
    if qos:
        return head + packet_id_bytes(packet_id) + payload
    if packet_id:
        raise ValueError("a packet id at QoS 0")
    return head + payload


def connack(code: int, session_present: bool = False) -> bytes:
    """§3.2; a refusal never has a session [MQTT-3.2.2-4]."""
    if not 0 <= code <= p.REFUSED_RIGHTS or (code and session_present):
        raise ValueError(f"CONNACK {code}, session present {session_present}")
    return bytes((0x20, 2, session_present, code))


def puback(packet_id: int) -> bytes:
    """§3.4."""
    return b"\x40\x02" + packet_id_bytes(packet_id)


def pubrec(packet_id: int) -> bytes:
    """§3.5."""
    return b"\x50\x02" + packet_id_bytes(packet_id)


def pubrel(packet_id: int) -> bytes:
    """§3.6."""
    return b"\x62\x02" + packet_id_bytes(packet_id)


def pubcomp(packet_id: int) -> bytes:
    """§3.7."""
    return b"\x70\x02" + packet_id_bytes(packet_id)


def suback(packet_id: int, codes: bytes) -> bytes:
    """§3.9; a code for each filter, in their order."""
    return b"\x90" + length_bytes(2 + len(codes)) + packet_id_bytes(packet_id) + codes


def unsuback(packet_id: int) -> bytes:
    """§3.11."""
    return b"\xb0\x02" + packet_id_bytes(packet_id)


def _connect(packet: p.Connect) -> bytes:
    if packet.version not in _NAMES:
        raise ValueError(f"protocol level {packet.version}")
    if packet.password is not None and packet.user is None:
        raise ValueError("a password without a user name")
    flags = 2 if packet.clean else 0
    fields = [text_bytes(packet.client_id)]
    if packet.will is not None:
        if not 0 <= packet.will.qos <= 2:
            raise ValueError(f"will qos {packet.will.qos}")
        flags |= 4 | packet.will.qos << 3 | (0x20 if packet.will.retain else 0)
        fields += text_bytes(packet.will.topic), binary_bytes(packet.will.payload)
    if packet.user is not None:
        flags |= 0x80
        fields.append(text_bytes(packet.user))
    if packet.password is not None:
        flags |= 0x40
        fields.append(binary_bytes(packet.password))
    body = b"%b%c%b%b" % (_NAMES[packet.version], flags, two_bytes(packet.keep_alive), b"".join(fields))
    return b"\x10" + length_bytes(len(body)) + body


def _subscribe(packet: p.Subscribe) -> bytes:
    if not packet.filters:
        raise ValueError("no filters")
    body = packet_id_bytes(packet.packet_id) + b"".join(
        text_bytes(text) + bytes((qos,)) for text, qos in packet.filters
    )
    return b"\x82" + length_bytes(len(body)) + body


def _unsubscribe(packet: p.Unsubscribe) -> bytes:
    if not packet.filters:
        raise ValueError("no filters")
    body = packet_id_bytes(packet.packet_id) + b"".join(text_bytes(text) for text in packet.filters)
    return b"\xa2" + length_bytes(len(body)) + body


_ACKS: Final[dict[type[Packet], Callable[[int], bytes]]] = {
    p.PubAck: puback,
    p.PubRec: pubrec,
    p.PubRel: pubrel,
    p.PubComp: pubcomp,
}


def encode(packet: Packet, version: int = MQTT_3_1_1) -> bytes:
    """The bytes of any packet. `version` is the connection's; a CONNECT has its own. Raises ValueError."""
    if (packet.version if isinstance(packet, p.Connect) else version) == MQTT_5:
        return encode5.encode(packet)
    if version not in _NAMES:
        raise ValueError(f"protocol level {version}")
    match packet:
        case p.Publish():
            topic = packet.topic.encode()
            return publish(topic, packet.payload, packet.qos, packet.packet_id, packet.retain, packet.dup)
        case p.PubAck() | p.PubRec() | p.PubRel() | p.PubComp():
            return _ACKS[type(packet)](packet.packet_id)
        case p.Subscribe():
            return _subscribe(packet)
        case p.SubAck():
            return suback(packet.packet_id, packet.codes)
        case p.Unsubscribe():
            return _unsubscribe(packet)
        case p.UnsubAck():
            return unsuback(packet.packet_id)
        case p.PingReq():
            return PINGREQ
        case p.PingResp():
            return PINGRESP
        case p.Disconnect():
            return DISCONNECT
        case p.Connect():
            return _connect(packet)
        case p.ConnAck():
            return connack(packet.code, packet.session_present)
        case p.Auth():
            raise ValueError("AUTH before 5.0")
