"""The body of CONNECT -> packet, of every version (§3.1; IBM's 3.1 §3.1; 5.0 §3.1). Sans-IO.

    protocol name, level, connect flags, keep alive, [5.0: properties],
    client id, [will: [5.0: properties], topic, payload], [user name], [password]

    connect flags: 80 user name, 40 password, 20 will retain, 18 will QoS, 04 will, 02 clean session, 01 reserved

Name and level come first in all of them, and decide how the rest is read.

5.0: the fields are there exactly where the flags say so, and in this order [MQTT-3.1.2-9] [MQTT-3.1.2-16]
[MQTT-3.1.2-18] [MQTT-3.1.3-1]; what does not match ends the connection [MQTT-3.1.4-1].
"""

from __future__ import annotations

from typing import Final

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.fields import finish, read_binary, read_text
from broker.mqtt.packets import MQTT_3_1, MQTT_3_1_1, MQTT_5, ProtocolError
from broker.mqtt.topics import valid_topic_name

# §3.1.2.1, §3.1.2.2: protocol name -> the levels that we speak under it.
_LEVELS: Final[dict[bytes, tuple[int, ...]]] = {b"MQIsdp": (MQTT_3_1,), b"MQTT": (MQTT_3_1_1, MQTT_5)}


def decode_connect(data: bytes, first: int, at: int, end: int, version: int) -> p.Connect:
    """A CONNECT of any version; `version` is not looked at: the packet says it. Raises ProtocolError."""
    return _decode(data, first, at, end, MQTT_5)


def decode_connect_3(data: bytes, first: int, at: int, end: int, version: int) -> p.Connect:
    """The same for a server that does not speak 5.0."""
    return _decode(data, first, at, end, MQTT_3_1_1)


def _decode(data: bytes, first: int, at: int, end: int, highest: int) -> p.Connect:
    name, at = read_binary(data, at, end)
    levels = _LEVELS.get(name)
    if levels is None:
        raise ProtocolError("protocol_name")  # [MQTT-3.1.2-1]
    if at >= end:
        raise ProtocolError("truncated")
    level = data[at]
    if level not in levels or level > highest:
        # [MQTT-3.1.2-2]. Nothing behind the level is read: another version may have put anything there.
        raise ProtocolError("protocol_level")
    try:
        return _after_level(data, first, at, end, level)
    except ProtocolError as error:
        error.version = level
        raise


def _after_level(data: bytes, first: int, at: int, end: int, level: int) -> p.Connect:
    strict = level != MQTT_3_1
    if strict and first & 15:
        raise ProtocolError("reserved_flags")  # [MQTT-2.2.2-1], 5.0 [MQTT-2.1.3-1]; 3.1 §3.1: "not used"
    if at + 4 > end:
        raise ProtocolError("truncated")
    flags = data[at + 1]
    if strict and flags & 1:
        raise ProtocolError("connect_flags")  # [MQTT-3.1.2-3]; 3.1 §3.1: "not used"
    connect = p.Connect("", level, flags & 2 != 0, data[at + 2] << 8 | data[at + 3])
    at += 4
    if level == MQTT_5:
        connect.properties, at = props.decode_properties(data, at, end, p.CONNECT)
        given = connect.properties or {}
        if props.AUTHENTICATION_DATA in given and props.AUTHENTICATION_METHOD not in given:
            raise ProtocolError("auth_method")  # 5.0 §3.1.2.11.10
    connect.client_id, at = read_text(data, at, end, "client_id")  # [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    if flags & 4:
        connect.will, at = _will(data, flags, at, end, level)
    elif strict and flags & 0x38:
        # [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]; 5.0 [MQTT-3.1.2-11] [MQTT-3.1.2-13]; 3.1 disregards them
        raise ProtocolError("will_flags")
    if flags & 0x40 and not flags & 0x80 and (level == MQTT_3_1_1 or (level == MQTT_3_1 and at < end)):
        raise ProtocolError("password_without_user")  # [MQTT-3.1.2-22]; 3.1 §3.1: "not valid"; 5.0 allows it
    # 3.1 §3.1: the flags may promise a user name and a password that the remaining length leaves no room for.
    if flags & 0xC0 and (strict or at < end):
        at = _credentials(connect, data, flags, at, end)
    finish(at, end)
    return connect


def _credentials(connect: p.Connect, data: bytes, flags: int, at: int, end: int) -> int:
    # One reason for all that is wrong with them: who cannot state them learns nothing about them.
    try:
        if flags & 0x80:
            connect.user, at = read_text(data, at, end)  # [MQTT-3.1.3-11], 5.0 [MQTT-3.1.2-17] [MQTT-3.1.3-12]
        if flags & 0x40 and (connect.version != MQTT_3_1 or at < end):
            connect.password, at = read_binary(data, at, end)  # 5.0 [MQTT-3.1.2-19]
    except ProtocolError:
        raise ProtocolError("credentials") from None
    return at


def _will(data: bytes, flags: int, at: int, end: int, level: int) -> tuple[p.Will, int]:
    if flags & 0x18 == 0x18:
        raise ProtocolError("will_flags")  # [MQTT-3.1.2-14], 5.0 [MQTT-3.1.2-12]
    properties = None
    if level == MQTT_5:
        properties, at = props.decode_properties(data, at, end, props.WILL)
    raw, at = read_binary(data, at, end)
    topic = valid_topic_name(raw)  # [MQTT-3.1.3-10], 5.0 [MQTT-3.1.3-11]
    if topic is None:
        raise ProtocolError("topic_name")
    payload, at = read_binary(data, at, end)
    return p.Will(topic, payload, flags >> 3 & 3, flags & 0x20 != 0, properties), at
