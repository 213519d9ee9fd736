"""Answers, and their heads as bytes.

A head is written here and not by Twisted, which would change the case of names that some clients look for byte by byte,
and write head and body apart. An answer whose length is known is one piece: status line, headers, ``Content-Length``
and body, never chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from twisted.web.http import RESPONSES

from broker.model.jsontext import encode

JSON: Final = "application/json"

#: Header fields in the order in which they are written, names and values byte for byte.
Fields = tuple[tuple[bytes, bytes], ...]

#: What would end a header's value, as spaces.
_BREAKS: Final = bytes.maketrans(b"\r\n\0", b"   ")


@dataclass(slots=True)
class Answer:
    """An answer whose status or type is not the route's usual one. ``value``: bytes, or anything that JSON can hold.

    ``headers`` are written as they are given; one that the broker would write itself (``Server``) replaces it. A
    ``value`` of None is an answer without a body; an empty ``content_type`` leaves that header out.
    """

    status: int
    value: Any = None
    content_type: str = JSON
    headers: Fields = ()

    @property
    def body(self) -> bytes:
        value = self.value
        if value is None:
            return b""
        return value if isinstance(value, bytes) else encode(value)

    @property
    def media(self) -> bytes | None:
        """The Content-Type, None for none."""
        return self.content_type.encode() if self.value is not None and self.content_type else None


def has_body(status: int) -> bool:
    """Whether an answer with this status may have a body, and so a length (RFC 9110, 15)."""
    return status >= 200 and status not in (204, 304)


def head(version: bytes, status: int, usual: Iterable[tuple[bytes, bytes]], own: Fields = ()) -> bytes:
    """Status line and headers: the ``usual`` ones that ``own`` does not name itself, and then those."""
    named = {name.lower() for name, _ in own}
    lines = [b"%b %d %b" % (version, status, RESPONSES.get(status, b"Unknown Status"))]
    lines.extend(b"%b: %b" % field for field in usual if field[0].lower() not in named)
    lines.extend(b"%b: %b" % (name, value.translate(_BREAKS)) for name, value in own)
    return b"\r\n".join(lines) + b"\r\n\r\n"
