"""Devices that are ordered to do something, and what came to them of it.

Every order carries a mark of its own in its payload, so that the command, what the device got, and whoever ordered it
know it by the same number, whichever way it went.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

#: What bytes with a mark begin with: nothing that a simulated device knows.
SIGN = b"\x7f"
SIZE = 7

_marks = count(1)


def new_mark() -> int:
    """Never given before."""
    return next(_marks)


def bytes_of(mark: int) -> bytes:
    """A payload of a device that takes bytes."""
    return SIGN + mark.to_bytes(SIZE - 1, "big")


def mark_in(data: bytes) -> int | None:
    """The mark in such a payload."""
    return int.from_bytes(data[1:], "big") if data[:1] == SIGN and len(data) == SIZE else None


def mark_of(command: dict[str, Any]) -> int | None:
    """The mark in the payload of a command, as the API shows it."""
    if "payload_base64" in command:
        return mark_in(b64decode(command["payload_base64"]))
    mark = command.get("payload", {}).get("mark")
    return mark if isinstance(mark, int) else None


@dataclass(eq=False)
class Target:
    """A device. ``options``: what its orders have beside the payload.

    ``open_ended``: orders for it may still wait when all is over, as it takes few. ``at_least_once``: its protocol has
    what was not answered sent again, also over another connection.
    """

    id: str
    protocol: str
    takes_bytes: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    open_ended: bool = False
    at_least_once: bool = False
    #: mark -> how often it came; those that were answered
    came: Counter[int] = field(default_factory=Counter)
    answered: set[int] = field(default_factory=set)

    def body(self, mark: int) -> dict[str, Any]:
        """The body of an order."""
        if self.takes_bytes:
            return {"payload_base64": b64encode(bytes_of(mark)).decode(), **self.options}
        return {"payload": {"mark": mark}, **self.options}

    def got(self, mark: int | None) -> None:
        """It was ordered to do this."""
        if mark is not None:
            self.came[mark] += 1
