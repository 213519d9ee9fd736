"""What of ChirpStack's gateway messages is read in Protocol Buffers' own encoding (sans-IO).

ChirpStack's gateway bridge and MQTT forwarder encode that way unless they are told to write JSON. Fields as in
``api/proto/gw/gw.proto`` and ``common/common.proto`` of ChirpStack v4:

::

    ConnState       2 state (1: online)   3 gateway_id
    GatewayStats    3 location            5 rx_packets_received   6 rx_packets_received_ok   7 tx_packets_received
                    8 tx_packets_emitted  17 gateway_id
    Location        1 latitude   2 longitude   3 altitude                                               (doubles)

    message = (key, value)*     key = number << 3 | wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes

Unknown fields are passed over, of a repeated one the last counts. No general reader: everything else comes as JSON.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final

_VARINT: Final = 0
_EIGHT: Final = 1
_BYTES: Final = 2
_FOUR: Final = 5
#: Bytes of a varint at most.
_LONGEST: Final = 10

Fields = dict[int, int | float | bytes]


def fields(data: bytes) -> Fields:
    """The fields of a message by number: whole numbers, doubles, bytes. Raises ValueError."""
    found: Fields = {}
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("a field with the number 0")
        if kind == _VARINT:
            found[number], at = _varint(data, at)
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"wire type {kind}")
        if size > end - at:
            raise ValueError("cut off")
        if kind == _BYTES:
            found[number] = data[at : at + size]
        elif kind == _EIGHT:
            found[number] = unpack_from("<d", data, at)[0]
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _LONGEST, 7):
        if at >= len(data):
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number that is too long")


def whole(message: Fields, number: int) -> int:
    """A whole number; 0 when it is not there, as the encoding leaves that out. Raises ValueError."""
    value = message.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value


def double(message: Fields, number: int) -> float:
    """The same for a double."""
    value = message.get(number, 0.0)
    if isinstance(value, bytes):
        raise ValueError(f"field {number} is no number")
    return float(value)


def part(message: Fields, number: int) -> bytes:
    """Bytes; none when they are not there. Raises ValueError."""
    value = message.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is no text")
    return value
