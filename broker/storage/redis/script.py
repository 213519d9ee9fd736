"""Scripts that run inside Redis, where several keys have to change together or not at all. Called by their hash."""

from __future__ import annotations

from hashlib import sha1


class Script:
    """``text``: Lua. Its first line says what it may do (``#!lua flags=no-writes``).

    With a first line a script that may write is refused as a whole when Redis is full; without one it may end half-way.
    """

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        #: Redis's name for it; no secret hangs on it.
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
