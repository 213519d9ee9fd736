"""CONNECT of every version: names, levels, flags, credentials, wills, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.conformance.rows import Row, bad, unconnected
from tests.conformance.wire import ACCEPTED, ACCEPTED_5, block, connect, raw, refused, text, unique, whole

_YES: Final = {3: ACCEPTED, 4: ACCEPTED, 5: ACCEPTED_5}
_REFUSED_LEVEL: Final = raw("20 02 00 01")
_REFUSED_CLIENT_ID: Final = raw("20 02 00 02")


def _own() -> bytes:
    return text(unique("c"))


def _no(version: int, code: int = 0x81) -> bytes:
    return refused(code) if version == 5 else b""


def _accepted(name: str, version: int, sent: bytes) -> Row:
    return unconnected(f"CONNECT {name}", version, sent, _YES[version], closes=False)


def _refused(name: str, version: int, sent: bytes, answer: bytes = b"") -> Row:
    return unconnected(f"CONNECT {name}", version, sent, answer)


def names_and_levels() -> Iterator[Row]:
    """Protocol names and levels [MQTT-3.1.2-1] [MQTT-3.1.2-2]. A level of nobody's gets CONNACK 1."""
    for version in (3, 4, 5):
        yield _accepted("minimal", version, connect(version, _own()))
        yield bad("CONNECT twice [MQTT-3.1.0-2]", version, connect(version), 0x82)
    rest = raw("02 000a", _own())
    for name in (b"", b"M", b"MQT", b"MQTU", b"mqtt", b"MQTTT", b"MQIsdq", b"MQisdp", b"MQIsdpp", b"HTTP", b"\x00\x00"):
        yield _refused(f"name {name!r}", 4, whole(0x10, text(name), "04", rest))
        yield _refused(f"name {name!r}", 5, whole(0x10, text(name), "05 02 000a 00", _own()))
    for level in (0, 1, 2, 6, 7, 0x7F, 0xFF):
        yield _refused(f"level {level}", 4, whole(0x10, text("MQTT"), bytes((level,)), rest), _REFUSED_LEVEL)
    for level in (0, 1, 2, 6, 7):
        yield _refused(f"level {level}", 3, whole(0x10, text("MQIsdp"), bytes((level,)), rest), _REFUSED_LEVEL)


def fixed_header() -> Iterator[Row]:
    """The flags of the first byte; 3.1 does not use them, and has no rule for its reserved connect flag."""
    for flags in range(1, 16):
        sent = connect(4, _own(), first=0x10 | flags)
        yield _refused(f"first byte {0x10 | flags:02x} [MQTT-2.2.2-1]", 4, sent)
    yield _accepted("first byte 14", 3, connect(3, _own(), first=0x14))
    yield _accepted("reserved flag", 3, connect(3, _own(), flags=1))
    yield _refused("reserved flag [MQTT-3.1.2-3]", 4, connect(4, _own(), flags=1))
    yield _refused("reserved flag [MQTT-3.1.2-3]", 4, connect(4, _own(), flags=3))


def client_ids() -> Iterator[Row]:
    """Empty ones; in 5.0 a name is made, which differs each time: see the scenarios."""
    yield _refused("client id empty", 3, connect(3, text("")), _REFUSED_CLIENT_ID)
    yield _accepted("client id empty, clean", 4, connect(4, text("")))
    sent = connect(4, text(""), flags=0)
    yield _refused("client id empty, not clean [MQTT-3.1.3-8]", 4, sent, _REFUSED_CLIENT_ID)
    for version in (3, 4, 5):
        yield _accepted("client id of 23", version, connect(version, text(unique("c").ljust(23, "x"))))
        yield _accepted("client id of 65", version, connect(version, text(unique("c").ljust(65, "x"))))


