"""The control packets of MQTT as plain slotted values, and the error that bad bytes give.

Nothing here reads or writes bytes: `codec` makes these from bytes, `encode` makes bytes of these. One set of classes
serves 3.1 (level 3), 3.1.1 (level 4) and 5.0 (level 5): what only 5.0 has (`properties`, `reason`) keeps its neutral
value in the older versions. Sections and statement numbers, here and in the codec, are those of the OASIS standard
"MQTT Version 3.1.1"; "3.1" is IBM's "MQTT V3.1 Protocol Specification". Where "5.0" is said, and in `properties`,
`reasons`, `decode5`, `encode5`, they are those of "MQTT Version 5.0".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from broker.mqtt import reasons as r

# Protocol levels (§3.1.2.2); they are the `version` of every function of the codec.
MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5

# Packet types, the high half of the first byte (§2.2.1, table 2.1).
CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15

# CONNACK return codes of 3.1 and 3.1.1 (§3.2.2.3, table 3.1).
ACCEPTED: Final = 0
REFUSED_LEVEL: Final = 1
REFUSED_CLIENT_ID: Final = 2
REFUSED_UNAVAILABLE: Final = 3
REFUSED_CREDENTIALS: Final = 4
REFUSED_RIGHTS: Final = 5

# SUBACK return code of a subscription that is not granted (§3.9.3).
SUBSCRIPTION_REFUSED: Final = 0x80

# Every reason that bytes are refused for, with the 5.0 reason code that goes with it. The names are for counters.
REASONS: Final[dict[str, int]] = {
    "packet_type": r.PROTOCOL_ERROR,  # a reserved type [MQTT-2.2.2-2], also AUTH before 5.0
    "direction": r.PROTOCOL_ERROR,  # a packet that only the other side may send (table 2.1)
    "reserved_flags": r.MALFORMED_PACKET,  # [MQTT-2.2.2-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
    "qos": r.MALFORMED_PACKET,  # both QoS bits of a PUBLISH set [MQTT-3.3.1-4]
    "dup": r.MALFORMED_PACKET,  # DUP at QoS 0 [MQTT-3.3.1-2]
    "remaining_length": r.MALFORMED_PACKET,  # over four bytes, or padded (§2.2.3, table 2.4)
    "packet_too_large": r.PACKET_TOO_LARGE,  # our own limit
    "connect_expected": r.PROTOCOL_ERROR,  # [MQTT-3.1.0-1]
    "connect_repeated": r.PROTOCOL_ERROR,  # [MQTT-3.1.0-2]
    "protocol_name": r.UNSUPPORTED_PROTOCOL_VERSION,  # [MQTT-3.1.2-1]
    "protocol_level": r.UNSUPPORTED_PROTOCOL_VERSION,  # [MQTT-3.1.2-2]: answered with CONNACK REFUSED_LEVEL
    "connect_flags": r.MALFORMED_PACKET,  # the reserved bit [MQTT-3.1.2-3]
    "will_flags": r.MALFORMED_PACKET,  # [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    "password_without_user": r.MALFORMED_PACKET,  # [MQTT-3.1.2-22]
    "client_id": r.CLIENT_IDENTIFIER_NOT_VALID,  # not text [MQTT-3.1.3-4]
    "credentials": r.MALFORMED_PACKET,  # a user name or password that is not there, or not text [MQTT-3.1.3-11]
    "utf8": r.MALFORMED_PACKET,  # [MQTT-1.5.3-1] [MQTT-1.5.3-2]
    "truncated": r.MALFORMED_PACKET,  # a field goes past the end of its packet
    "trailing_bytes": r.MALFORMED_PACKET,  # something is left after the last field
    "packet_id": r.PROTOCOL_ERROR,  # zero [MQTT-2.3.1-1]
    "topic_name": r.MALFORMED_PACKET,  # [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.3-1]
    "topic_filter": r.MALFORMED_PACKET,  # [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1]
    "no_filters": r.MALFORMED_PACKET,  # [MQTT-3.8.3-3] [MQTT-3.10.3-2]
    "subscription_options": r.MALFORMED_PACKET,  # [MQTT-3-8.3-4], 5.0 [MQTT-3.8.3-5]
    "connack": r.MALFORMED_PACKET,  # reserved bits or codes, session present with a refusal [MQTT-3.2.2-4]
    "suback_code": r.MALFORMED_PACKET,  # [MQTT-3.9.3-2]
    # Only in 5.0, with its statements:
    "variable_integer": r.MALFORMED_PACKET,  # [MQTT-1.5.5-1]
    "property_unknown": r.MALFORMED_PACKET,  # §2.2.2.2
    "property_not_allowed": r.PROTOCOL_ERROR,  # table 2-4; a PUBLISH with a subscription identifier [MQTT-3.3.4-6]
    "property_repeated": r.PROTOCOL_ERROR,  # §3.1.2.11 and wherever "more than once" is said
    "property_value": r.PROTOCOL_ERROR,  # out of its range
    "response_topic": r.PROTOCOL_ERROR,  # empty or with wildcards [MQTT-3.3.2-14]
    "subscription_identifier": r.PROTOCOL_ERROR,  # zero (§3.8.2.1.2)
    "topic_alias": r.TOPIC_ALIAS_INVALID,  # zero [MQTT-3.3.2-8]
    "shared_filter": r.PROTOCOL_ERROR,  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    "shared_no_local": r.PROTOCOL_ERROR,  # [MQTT-3.8.3-4]
    "reason_code": r.PROTOCOL_ERROR,  # one that this packet may not carry [MQTT-3.4.2-1], ...
    "auth_method": r.PROTOCOL_ERROR,  # authentication data, or AUTH, without a method (§3.1.2.11.10, §3.15.2.2.2)
}

# Where the packet type matters. The standard leaves room: of malformed and forbidden it often names both, or none.
# What is said here is what the test suites of other brokers and clients expect.
_CODES: Final[dict[tuple[int, str], int]] = {
    (SUBSCRIBE, "packet_id"): r.MALFORMED_PACKET,
    (UNSUBSCRIBE, "packet_id"): r.MALFORMED_PACKET,
    (SUBSCRIBE, "property_not_allowed"): r.MALFORMED_PACKET,
    (UNSUBSCRIBE, "property_not_allowed"): r.MALFORMED_PACKET,
    (SUBSCRIBE, "subscription_identifier"): r.MALFORMED_PACKET,
    (AUTH, "reserved_flags"): r.PROTOCOL_ERROR,
}
# What is closed without a word in 5.0 too, where its §4.13.1 says only that an answer SHOULD be sent: it is not an MQTT
# client, or is guessing at credentials, or has said goodbye already.
_UNANSWERED: Final = frozenset(("connect_expected", "remaining_length", "credentials"))
_UNANSWERED_IN: Final = frozenset(
    ((PINGREQ, "trailing_bytes"), (PINGRESP, "trailing_bytes"), (DISCONNECT, "reason_code"))
)


class ProtocolError(Exception):
    """The peer sent bytes that MQTT forbids; the connection cannot go on [MQTT-4.8.0-1], 5.0 [MQTT-4.13.1-1].

    `reason` is a key of `REASONS`. The decoder adds `kind`, the packet type (0: not known), and `version`, set for a
    CONNECT that is refused once its level is known (0: ask the decoder). What goes out before the close says
    `answers.last_words`.
    """

    def __init__(self, reason: str, kind: int = 0, version: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.version = version

    @property
    def code(self) -> int:
        """The 5.0 reason code. Without a `kind`, the one for PUBLISH."""
        return _CODES.get((self.kind, self.reason), REASONS[self.reason])

    @property
    def answered(self) -> bool:
        """Whether 5.0 sends the code before the close."""
        return self.reason not in _UNANSWERED and (self.kind, self.reason) not in _UNANSWERED_IN


PropertyValue: TypeAlias = int | str | bytes | tuple[str, str]
# 5.0: property identifier -> value, a list where the property may be repeated. None in 3.1 and 3.1.1, and where there
# are none. `properties` has the identifiers and typed access.
Properties: TypeAlias = dict[int, PropertyValue | list[PropertyValue]]


@dataclass(slots=True)
class Will:
    """What the server publishes when the connection ends without a DISCONNECT (§3.1.2.5)."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False
    properties: Properties | None = None


