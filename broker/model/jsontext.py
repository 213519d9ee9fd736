"""JSON text in and out, with one kind of failure.

``msgspec`` reports bad input in three ways (its own ``DecodeError``, ``UnicodeDecodeError`` and, past about a
thousand brackets, ``RecursionError``). The first two are ``ValueError``; here the third becomes one too, so that
every caller needs a single ``except ValueError``. How deep ``msgspec`` gets depends on the stack that it is called
from, so a value that was read near that edge could not be written again further down: `MAX_DEPTH` keeps well away
from it. NaN, infinities and lone surrogates are refused when reading; when writing, lone surrogates are refused and
NaN and infinities, which only our own code could make, become ``null``. Of duplicate keys the last one wins, and since
what is passed on is encoded again, nobody downstream ever sees the first.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: Arrays and objects in one another; deeper texts are refused.
MAX_DEPTH: Final = 100

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON of ``value``. Raises ValueError for what JSON cannot hold."""
    try:
        return _encode(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def decode(text: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError, and nothing else, for text that is not JSON."""
    try:
        value = _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # A text needs two brackets a level, so most messages are too short to be too deep.
    if len(text) > 2 * MAX_DEPTH and _openings(text) > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return value


def decode_object(text: bytes | str) -> dict[str, Any]:
    """Like `decode`, for texts that have to be a JSON object."""
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _openings(text: bytes | str) -> int:
    """How many brackets could open something: never less than the depth, and cheap to find."""
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _deeper(value: Any, depth: int) -> bool:
    """Whether containers stand in one another more than ``depth`` times."""
    level = [value]
    for _ in range(depth + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return True
