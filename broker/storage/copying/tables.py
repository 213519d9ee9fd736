"""What there is to be copied, in a form of no storage's own: rows of plain values, in the same order everywhere.

Rows of one table come in the order of their keys' bytes, in pages with a cursor that any storage can go on from. What
belongs to a device or a session comes with all of one device or session in the same page. Texts of JSON are passed on
as they are, so that equal rows have equal digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol, TypeAlias

import msgspec

Row: TypeAlias = tuple[Any, ...]
#: Rows, and the cursor of the next page; None behind the last one.
Page: TypeAlias = tuple[list[Row], str | None]

TEXT, INT, REAL, BLOB, EITHER = "text", "int", "real", "blob", "either"

#: table -> its columns and their types; a ``?`` may be None. In the order in which they have to be written.
TABLES: Final[dict[str, dict[str, str]]] = {
    "products": {
        "key": TEXT,
        "protocol": TEXT,
        "name": TEXT,
        "sensors": TEXT,
        "actuators": TEXT,
        "created_at": REAL,
    },
    "applications": {
        "id": TEXT,
        "kind": TEXT,
        "name": TEXT,
        "secret": TEXT,
        "cs_eui": f"{TEXT}?",
        "app_key": TEXT,
        "disabled": INT,
        "created_at": REAL,
    },
    "devices": {
        "id": TEXT,
        "protocol": TEXT,
        "name": TEXT,
        "product": f"{TEXT}?",
        "dev_eui": f"{TEXT}?",
        "secret": TEXT,
        "disabled": INT,
        "attributes": TEXT,
        "info": TEXT,
        "created_at": REAL,
        "online": INT,
        "presence_reason": TEXT,
        "presence_at": f"{REAL}?",
        "last_seen": f"{REAL}?",
    },
    "bindings": {"application": TEXT, "device": TEXT},
    "readings": {"device": TEXT, "key": TEXT, "mapped": INT, "value": TEXT, "at": REAL},
    "messages": {"device": TEXT, "at": REAL, "n": INT, "kind": TEXT, "payload": EITHER, "meta": f"{TEXT}?"},
    "commands": {
        "device": TEXT,
        "n": INT,
        "id": TEXT,
        "payload": EITHER,
        "origin": TEXT,
        "created_at": REAL,
        "expires_at": REAL,
        "timeout": f"{REAL}?",
        "ref": f"{TEXT}?",
        "options": TEXT,
        "status": TEXT,
        "result": TEXT,
        "late": TEXT,
        "updated_at": REAL,
        "deadline": f"{REAL}?",
        "ended": INT,
    },
    "records": {"tbl": TEXT, "key": TEXT, "value": BLOB},
    "sessions": {
        "number": INT,
        "owner": TEXT,
        "client_id": TEXT,
        "version": INT,
        "expiry": f"{INT}?",
        "disconnected_at": f"{REAL}?",
    },
    "subscriptions": {"session": INT, "topic_filter": TEXT, "options": INT},
    "queue": {"session": INT, "seq": INT, "data": BLOB},
    "incoming": {"session": INT, "packet_id": INT},
    "retained": {"topic": TEXT, "payload": BLOB, "qos": INT, "properties": BLOB, "expires_at": f"{REAL}?"},
    "wills": {
        "number": INT,
        "owner": TEXT,
        "client_id": TEXT,
        "topic": TEXT,
        "payload": BLOB,
        "qos": INT,
        "retain": INT,
        "properties": BLOB,
        "delay": INT,
        "lost_at": f"{REAL}?",
    },
}
#: Rows of one page, and devices or sessions whose rows are in one: those of one of them are never divided.
PAGE: Final = 1_000
OWNERS: Final = 500

_CASTS: Final[dict[str, Any]] = {INT: int, REAL: float}
_encode: Final = msgspec.msgpack.Encoder().encode


def plain(table: str, cells: Sequence[Any]) -> Row:
    """The row with exactly the types of its table: a number may have come as another kind of number."""
    row = []
    for kind, cell in zip(TABLES[table].values(), cells, strict=True):
        cast = _CASTS.get(kind.rstrip("?"))
        row.append(cell if cell is None or cast is None else cast(cell))
    return tuple(row)


@dataclass(slots=True)
class Digest:
    """How many rows there were, and a hash over them in their order."""

    rows: int = 0
    value: str = ""


class Summing:
    """Makes a `Digest`."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = sha256()

    def add(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)
        for row in rows:
            self._hash.update(_encode(row))

    def digest(self) -> Digest:
        return Digest(self.rows, self._hash.hexdigest())


class Side(Protocol):
    """A storage that is copied from or into; nobody else uses it meanwhile. Methods raise Unavailable."""

    #: For people and, in the target's notes, to know the source again.
    name: str

    async def open(self) -> None:
        """Keep brokers away. Unavailable while one is there."""

    async def count(self, table: str) -> int:
        """Its rows."""

    async def read(self, table: str, after: str) -> Page:
        """The next page; "" for the first."""

    async def close(self) -> None:
        """Let go. Harmless when called twice."""


class Target(Side, Protocol):
    """One that is copied into."""

    async def begin(self, source: str, resume: bool, force: bool) -> dict[str, str]:
        """Make it ready; table -> cursor behind what is there already. Refuses what is not empty, unless ``force``,
        which empties it, or ``resume``, which goes on with a copy of the same source. Raises Conflict."""

    async def write(self, table: str, rows: Sequence[Row], cursor: str) -> None:
        """A page and how far it reaches, together or not at all."""

    async def finish(self) -> None:
        """It is whole: brokers may use it."""
