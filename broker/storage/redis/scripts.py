"""The scripts of the storage: the files in ``lua``, put together, and what each variant may do.

One text with every operation in three variants, as it is the first line that says what Redis lets a script do.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from broker.storage.redis.script import Script

_PARTS: Final = ("prelude", "registry", "live", "records", "sessions", "writer", "run")


def _text() -> str:
    folder = files("broker.storage.redis") / "lua"
    return "".join((folder / f"{part}.lua").read_text("utf-8") for part in _PARTS)


_TEXT: Final = _text()
#: Refused as a whole when Redis is full.
WRITE: Final = Script(f"#!lua\n{_TEXT}")
#: For what gives back room.
FREE: Final = Script(f"#!lua flags=allow-oom\n{_TEXT}")
#: Goes on when Redis takes no writes.
READ: Final = Script(f"#!lua flags=no-writes\n{_TEXT}")
ALL: Final = (WRITE, FREE, READ)
