"""The properties of MQTT 5.0 (its §2.2.2): the table, bytes -> dict, dict -> bytes, typed access. Sans-IO.

    property block = length, a variable byte integer, then that many bytes of properties; 00 = none [MQTT-2.2.2-1]
    property       = identifier, value                      (the identifier: formally variable too, all are below 128)

In memory: `Properties`, a dict by identifier; a list where the packet may repeat it; None for an empty block.

What cannot be read (unknown identifier, truncated, not text) comes first, wherever in the block it stands: the packet
is malformed then (§2.2.2.2). Of the rest the first one counts: what may not be here, what is here twice, a bad value.

Whether a value suits the connection (topic alias maximum, session expiry after 0, ...) is the server's to say.

5.0: response topic and content type are text, the first without wildcards [MQTT-3.3.2-13] [MQTT-3.3.2-14]
[MQTT-3.3.2-19].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from broker.mqtt import packets as p
from broker.mqtt.fields import (
    LARGEST_VARIABLE,
    binary_bytes,
    length_bytes,
    read_binary,
    read_text,
    read_variable,
    text_bytes,
    two_bytes,
)
from broker.mqtt.packets import Properties, PropertyValue, ProtocolError
from broker.mqtt.topics import valid_topic_name

# Table 2-4.
PAYLOAD_FORMAT_INDICATOR: Final = 0x01
MESSAGE_EXPIRY_INTERVAL: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_IDENTIFIER: Final = 0x0B
SESSION_EXPIRY_INTERVAL: Final = 0x11
ASSIGNED_CLIENT_IDENTIFIER: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
AUTHENTICATION_METHOD: Final = 0x15
AUTHENTICATION_DATA: Final = 0x16
REQUEST_PROBLEM_INFORMATION: Final = 0x17
WILL_DELAY_INTERVAL: Final = 0x18
REQUEST_RESPONSE_INFORMATION: Final = 0x19
RESPONSE_INFORMATION: Final = 0x1A
SERVER_REFERENCE: Final = 0x1C
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
MAXIMUM_QOS: Final = 0x24
RETAIN_AVAILABLE: Final = 0x25
USER_PROPERTY: Final = 0x26
MAXIMUM_PACKET_SIZE: Final = 0x27
WILDCARD_SUBSCRIPTION_AVAILABLE: Final = 0x28
SUBSCRIPTION_IDENTIFIER_AVAILABLE: Final = 0x29
SHARED_SUBSCRIPTION_AVAILABLE: Final = 0x2A

# Who may carry a property: a packet type of `packets`, or one of these where the type alone does not say it.
WILL: Final = 16  # the will properties of a CONNECT
CLIENT_PUBLISH: Final = 17  # a PUBLISH that a client sends; `packets.PUBLISH` is one that a server sends
SERVER_DISCONNECT: Final = 18  # a DISCONNECT that a server sends; `packets.DISCONNECT` is one that a client sends
_EVERYWHERE: Final = tuple(range(p.CONNECT, SERVER_DISCONNECT + 1))
_MESSAGES: Final = (p.PUBLISH, CLIENT_PUBLISH, WILL)
_ANSWERS: Final = (p.CONNACK, p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP, p.SUBACK, p.UNSUBACK)
_PARTINGS: Final = (p.DISCONNECT, SERVER_DISCONNECT)

# The forms of a value. Those up to FOUR_BYTES are their size, those up to VARIABLE are numbers.
BYTE: Final = 1
TWO_BYTES: Final = 2
FOUR_BYTES: Final = 4
VARIABLE: Final = 5
BINARY: Final = 6
TEXT: Final = 7
PAIR: Final = 8
TOPIC: Final = 9  # a text that is a topic name

_LARGEST: Final = {BYTE: 0xFF, TWO_BYTES: 0xFFFF, FOUR_BYTES: 0xFFFFFFFF, VARIABLE: LARGEST_VARIABLE}


@dataclass(slots=True, frozen=True)
class Property:
    """A row of the table. `lowest` and `highest` are for numbers; `fault`: the reason if one is out of them."""

    identifier: int
    name: str
    form: int
    carriers: tuple[int, ...]
    repeated_in: tuple[int, ...] = ()
    lowest: int = 0
    highest: int = LARGEST_VARIABLE << 8
    fault: str = "property_value"


TABLE: Final[tuple[Property, ...]] = (
    Property(PAYLOAD_FORMAT_INDICATOR, "payload format indicator", BYTE, _MESSAGES, highest=1),
    Property(MESSAGE_EXPIRY_INTERVAL, "message expiry interval", FOUR_BYTES, _MESSAGES),
    Property(CONTENT_TYPE, "content type", TEXT, _MESSAGES),
    Property(RESPONSE_TOPIC, "response topic", TOPIC, _MESSAGES),
    Property(CORRELATION_DATA, "correlation data", BINARY, _MESSAGES),
    Property(
        SUBSCRIPTION_IDENTIFIER,
        "subscription identifier",
        VARIABLE,
        (p.PUBLISH, CLIENT_PUBLISH, p.SUBSCRIBE),  # a client's is for its server to judge: `Intake`
        (p.PUBLISH,),
        1,
        fault="subscription_identifier",
    ),
    Property(SESSION_EXPIRY_INTERVAL, "session expiry interval", FOUR_BYTES, (p.CONNECT, p.CONNACK, p.DISCONNECT)),
    Property(ASSIGNED_CLIENT_IDENTIFIER, "assigned client identifier", TEXT, (p.CONNACK,)),
    Property(SERVER_KEEP_ALIVE, "server keep alive", TWO_BYTES, (p.CONNACK,)),
    Property(AUTHENTICATION_METHOD, "authentication method", TEXT, (p.CONNECT, p.CONNACK, p.AUTH)),
    Property(AUTHENTICATION_DATA, "authentication data", BINARY, (p.CONNECT, p.CONNACK, p.AUTH)),
    Property(REQUEST_PROBLEM_INFORMATION, "request problem information", BYTE, (p.CONNECT,), highest=1),
    Property(WILL_DELAY_INTERVAL, "will delay interval", FOUR_BYTES, (WILL,)),
    Property(REQUEST_RESPONSE_INFORMATION, "request response information", BYTE, (p.CONNECT,), highest=1),
    Property(RESPONSE_INFORMATION, "response information", TEXT, (p.CONNACK,)),
    # A client has no use for it, but the table does not forbid it, and its DISCONNECT is the end anyway.
    Property(SERVER_REFERENCE, "server reference", TEXT, (p.CONNACK, *_PARTINGS)),
    Property(REASON_STRING, "reason string", TEXT, (*_ANSWERS, *_PARTINGS, p.AUTH)),
    Property(RECEIVE_MAXIMUM, "receive maximum", TWO_BYTES, (p.CONNECT, p.CONNACK), lowest=1),
    Property(TOPIC_ALIAS_MAXIMUM, "topic alias maximum", TWO_BYTES, (p.CONNECT, p.CONNACK)),
    Property(TOPIC_ALIAS, "topic alias", TWO_BYTES, (p.PUBLISH, CLIENT_PUBLISH), lowest=1, fault="topic_alias"),
    Property(MAXIMUM_QOS, "maximum qos", BYTE, (p.CONNACK,), highest=1),
    Property(RETAIN_AVAILABLE, "retain available", BYTE, (p.CONNACK,), highest=1),
    Property(USER_PROPERTY, "user property", PAIR, _EVERYWHERE, _EVERYWHERE),
    Property(MAXIMUM_PACKET_SIZE, "maximum packet size", FOUR_BYTES, (p.CONNECT, p.CONNACK), lowest=1),
    Property(WILDCARD_SUBSCRIPTION_AVAILABLE, "wildcard subscription available", BYTE, (p.CONNACK,), highest=1),
    Property(SUBSCRIPTION_IDENTIFIER_AVAILABLE, "subscription identifier available", BYTE, (p.CONNACK,), highest=1),
    Property(SHARED_SUBSCRIPTION_AVAILABLE, "shared subscription available", BYTE, (p.CONNACK,), highest=1),
)
BY_IDENTIFIER: Final[dict[int, Property]] = {row.identifier: row for row in TABLE}
# The table as the decoder wants it: carrier -> identifier -> (form, repeated, lowest, highest, fault).
_RULES: Final[dict[int, dict[int, tuple[int, bool, int, int, str]]]] = {
    carrier: {
        row.identifier: (row.form, carrier in row.repeated_in, row.lowest, row.highest, row.fault)
        for row in TABLE
        if carrier in row.carriers
    }
    for carrier in _EVERYWHERE
}


def skip_properties(data: bytes, at: int, end: int) -> int:
    """Where a property block that is not judged ends. Raises ProtocolError "truncated", "variable_integer".

    In a loop that counts calls: `if at < end and not data[at]: at += 1`, and this or `decode_properties` otherwise.
    """
    length, at = read_variable(data, at, end)
    if at + length > end:
        raise ProtocolError("truncated")
    return at + length


def decode_properties(data: bytes, at: int, end: int, carrier: int) -> tuple[Properties | None, int]:
    """The property block at `at`, and where what follows it starts.

    `carrier`: a packet type, WILL, CLIENT_PUBLISH or SERVER_DISCONNECT. Raises ProtocolError "truncated",
    "variable_integer", "property_unknown", "utf8", "property_not_allowed", "property_repeated", "property_value",
    "response_topic", "subscription_identifier", "topic_alias".
    """
    if at < end and data[at] == 0:
        return None, at + 1
    length, at = read_variable(data, at, end)
    if at + length > end:
        raise ProtocolError("truncated")
    end = at + length
    rules = _RULES[carrier]
    properties: Properties = {}
    wrong = ""
    while at < end:
        identifier = data[at]
        rule = rules.get(identifier)
        if rule is None:
            at = _skip(data, at, end)
            wrong = wrong or "property_not_allowed"
            continue
        form, repeated, lowest, highest, fault = rule
        value, at = _read(form, data, at + 1, end)
        if not repeated and identifier in properties:
            wrong = wrong or "property_repeated"
        if form <= VARIABLE:
            if not lowest <= cast(int, value) <= highest:
                wrong = wrong or fault
        elif form == TOPIC and not _is_topic(value):
            wrong = wrong or "response_topic"  # [MQTT-3.3.2-14]
        if repeated:
            cast("list[PropertyValue]", properties.setdefault(identifier, [])).append(value)
        else:
            properties[identifier] = value
    if wrong:
        raise ProtocolError(wrong)
    return properties, end


def received_properties(data: bytes, at: int, end: int) -> tuple[Properties | None, bytes, int]:
    """Of a client's PUBLISH: its properties, their bytes for the receivers (see `shared_bytes`), where the payload is.

    Without a topic alias the bytes go on as they came: no need to write them again. Raises as `decode_properties`.
    """
    properties, after = decode_properties(data, at, end, CLIENT_PUBLISH)
    if properties is None:
        return None, b"", after
    if TOPIC_ALIAS in properties or SUBSCRIPTION_IDENTIFIER in properties:
        return properties, shared_bytes(properties), after
    return properties, data[read_variable(data, at, end)[1] : after], after


def _skip(data: bytes, at: int, end: int) -> int:
    """Past a property that has no place here."""
    row = BY_IDENTIFIER.get(data[at])
    if row is None:
        raise ProtocolError("property_unknown")  # whatever its value; over 127 it is not even one byte
    return _read(row.form, data, at + 1, end)[1]


def _is_topic(value: PropertyValue) -> bool:
    return isinstance(value, str) and valid_topic_name(value.encode()) is not None


def _read(form: int, data: bytes, at: int, end: int) -> tuple[PropertyValue, int]:
    if form == TEXT:
        return read_text(data, at, end)
    if form == PAIR:
        name, at = read_text(data, at, end)
        text, at = read_text(data, at, end)
        return (name, text), at
    if form <= FOUR_BYTES:
        after = at + form
        if after > end:
            raise ProtocolError("truncated")
        return int.from_bytes(data[at:after], "big"), after
    if form == VARIABLE:
        return read_variable(data, at, end)
    if form == BINARY:
        return read_binary(data, at, end)
    return read_text(data, at, end)  # TOPIC


def encode_properties(properties: Properties | None, carrier: int) -> bytes:
    """A property block, its length included. Raises ValueError for what `decode_properties` would refuse."""
    if not properties:
        return b"\x00"
    return property_block(b"".join([_written(one, value, carrier) for one, value in properties.items()]))


def property_block(raw: bytes) -> bytes:
    """A block of properties that are bytes already (`property_bytes`): their length, then they."""
    return length_bytes(len(raw)) + raw


def property_bytes(identifier: int, value: PropertyValue) -> bytes:
    """One property without the block around it: what differs between receivers (alias, subscription identifiers).

    Raises ValueError for a wrong identifier, type or range.
    """
    row = BY_IDENTIFIER.get(identifier)
    if row is None:
        raise ValueError(f"property {identifier:#x}")
    if isinstance(value, int) and not row.lowest <= value <= row.highest:
        raise ValueError(f"{row.name} {value}")
    if row.form == TOPIC and not _is_topic(value):
        raise ValueError(f"{row.name} {value!r}")
    return bytes((identifier,)) + _value_bytes(row, value)


def _written(identifier: int, value: PropertyValue | list[PropertyValue], carrier: int) -> bytes:
    row = BY_IDENTIFIER.get(identifier)
    if row is None or carrier not in row.carriers or isinstance(value, list) != (carrier in row.repeated_in):
        raise ValueError(f"property {identifier:#x} in {carrier}")
    if isinstance(value, list):
        return b"".join([property_bytes(identifier, each) for each in value])
    return property_bytes(identifier, value)


def _value_bytes(row: Property, value: PropertyValue) -> bytes:
    form = row.form
    if isinstance(value, int) and form in _LARGEST:
        if not 0 <= value <= _LARGEST[form]:
            raise ValueError(f"{row.name} {value}")
        return length_bytes(value) if form == VARIABLE else value.to_bytes(form, "big")
    if isinstance(value, str) and form in (TEXT, TOPIC):
        return text_bytes(value)
    if isinstance(value, bytes) and form == BINARY:
        return binary_bytes(value)
    if isinstance(value, tuple) and form == PAIR:
        return text_bytes(value[0]) + text_bytes(value[1])
    raise ValueError(f"{row.name} is not a {type(value).__name__}")


# -- typed access: the decoder has seen to the types ---------------------------------------------------------------

Pairs: TypeAlias = list[tuple[str, str]]


def number(properties: Properties | None, identifier: int, default: int) -> int:
    """A property that is a number, or `default`."""
    return cast(int, properties.get(identifier, default)) if properties else default


def text(properties: Properties | None, identifier: int) -> str | None:
    """A property that is a string."""
    return cast("str | None", properties.get(identifier)) if properties else None


def binary(properties: Properties | None, identifier: int) -> bytes | None:
    """A property that is binary data."""
    return cast("bytes | None", properties.get(identifier)) if properties else None


def user_properties(properties: Properties | None) -> Pairs:
    """In the order of the packet, which a forwarded message keeps [MQTT-3.3.2-18]."""
    return cast(Pairs, properties.get(USER_PROPERTY, [])) if properties else []


def forwarded(properties: Properties | None) -> Properties | None:
    """What of a PUBLISH's properties goes on to the receivers: all but its alias [MQTT-3.3.2-7] and identifiers."""
    if not properties:
        return None
    return {one: value for one, value in properties.items() if one not in _HOP_BY_HOP} or None


_HOP_BY_HOP: Final = frozenset((TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER))


def publish_property_bytes(alias: int, identifiers: tuple[int, ...], shared: bytes) -> bytes:
    """The property block of one receiver's copy: its topic alias (0: none), its subscription identifiers, and `shared`.

    `shared` is the same for all: `encode_properties(forwarded(...), PUBLISH)` without its length, see `shared_bytes`.
    """
    if not alias and not identifiers:
        return length_bytes(len(shared)) + shared if shared else b"\x00"
    raw = b"#" + two_bytes(alias) if alias else b""
    for identifier in identifiers:
        raw += b"\x0b" + length_bytes(identifier)
    return property_block(raw + shared)


def shared_bytes(properties: Properties | None) -> bytes:
    """The properties of a message that all its receivers get, without a length before them."""
    kept = forwarded(properties)
    return b"".join([_written(one, value, p.PUBLISH) for one, value in kept.items()]) if kept else b""
