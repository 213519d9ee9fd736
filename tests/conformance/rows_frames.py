"""First bytes, flags, lengths and forbidden directions, for every packet type and version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.conformance.rows import Row, bad, good, unconnected
from tests.conformance.wire import PING, PONG, raw, text, unique, whole

_ID: Final = "1234"
# Type -> a body that its packet may have: 3.1.1, and 5.0 where it is not the same.
_BODIES: Final[dict[int, bytes]] = {
    0x20: raw("00 00"),
    0x40: raw("00 01"),
    0x50: raw("00 01"),
    0x60: raw("00 01"),
    0x70: raw("00 01"),
    0x80: raw(_ID, text("p"), "00"),
    0x90: raw("00 01 00"),
    0xA0: raw(_ID, text("p")),
    0xB0: raw("00 01"),
    0xC0: b"",
    0xD0: b"",
    0xE0: b"",
    0xF0: b"",
}
_BODIES_5: Final = {
    **_BODIES,
    0x20: raw("00 00 00"),
    0x80: raw(_ID, "00", text("p"), "00"),
    0x90: raw("00 01 00 00"),
    0xA0: raw(_ID, "00", text("p")),
    0xB0: raw("00 01 00 00"),
}
_FLAGS_2: Final = (0x60, 0x80, 0xA0)
_ONLY_SERVERS: Final = (0x20, 0x90, 0xB0)
_NAMES: Final = (
    *("RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"),
    *("SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"),
)


def _named(first: int, what: str) -> str:
    return f"{_NAMES[first >> 4]} {first:02x} {what}"


def reserved_types() -> Iterator[Row]:
    """Type 0, at any time, with any flags; AUTH before 5.0."""
    for version in (3, 4, 5):
        for first in range(16):
            yield unconnected(_named(first, "first"), version, whole(first))
            yield bad(_named(first, ""), version, whole(first), 0x82)
            yield bad(_named(first, "long"), version, whole(first, "00"), 0x82)
        # Refused by its first byte: nobody waits for the rest.
        yield bad(_named(0x0A, "half a length"), version, raw("0a c0"), 0x82)
        for flags in range(16):
            yield bad(_named(0xF0 | flags, ""), version, whole(0xF0 | flags), 0x82)
        yield bad(_named(0xF0, "success"), version, whole(0xF0, "00"), 0x82)
        yield bad(_named(0xF0, "continue, no method"), version, whole(0xF0, "18 00"), 0x82)
        yield bad(_named(0xF0, "again, no method"), version, whole(0xF0, "19 00"), 0x82)


def first_packets() -> Iterator[Row]:
    """Anything but a CONNECT as the first packet [MQTT-3.1.0-1]: a close without a word."""
    for version, bodies in ((3, _BODIES), (4, _BODIES), (5, _BODIES_5)):
        for kind, body in bodies.items():
            for flags in (2,) if kind in _FLAGS_2 else (0,):
                yield unconnected(_named(kind | flags, "first [MQTT-3.1.0-1]"), version, whole(kind | flags, body))
        head = text(unique("t")) + (b"\x00" if version == 5 else b"")
        yield unconnected(_named(0x30, "first [MQTT-3.1.0-1]"), version, whole(0x30, head, b"payload"))
        head = text(unique("t")) + raw("0001") + (b"\x00" if version == 5 else b"")
        yield unconnected(_named(0x32, "first [MQTT-3.1.0-1]"), version, whole(0x32, head, b"payload"))


def flags() -> Iterator[Row]:
    """The reserved flags of every type but PUBLISH [MQTT-2.2.2-2]; 3.1 has no such rule."""
    for version, bodies in ((4, _BODIES), (5, _BODIES_5)):
        for kind, body in bodies.items():
            if kind == 0xF0:
                continue
            right = 2 if kind in _FLAGS_2 else 0
            # The direction of CONNACK and PINGRESP is judged before their flags.
            code = 0x82 if kind in (0x20, 0xD0) else 0x81
            for wrong in range(16):
                if wrong != right:
                    yield bad(_named(kind | wrong, "flags"), version, whole(kind | wrong, body), code)


def directions() -> Iterator[Row]:
    """What only servers send: a protocol error whatever is in it."""
    for version, bodies in ((3, _BODIES), (4, _BODIES), (5, _BODIES_5)):
        for kind in _ONLY_SERVERS:
            body = bodies[kind]
            for size in range(len(body) + 1):
                yield bad(_named(kind, f"{size} bytes of it"), version, whole(kind, body[:size]), 0x82)
            yield bad(_named(kind, "and one byte more"), version, whole(kind, body, "00"), 0x82)
        yield bad(_named(0xD0, ""), version, whole(0xD0), 0x82)
    for code in range(0x80, 0xA3):
        yield bad(_named(0x20, f"code {code:02x}"), 5, whole(0x20, "00", bytes((code,)), "00"), 0x82)
        yield bad(_named(0x90, f"code {code:02x}"), 5, whole(0x90, "0001 00", bytes((code,))), 0x82)
        yield bad(_named(0xB0, f"code {code:02x}"), 5, whole(0xB0, "0001 00", bytes((code,))), 0x82)
    for bit in range(8):
        for version, rest in ((4, b"\x00"), (5, b"\x00\x00")):
            yield bad(_named(0x20, f"flag {1 << bit:02x}"), version, whole(0x20, bytes((1 << bit,)), rest), 0x82)


def lengths() -> Iterator[Row]:
    """Remaining lengths: of five bytes, padded; packets with nothing in them that have something."""
    for version in (3, 4, 5):
        for first in (0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0):
            yield bad(_named(first, "a length of five bytes"), version, raw(bytes((first,)), "ff ff ff ff 7f"))
        yield unconnected("CONNECT 10 a length of five bytes", version, raw("10 ff ff ff ff 7f"))
        for first in (0xC0, 0xD0):
            yield bad(_named(first, "long"), version, whole(first, "00"))
        yield good("PINGREQ c0", version, (PING, PONG))
        yield good("PINGREQ c0 twice in one write", version, (PING + PING, PONG + PONG))
        yield bad("DISCONNECT e0", version, whole(0xE0))


ROWS: Final = (*reserved_types(), *first_packets(), *flags(), *directions(), *lengths())
