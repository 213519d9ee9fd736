"""WebSocket frames as a server sends them: whole messages, not masked (RFC 6455, 5.2).

As nothing in them is made for one client alone, a frame that is encoded once serves all of them. Reading frames is
wsproto's business.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
PING: Final = b"\x89\x00"

NORMAL: Final = 1000
#: Close reasons of ours and the code that the client sees (RFC 6455, 7.4.1); `NORMAL` for all others.
CLOSE_CODES: Final[dict[str, int]] = {
    "shutdown": 1001,
    "idle": 1001,
    "malformed": 1002,
    "protocol_error": 1002,
    "auth_failed": 1008,
    "auth_timeout": 1008,
    "flood": 1008,
    "removed": 1008,
    "takeover": 1008,
    "too_long": 1009,
    "internal_error": 1011,
    "unavailable": 1013,
}


def text_frame(text: bytes) -> bytes:
    """One text message, which is UTF-8."""
    return _frame(_TEXT, text)


def binary_frame(data: bytes) -> bytes:
    """One binary message."""
    return _frame(_BINARY, data)


def close_frame(reason: str) -> bytes:
    """The close frame for one of our close reasons."""
    return _frame(_CLOSE, CLOSE_CODES.get(reason, NORMAL).to_bytes(2, "big") + reason.encode())


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65_536:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8, "big"), payload)