@dataclass(slots=True)
class Connect:
    """§3.1. `keep_alive` is in seconds, 0 = none; `password` is bytes (§3.1.3.5) and stays out of the repr."""

    client_id: str
    version: int = MQTT_3_1_1
    clean: bool = True
    keep_alive: int = 0
    user: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    properties: Properties | None = None

    @property
    def client_id_missing(self) -> bool:
        """An empty id where one is needed: answered with `REFUSED_CLIENT_ID` [MQTT-3.1.3-8], in 3.1 always."""
        return not self.client_id and (self.version == MQTT_3_1 or (self.version == MQTT_3_1_1 and not self.clean))


@dataclass(slots=True)
class ConnAck:
    """§3.2. `code` is a return code in 3.1 and 3.1.1, a reason code in 5.0."""

    code: int = ACCEPTED
    session_present: bool = False
    properties: Properties | None = None


@dataclass(slots=True)
class Publish:
    """§3.3. `packet_id` is 0 exactly when `qos` is 0. `topic` is empty only in 5.0, with a topic alias."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties | None = None


@dataclass(slots=True)
class PubAck:
    """§3.4."""

    packet_id: int
    reason: int = 0
    properties: Properties | None = None


@dataclass(slots=True)
class PubRec:
    """§3.5."""

    packet_id: int
    reason: int = 0
    properties: Properties | None = None


@dataclass(slots=True)
class PubRel:
    """§3.6."""

    packet_id: int
    reason: int = 0
    properties: Properties | None = None


@dataclass(slots=True)
class PubComp:
    """§3.7."""

    packet_id: int
    reason: int = 0
    properties: Properties | None = None


@dataclass(slots=True)
class Subscribe:
    """§3.8. `filters`: (topic filter, options); options is the requested QoS, in 5.0 with its other bits."""

    packet_id: int
    filters: list[tuple[str, int]]
    properties: Properties | None = None


@dataclass(slots=True)
class SubAck:
    """§3.9. `codes`: a byte a filter, in the order of the SUBSCRIBE: granted QoS or `SUBSCRIPTION_REFUSED`."""

    packet_id: int
    codes: bytes
    properties: Properties | None = None


@dataclass(slots=True)
class Unsubscribe:
    """§3.10."""

    packet_id: int
    filters: list[str]
    properties: Properties | None = None


@dataclass(slots=True)
class UnsubAck:
    """§3.11. `codes` is empty before 5.0."""

    packet_id: int
    codes: bytes = b""
    properties: Properties | None = None


@dataclass(slots=True)
class PingReq:
    """§3.12."""


@dataclass(slots=True)
class PingResp:
    """§3.13."""


@dataclass(slots=True)
class Disconnect:
    """§3.14. Only the client sends it before 5.0."""

    reason: int = 0
    properties: Properties | None = None


@dataclass(slots=True)
class Auth:
    """5.0 §3.15."""

    reason: int = 0
    properties: Properties | None = None


Packet: TypeAlias = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
