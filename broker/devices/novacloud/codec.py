"""NovaCloud lines <-> messages, sans-IO: no Twisted, no clock, no log.

    line    = one JSON object, UTF-8, ended by "\\n"                                                   (guide 2.1, 2.2)
    object  = {"type": text, "payload": {...}, "timestamp"?, "command_id"?, "status"?}           (2.2, 4.1, 7.1, 7.2)
    flat    = {"type": "auth", "device_id": .., "device_key": ..}, as the shipped server takes it

The law of this file:

* Three outcomes: a `Message`, need more, or a `Malformed` line. Any other exception is a bug here. After a malformed
  line the next newline is a new start: the guide's own client can cut or mix lines.
* "\\r" before the newline, blank lines and a byte order mark are passed over. Keys that are not above are ignored.
* No more than ``limit`` bytes of a line are kept. A longer one is reported once, as soon as it is too long; the rest of
  it is thrown away up to its newline.
* What comes out does not depend on how the bytes were cut into chunks.
* What goes out is one JSON object a line, in ASCII: the guide's client decodes every 1024 bytes by themselves.

What it does not do: look into ``payload`` and the other fields, of which only ``type`` is sure to be text (`mapping`
and `identity` do), answer, count, close.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from broker.model import jsontext

#: The types that a device may send (guide 2.2). "auth_response", "command" and "error" are only ours to send.
AUTH: Final = "auth"
DATA: Final = "data"
STATUS: Final = "status"
HEARTBEAT: Final = "heartbeat"
COMMAND_RESPONSE: Final = "command_response"

#: Lines no longer than this cannot be nested deeper than jsontext.MAX_DEPTH: a level takes two brackets.
_NEVER_DEEP: Final = 2 * jsontext.MAX_DEPTH
#: Of a fault in a deep place, the path is longer than anybody reads.
_MAX_DETAIL: Final = 200
_BOM: Final = b"\xef\xbb\xbf"


class Message(msgspec.Struct, gc=False):
    """A line that is a JSON object with a type. The other fields are whatever the device sent, None when missing."""

    type: str
    timestamp: Any = None
    payload: Any = None
    status: Any = None
    command_id: Any = None
    device_id: Any = None
    device_key: Any = None


class Malformed:
    """A line that is no message. ``reason`` is a close reason; ``text`` tells the device what is wrong."""

    __slots__ = ("reason", "text")

    def __init__(self, text: str, reason: Literal["malformed", "too_long"] = "malformed") -> None:
        self.reason: Final = reason
        self.text: Final = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Malformed) and (self.reason, self.text) == (other.reason, other.text)

    def __hash__(self) -> int:
        return hash((self.reason, self.text))

    def __repr__(self) -> str:
        return f"<{self.reason} line: {self.text}>"


Item: TypeAlias = Message | Malformed

_decode: Final = msgspec.json.Decoder(Message).decode


class LineDecoder:
    """Bytes in, messages out. ``limit`` is in bytes, without the newline; it may be changed at any time."""

    __slots__ = ("_discarding", "_tail", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: The line that has begun.
        self._tail = bytearray()
        #: The line that has begun is too long and was reported.
        self._discarding = False

    @property
    def buffered(self) -> int:
        """Bytes kept of a line that is not complete; at most ``limit``."""
        return len(self._tail)

    def feed(self, data: bytes) -> Iterator[Item]:
        """The lines that ``data`` completes. To be read to its end before the next `feed`, or never again."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines:
            self._begin(lines)
            for line in lines:
                if len(line) > self.limit:
                    yield self._too_long()
                    continue
                try:
                    message = _decode(line)
                    if len(line) > _NEVER_DEEP:
                        _check_depth(line)
                except (ValueError, RecursionError) as error:
                    item = _second_look(line, error)
                    if item is not None:
                        yield item
                    continue
                yield message
        if self._discarding:
            return
        self._tail += rest
        if len(self._tail) > self.limit:
            self._tail = bytearray()
            self._discarding = True
            yield self._too_long()

    def _begin(self, lines: list[bytes]) -> None:
        """Complete the first line with what came before; a line that was reported is emptied."""
        if self._discarding:
            self._discarding = False
            lines[0] = b""
        elif self._tail:
            self._tail += lines[0]
            lines[0] = bytes(self._tail)
            self._tail = bytearray()

    def _too_long(self) -> Malformed:
        return Malformed(f"a line has more than {self.limit} bytes", "too_long")


def _check_depth(line: bytes) -> None:
    """Raise ValueError for what could be read here, but not written again by a consumer further down the stack."""
    if line.count(b"{") + line.count(b"[") > jsontext.MAX_DEPTH:
        jsontext.decode(line)


def _second_look(line: bytes, error: Exception) -> Item | None:
    """What to do with a line that could not be read as it is: None for a blank one."""
    line = line.strip()
    if line.startswith(_BOM):
        line = line[len(_BOM) :].strip()
        try:
            message = _decode(line)
            _check_depth(line)
            return message
        except (ValueError, RecursionError) as another:
            error = another
    if not line:
        return None
    if isinstance(error, RecursionError):
        return Malformed("nested too deeply")
    if isinstance(error, UnicodeDecodeError) or "UTF-8" in str(error):  # versions of msgspec differ
        return Malformed("not UTF-8")
    return Malformed(str(error)[:_MAX_DETAIL])


# -- what we send ------------------------------------------------------------------------------------------------------


def encode_line(message: dict[str, Any]) -> bytes:
    """One line in ASCII, which msgspec does not write. Raises ValueError for what JSON cannot hold."""
    try:
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return text.encode("ascii") + b"\n"


def auth_response(success: bool, text: str) -> bytes:
    """The answer to both dialects (guide 3.3): ``payload.status`` is the guide's, ``status`` the shipped server's."""
    return encode_line(
        {
            "type": "auth_response",
            "status": "ok" if success else "error",
            "message": text,
            "payload": {"status": "success" if success else "error", "message": text},
        }
    )


def acknowledgement(text: str) -> bytes:
    """What the shipped server answers to every line of a flat session."""
    return encode_line({"status": "ok", "message": text})


def error_line(text: str) -> bytes:
    """Something is wrong with a line; the guide knows no such message, so its devices pass over it."""
    return encode_line({"type": "error", "status": "error", "message": text})


def command_line(command_id: str, payload: dict[str, Any]) -> bytes:
    """A command (guide 7.1). Raises ValueError for what JSON cannot hold."""
    return encode_line({"type": "command", "command_id": command_id, "payload": payload})
