"""MQTT 5.0's packets -> bytes, sans-IO. `encode.encode(packet, MQTT_5)` takes any; beside it what a server sends most.

For a fan-out a message is encoded once, and only these differ between receivers:

    shared = properties.shared_bytes(publish.properties)
    tail   = properties.publish_property_bytes(alias, identifiers, shared)      b"\\x00" + payload when there is nothing
    packet = publish_head(topic, len(tail) + len(payload), qos) + [packet_id_bytes(n)] + tail + payload

Receivers without alias and identifiers share head and tail as well, and at QoS 0 the whole packet. A packet that came
at QoS 0 with an empty property block may go out as it is.

A reason code of 0 without properties is left out where it may be (§3.4.2.1, §3.14.2.1). A wrong argument is a
ValueError. Nothing here knows the receiver's maximum packet size, which reason strings and user properties must give
way to [MQTT-3.4.2-2] [MQTT-3.4.2-3].
"""

from __future__ import annotations

from typing import Final

from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.fields import binary_bytes, length_bytes, packet_id_bytes, text_bytes, two_bytes
from broker.mqtt.packets import Packet, Properties
from broker.mqtt.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    SERVER_DISCONNECT,
    TOPIC_ALIAS,
    WILL,
    encode_properties,
)

_ACK_FIRST: Final[dict[type[Packet], tuple[int, int, frozenset[int]]]] = {
    p.PubAck: (0x40, p.PUBACK, r.IN_PUBACK),
    p.PubRec: (0x50, p.PUBREC, r.IN_PUBACK),
    p.PubRel: (0x62, p.PUBREL, r.IN_PUBREL),
    p.PubComp: (0x70, p.PUBCOMP, r.IN_PUBREL),
}


def _packet(first: int, body: bytes) -> bytes:
    return b"%c%b%b" % (first, length_bytes(len(body)), body)


def publish_head(topic: bytes, tail_size: int, qos: int = 0, retain: bool = False, dup: bool = False) -> bytes:
    """A PUBLISH up to its packet id, or to its properties at QoS 0 (§3.3). `tail_size`: properties and payload.

    `topic` is a valid name in UTF-8, or empty where the properties have an alias that the receiver knows.
    """
    size = len(topic)
    if size > 65535 or not 0 <= qos <= 2 or (dup and not qos):
        raise ValueError(f"a topic of {size} bytes, qos {qos}, dup {dup}")
    first = 0x30 | qos << 1 | retain | dup << 3
    length = 2 + size + tail_size + (2 if qos else 0)
    return b"%c%b%b%b" % (first, length_bytes(length), size.to_bytes(2, "big"), topic)


def publish(
    topic: bytes,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    dup: bool = False,
    block: bytes = b"\x00",
) -> bytes:
    """A whole PUBLISH; `block` is its property block. `packet_id` is 0 exactly at QoS 0 [MQTT-2.2.1-2]."""
    head = publish_head(topic, len(block) + len(payload), qos, retain, dup)
    if qos:
        return head + packet_id_bytes(packet_id) + block + payload
    if packet_id:
        raise ValueError("a packet id at QoS 0")
    return head + block + payload


def connack(code: int, session_present: bool = False, properties: Properties | None = None) -> bytes:
    """§3.2; a refusal never has a session [MQTT-3.2.2-6]."""
    if code not in r.IN_CONNACK or (code and session_present):
        raise ValueError(f"CONNACK {code}, session present {session_present}")
    return _packet(0x20, bytes((session_present, code)) + encode_properties(properties, p.CONNACK))


def _ack(kind: type[Packet], packet_id: int, reason: int, properties: Properties | None) -> bytes:
    first, carrier, codes = _ACK_FIRST[kind]
    if reason not in codes:
        raise ValueError(f"{kind.__name__} {reason:#x}")
    if properties:
        return _packet(first, b"%b%c%b" % (packet_id_bytes(packet_id), reason, encode_properties(properties, carrier)))
    if reason:
        return b"%c\x03%b%c" % (first, packet_id_bytes(packet_id), reason)
    return b"%c\x02%b" % (first, packet_id_bytes(packet_id))


def puback(packet_id: int, reason: int = 0, properties: Properties | None = None) -> bytes:
    """§3.4."""
    return _ack(p.PubAck, packet_id, reason, properties)


def pubrec(packet_id: int, reason: int = 0, properties: Properties | None = None) -> bytes:
    """§3.5."""
    return _ack(p.PubRec, packet_id, reason, properties)


def pubrel(packet_id: int, reason: int = 0, properties: Properties | None = None) -> bytes:
    """§3.6."""
    return _ack(p.PubRel, packet_id, reason, properties)


def pubcomp(packet_id: int, reason: int = 0, properties: Properties | None = None) -> bytes:
    """§3.7."""
    return _ack(p.PubComp, packet_id, reason, properties)


def suback(packet_id: int, codes: bytes, properties: Properties | None = None) -> bytes:
    """§3.9; a code for each filter, in their order [MQTT-3.9.3-1]."""
    if not codes or not r.IN_SUBACK.issuperset(codes):
        raise ValueError(f"SUBACK {codes.hex()}")
    return _packet(0x90, packet_id_bytes(packet_id) + encode_properties(properties, p.SUBACK) + codes)


