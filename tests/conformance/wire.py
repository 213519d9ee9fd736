"""Bytes of MQTT packets as the tables write them: hex and texts in, whole packets out. Nothing is checked."""

from __future__ import annotations

from itertools import count
from typing import Final

from broker.mqtt.fields import length_bytes

_serial = count(1)

#: Accepted, without a session: 3.1 and 3.1.1.
ACCEPTED: Final = bytes.fromhex("20 02 00 00")
#: The same in 5.0 with what the server says of itself: topic alias maximum 10, receive maximum 20, nothing else.
ACCEPTED_5: Final = bytes.fromhex("20 09 00 00 06 22 000a 21 0014")
PING: Final = bytes.fromhex("c0 00")
PONG: Final = bytes.fromhex("d0 00")


def raw(*parts: bytes | str) -> bytes:
    """Bytes as they are, texts as hex."""
    return b"".join(bytes.fromhex(part) if isinstance(part, str) else part for part in parts)


def whole(first: int, *parts: bytes | str) -> bytes:
    """A packet: first byte, remaining length, and the parts."""
    body = raw(*parts)
    return bytes((first,)) + length_bytes(len(body)) + body


def text(value: str | bytes) -> bytes:
    """A string with its length before it. Bytes need not be UTF-8."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def block(*parts: bytes | str) -> bytes:
    """A property block: its length and the parts."""
    data = raw(*parts)
    return length_bytes(len(data)) + data


def unique(prefix: str) -> str:
    """A name that no other row has: rows run side by side."""
    return f"{prefix}{next(_serial):05}"


def disconnect(code: int) -> bytes:
    """The server's last word in 5.0."""
    return bytes((0xE0, 1, code))


def refused(code: int) -> bytes:
    """A 5.0 CONNACK that refuses."""
    return bytes((0x20, 3, 0, code, 0))


def connect(
    version: int, *payload: bytes | str, flags: int = 2, properties: bytes = b"\x00", first: int = 0x10
) -> bytes:
    """A CONNECT with a keep-alive of 10 seconds. `payload`: all behind the variable header; none: a client id."""
    name = text("MQIsdp" if version == 3 else "MQTT")
    rest = raw(*payload) if payload else text(unique("c"))
    return whole(first, name, bytes((version, flags)), "000a", properties if version == 5 else b"", rest)
