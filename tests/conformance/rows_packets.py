"""The bodies of PUBLISH, its acknowledgements, SUBSCRIBE, UNSUBSCRIBE and DISCONNECT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.mqtt import reasons
from tests.conformance.rows import Row, bad, good
from tests.conformance.wire import block, disconnect, raw, text, unique, whole

_VERSIONS: Final = ((3, b""), (4, b""), (5, b"\x00"))


def publishes() -> Iterator[Row]:
    """Flags, packet ids, what comes back at each QoS. In 5.0 nobody who subscribed is a reason of its own (10)."""
    for version, empty in _VERSIONS:
        nobody = raw("40 03 1234 10") if version == 5 else raw("40 02 1234")
        for name, first, payload in (("", 0x30, b"payload"), ("retain", 0x31, b"payload"), ("retain empty", 0x31, b"")):
            sent = whole(first, text(unique("kept/")), empty, payload)
            yield good(f"PUBLISH {first:02x} {name}", version, (sent, b""))
        for first in (0x32, 0x3A):
            sent = whole(first, text(unique("t")), "1234", empty, b"payload")
            yield good(f"PUBLISH {first:02x}", version, (sent, nobody))
        for first in (0x34, 0x3C):
            sent = whole(first, text(unique("t")), "1234", empty, b"payload")
            release = (raw("62 02 1234"), raw("70 02 1234"))
            rec = raw("50 03 1234 10") if version == 5 and first == 0xFF else raw("50 02 1234")
            yield good(f"PUBLISH {first:02x}", version, (sent, rec), release)
        for first in (0x32, 0x34):
            sent = whole(first, text(unique("t")), "0000", empty, b"payload")
            yield bad(f"PUBLISH {first:02x} packet id 0", version, sent, 0x82)
            sent = whole(first, text("t"), "12")
            yield bad(f"PUBLISH {first:02x} half a packet id", version, sent, 0x81)
            yield bad(f"PUBLISH {first:02x} no packet id", version, whole(first, text("t")), 0x81)
        for first in (0x36, 0x37, 0x3E, 0x3F):
            sent = whole(first, text(unique("t")), "1234", empty, b"payload")
            yield bad(f"PUBLISH {first:02x} qos 3 [MQTT-3.3.1-4]", version, sent, 0x81)
        for size in (0, 1, 4):
            sent = whole(0x30, text("topic")[:size])
            yield bad(f"PUBLISH topic cut to {size}", version, sent, 0x81)
        topic = unique("t")
        sent_a = whole(0x34, text(topic), "1234", empty)
        sent_b = whole(0x3C, text(topic), "1234", empty)
        rec = raw("50 02 1234")
        yield good("PUBLISH qos 2 again and again", version, (sent_a, rec), (sent_b, rec), (sent_b, rec))
    for version, empty in _VERSIONS[1:]:
        for first in (0x38, 0x39):
            sent = whole(first, text(unique("t")), empty, b"payload")
            yield bad(f"PUBLISH {first:02x} dup at qos 0 [MQTT-3.3.1-2]", version, sent, 0x81)


def aliases() -> Iterator[Row]:
    """Topic aliases of the client: 1 to 10 may be."""
    for alias, code in ((0, 0x94), (11, 0x94), (0xFFFF, 0x94)):
        sent = whole(0x30, text(unique("t")), block("23", alias.to_bytes(2, "big")), b"payload")
        yield bad(f"PUBLISH topic alias {alias}", 5, sent, code)
    for alias in (1, 10):
        sent = whole(0x32, text(unique("t")), "1234", block("23", alias.to_bytes(2, "big")), b"payload")
        again = whole(0x32, text(""), "1235", block("23", alias.to_bytes(2, "big")), b"payload")
        steps = ((sent, raw("40 03 1234 10")), (again, raw("40 03 1235 10")))
        yield good(f"PUBLISH topic alias {alias} set and used", 5, *steps)
    sent = whole(0x30, text(""), block("23 0003"), b"payload")
    yield bad("PUBLISH topic alias never set", 5, sent, 0x82)


def too_large() -> Iterator[Row]:
    """A client's maximum packet size: what is larger never comes."""
    topic = unique("t")
    own = raw("10 13 0004 4d515454 05 02 000a 05 27 00000014", "0001 70")
    own = whole(0x10, raw(own[2:-3]), text(unique("c")))
    sub = whole(0x82, "1234 00", text(topic), "00")
    small = whole(0x30, text(topic), "00", b"payload")
    large = whole(0x30, text(topic), "00", b"payloadpayload")
    steps = (
        (own, raw("20 09 00 00 06 22 000a 21 0014")),
        (sub, raw("90 04 1234 00 00")),
        (large, b""),
        (small, small),
    )
    yield Row("PUBLISH larger than the client takes", 5, steps, closes=False, connected=False)


_ACKS: Final = {
    0x40: ("PUBACK", reasons.IN_PUBACK),
    0x50: ("PUBREC", reasons.IN_PUBACK),
    0x62: ("PUBREL", reasons.IN_PUBREL),
    0x70: ("PUBCOMP", reasons.IN_PUBREL),
}


def _answer(first: int, code: int = 0) -> bytes:
    """To an acknowledgement that nobody waits for: the next of its exchange, or nothing."""
    if first == 0x62:
        return raw("70 02 0001")
    return raw("62 02 0001") if first == 0x50 and code < 0x80 else b""


