"""MQTT bytes -> packets, sans-IO: no Twisted, no clock, no log. The other way is `encode`; topics are in `topics`.

    packet = first byte, remaining length, body                                                          (§2)
    first byte       = type << 4 | flags      flags of PUBLISH: 8 dup, 6 qos, 1 retain                 (§2.2)
    remaining length = 1-4 bytes, 7 bits each, low first, 128 = one more follows; never padded    (table 2.4)
    body             = what `decode`, `connect` and, for 5.0, `decode5` know

The law of this file:

* Three outcomes: packets, need more, or `ProtocolError`. Any other exception is a bug here.
* The first byte and the length are judged before the body is waited for; what is kept never exceeds `max_packet_size`
  and one chunk.
* Which first bytes may come is data (`_first_byte_reason`): it depends on the role, the version and on CONNECT.

What it does not do: answer, count, close, time-outs, limits but the packet size, packet ids in use (the server does),
and for the client whether an acknowledgement fits what it sent.

A server that is in a hurry does not make an object of each PUBLISH: it walks over `data, offset` by itself with
`Decoder.frame`, `split_publish`, `publish_run`, between `Decoder.receive` and `Decoder.keep`, and leaves the rest to
`Decoder.decode`. Where the length byte is below 128 it may do without `Decoder.frame`: `decode` and `keep` judge too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from broker.mqtt import packets as p
from broker.mqtt.connect import decode_connect
from broker.mqtt.decode import BODIES, split_publish
from broker.mqtt.decode5 import CLIENT_BODIES, SERVER_BODIES, Body
from broker.mqtt.packets import MQTT_3_1, MQTT_3_1_1, MQTT_5, Packet, ProtocolError

__all__ = [
    "LARGEST_PACKET",
    "SMALLEST_LIMIT",
    "Decoder",
    "ProtocolError",
    "Role",
    "frame",
    "publish_run",
    "split_publish",
]

Role: TypeAlias = Literal["server", "client"]

# A length below 128 is one byte, so such a packet has at most 129. No limit may be smaller: then the short way through
# a loop (length byte below 128) needs no look at the limit.
SMALLEST_LIMIT: Final = 129
# §2.2.3: 268,435,455 bytes of body and the five before it. No packet is larger.
LARGEST_PACKET: Final = 0xFFFFFFF + 5

# Table 2.1, by who may receive the type.
_BOTH_RECEIVE = (p.PUBLISH, p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP)
_RECEIVED: Final[dict[Role, frozenset[int]]] = {
    "server": frozenset((p.CONNECT, *_BOTH_RECEIVE, p.SUBSCRIBE, p.UNSUBSCRIBE, p.PINGREQ, p.DISCONNECT)),
    "client": frozenset((p.CONNACK, *_BOTH_RECEIVE, p.SUBACK, p.UNSUBACK, p.PINGRESP)),
}
# 5.0 lets a server disconnect too, and has AUTH. What only servers send is refused by `decode5.SERVER_BODIES`.
_RECEIVED_5: Final[dict[Role, frozenset[int]]] = {
    "server": frozenset(SERVER_BODIES) | {p.CONNECT},
    "client": frozenset(CLIENT_BODIES),
}
# Types whose flags are 0010 (§2.2.2). In 3.1 they are a QoS of 1 and a true DUP bit (3.1 §3.6, §3.8, §3.10).
_FLAGS_2 = frozenset((p.PUBREL, p.SUBSCRIBE, p.UNSUBSCRIBE))


def frame(data: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Where the body of the packet at `offset` starts and ends: (start, end); (0, 0) while its length is incomplete.

    `end` may be past the end of `data`: the body is still on its way. `limit` is for the whole packet, in bytes.
    Raises ProtocolError "remaining_length", "packet_too_large".
    """
    size = len(data)
    at = offset + 1
    length = 0
    shift = 0
    while at < size:
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise ProtocolError("remaining_length")
            end = at + length
            if end - offset > limit:
                raise ProtocolError("packet_too_large")
            return at, end
        shift += 7
        if shift == 28:
            raise ProtocolError("remaining_length")
    return 0, 0


def publish_run(data: bytes, offset: int, rest: int, end: int) -> int:
    """Where the run of like packets that the QoS 0 PUBLISH data[offset:end] begins ends: whole packets with one head.

    `rest` is where its payload starts. Like packets have the same first byte, length and topic. A sender of one topic
    and size fills chunks with them, and one look-up and one slice serve them all: (publish_run(...) - offset) //
    (end - offset) packets, three times as fast as one by one. Where heads differ the call is lost, so ask first whether
    the next packet has this one's length byte and then `data.startswith(data[offset:rest], end)`.
    """
    head = data[offset:rest]
    step = end - offset
    last = len(data) - step
    while end <= last and data.startswith(head, end):
        end += step
    return end


