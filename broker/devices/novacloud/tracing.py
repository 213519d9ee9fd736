"""A NovaCloud connection's lines, for whoever traces the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from broker.model.jsontext import decode

#: What an auth message holds and nobody is shown.
SECRET: Final = b"device_key"


class Lines:
    """One direction. A line that is longer than ``limit`` is told of in pieces."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes | None, Any]]:
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield self._told(line)
        if len(self._tail) > self._limit:
            long, self._tail = self._tail, b""
            yield self._told(long)

    @staticmethod
    def _told(line: bytes) -> tuple[bytes | None, Any]:
        if SECRET in line:
            return None, {"type": "auth"}
        try:
            return line + b"\n", decode(line)
        except (ValueError, RecursionError):
            return line + b"\n", None
