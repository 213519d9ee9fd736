"""JSON as the gateway document prints it -> JSON, sans-IO.

Its own examples have trailing commas (gateway_info, hb) and miss commas (firmware_update, datafile_recovery); devices
that were built after them do the same, and some leave out quotes or use single ones. What is mended:

===========================  =========================  ==========================
``{"a": 1,}`` ``[1,]``       trailing commas            left out
``{"a": 1 "b": 2}``          missing commas             put in
``{a: ok}``                  bare words                 put into quotes
``{'a': 'b'}``               single quotes              made double ones
line breaks in texts         control characters         escaped
===========================  =========================  ==========================

`repaired` gives a text for the strict parser, which has the last word: numbers, escapes, depth and all that is not in
this table are its business. It works through the text once, token by token, without recursion.
"""

from __future__ import annotations

import json
import re
from typing import Final

#: A longer text is not worth the time: reading this one takes some 50 ms.
MAX_TEXT: Final = 65_536

_TOKEN: Final = re.compile(
    r"""\s*+(?:
        (?P<mark>[{}\[\]:,])
      | (?P<text>"(?:[^"\\]|\\.)*+" | '(?:[^'\\]|\\.)*+')
      | (?P<word>[^\s{}\[\]:,"']+)
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_LITERAL: Final = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)

_OPENS: Final = {"{": "}", "[": "]"}


def repaired(text: bytes) -> bytes:
    """The text as strict JSON, as far as it can be mended. Raises ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError("too long to be mended")
    letters = text.decode("utf-8")
    writer = _Writer()
    position = 0
    while True:
        token = _TOKEN.match(letters, position)
        if token is None:
            raise ValueError(f"cannot be mended at {position}")
        position = token.end()
        if token["mark"] is not None:
            writer.mark(token["mark"])
        elif token["text"] is not None:
            writer.scalar(_quoted(token["text"]))
        elif token["word"] is not None:
            word = token["word"]
            literal = not writer.wants_key and _LITERAL.fullmatch(word) is not None
            writer.scalar(word if literal else json.dumps(word))
        else:
            return writer.done().encode("utf-8", "surrogatepass")


def _quoted(text: str) -> str:
    """A text in double quotes, without control characters."""
    if text[0] == "'":
        inside = text[1:-1].replace("\\'", "'")
        text = '"' + re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inside, flags=re.DOTALL) + '"'
    return re.sub(r"[\x00-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", text)


class _Writer:
    """Puts tokens together again; commas are written when what follows them comes."""

    def __init__(self) -> None:
        self._out: list[str] = []
        #: Of each open container, what closes it.
        self._open: list[str] = []
        #: Something stands before in the container, so a comma is due.
        self._follows = False
        #: A key was written, so a colon has to come, then a value.
        self._colon = self._value = False

    @property
    def wants_key(self) -> bool:
        return bool(self._open) and self._open[-1] == "}" and not self._value

    def mark(self, mark: str) -> None:
        if mark in _OPENS:
            if self.wants_key:
                raise ValueError("a key has to be a text")
            self._begin()
            self._out.append(mark)
            self._open.append(_OPENS[mark])
            self._follows = self._value = False
        elif mark == ":":
            if not self._colon:
                raise ValueError("a colon without a key")
            self._colon = False
            self._value = True
            self._out.append(":")
        elif self._colon or self._value or not self._open:
            raise ValueError("a value is missing")
        elif mark == ",":
            if not self._follows:
                raise ValueError("a comma without a value")
        elif mark != self._open.pop():
            raise ValueError("brackets that do not belong together")
        else:
            self._out.append(mark)
            self._follows = True

    def scalar(self, text: str) -> None:
        key = self.wants_key
        self._begin()
        self._out.append(text)
        if key:
            self._colon = True
        else:
            self._value = False
            self._follows = True

    def _begin(self) -> None:
        """A key or a value comes."""
        if self._colon:
            raise ValueError("a colon is missing")
        if not self._open and self._out:
            raise ValueError("something behind the end")
        if self._follows and not self._value:
            self._out.append(",")

    def done(self) -> str:
        if self._open or self._colon or self._value:
            raise ValueError("the end is missing")
        return "".join(self._out)
