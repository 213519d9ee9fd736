"""Texts that are no UTF-8 or that MQTT forbids, topic names and filters that are none: wherever a packet has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.conformance.rows import Row, bad, good, unconnected
from tests.conformance.wire import ACCEPTED, ACCEPTED_5, block, connect, raw, refused, text, unique, whole

# What is not text [MQTT-1.5.3-1] [MQTT-1.5.3-2]; the control characters SHOULD not be there, and are refused too.
BAD_TEXTS: Final[dict[str, bytes]] = {
    "U+0000": b"to\x00p",
    "U+0000 at the end": b"top\x00\x00",
    "U+0001": b"to\x01p",
    "U+001F": b"to\x1fp",
    "U+007F": b"to\x7fp",
    "U+0080": b"to\xc2\x80p",
    "U+009F": b"to\xc2\x9fp",
    "U+D800": b"to\xed\xa0\x80",
    "U+DBFF": b"to\xed\xaf\xbf",
    "U+DC00": b"to\xed\xb0\x80",
    "U+DFFF": b"to\xed\xbf\xbf",
    "U+FDD0": b"to\xef\xb7\x90",
    "U+FFFE": b"to\xef\xbf\xbe",
    "U+FFFF": b"to\xef\xbf\xbf",
    "a lone continuation": b"to\x80p",
    "a missing continuation": b"to\xc3p",
    "a sequence cut short": b"top\xe2\x82",
    "an overlong slash": b"to\xc0\xafp",
    "over U+10FFFF": b"t\xf4\x90\x80\x80",
    "a byte that never is": b"to\xffp",
}
GOOD_TEXTS: Final[dict[str, bytes]] = {
    "U+2A6D4 (1.5.3.1)": "A\U0002a6d4".encode(),
    "a byte order mark": b"\xef\xbb\xbftop",
    "spaces": b" t o p ",
    "Chinese": "主题/温度".encode(),
    "slashes": b"//top//",
}
BAD_FILTERS: Final = ("a#", "#/a", "a/#/b", "a/b#", "##", "a+", "+a", "a/+b", "a/b+/c", "++", "#+", "+#", "a/#b")
GOOD_FILTERS: Final = ("#", "+", "+/+", "/", "/#", "a/+/b", "a/#", "+/#", "//", " ", "$SYS/x/+", "a/$b/#")
_BAD_NAMES: Final = ("+", "#", "a/+", "a/#", "+opic", "#opic", "topic+", "topic#", "a/+/b")


def _block(version: int) -> bytes:
    return b"\x00" if version == 5 else b""


def publishes() -> Iterator[Row]:
    """Topic names of PUBLISH."""
    for version in (4, 5):
        empty = _block(version)
        for what, topic in BAD_TEXTS.items():
            yield bad(f"PUBLISH topic with {what}", version, whole(0x30, text(topic), empty, b"payload"), 0x81)
            yield bad(f"PUBLISH q1 topic with {what}", version, whole(0x32, text(topic), "1234", empty), 0x81)
        for what, topic in GOOD_TEXTS.items():
            yield good(f"PUBLISH topic with {what}", version, (whole(0x30, text(topic), empty, b"payload"), b""))
        for name in _BAD_NAMES:
            sent = whole(0x30, text(name), empty, b"payload")
            yield bad(f"PUBLISH topic {name} [MQTT-3.3.2-2]", version, sent, 0x81)
        yield bad("PUBLISH topic empty", version, whole(0x30, text(""), empty, b"payload"), 0x81)


def filters() -> Iterator[Row]:
    """Filters of SUBSCRIBE and UNSUBSCRIBE."""
    for version in (4, 5):
        head = raw("1234", _block(version))
        ack = whole(0x90, "1234", _block(version), "00")
        for what, topic in BAD_TEXTS.items():
            yield bad(f"SUBSCRIBE filter with {what}", version, whole(0x82, head, text(topic), "00"), 0x81)
            yield bad(f"UNSUBSCRIBE filter with {what}", version, whole(0xA2, head, text(topic)), 0x81)
        for what, topic in GOOD_TEXTS.items():
            yield good(f"SUBSCRIBE filter with {what}", version, (whole(0x82, head, text(topic), "00"), ack))
        for name in BAD_FILTERS:
            yield bad(f"SUBSCRIBE filter {name}", version, whole(0x82, head, text(name), "00"), 0x81)
            yield bad(f"UNSUBSCRIBE filter {name}", version, whole(0xA2, head, text(name)), 0x81)
            second = whole(0x82, head, text("a"), "00", text(name), "00")
            yield bad(f"SUBSCRIBE second filter {name}", version, second, 0x81)
        for name in GOOD_FILTERS:
            # Behind a level of its own: no message of another row comes back to it.
            own = f"{unique('f')}/{name}" if not name.startswith("$") else name
            yield good(f"SUBSCRIBE filter {name}", version, (whole(0x82, head, text(own), "00"), ack))
        for name, parts in (
            ("only", (text(""), "00")),
            ("first", (text(""), "00", text("q"), "00")),
            ("second", (text("q"), "00", text(""), "00")),
            ("both", (text(""), "00", text(""), "00")),
        ):
            yield bad(f"SUBSCRIBE filter empty: {name}", version, whole(0x82, head, *parts), 0x81)
        for name, parts_a in (
            ("only", (text(""),)),
            ("first", (text(""), text("q"))),
            ("second", (text("q"), text(""))),
        ):
            yield bad(f"UNSUBSCRIBE filter empty: {name}", version, whole(0xA2, head, *parts_a), 0x81)


def shared_filters() -> Iterator[Row]:
    """$share in 5.0 [MQTT-4.8.2-1] [MQTT-4.8.2-2]."""
    for name, code in (
        ("$share/+/p", 0x82),
        ("$share/#/p", 0x81),
        ("$share/p/", 0x82),
        ("$share/p", 0x82),
        ("$share//p", 0x82),
        ("$share/", 0x82),
        ("$share/a+/p", 0x81),
    ):
        yield bad(f"SUBSCRIBE filter {name}", 5, whole(0x82, "1234 00", text(name), "00"), code)
    yield bad("SUBSCRIBE $share and no local", 5, whole(0x82, "1234 00", text("$share/p/p"), "04"), 0x82)
    ack = whole(0x90, "1234 00 00")
    for name in ("$share/g/p", "$share/g//", "$share/g/p/+/q", "$share/g/p/#", "$share/g/$SYS/x"):
        sent = whole(0x82, "1234 00", text(name.replace("/g/", f"/{unique('g')}/", 1)), "00")
        yield good(f"SUBSCRIBE filter {name}", 5, (sent, ack))


def connects() -> Iterator[Row]:
    """Client ids, will topics and user names of CONNECT: 5.0 MAY say what was wrong with them [MQTT-3.1.4-1].

    The open server does not (`malformed_connect_unanswered`), as the tables of others want it.
    """
    for version in (4, 5):
        empty = _block(version)
        yes = ACCEPTED_5 if version == 5 else ACCEPTED
        for what, value in BAD_TEXTS.items():
            yield unconnected(f"CONNECT client id with {what}", version, connect(version, text(value)))
            own = text(unique("c"))
            sent = connect(version, own, empty, text(value), text("p"), flags=6)
            yield unconnected(f"CONNECT will topic with {what}", version, sent)
            own = text(unique("c"))
            sent = connect(version, own, text(value), flags=0x82)
            yield unconnected(f"CONNECT user name with {what}", version, sent)
            own = text(unique("c"))
            sent = connect(version, own, text("u"), text(value), flags=0xC2)
            yield unconnected(f"CONNECT password with {what}", version, sent, yes, closes=False)
            own = text(unique("c"))
            sent = connect(version, own, empty, text("w"), text(value), flags=6)
            yield unconnected(f"CONNECT will payload with {what}", version, sent, yes, closes=False)
        for name in _BAD_NAMES:
            sent = connect(version, text(unique("c")), empty, text(name), text("p"), flags=6)
            yield unconnected(f"CONNECT will topic {name}", version, sent)
        for what, value in GOOD_TEXTS.items():
            sent = connect(version, text(unique("c").encode() + value))
            yield unconnected(f"CONNECT client id with {what}", version, sent, yes, closes=False)


def properties() -> Iterator[Row]:
    """Properties that are texts."""
    for what, value in BAD_TEXTS.items():
        bad_text = text(value)
        pairs = (("user property key", raw("26", bad_text, text("v"))), ("value", raw("26", text("k"), bad_text)))
        for where, one in (*pairs, ("content type", raw("03", bad_text)), ("response topic", raw("08", bad_text))):
            sent = whole(0x32, text(unique("t")), "1234", block(one))
            yield bad(f"PUBLISH {where} with {what}", 5, sent, 0x81)
        sent = connect(5, text(unique("c")), properties=block("26", text("k"), bad_text))
        yield unconnected(f"CONNECT user property with {what}", 5, sent, refused(0x81))
        sent = whole(0x40, "0001 00", block("1f", bad_text))
        yield bad(f"PUBACK reason string with {what}", 5, sent, 0x81)
        sent = whole(0xE0, "00", block("1f", bad_text))
        yield bad(f"DISCONNECT reason string with {what}", 5, sent, 0x81)


ROWS: Final = (*publishes(), *filters(), *shared_filters(), *connects(), *properties())
