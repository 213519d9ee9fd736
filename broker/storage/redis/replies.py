"""What Redis answers, in the errors of the storage's contract.

`Refused` is an answer of Redis, so nothing was done; `Lost` is none, so nobody knows whether it was.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from broker.model.errors import Unavailable

#: bytes for strings of both kinds, int, None, and lists of these. RESP2.
Reply: TypeAlias = "bytes | int | list[Reply] | None"
Argument: TypeAlias = bytes | str | int | float

#: The first word of an error -> what it means, for an operator.
MEANINGS: Final = {
    "OOM": "Redis has no memory left (maxmemory is reached)",
    "MISCONF": "Redis cannot write to its disk",
    "READONLY": "Redis is a replica and takes no writes",
    "LOADING": "Redis is still loading its data",
    "MASTERDOWN": "Redis is a replica and has lost its master",
    "NOREPLICAS": "Redis has too few replicas to take writes",
    "NOAUTH": "Redis wants a password",
    "WRONGPASS": "Redis does not take the user name or the password",
    "NOPERM": "the Redis user lacks a right",
    "BUSY": "Redis is busy with a script",
}
#: Errors behind which the connection is of no more use: another server is master now, or will be.
FATAL: Final = frozenset(("READONLY", "LOADING", "MASTERDOWN", "NOAUTH"))


class Refused(Unavailable):
    """Redis answered with an error. ``code``: its first word."""

    def __init__(self, text: str) -> None:
        self.code = text.partition(" ")[0]
        meaning = MEANINGS.get(self.code)
        if self.code == "NOPERM":
            meaning = f"{meaning}: {text.partition(' ')[2]}"
        super().__init__((meaning or f"Redis refused: {text}")[:300])


class Lost(Unavailable):
    """The connection ended before the answer came: it may have been done, or not."""


class Unfit(Unavailable):
    """This Redis cannot be used, and waiting does not help: wrong password, too old, evicts keys."""


def text_of(reply: Reply) -> str:
    """A string of Redis as text."""
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
