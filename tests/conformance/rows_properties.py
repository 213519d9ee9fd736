"""The properties of 5.0 (its table 2-4): each in each packet, allowed or not, twice, cut short, out of its range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.conformance.rows import Row, bad, good, unconnected
from tests.conformance.wire import ACCEPTED_5, block, connect, disconnect, raw, refused, text, unique, whole

# Every property with a value that suits it.
SAMPLES: Final[dict[int, bytes]] = {
    0x01: raw("01 01"),
    0x02: raw("02 00000001"),
    0x03: raw("03", text("p")),
    0x08: raw("08", text("p")),
    0x09: raw("09", text("p")),
    0x0B: raw("0b 01"),
    0x11: raw("11 00000001"),
    0x12: raw("12", text("p")),
    0x13: raw("13 0005"),
    0x15: raw("15", text("p")),
    0x16: raw("16", text("p")),
    0x17: raw("17 01"),
    0x18: raw("18 00000001"),
    0x19: raw("19 01"),
    0x1A: raw("1a", text("p")),
    0x1C: raw("1c", text("p")),
    0x1F: raw("1f", text("p")),
    0x21: raw("21 0005"),
    0x22: raw("22 0005"),
    0x23: raw("23 0005"),
    0x24: raw("24 01"),
    0x25: raw("25 01"),
    0x26: raw("26", text("p"), text("q")),
    0x27: raw("27 10000001"),
    0x28: raw("28 01"),
    0x29: raw("29 01"),
    0x2A: raw("2a 01"),
}
_TEXTS: Final = (0x03, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F)
_UNKNOWN: Final = (
    *(bytes((one,)) for one in range(0x80) if one not in SAMPLES),
    *map(bytes.fromhex, ["8000", "8001", "ff7f", "808001", "ffff7f", "80808001", "ffffff7f", "8080808001"]),
)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A packet with a property block. `make`: block -> packet; `ends`: a good one closes the connection."""

    name: str
    make: Callable[[bytes], bytes]
    answer: bytes
    allowed: frozenset[int]
    connects: bool = False
    ends: bool = False
    #: The code for a property that may not be here: a protocol error, but for two packets of the others' tables.
    forbidden: int = 0x82

    def good(self, what: str, one: bytes) -> Row:
        sent = self.make(block(one))
        if self.connects:
            return unconnected(f"{self.name} {what}", 5, sent, self.answer, closes=False)
        return bad(f"{self.name} {what}", 5, sent) if self.ends else good(f"{self.name} {what}", 5, (sent, self.answer))

    def bad(self, what: str, one: bytes, code: int) -> Row:
        answer = refused(code) if self.connects else disconnect(code)
        return Row(f"{self.name} {what}", 5, ((self.make(block(one)), answer),), connected=not self.connects)


def _publish(properties: bytes) -> bytes:
    return whole(0x32, text(unique("t")), "1234", properties, b"payload")


CARRIERS: Final = (
    Carrier(
        "CONNECT",
        lambda properties: connect(5, text(unique("c")), properties=properties),
        ACCEPTED_5,
        frozenset((0x11, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27)),
        connects=True,
    ),
    Carrier(
        "CONNECT will",
        lambda properties: connect(5, text(unique("c")), properties, text(unique("w")), text("p"), flags=6),
        ACCEPTED_5,
        frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26)),
        connects=True,
    ),
    Carrier("PUBLISH", _publish, raw("40 03 1234 10"), frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26))),
    Carrier("PUBACK", lambda properties: whole(0x40, "0001 00", properties), b"", frozenset((0x1F, 0x26))),
    Carrier(
        "PUBREC", lambda properties: whole(0x50, "0001 00", properties), raw("62 02 0001"), frozenset((0x1F, 0x26))
    ),
    Carrier(
        "PUBREL", lambda properties: whole(0x62, "0001 00", properties), raw("70 02 0001"), frozenset((0x1F, 0x26))
    ),
    Carrier("PUBCOMP", lambda properties: whole(0x70, "0001 00", properties), b"", frozenset((0x1F, 0x26))),
    Carrier(
        "SUBSCRIBE",
        lambda properties: whole(0x82, "1234", properties, text("p"), "00"),
        raw("90 04 1234 00 00"),
        frozenset((0x0B, 0x26)),
        forbidden=0x81,
    ),
    Carrier(
        "UNSUBSCRIBE",
        lambda properties: whole(0xA2, "1234", properties, text("p")),
        raw("b0 04 1234 00 11"),
        frozenset((0x26,)),
        forbidden=0x81,
    ),
    Carrier(
        "DISCONNECT",
        lambda properties: whole(0xE0, "00", properties),
        b"",
        frozenset((0x1C, 0x1F, 0x26)),
        ends=True,
    ),
)


def table() -> Iterator[Row]:
    """Table 2-4, cell by cell."""
    for carrier in CARRIERS:
        for identifier, one in SAMPLES.items():
            if identifier in (0x11, 0x15, 0x16) and carrier.name in ("CONNECT", "DISCONNECT"):
                continue  # what they mean there: see `meaning`
            name = f"property {identifier:02x}"
            may = identifier in carrier.allowed
            yield carrier.good(name, one) if may else carrier.bad(name, one, carrier.forbidden)
            if identifier == 0x26:
                yield carrier.good(f"{name} twice", one + one)
            elif may or carrier.forbidden == 0x82:
                yield carrier.bad(f"{name} twice", one + one, 0x82)
            # The block ends within it.
            for size in range(1, len(one)):
                yield carrier.bad(f"{name} cut to {size}", one[:size], 0x81)


