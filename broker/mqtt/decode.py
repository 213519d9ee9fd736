"""The bodies of MQTT packets -> packets, sans-IO: one function a packet type, for 3.1 and 3.1.1.

A body is data[at:end]; `codec` has found it, and has judged the first byte and the size. Every body is used up exactly:
no field goes past its end, nothing is left over. A string or binary field is 2 bytes of length and that many bytes
(§1.5.3). All that is wrong is a ProtocolError with a reason of `packets.REASONS`.

CONNECT, which has a form a version, is in `connect`; the other bodies of 5.0 are in `decode5`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.mqtt import packets as p
from broker.mqtt.connect import decode_connect_3
from broker.mqtt.fields import finish, read_binary, read_packet_id
from broker.mqtt.packets import MQTT_3_1, Packet, ProtocolError
from broker.mqtt.topics import valid_topic_filter, valid_topic_name


def split_publish(data: bytes, first: int, at: int, end: int) -> tuple[bytes, int, int]:
    """(topic, packet id or 0, where the rest starts) of the PUBLISH whose body is data[at:end].

    The rest is the payload (in 5.0 the properties, see `properties.skip_properties`, then the payload). The topic is
    not judged yet: see `topics.valid_topic_name`. Raises ProtocolError "qos", "dup", "truncated", "packet_id".
    """
    flags = first & 14
    if flags > 5:
        if flags & 6 == 6:
            raise ProtocolError("qos")  # [MQTT-3.3.1-4]
        if flags == 8:
            raise ProtocolError("dup")  # [MQTT-3.3.1-2]
    topic_at = at + 2
    if topic_at > end:
        raise ProtocolError("truncated")
    rest = topic_at + (data[at] << 8 | data[at + 1])
    if not flags & 6:
        if rest > end:
            raise ProtocolError("truncated")
        return data[topic_at:rest], 0, rest
    if rest + 2 > end:
        raise ProtocolError("truncated")
    packet_id = data[rest] << 8 | data[rest + 1]
    if packet_id == 0:
        raise ProtocolError("packet_id")  # [MQTT-2.3.1-1]
    return data[topic_at:rest], packet_id, rest + 2


def _connack(data: bytes, first: int, at: int, end: int, version: int) -> p.ConnAck:
    finish(at + 2, end)
    flags, code = data[at], data[at + 1]
    if code > p.REFUSED_RIGHTS:
        raise ProtocolError("connack")  # §3.2.2.3: reserved
    if version == MQTT_3_1:
        return p.ConnAck(code)  # 3.1 §3.2: this byte is "not used"
    if flags > 1 or (flags and code):
        raise ProtocolError("connack")  # §3.2.2.1 [MQTT-3.2.2-4]
    return p.ConnAck(code, flags == 1)


def _publish(data: bytes, first: int, at: int, end: int, version: int) -> p.Publish:
    raw, packet_id, at = split_publish(data, first, at, end)
    topic = valid_topic_name(raw)
    if topic is None:
        raise ProtocolError("topic_name")  # [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.3-1]
    return p.Publish(topic, data[at:end], first >> 1 & 3, packet_id, first & 1 != 0, first & 8 != 0)


_ACKS: Final[dict[int, type[p.PubAck] | type[p.PubRec] | type[p.PubRel] | type[p.PubComp]]] = {
    p.PUBACK: p.PubAck,
    p.PUBREC: p.PubRec,
    p.PUBREL: p.PubRel,
    p.PUBCOMP: p.PubComp,
}


def _ack(data: bytes, first: int, at: int, end: int, version: int) -> Packet:
    finish(at + 2, end)
    return _ACKS[first >> 4](read_packet_id(data, at, end))


def read_filter(data: bytes, at: int, end: int) -> tuple[str, int]:
    """A topic filter and where the next field starts. Raises ProtocolError "truncated", "topic_filter"."""
    raw, after = read_binary(data, at, end)
    text = valid_topic_filter(raw)  # [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    if text is None:
        raise ProtocolError("topic_filter")
    return text, after


def _subscribe(data: bytes, first: int, at: int, end: int, version: int) -> p.Subscribe:
    packet = p.Subscribe(read_packet_id(data, at, end), [])
    at += 2
    if at == end:
        raise ProtocolError("no_filters")  # [MQTT-3.8.3-3]
    while at < end:
        text, at = read_filter(data, at, end)
        if at >= end:
            raise ProtocolError("truncated")
        if data[at] > 2:
            raise ProtocolError("subscription_options")  # [MQTT-3-8.3-4]
        packet.filters.append((text, data[at]))
        at += 1
    return packet


def _suback(data: bytes, first: int, at: int, end: int, version: int) -> p.SubAck:
    packet = p.SubAck(read_packet_id(data, at, end), data[at + 2 : end])
    if not packet.codes:
        raise ProtocolError("truncated")  # [MQTT-3.8.4-5]: a code a filter, and there is no SUBSCRIBE without one
    if packet.codes.translate(None, b"\x00\x01\x02\x80"):
        raise ProtocolError("suback_code")  # [MQTT-3.9.3-2]
    return packet


def _unsubscribe(data: bytes, first: int, at: int, end: int, version: int) -> p.Unsubscribe:
    packet = p.Unsubscribe(read_packet_id(data, at, end), [])
    at += 2
    if at == end:
        raise ProtocolError("no_filters")  # [MQTT-3.10.3-2]
    while at < end:
        text, at = read_filter(data, at, end)
        packet.filters.append(text)
    return packet


def _unsuback(data: bytes, first: int, at: int, end: int, version: int) -> p.UnsubAck:
    finish(at + 2, end)
    return p.UnsubAck(read_packet_id(data, at, end))


def _pingreq(data: bytes, first: int, at: int, end: int, version: int) -> p.PingReq:
    finish(at, end)
    return p.PingReq()


def _pingresp(data: bytes, first: int, at: int, end: int, version: int) -> p.PingResp:
    finish(at, end)
    return p.PingResp()


def _disconnect(data: bytes, first: int, at: int, end: int, version: int) -> p.Disconnect:
    finish(at, end)
    return p.Disconnect()


# Type -> (data, first byte, at, end, version) -> packet
BODIES: Final[dict[int, Callable[[bytes, int, int, int, int], Packet]]] = {
    p.CONNECT: decode_connect_3,
    p.CONNACK: _connack,
    p.PUBLISH: _publish,
    p.PUBACK: _ack,
    p.PUBREC: _ack,
    p.PUBREL: _ack,
    p.PUBCOMP: _ack,
    p.SUBSCRIBE: _subscribe,
    p.SUBACK: _suback,
    p.UNSUBSCRIBE: _unsubscribe,
    p.UNSUBACK: _unsuback,
    p.PINGREQ: _pingreq,
    p.PINGRESP: _pingresp,
    p.DISCONNECT: _disconnect,
}