def acknowledgements() -> Iterator[Row]:
    """Of nothing: not an error; how they may look is."""
    for version, _ in _VERSIONS:
        for first, (name, _codes) in _ACKS.items():
            yield good(f"{name} unsolicited", version, (whole(first, "0001"), _answer(first)))
            yield bad(f"{name} packet id 0", version, whole(first, "0000"), 0x82)
            yield bad(f"{name} of 0", version, whole(first), 0x81)
            yield bad(f"{name} of 1", version, whole(first, "01"), 0x81)
            if version < 5:
                yield bad(f"{name} long", version, whole(first, "0001 00"))
    for first, (name, codes) in _ACKS.items():
        for code in range(256):
            known = code in codes
            for rest in ("", "00"):
                sent = whole(first, "0001", bytes((code,)), rest)
                what = f"{name} reason {code:02x}{' and properties' if rest else ''}"
                yield good(what, 5, (sent, _answer(first, code))) if known else bad(what, 5, sent, 0x82)
        yield bad(f"{name} a byte behind the properties", 5, whole(first, "0001 00 00 00"), 0x81)
        yield bad(f"{name} properties missing", 5, whole(first, "0001 00 01"), 0x81)
        yield bad(f"{name} properties cut short", 5, whole(first, "0001 00 02 1f"), 0x81)
        yield bad(f"{name} a length without an end", 5, whole(first, "0001 00 80"), 0x81)
        yield bad(f"{name} packet id 0, reason 0", 5, whole(first, "0000 00"), 0x82)


def subscribes() -> Iterator[Row]:
    """Packet ids, options, lengths, codes in the order of the filters."""
    for version, empty in _VERSIONS:
        one = text("p")
        for code in (0, 1, 2):
            sent = whole(0x82, "1234", empty, one, bytes((code,)))
            answer = whole(0x90, "1234", empty, bytes((code,)))
            yield good(f"SUBSCRIBE qos {code} [MQTT-3.8.4-1]", version, (sent, answer))
        sent = whole(0x82, "1234", empty, one, "02", text("q"), "00", text("r"), "01")
        yield good("SUBSCRIBE three", version, (sent, whole(0x90, "1234", empty, "02 00 01")))
        yield bad("SUBSCRIBE packet id 0", version, whole(0x82, "0000", empty, one, "00"), 0x81)
        body = raw("1234", empty, one, "00")
        for size in range(len(body)):
            yield bad(f"SUBSCRIBE cut to {size}", version, whole(0x82, body[:size]), 0x81)
        yield bad("SUBSCRIBE a byte too many", version, whole(0x82, body, "00"), 0x81)
    for options in range(3, 256):
        yield bad(
            f"SUBSCRIBE options {options:02x} [MQTT-3-8.3-4]", 4, whole(0x82, "1234", text("p"), bytes((options,)))
        )
    for options in range(256):
        sent = whole(0x82, "1234 00", text("p"), bytes((options,)))
        if options >= 0x30 or options & 3 == 3:
            yield bad(f"SUBSCRIBE options {options:02x} [MQTT-3.8.3-5]", 5, sent, 0x81)
        else:
            answer = whole(0x90, "1234 00", bytes((options & 3,)))
            yield good(f"SUBSCRIBE options {options:02x}", 5, (sent, answer))


def unsubscribes() -> Iterator[Row]:
    """What there was, what there was not [MQTT-3.10.4-5], several [MQTT-3.10.4-6]."""
    for version, empty in _VERSIONS:
        gone, none = (b"\x00", b"\x11") if version == 5 else (b"", b"")
        one = text("p")
        sent = whole(0xA2, "1234", empty, one)
        yield good("UNSUBSCRIBE of nothing", version, (sent, whole(0xB0, "1234", empty, none)))
        subscribe = (whole(0x82, "1234", empty, one, "00"), whole(0x90, "1234", empty, "00"))
        yield good("UNSUBSCRIBE", version, subscribe, (sent, whole(0xB0, "1234", empty, gone)))
        both = whole(0xA2, "1234", empty, one, text("q"))
        answer = whole(0xB0, "1234", empty, gone, none)
        yield good("UNSUBSCRIBE several", version, subscribe, (both, answer))
        yield bad("UNSUBSCRIBE packet id 0", version, whole(0xA2, "0000", empty, one), 0x81)
        body = raw("1234", empty, one)
        for size in range(len(body)):
            yield bad(f"UNSUBSCRIBE cut to {size}", version, whole(0xA2, body[:size]), 0x81)
        yield bad("UNSUBSCRIBE a byte too many", version, whole(0xA2, body, "00"), 0x81)


def disconnects() -> Iterator[Row]:
    """Every reason code: known or not, it is the end, without an answer."""
    for code in range(256):
        yield bad(f"DISCONNECT reason {code:02x}", 5, whole(0xE0, bytes((code,))))
    yield bad("DISCONNECT reason 82 without properties", 5, whole(0xE0, "82 00"))
    for version in (3, 4):
        yield bad("DISCONNECT long", version, whole(0xE0, "00"))
    for size in range(1, 6):
        sent = whole(0xE0, "00", bytes((size,)), raw("11 00 00 00 00")[:size])
        yield bad(f"DISCONNECT session expiry in {size}", 5, sent, 0 if size == 5 else 0x81)
    own = whole(0x10, text("MQTT"), "05 02 000a", block("11 00000000"), text(unique("c")))
    steps = ((own, raw("20 09 00 00 06 22 000a 21 0014")), (whole(0xE0, "00", block("11 00000001")), disconnect(0x82)))
    yield Row("DISCONNECT a session expiry that there was not", 5, steps, connected=False)


ROWS: Final = (
    *publishes(),
    *aliases(),
    *too_large(),
    *acknowledgements(),
    *subscribes(),
    *unsubscribes(),
    *disconnects(),
)