def will_flags() -> Iterator[Row]:
    """The will's flags without a will, its QoS of 3, its topic and payload missing or empty."""
    for version in (4, 5):
        for flags in (0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A):
            sent = connect(version, _own(), flags=flags)
            yield _refused(f"flags {flags:02x} without a will [MQTT-3.1.2-11]", version, sent, _no(version))
        empty = b"\x00" if version == 5 else b""
        for flags in (0x1E, 0x3E):
            sent = connect(version, _own(), empty, text("w"), text("p"), flags=flags)
            yield _refused(f"will qos 3, flags {flags:02x} [MQTT-3.1.2-14]", version, sent, _no(version))
        yield _refused("will of nothing", version, connect(version, _own(), flags=6), _no(version))
        sent = connect(version, _own(), empty, text("w"), flags=6)
        yield _refused("will without a payload", version, sent, _no(version))
        sent = connect(version, _own(), empty, text(""), text("p"), flags=6)
        yield _refused("will topic empty", version, sent)
        for flags in (0x06, 0x0E, 0x16):
            sent = connect(version, _own(), empty, text(unique("w")), text("p"), flags=flags)
            yield _accepted(f"will, flags {flags:02x}", version, sent)
        sent = connect(version, _own(), empty, text(unique("w")), text(""), flags=6)
        yield _accepted("will payload empty", version, sent)


def credentials() -> Iterator[Row]:
    """User name and password: their flags, and what they promise. Nobody is told what was wrong with them."""
    for version in (4, 5):
        user, password = text("u"), text("p")
        parts: tuple[bytes, ...]
        for name, flags, parts in (
            ("user name", 0x82, (user,)),
            ("user name empty", 0x82, (text(""),)),
            ("user name and password", 0xC2, (user, password)),
            ("password empty", 0xC2, (user, text(""))),
            ("password of any bytes", 0xC2, (user, text(b"\x00\xff\x00"))),
        ):
            yield _accepted(name, version, connect(version, _own(), *parts, flags=flags))
        for name, flags, parts in (
            ("user name missing [MQTT-3.1.2-19]", 0x82, ()),
            ("user name and password missing", 0xC2, ()),
            ("password missing [MQTT-3.1.2-21]", 0xC2, (user,)),
            ("user name cut short", 0x82, (raw("0002 75"),)),
            ("password cut short", 0xC2, (user, raw("0005 70"))),
        ):
            yield _refused(name, version, connect(version, _own(), *parts, flags=flags))
        for name, flags, parts in (
            ("user name not announced [MQTT-3.1.2-18]", 0x02, (user,)),
            ("password not announced [MQTT-3.1.2-20]", 0x82, (user, password)),
            ("a third text behind the password", 0xC2, (user, password, password)),
        ):
            yield _refused(name, version, connect(version, _own(), *parts, flags=flags))
    sent = connect(4, _own(), text("p"), flags=0x42)
    yield _refused("password without a user name [MQTT-3.1.2-22]", 4, sent)
    yield _accepted("password without a user name", 5, connect(5, _own(), text("p"), flags=0x42))


def cut_short() -> Iterator[Row]:
    """Every length that is too short, and bytes too many. Before the level there is no version to answer in."""
    for version in (4, 5):
        head = raw(text("MQTT"), bytes((version,)), "02 000a", b"\x00" if version == 5 else b"")
        body = head + _own()
        for size in range(len(body)):
            answered = version == 5 and size >= 7
            yield _refused(f"cut to {size}", version, whole(0x10, body[:size]), refused(0x81) if answered else b"")
        yield _refused("a byte too many", version, whole(0x10, body, "00"))
    sent = raw("10 07 0004 4d515454 04 c2 003c 000b 746573742d707974686f6e 0005 61646d696e 0008 70617373776f7264")
    yield _refused("longer than it says", 4, sent)


def sizes() -> Iterator[Row]:
    """A maximum packet size that not even the CONNACK keeps: nothing can be said."""
    for size in (1, 2, 4):
        sent = connect(5, _own(), properties=block("27", size.to_bytes(4, "big")))
        yield _refused(f"maximum packet size {size}", 5, sent)


def authentication() -> Iterator[Row]:
    """No method is known here."""
    sent = connect(5, _own(), properties=block("15", text("unsupported"), "16", text("test")))
    yield _refused("authentication method", 5, sent, refused(0x8C))
    sent = connect(5, _own(), properties=block("15", text("unsupported")))
    yield _refused("authentication method without data", 5, sent, refused(0x8C))
    sent = connect(5, _own(), properties=block("16", text("test")))
    yield _refused("authentication data without a method", 5, sent, refused(0x82))


ROWS: Final = (
    *names_and_levels(),
    *fixed_header(),
    *client_ids(),
    *will_flags(),
    *credentials(),
    *cut_short(),
    *sizes(),
    *authentication(),
)