def _first_byte_reason(role: Role, version: int, first: int) -> str:
    """Why a packet may not begin with this byte, "" when it may."""
    kind, flags = first >> 4, first & 15
    if kind == 0 or (kind == p.AUTH and version != MQTT_5):
        return "packet_type"
    if kind not in (_RECEIVED_5 if version == MQTT_5 else _RECEIVED)[role]:
        return "direction"
    if role == "server" and version == 0:
        # Whether its flags matter is known once its level is (`_connect`).
        return "" if kind == p.CONNECT else "connect_expected"
    if kind == p.CONNECT:
        return "connect_repeated"
    if kind == p.PUBLISH:
        return "qos" if flags & 6 == 6 else "dup" if flags & 14 == 8 else ""
    if role == "server" and (kind == p.CONNACK or (kind == p.PINGRESP and version == MQTT_5)):
        return ""  # its flags do not matter any more: it is refused, whatever they are
    if version == MQTT_3_1 and kind in _FLAGS_2:
        flags &= 7
    return "" if flags == (2 if kind in _FLAGS_2 else 0) else "reserved_flags"


_TABLES: Final[dict[tuple[Role, int], tuple[str, ...]]] = {
    (role, version): tuple(_first_byte_reason(role, version, first) for first in range(256))
    for role in _RECEIVED
    for version in (0, MQTT_3_1, MQTT_3_1_1, MQTT_5)
}
_BODIES: Final[dict[tuple[Role, int], dict[int, Body]]] = {
    **dict.fromkeys(_TABLES, BODIES),
    ("server", MQTT_5): SERVER_BODIES,
    ("client", MQTT_5): CLIENT_BODIES,
}
# For the first packet at a server that speaks 5.0.
_UP_TO_5: Final[dict[int, Body]] = {**BODIES, p.CONNECT: decode_connect}


class Decoder:
    """One direction of one connection: chunks in, packets out, the incomplete end of a chunk kept until the rest comes.

    `version` is 0 until a server has decoded the CONNECT; a client names it. `highest_level` is what a server speaks:
    MQTT_3_1_1, or MQTT_5 when it has all of it. The plain way is `feed`. The quick way,
    with the same rules and state, is `receive`, a loop of the caller's own over whole packets, `decode` for the ones
    that it does not split itself, and `keep`. After a ProtocolError the decoder is of no use.
    """

    __slots__ = ("_bodies", "_kept", "_needed", "_reasons", "held", "max_packet_size", "role", "version")

    def __init__(
        self, max_packet_size: int, role: Role = "server", version: int = 0, highest_level: int = MQTT_3_1_1
    ) -> None:
        if not SMALLEST_LIMIT <= max_packet_size <= LARGEST_PACKET:
            raise ValueError(f"max_packet_size is {max_packet_size}: {SMALLEST_LIMIT} to {LARGEST_PACKET} bytes")
        if role == "client" and version == 0:
            raise ValueError("a client decodes the version that it sent in its CONNECT")
        self.max_packet_size = max_packet_size
        self.role: Role = role
        self.version = version
        self._reasons = _TABLES[role, version]
        self._bodies = _UP_TO_5 if version == 0 and highest_level == MQTT_5 else _BODIES[role, version]
        #: The incomplete packet, and how many bytes of it there are.
        self._kept: bytearray | None = None
        self.held = 0
        self._needed = 0

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """The packets that are whole now, each decoded when it is asked for. Use the iterator up before the next chunk.

        It raises ProtocolError where the bad packet stands: those before it have come out.
        """
        return self._packets(self.receive(chunk))

    def receive(self, chunk: bytes) -> bytes:
        """What can be parsed now, from its start: the bytes kept and `chunk`, or b"" as long as no packet is whole."""
        kept = self._kept
        if kept is None:
            return chunk
        kept += chunk
        if len(kept) < self._needed:
            self.held = len(kept)
            return b""
        self._kept = None
        self.held = 0
        return bytes(kept)

    def frame(self, data: bytes, offset: int) -> tuple[int, int]:
        """`frame` at `offset` (less than len(data)), once the first byte is found to be one that may come now."""
        reason = self._reasons[data[offset]]
        if reason:
            raise ProtocolError(reason, data[offset] >> 4)
        return frame(data, offset, self.max_packet_size)

    def decode(self, data: bytes, offset: int, body: int, end: int) -> Packet:
        """The packet data[offset:end], whose body (see `frame`) starts at `body`. Raises ProtocolError."""
        first = data[offset]
        reason = self._reasons[first]
        if reason:
            raise ProtocolError(reason, first >> 4)
        try:
            packet = self._bodies[first >> 4](data, first, body, end, self.version)
        except ProtocolError as error:
            error.kind = first >> 4
            raise
        if isinstance(packet, p.Connect):
            self.version = packet.version
            self._reasons = _TABLES[self.role, packet.version]
            self._bodies = _BODIES[self.role, packet.version]
        return packet

    @property
    def begun(self) -> bytes:
        """What there is of a packet that is not complete."""
        return b"" if self._kept is None else bytes(self._kept)

    def keep(self, data: bytes, offset: int) -> None:
        """Keep the incomplete packet that `data` ends with, from `offset`; its beginning is judged at once.

        `data` is what `receive` returned. Raises ProtocolError.
        """
        size = len(data)
        if offset >= size:
            return
        end = self.frame(data, offset)[1]
        # Without the whole length, one byte more is worth another look.
        self._needed = end - offset if end else size - offset + 1
        self._kept = bytearray(data[offset:])
        self.held = size - offset

    def _packets(self, data: bytes) -> Iterator[Packet]:
        size = len(data)
        offset = 0
        while offset < size:
            body, end = self.frame(data, offset)
            if end == 0 or end > size:
                break
            yield self.decode(data, offset, body, end)
            offset = end
        self.keep(data, offset)