def unknown() -> Iterator[Row]:
    """Identifiers that there are not, and such as are not one byte."""
    for carrier in CARRIERS:
        for identifier in _UNKNOWN:
            yield carrier.bad(f"property {identifier.hex()}", identifier + b"\x01", 0x81)
        if 0x23 not in carrier.allowed:
            # What cannot be read makes the packet malformed, whatever stands before it.
            yield carrier.bad("property 23, and then no property", raw("23 0001 70"), 0x81)
            yield carrier.bad("property 23, and then half a property", raw("23 0001 26 0001 70"), 0x81)


def from_servers() -> Iterator[Row]:
    """In what only servers send nothing is looked at."""
    for identifier, one in SAMPLES.items():
        for name, first, head, tail in (
            ("CONNACK", 0x20, "00 00", ""),
            ("SUBACK", 0x90, "0001", "00"),
            ("UNSUBACK", 0xB0, "0001", "00"),
        ):
            for what, content in (("", one), (" twice", one + one), (" cut short", one[:1])):
                sent = whole(first, head, block(content), tail)
                yield bad(f"{name} property {identifier:02x}{what}", 5, sent, 0x82)


def meaning() -> Iterator[Row]:
    """Values: ranges, empty texts, empty pairs."""
    by_name = {carrier.name: carrier for carrier in CARRIERS}
    of_connect, of_will, of_publish = by_name["CONNECT"], by_name["CONNECT will"], by_name["PUBLISH"]
    for value in ("11 00000000", "11 00000001", "21 0001", "21 ffff", "22 0000", "22 ffff", "17 00", "17 01"):
        yield of_connect.good(f"property {value}", raw(value))
    for value in ("19 00", "19 01", "27 00000040", "27 ffffffff"):
        yield of_connect.good(f"property {value}", raw(value))
    for value in ("21 0000", "27 00000000", "17 02", "17 ff", "19 02", "19 ff"):
        yield of_connect.bad(f"property {value}", raw(value), 0x82)
    yield of_connect.bad("property 11 twice", raw("11 00000001 11 00000001"), 0x82)
    yield of_connect.bad("property 15 twice", raw(SAMPLES[0x15], SAMPLES[0x15]), 0x82)
    yield of_connect.bad("property 16 twice", raw(SAMPLES[0x15], SAMPLES[0x16], SAMPLES[0x16]), 0x82)
    yield of_connect.bad("property 15 cut short", raw("15"), 0x81)
    yield of_connect.bad("property 16 cut short", raw(SAMPLES[0x15], "16"), 0x81)
    for carrier in (of_will, of_publish):
        for value in ("01 00", "01 01", "02 00000000", "02 ffffffff", "03 0000", "09 0000"):
            yield carrier.good(f"property {value}", raw(value))
        for value in ("01 02", "01 ff", "08 0000"):
            yield carrier.bad(f"property {value}", raw(value), 0x82)
        for topic in ("#", "+", "a/#", "a/+/b"):
            yield carrier.bad(f"response topic {topic} [MQTT-3.3.2-14]", raw("08", text(topic)), 0x82)
    for carrier in CARRIERS:
        for key, value in (("", "p"), ("p", ""), ("", "")):
            pair = raw("26", text(key), text(value))
            yield carrier.good(f"user property {key!r}: {value!r}", pair)
        if 0x1F in carrier.allowed:
            yield carrier.good("reason string empty", raw("1f 0000"))
    yield by_name["DISCONNECT"].good("server reference empty", raw("1c 0000"))
    yield by_name["DISCONNECT"].good("session expiry 0", raw("11 00000000"))
    yield by_name["DISCONNECT"].bad("session expiry twice", raw("11 00000000 11 00000000"), 0x82)
    for identifier in _TEXTS:
        for carrier in CARRIERS:
            if identifier in carrier.allowed or carrier.forbidden == 0x81 or identifier in (0x15, 0x16):
                continue
            yield carrier.bad(f"property {identifier:02x} empty", bytes((identifier, 0, 0)), 0x82)


def identifiers() -> Iterator[Row]:
    """Subscription identifiers: 1 to 268,435,455 in the fewest bytes.

    A client's PUBLISH may have none [MQTT-3.3.4-6]. The open server reads one and forgets it, as the tables of others
    want it (`refuse_published_identifiers`); the tests of the server have the refusal.
    """
    by_name = {carrier.name: carrier for carrier in CARRIERS}
    for value in ["01", "7f", "8001", "ff7f", "808001", "ffff7f", "80808001", "ffffff7f"]:
        yield by_name["SUBSCRIBE"].good(f"identifier {value}", raw("0b", value))
        yield by_name["PUBLISH"].good(f"identifier {value}", raw("0b", value))
    for value in ["00", "8000", "808000", "80808000", "8080808001", "ffffffff7f"]:
        yield by_name["SUBSCRIBE"].bad(f"identifier {value}", raw("0b", value), 0x81)
    yield by_name["PUBLISH"].bad("identifier 00", raw("0b 00"), 0x82)
    yield by_name["PUBLISH"].bad("identifier twice", raw("0b 01 0b 02"), 0x82)
    for value in ["8000", "8080808001"]:
        yield by_name["PUBLISH"].bad(f"identifier {value}", raw("0b", value), 0x81)
    for value in ["8000", "808000", "ffffffff7f"]:
        # The length of the block itself [MQTT-1.5.5-1].
        yield bad(f"SUBSCRIBE property length {value}", 5, whole(0x82, "1234", value, text("p"), "00"), 0x81)


ROWS: Final = (*table(), *unknown(), *from_servers(), *meaning(), *identifiers())
