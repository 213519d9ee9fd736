"""SQLite as one side of a copy.

As a target it is written beside its place, in ``PATH.copying``, and put there when it is whole and verified: no broker
ever sees half of it, and with ``--force`` the old one is there until then. A copy that was interrupted left its
progress in that file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from broker.model.errors import Conflict, Unavailable
from broker.storage.copying.tables import OWNERS, PAGE, TABLES, Page, Row, plain
from broker.storage.place import Place
from broker.storage.schema import migrate
from broker.storage.session_batch import SEQ_BITS

_MASK: Final = (1 << SEQ_BITS) - 1
#: Keys of the tables whose rows are paged by themselves.
_KEYS: Final = {
    "products": ("key",),
    "applications": ("id",),
    "devices": ("id",),
    "records": ("tbl", "key"),
    "sessions": ("number",),
    "retained": ("topic",),
    "wills": ("number",),
}
#: For the others: how the rows of one owner are found, by its id, number or slot.
_OF_DEVICE: Final = {
    "readings": "SELECT key, mapped, value, at FROM readings WHERE device = ? ORDER BY key",
    "messages": "SELECT at, n, kind, payload, meta FROM messages WHERE device = ? ORDER BY at, n",
    "commands": """SELECT n, id, payload, origin, created_at, expires_at, timeout, ref, options, status, result, late,
        updated_at, deadline, ended FROM commands WHERE device = ? ORDER BY n""",
}
_OF_SESSION: Final = {
    "subscriptions": "SELECT topic_filter, options FROM subscriptions WHERE session = ? ORDER BY topic_filter",
    "queue": f"SELECT id & {_MASK}, data FROM queue WHERE id BETWEEN ? AND ? ORDER BY id",  # nosec B608
    "incoming": f"SELECT id & {_MASK} FROM incoming WHERE id BETWEEN ? AND ? ORDER BY id",  # nosec B608
}


class SqliteSide:
    """``path``: of the database. Work is done at once, in the reactor's thread: nothing else happens there."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.name = f"sqlite:{self.path}"
        self._places: list[Place] = []
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        if not self.path.exists():
            raise Unavailable(f"there is no database {self.path}")
        self._take(self.path)

    async def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        for place in self._places:
            place.release()
        self._places = []

    @property
    def db(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    def _take(self, path: Path) -> None:
        place = Place(path)
        place.take()
        self._places.append(place)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            migrate(self._db)
        except sqlite3.Error as error:
            raise Unavailable(f"cannot use the database {path}: {error}") from None

    # -- reading ---------------------------------------------------------------------------------------------------

    async def count(self, table: str) -> int:
        (count,) = self.db.execute(f"SELECT count(*) FROM {table}").fetchone()  # nosec B608
        return int(count)

    async def read(self, table: str, after: str) -> Page:
        if table in _KEYS:
            return self._read_rows(table, json.loads(after) if after else None)
        if table == "bindings":
            return self._read_bindings(after)
        return self._read_owned(table, after)

    def _read_rows(self, table: str, after: list[Any] | None) -> Page:
        keys = _KEYS[table]
        names = ", ".join(keys)
        where = f"WHERE ({names}) > ({', '.join('?' * len(keys))})" if after is not None else ""
        columns = ", ".join(TABLES[table])
        cells = self.db.execute(
            f"SELECT {columns} FROM {table} {where} ORDER BY {names} LIMIT ?",  # nosec B608 # constants alone
            (*(after or ()), PAGE),
        ).fetchall()
        rows = [plain(table, one) for one in cells]
        return rows, json.dumps(rows[-1][: len(keys)]) if len(rows) == PAGE else None

    def _read_bindings(self, after: str) -> Page:
        ids = self.db.execute(
            "SELECT DISTINCT application FROM bindings WHERE application > ? ORDER BY application LIMIT ?",
            (after, OWNERS),
        ).fetchall()
        statement = "SELECT application, device FROM bindings WHERE application = ? ORDER BY device"
        rows = [row for one in ids for row in self.db.execute(statement, one)]
        return rows, ids[-1][0] if len(ids) == OWNERS else None

    def _read_owned(self, table: str, after: str) -> Page:
        rows: list[Row] = []
        if table in _OF_DEVICE:
            owners = self.db.execute(
                "SELECT id, n FROM devices WHERE id > ? ORDER BY id LIMIT ?", (after, OWNERS)
            ).fetchall()
            for id, n in owners:
                rows += [plain(table, (id, *cells)) for cells in self.db.execute(_OF_DEVICE[table], (n,))]
                if len(rows) >= PAGE:
                    return rows, id
        else:
            owners = self.db.execute(
                "SELECT number, slot FROM sessions WHERE number > ? ORDER BY number LIMIT ?",
                (int(after or "-1"), OWNERS),
            ).fetchall()
            for number, slot in owners:
                base = slot << SEQ_BITS
                values = (number,) if table == "subscriptions" else (base, base | _MASK)
                found = self.db.execute(_OF_SESSION[table], values)
                rows += [plain(table, (number, *cells)) for cells in found]
                if len(rows) >= PAGE:
                    return rows, str(number)
        return rows, str(owners[-1][0]) if len(owners) == OWNERS else None


class SqliteTarget(SqliteSide):
    """``PATH.copying`` until it is whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._draft = self.path.with_name(f"{self.path.name}.copying")

    async def open(self) -> None:
        # The place itself is held as well: a broker may be there, or come.
        place = Place(self.path)
        place.hold()
        self._places.append(place)

    async def begin(self, source: str, resume: bool, force: bool) -> dict[str, str]:
        if self.path.exists() and not force and not (resume and self._draft.exists()):
            raise Conflict(f"there is a database {self.path} already: --force replaces it")
        if self._draft.exists() and not resume and not force:
            raise Conflict(f"a copy to {self.path} was interrupted: --resume goes on with it, --force begins anew")
        if force and not resume:
            for end in ("", "-wal", "-shm"):
                Path(f"{self._draft}{end}").unlink(missing_ok=True)
        self._take(self._draft)
        self.db.execute("CREATE TABLE IF NOT EXISTS copying (name TEXT PRIMARY KEY, cursor TEXT NOT NULL)")
        notes = dict(self.db.execute("SELECT name, cursor FROM copying"))
        if notes.setdefault("source", source) != source:
            raise Conflict(f"what was interrupted is a copy of {notes['source']}: --force begins anew")
        self.db.execute("INSERT OR REPLACE INTO copying VALUES ('source', ?)", (source,))
        del notes["source"]
        return notes

    async def write(self, table: str, rows: Sequence[Row], cursor: str) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._insert(table, rows)
            self.db.execute("INSERT OR REPLACE INTO copying VALUES (?, ?)", (table, cursor))
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable(f"the database {self._draft} cannot be written: {error}") from None

    async def finish(self) -> None:
        self.db.execute("DROP TABLE copying")
        self.db.close()
        self._db = None
        for end in ("-wal", "-shm"):
            # Those of the one that is replaced: what they hold must not get into the new one.
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        os.replace(self._draft, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        Path(f"{self._draft}.lock").unlink(missing_ok=True)

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        columns = list(TABLES[table])
        if table in _OF_DEVICE:
            owner = "(SELECT n FROM devices WHERE id = ?)"
            names, marks = ", ".join(columns), ", ".join([owner, *["?"] * (len(columns) - 1)])
            self.db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # nosec B608
        elif table == "sessions":
            (first,) = self.db.execute("SELECT coalesce(max(slot), -1) + 1 FROM sessions").fetchone()
            statement = f"INSERT INTO sessions (slot, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # nosec B608
            self.db.executemany(statement, [(slot, *row) for slot, row in enumerate(rows, first)])
        elif table in ("queue", "incoming"):
            slots = dict(self.db.execute("SELECT number, slot FROM sessions"))
            numbered = [((slots[row[0]] << SEQ_BITS) | row[1], *row[2:]) for row in rows]
            self.db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * (len(columns) - 1))})", numbered)  # nosec B608
        else:
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            self.db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # nosec B608
