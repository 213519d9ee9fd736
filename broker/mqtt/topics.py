"""Topic names and topic filters: which bytes are one, and which filter matches which name. Pure functions.

    name    = level *("/" level)            no "+", no "#", at least one character        [MQTT-3.3.2-2] [MQTT-4.7.3-1]
    filter  = level *("/" level)            "+" alone in its level, "#" alone in the last [MQTT-4.7.1-1..3]
    shared  = "$share/" group "/" filter    group not empty, without "+" and "#"          (5.0 §4.8.2)

A level may be empty ("/" has two). Names are compared byte for byte, never normalised [MQTT-4.7.3-4].
Length and depth limits, rights and the meaning of `$share` are the server's; fast matching of many filters is the topic
index's, for which `matches` is the rule it must agree with. The examples at the end are the tests' data.

5.0: names have no wildcards [MQTT-4.7.0-1], neither names nor filters U+0000 or more than 65,535 bytes [MQTT-4.7.3-2]
[MQTT-4.7.3-3].
"""

from __future__ import annotations

import re
from typing import Final

SHARE_PREFIX: Final = "$share/"

# U+0000 must be refused [MQTT-1.5.3-2]; the control characters and the non-characters of every plane may be (§1.5.3),
# and are: nobody needs them in a name, and every log and terminal is better without them.
_CONTROLS = bytes((*range(32), 127))
_CONTROLS_AND_WILDCARDS = _CONTROLS + b"+#"
_NON_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_unwanted_beyond_ascii = re.compile(f"[\x80-\x9f\ufdd0-\ufdef{_NON_CHARACTERS}]").search
# A "+" with a neighbour that is not "/", a "#" with one or not at the end.
_misplaced_wildcard = re.compile(r"[^/][+#]|\+[^/]|#.", re.DOTALL).search


def _decode(raw: bytes, unwanted: bytes) -> str | None:
    # Dropping bytes and comparing lengths is many times faster than a regular expression over the text.
    if len(raw.translate(None, unwanted)) != len(raw):
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if not text.isascii() and _unwanted_beyond_ascii(text) else text


def decode_text(raw: bytes) -> str | None:
    """The text of a UTF-8 field, or None when it is not a string as §1.5.3 wants it.

    Surrogates and over-long forms are refused by Python's own strict decoding [MQTT-1.5.3-1]; a leading U+FEFF stays
    [MQTT-1.5.3-3].
    """
    return _decode(raw, _CONTROLS)


def valid_topic_name(raw: bytes) -> str | None:
    """The topic of a PUBLISH or a will as text, or None when no message may have it."""
    return _decode(raw, _CONTROLS_AND_WILDCARDS) or None


def valid_topic_filter(raw: bytes) -> str | None:
    """The filter of a SUBSCRIBE or UNSUBSCRIBE as text, or None when its grammar is broken."""
    text = decode_text(raw)
    return None if not text or _misplaced_wildcard(text) else text


def split_share(topic_filter: str) -> tuple[str, str] | None:
    """(group, filter) of a valid filter, the group "" when it is not shared; None when its `$share/` form is broken."""
    if not topic_filter.startswith(SHARE_PREFIX):
        return "", topic_filter
    group, _, rest = topic_filter[len(SHARE_PREFIX) :].partition("/")
    if not group or not rest or "+" in group or "#" in group:
        return None
    return group, rest


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid filter (not shared: see `split_share`) selects a valid topic name (§4.7)."""
    if topic_filter == topic:
        return True
    # A leading wildcard does not reach the server's own topics [MQTT-4.7.2-1].
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    if wanted[-1] == "#":
        # "#" stands for its parent level too: "sport/#" matches "sport" (§4.7.1.2).
        wanted.pop()
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(want in ("+", level) for want, level in zip(wanted, levels, strict=False))


VALID_NAMES: Final[tuple[bytes, ...]] = (
    b"a",
    b"/",
    b"//",
    b"sport/tennis/player1",
    b"/finance",
    b"finance/",
    b"$SYS/broker/load",
    b" ",
    b"Accounts payable",
    "A\U0002a6d4".encode(),
    b"\xef\xbb\xbfmark",
    b"x" * 65535,
)
INVALID_NAMES: Final[tuple[bytes, ...]] = (
    b"",
    b"+",
    b"#",
    b"sport/+",
    b"sport/#",
    b"a+b",
    b"a#",
    b"a\x00b",
    b"a\x01",
    b"a\x1f",
    b"a\n",
    b"a\x7f",
    b"a\xc2\x80",
    b"a\xc2\x9f",
    b"a\xef\xb7\x90",
    b"a\xef\xbf\xbf",
    b"a\xf0\x9f\xbf\xbe",
    b"\xff",
    b"a\xc3",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
)
VALID_FILTERS: Final[tuple[bytes, ...]] = (
    b"a",
    b"/",
    b"+",
    b"#",
    b"/#",
    b"/+",
    b"+/",
    b"+/+",
    b"+/#",
    b"sport/tennis/#",
    b"sport/+/player1",
    b"+/tennis/#",
    b"$SYS/#",
    b"$share/group/sport/+",
    b"$share",
    "\u6e29\u5ea6/+".encode(),
)
INVALID_FILTERS: Final[tuple[bytes, ...]] = (
    b"",
    b"sport/tennis#",
    b"sport/tennis/#/ranking",
    b"#/a",
    b"##",
    b"#/",
    b"#\n",
    b"+#",
    b"#+",
    b"++",
    b"sport+",
    b"+sport",
    b"a/+b/c",
    b"a/b+/c",
    b"a\x00",
    b"a\x1f",
    b"\xed\xa0\x80",
    b"\xff/#",
)
# filter -> (group, filter), or None
SHARES: Final[tuple[tuple[str, tuple[str, str] | None], ...]] = (
    ("a/b", ("", "a/b")),
    ("$share", ("", "$share")),
    ("$shared/g/a", ("", "$shared/g/a")),
    ("$share/g/a", ("g", "a")),
    ("$share/g/#", ("g", "#")),
    ("$share/g//", ("g", "/")),
    ("$share/g/a/+/c", ("g", "a/+/c")),
    ("$share/", None),
    ("$share/g", None),
    ("$share/g/", None),
    ("$share//a", None),
    ("$share/+/a", None),
    ("$share/#", None),
)
MATCHING: Final[tuple[tuple[str, str], ...]] = (
    ("a", "a"),
    ("#", "a"),
    ("#", "/a/b"),
    ("sport/tennis/player1/#", "sport/tennis/player1"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
    ("sport/#", "sport"),
    ("sport/#", "sport/"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/+", "sport/"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+/#", "a"),
    ("+/tennis/#", "sport/tennis"),
    ("+/+/+", "//"),
    ("a/$b/+", "a/$b/c"),
    ("$SYS/#", "$SYS"),
    ("$SYS/#", "$SYS/monitor/Clients"),
    ("$SYS/monitor/+", "$SYS/monitor/Clients"),
)
NOT_MATCHING: Final[tuple[tuple[str, str], ...]] = (
    ("a", "b"),
    ("a", "A"),
    ("a", "a/"),
    ("a/", "a"),
    ("/a", "a"),
    ("sport/+", "sport"),
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("+", "/finance"),
    ("+", "a/b"),
    ("+/b", "a/c"),
    ("a/b/#", "a"),
    ("a/+/#", "a"),
    ("sport/#", "sports"),
    ("#", "$SYS"),
    ("#", "$SYS/monitor"),
    ("+/monitor/Clients", "$SYS/monitor/Clients"),
    ("+/#", "$SYS/monitor"),
    ("+", "$SYS"),
)
