"""The bodies of MQTT 5.0's packets -> packets, sans-IO: one function a packet type, see `decode` for the older ones.

    PUBLISH                         topic, [packet id], properties, payload
    PUBACK PUBREC PUBREL PUBCOMP    packet id, [reason code, [properties]]    the code is left out when it is 0 and last
    SUBSCRIBE                       packet id, properties, filter and options, ...
    UNSUBSCRIBE                     packet id, properties, filter, ...
    SUBACK UNSUBACK                 packet id, properties, a code a filter
    CONNACK                         flags, reason code, properties
    DISCONNECT AUTH                 [reason code, [properties]]

    subscription options: 03 QoS, 04 no local, 08 retain as published, 30 retain handling, C0 reserved   (§3.8.3.1)

What is allowed depends on who sends it, so there is a table a role. Statements are those of 5.0. A server that gets
what only servers send refuses it not by its first byte but here, once it is whole: its length is judged first.

Reserved bits of DISCONNECT and AUTH are looked at like all others [MQTT-3.14.1-1] [MQTT-3.15.1-1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.decode import BODIES, read_filter, split_publish
from broker.mqtt.fields import finish, read_packet_id
from broker.mqtt.packets import Packet, Properties, ProtocolError
from broker.mqtt.properties import (
    AUTHENTICATION_METHOD,
    CLIENT_PUBLISH,
    SERVER_DISCONNECT,
    TOPIC_ALIAS,
    decode_properties,
)
from broker.mqtt.topics import SHARE_PREFIX, split_share, valid_topic_name

Body: TypeAlias = Callable[[bytes, int, int, int, int], Packet]

NO_LOCAL: Final = 0x04
RETAIN_AS_PUBLISHED: Final = 0x08
_RETAIN_HANDLING: Final = 0x30


def _publish(data: bytes, first: int, at: int, end: int, carrier: int) -> p.Publish:
    raw, packet_id, at = split_publish(data, first, at, end)
    properties, at = decode_properties(data, at, end, carrier)
    if raw:
        topic = valid_topic_name(raw)
    else:
        topic = "" if properties and TOPIC_ALIAS in properties else None  # §3.3.2.1
    if topic is None:
        raise ProtocolError("topic_name")  # [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.3-1]
    return p.Publish(topic, data[at:end], first >> 1 & 3, packet_id, first & 1 != 0, first & 8 != 0, properties)


def _publish_at_server(data: bytes, first: int, at: int, end: int, version: int) -> p.Publish:
    return _publish(data, first, at, end, CLIENT_PUBLISH)  # [MQTT-3.3.4-6]: `Intake` sees to it


def _publish_at_client(data: bytes, first: int, at: int, end: int, version: int) -> p.Publish:
    return _publish(data, first, at, end, p.PUBLISH)


_ACKS: Final[dict[int, tuple[type[p.PubAck] | type[p.PubRec] | type[p.PubRel] | type[p.PubComp], frozenset[int]]]] = {
    p.PUBACK: (p.PubAck, r.IN_PUBACK),  # [MQTT-3.4.2-1]
    p.PUBREC: (p.PubRec, r.IN_PUBACK),  # [MQTT-3.5.2-1]
    p.PUBREL: (p.PubRel, r.IN_PUBREL),  # [MQTT-3.6.2-1]
    p.PUBCOMP: (p.PubComp, r.IN_PUBREL),  # [MQTT-3.7.2-1]
}


def _ack(data: bytes, first: int, at: int, end: int, version: int) -> Packet:
    kind, codes = _ACKS[first >> 4]
    packet_id = read_packet_id(data, at, end)
    if at + 2 == end:
        return kind(packet_id)  # §3.4.2.1: a remaining length of 2
    reason, properties = _reason(data, at + 2, end, first >> 4, codes)
    return kind(packet_id, reason, properties)


def _reason(data: bytes, at: int, end: int, carrier: int, codes: frozenset[int]) -> tuple[int, Properties | None]:
    """A reason code and properties, each left out at the end of the packet; they are all that is left of it."""
    if at == end:
        return r.SUCCESS, None
    properties: Properties | None = None
    reason = data[at]
    at += 1
    if at < end:
        properties, at = decode_properties(data, at, end, carrier)
    finish(at, end)
    if reason not in codes:
        raise ProtocolError("reason_code")
    return reason, properties


def _subscribe(data: bytes, first: int, at: int, end: int, version: int) -> p.Subscribe:
    packet = p.Subscribe(read_packet_id(data, at, end), [])
    packet.properties, at = decode_properties(data, at + 2, end, p.SUBSCRIBE)
    if at == end:
        raise ProtocolError("no_filters")  # [MQTT-3.8.3-2]
    while at < end:
        text, at = read_filter(data, at, end)  # [MQTT-3.8.3-1]
        if at >= end:
            raise ProtocolError("truncated")
        options = data[at]
        if options & 0xC0 or options & 3 == 3 or options & _RETAIN_HANDLING == _RETAIN_HANDLING:
            raise ProtocolError("subscription_options")  # [MQTT-3.8.3-5], §3.8.3.1
        if text.startswith(SHARE_PREFIX):
            if split_share(text) is None:
                raise ProtocolError("shared_filter")  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
            if options & NO_LOCAL:
                raise ProtocolError("shared_no_local")  # [MQTT-3.8.3-4]
        packet.filters.append((text, options))
        at += 1
    return packet


def _unsubscribe(data: bytes, first: int, at: int, end: int, version: int) -> p.Unsubscribe:
    packet = p.Unsubscribe(read_packet_id(data, at, end), [])
    packet.properties, at = decode_properties(data, at + 2, end, p.UNSUBSCRIBE)
    if at == end:
        raise ProtocolError("no_filters")  # [MQTT-3.10.3-2]
    while at < end:
        text, at = read_filter(data, at, end)  # [MQTT-3.10.3-1]
        packet.filters.append(text)
    return packet


def _connack(data: bytes, first: int, at: int, end: int, version: int) -> p.ConnAck:
    if at + 2 > end:
        raise ProtocolError("truncated")
    flags, code = data[at], data[at + 1]
    properties, after = decode_properties(data, at + 2, end, p.CONNACK)
    finish(after, end)
    if code not in r.IN_CONNACK:
        raise ProtocolError("reason_code")  # [MQTT-3.2.2-8]
    if flags > 1 or (flags and code):
        raise ProtocolError("connack")  # [MQTT-3.2.2-1] [MQTT-3.2.2-6]
    return p.ConnAck(code, flags == 1, properties)


def _codes(data: bytes, at: int, end: int, carrier: int) -> tuple[int, bytes, Properties | None]:
    """(packet id, codes, properties) of SUBACK and UNSUBACK."""
    packet_id = read_packet_id(data, at, end)
    properties, at = decode_properties(data, at + 2, end, carrier)
    codes = data[at:end]
    if not codes:
        raise ProtocolError("truncated")  # a code a filter, and there is no request without one
    if not (r.IN_SUBACK if carrier == p.SUBACK else r.IN_UNSUBACK).issuperset(codes):
        raise ProtocolError("suback_code")  # [MQTT-3.9.3-2] [MQTT-3.11.3-2]
    return packet_id, codes, properties


def _suback(data: bytes, first: int, at: int, end: int, version: int) -> p.SubAck:
    return p.SubAck(*_codes(data, at, end, p.SUBACK))


def _unsuback(data: bytes, first: int, at: int, end: int, version: int) -> p.UnsubAck:
    return p.UnsubAck(*_codes(data, at, end, p.UNSUBACK))


def _disconnect_at_server(data: bytes, first: int, at: int, end: int, version: int) -> p.Disconnect:
    return p.Disconnect(*_reason(data, at, end, p.DISCONNECT, r.IN_CLIENT_DISCONNECT))  # [MQTT-3.14.2-1]


def _disconnect_at_client(data: bytes, first: int, at: int, end: int, version: int) -> p.Disconnect:
    return p.Disconnect(*_reason(data, at, end, SERVER_DISCONNECT, r.IN_SERVER_DISCONNECT))  # [MQTT-3.14.2-2]


def _auth(data: bytes, at: int, end: int, codes: frozenset[int]) -> p.Auth:
    packet = p.Auth(*_reason(data, at, end, p.AUTH, codes))  # [MQTT-3.15.2-1]
    if packet.reason not in codes:
        raise ProtocolError("reason_code")  # it was left out, and 0 is not the client's to send
    if at != end and not (packet.properties and AUTHENTICATION_METHOD in packet.properties):
        raise ProtocolError("auth_method")  # §3.15.2.2.2
    return packet


def _auth_at_server(data: bytes, first: int, at: int, end: int, version: int) -> p.Auth:
    return _auth(data, at, end, r.IN_CLIENT_AUTH)


def _auth_at_client(data: bytes, first: int, at: int, end: int, version: int) -> p.Auth:
    return _auth(data, at, end, r.IN_SERVER_AUTH)


def _only_servers_send_it(data: bytes, first: int, at: int, end: int, version: int) -> Packet:
    raise ProtocolError("direction")


def _pingresp_at_server(data: bytes, first: int, at: int, end: int, version: int) -> Packet:
    finish(at, end)
    raise ProtocolError("direction")


# Type -> (data, first byte, at, end, version) -> packet, by who receives it.
SERVER_BODIES: Final[dict[int, Body]] = {
    p.CONNACK: _only_servers_send_it,
    p.PUBLISH: _publish_at_server,
    p.PUBACK: _ack,
    p.PUBREC: _ack,
    p.PUBREL: _ack,
    p.PUBCOMP: _ack,
    p.SUBSCRIBE: _subscribe,
    p.SUBACK: _only_servers_send_it,
    p.UNSUBSCRIBE: _unsubscribe,
    p.UNSUBACK: _only_servers_send_it,
    p.PINGREQ: BODIES[p.PINGREQ],
    p.PINGRESP: _pingresp_at_server,
    p.DISCONNECT: _disconnect_at_server,
    p.AUTH: _auth_at_server,
}
CLIENT_BODIES: Final[dict[int, Body]] = {
    p.CONNACK: _connack,
    p.PUBLISH: _publish_at_client,
    p.PUBACK: _ack,
    p.PUBREC: _ack,
    p.PUBREL: _ack,
    p.PUBCOMP: _ack,
    p.SUBACK: _suback,
    p.UNSUBACK: _unsuback,
    p.PINGRESP: BODIES[p.PINGRESP],
    p.DISCONNECT: _disconnect_at_client,
    p.AUTH: _auth_at_client,
}
