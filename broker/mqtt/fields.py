"""The fields that MQTT packets are made of, read and written: integers, strings, binary data, packet ids. Sans-IO.

    two bytes       high byte first                                                   (3.1.1 §1.5.2)
    binary          two bytes of length, and that many bytes
    text            binary that is UTF-8 as §1.5.3 wants it, see `topics.decode_text`
    variable        1-4 bytes, 7 bits each, low first, 128 = one more follows; never padded  (5.0 §1.5.5)

A reader gets `data, at, end`, never looks past `end`, and says where the next field starts unless its size is fixed.
Bad bytes are a ProtocolError; a writer's bad argument is our own mistake, a ValueError.

5.0: text is UTF-8 without surrogates and U+0000, and a BOM stays in it [MQTT-1.5.4-1..3], also in pairs [MQTT-1.5.7-1];
packets answer with the id that they answer [MQTT-2.2.1-5] [MQTT-2.2.1-6].
"""

from __future__ import annotations

from typing import Final

from broker.mqtt.packets import ProtocolError
from broker.mqtt.topics import decode_text

LARGEST_VARIABLE: Final = 0xFFFFFFF


def read_two_bytes(data: bytes, at: int, end: int) -> int:
    """Raises ProtocolError "truncated"."""
    if at + 2 > end:
        raise ProtocolError("truncated")
    return data[at] << 8 | data[at + 1]


def read_binary(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """A field with its length before it, and where the next one starts. Raises ProtocolError "truncated"."""
    start = at + 2
    if start > end:
        raise ProtocolError("truncated")
    after = start + (data[at] << 8 | data[at + 1])
    if after > end:
        raise ProtocolError("truncated")
    return data[start:after], after


def read_text(data: bytes, at: int, end: int, reason: str = "utf8") -> tuple[str, int]:
    """Raises ProtocolError "truncated", or `reason` when it is not text."""
    start = at + 2
    if start > end:
        raise ProtocolError("truncated")
    after = start + (data[at] << 8 | data[at + 1])
    if after > end:
        raise ProtocolError("truncated")
    text = decode_text(data[start:after])
    if text is None:
        raise ProtocolError(reason)
    return text, after


def read_packet_id(data: bytes, at: int, end: int) -> int:
    """Raises ProtocolError "truncated", "packet_id"."""
    packet_id = read_two_bytes(data, at, end)
    if packet_id == 0:
        raise ProtocolError("packet_id")  # [MQTT-2.3.1-1]
    return packet_id


def read_variable(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer and where the next field starts. Raises ProtocolError "truncated", "variable_integer"."""
    number = 0
    for shift in (0, 7, 14, 21):
        if at >= end:
            raise ProtocolError("truncated")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                break  # padded [MQTT-1.5.5-1] of 5.0
            return number, at
    raise ProtocolError("variable_integer")


def finish(at: int, end: int) -> None:
    """The body must end here. Raises ProtocolError "trailing_bytes", "truncated"."""
    if at != end:
        raise ProtocolError("trailing_bytes" if at < end else "truncated")


def length_bytes(length: int) -> bytes:
    """A remaining length (§2.2.3), a property length or any other variable byte integer."""
    if 0 <= length < 128:
        return bytes((length,))
    if not 0 <= length <= LARGEST_VARIABLE:
        raise ValueError(f"remaining length {length}")
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out)


def packet_id_bytes(packet_id: int) -> bytes:
    """The two bytes of a packet id, 1 to 65535 [MQTT-2.3.1-1]."""
    if not 0 < packet_id < 65536:
        raise ValueError(f"packet id {packet_id}")
    return packet_id.to_bytes(2, "big")


def two_bytes(number: int) -> bytes:
    """0 to 65535."""
    if not 0 <= number < 65536:
        raise ValueError(f"{number} in two bytes")
    return number.to_bytes(2, "big")


def binary_bytes(raw: bytes) -> bytes:
    """The length, then the bytes."""
    return two_bytes(len(raw)) + raw


def text_bytes(text: str) -> bytes:
    """The length, then the text in UTF-8. A lone surrogate is a UnicodeEncodeError, which is a ValueError."""
    return binary_bytes(text.encode())
