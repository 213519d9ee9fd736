"""How much memory a message takes: what keeps messages has to bound their bytes, not only their number.

A line of 128 KiB may hold forty thousand empty objects, which take three megabytes once they are decoded. So a value is
weighed, roughly, by its JSON text and what stands in it: writing that is a hundred times as fast as walking the value.
"""

from __future__ import annotations

from typing import Any, Final

from broker.model.jsontext import encode

#: Bytes, roughly, on a 64-bit CPython: a number, an empty text, an empty list or object; an item of a list (a comma),
#: and what an entry of an object takes besides (a colon).
_NUMBER: Final = 32
_TEXT: Final = 50
_CONTAINER: Final = 64
_ITEM: Final = 40
_ENTRY: Final = 70

#: Types of values that weigh next to nothing: numbers, booleans and null.
LIGHT: Final = frozenset({bool, int, float, type(None)})


def weight(value: Any) -> int:
    """About how many bytes ``value`` takes: bytes, or what JSON can hold."""
    kind = type(value)
    if kind in LIGHT:
        return _NUMBER
    if kind is str or kind is bytes:
        return _TEXT + len(value)
    try:
        text = encode(value)
    except ValueError:  # only our own code makes what JSON cannot hold
        text = repr(value).encode("utf-8", "replace")
    containers = text.count(b"{") + text.count(b"[")
    return len(text) + _CONTAINER * containers + _ITEM * text.count(b",") + _ENTRY * text.count(b":")
