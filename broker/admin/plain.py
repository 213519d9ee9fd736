"""Text that is safe to show, and times, sizes and durations as people write them. Pure.

Names, values and errors come from devices. Every character that is not printable is shown by its number: control
characters (terminals take some of U+0080 to U+009F for escape sequences, too), the marks that turn the direction of
text, line separators.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from broker.model.jsontext import encode

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
#: Smaller numbers are no UNIX time, but seconds from now: it was in 2001.
FIRST_TIME: Final = 1e9
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.ASCII)
#: What is no control character for JSON but might be one for a terminal; it can only stand in its strings.
_NOT_SHOWN: Final = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def safe(text: str) -> str:
    """``text`` on one line, with what is not printable escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\u3000" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x1_0000 else f"\\U{number:08x}"


def json_line(value: Any) -> str:
    """Compact JSON on one line, the same value as ever, and nothing in it that a terminal would obey."""
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", encode(value).decode("utf-8"))


def moment(at: float) -> str:
    """UNIX seconds as local time, to the second."""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OSError, OverflowError):
        return str(at)


def seconds(value: float) -> str:
    """A duration in the two largest units that it has: ``2d 3h``, ``5m 10s``, ``0.25s``."""
    if value < 10:
        return f"{value:.3g}s"
    rest = round(value)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def size(value: int) -> str:
    """Bytes: ``812 B``, ``1.5 MB``."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{value} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} TB"


def read_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``1.5h``, ``1h30m``, ``2d``. Raises ValueError."""
    rest = text.strip().lower()
    parts = _DURATION.findall(rest)
    if not parts or _DURATION.sub("", rest).strip() or (len(parts) > 1 and not all(unit for _, unit in parts)):
        raise ValueError(f"{text!r} is no duration, such as 90s, 15m, 1h30m or 2d")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def read_moment(text: str, now: float) -> float:
    """UNIX seconds of a moment in the past: ``2h`` (ago), ``2026-11-29T12:00``, or UNIX seconds. Raises ValueError."""
    return _read_moment(text, now, -1.0)


def read_deadline(text: str, now: float) -> float:
    """The same of a moment to come: ``14d`` is from now."""
    return _read_moment(text, now, 1.0)


def _read_moment(text: str, now: float, direction: float) -> float:
    if _NUMBER.fullmatch(text) and float(text) >= FIRST_TIME:
        return float(text)
    try:
        return now + direction * read_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.astimezone()).timestamp()
    except (ValueError, OSError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: UNIX seconds, a date such as 2026-11-29T12:00, or a duration such as 2h"
        ) from None