def unsuback(packet_id: int, codes: bytes, properties: Properties | None = None) -> bytes:
    """§3.11; a code for each filter, in their order [MQTT-3.11.3-1]."""
    if not codes or not r.IN_UNSUBACK.issuperset(codes):
        raise ValueError(f"UNSUBACK {codes.hex()}")
    return _packet(0xB0, packet_id_bytes(packet_id) + encode_properties(properties, p.UNSUBACK) + codes)


def _reason(first: int, carrier: int, reason: int, properties: Properties | None) -> bytes:
    if properties:
        return _packet(first, bytes((reason,)) + encode_properties(properties, carrier))
    return bytes((first, 1, reason)) if reason else bytes((first, 0))


def disconnect(reason: int = 0, properties: Properties | None = None) -> bytes:
    """§3.14, of a server; only after a CONNACK that accepted [MQTT-3.14.0-1]."""
    if reason not in r.IN_SERVER_DISCONNECT:
        raise ValueError(f"DISCONNECT {reason:#x}")
    return _reason(0xE0, SERVER_DISCONNECT, reason, properties)


def _any_disconnect(packet: p.Disconnect) -> bytes:
    """Of a server or a client: the packet does not say whose it is, so either's codes and properties do."""
    if packet.reason in r.IN_CLIENT_DISCONNECT:
        return _reason(0xE0, p.DISCONNECT, packet.reason, packet.properties)
    return disconnect(packet.reason, packet.properties)


def auth(reason: int, properties: Properties | None) -> bytes:
    """§3.15, of either side. The authentication method is left out only with all the rest."""
    if reason not in r.IN_SERVER_AUTH | r.IN_CLIENT_AUTH:
        raise ValueError(f"AUTH {reason:#x}")
    if (reason or properties) and AUTHENTICATION_METHOD not in (properties or {}):
        raise ValueError("AUTH without a method")
    return _reason(0xF0, p.AUTH, reason, properties)


def _connect(packet: p.Connect) -> bytes:
    properties = packet.properties or {}
    if AUTHENTICATION_DATA in properties and AUTHENTICATION_METHOD not in properties:
        raise ValueError("authentication data without a method")
    flags = 2 if packet.clean else 0
    fields = [encode_properties(packet.properties, p.CONNECT), text_bytes(packet.client_id)]
    will = packet.will
    if will is not None:
        if not 0 <= will.qos <= 2:
            raise ValueError(f"will qos {will.qos}")
        flags |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
        fields += encode_properties(will.properties, WILL), text_bytes(will.topic), binary_bytes(will.payload)
    if packet.user is not None:
        flags |= 0x80
        fields.append(text_bytes(packet.user))
    if packet.password is not None:
        flags |= 0x40
        fields.append(binary_bytes(packet.password))
    return _packet(0x10, b"\x00\x04MQTT\x05%c%b%b" % (flags, two_bytes(packet.keep_alive), b"".join(fields)))


def _requests(packet: p.Subscribe | p.Unsubscribe) -> bytes:
    if not packet.filters:
        raise ValueError("no filters")
    if isinstance(packet, p.Subscribe):
        head = packet_id_bytes(packet.packet_id) + encode_properties(packet.properties, p.SUBSCRIBE)
        return _packet(
            0x82, head + b"".join([text_bytes(text) + bytes((options,)) for text, options in packet.filters])
        )
    head = packet_id_bytes(packet.packet_id) + encode_properties(packet.properties, p.UNSUBSCRIBE)
    return _packet(0xA2, head + b"".join([text_bytes(text) for text in packet.filters]))


def _publish(packet: p.Publish) -> bytes:
    if not packet.topic and TOPIC_ALIAS not in (packet.properties or {}):
        raise ValueError("neither topic nor alias")
    block = encode_properties(packet.properties, p.PUBLISH)
    return publish(
        packet.topic.encode(), packet.payload, packet.qos, packet.packet_id, packet.retain, packet.dup, block
    )


def encode(packet: Packet) -> bytes:
    """The bytes of any packet. Raises ValueError."""
    match packet:
        case p.Publish():
            return _publish(packet)
        case p.PubAck() | p.PubRec() | p.PubRel() | p.PubComp():
            return _ack(type(packet), packet.packet_id, packet.reason, packet.properties)
        case p.Subscribe() | p.Unsubscribe():
            return _requests(packet)
        case p.SubAck():
            return suback(packet.packet_id, packet.codes, packet.properties)
        case p.UnsubAck():
            return unsuback(packet.packet_id, packet.codes, packet.properties)
        case p.PingReq():
            return b"\xc0\x00"
        case p.PingResp():
            return b"\xd0\x00"
        case p.Disconnect():
            return _any_disconnect(packet)
        case p.Auth():
            return auth(packet.reason, packet.properties)
        case p.Connect():
            return _connect(packet)
        case p.ConnAck():
            return connack(packet.code, packet.session_present, packet.properties)
