"""The version of what is kept, and whose database it is."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from broker.storage.redis.connection import Call
from broker.storage.redis.replies import Unfit
from broker.storage.redis.scripts import WRITE

#: What the keys mean. A broker refuses a database of another version.
SCHEMA: Final = 1
#: The name among the nodes of whoever copies the whole: no broker's name may look like it.
COPIER: Final = "(copy)"


@dataclass(frozen=True, slots=True)
class Found:
    """``database``: an id that it got when it was new. ``copying``: it is the target of a copy and not whole;
    ``copied``: a copier is at work."""

    database: str
    copying: bool
    copied: bool


async def check_schema(call: Call, key: str) -> Found:
    """Make it ours where it is new. Raises Unfit for another version."""
    reply: Any = await call("EVALSHA", WRITE.sha, 1, key, "run", "schema", 3, SCHEMA, token_hex(8), COPIER)
    version, database, copying, copied = reply[1][0][0]
    if int(version) != SCHEMA:
        raise Unfit(f"it was written by another version of the broker (schema {int(version)}, not {SCHEMA})")
    return Found(database.decode(), bool(copying), bool(copied))
