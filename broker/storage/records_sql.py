"""Records in SQL. Plain functions of an open connection.

Changes that expect nothing, as those of counters, go to SQLite in runs of one statement, which takes about two thirds
of the time of a call each.
"""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection

from broker.model.errors import Conflict
from broker.storage.interface import ANY, Change

_PUT = "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (tbl, key) DO UPDATE SET value = excluded.value"
_REMOVE = "DELETE FROM records WHERE tbl = ? AND key = ?"
_GET = "SELECT value FROM records WHERE tbl = ? AND key = ?"
_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def write_records(db: Connection, changes: Sequence[Change]) -> None:
    run: list[tuple[str, str, bytes]] = []
    for change in changes:
        value = change.value
        if value is not None and change.expected is ANY:
            run.append((change.table, change.key, value))
            continue
        if run:
            db.executemany(_PUT, run)
            run = []
        _write_record(db, change)
    if run:
        db.executemany(_PUT, run)


def get_record(db: Connection, table: str, key: str) -> bytes | None:
    row = db.execute(_GET, (table, key)).fetchone()
    return None if row is None else row[0]


def list_records(db: Connection, table: str, prefix: str, limit: int, after: str | None) -> list[tuple[str, bytes]]:
    statement, values = records_page(table, prefix, limit, after)
    return db.execute(statement, values).fetchall()


def records_page(table: str, prefix: str, limit: int, after: str | None) -> tuple[str, tuple[str | int, ...]]:
    """The statement of a page, and its values."""
    conditions, values = ["tbl = ?"], [table]
    if after is not None and after >= prefix:
        conditions.append("key > ?")
        values.append(after)
    elif prefix:
        conditions.append("key >= ?")
        values.append(prefix)
    end = end_of(prefix)
    if end is not None:
        conditions.append("key < ?")
        values.append(end)
    return f"SELECT key, value FROM records WHERE {' AND '.join(conditions)} ORDER BY key LIMIT ?", (*values, limit)  # nosec B608


def end_of(prefix: str) -> str | None:
    """The least text that is greater than all that begin with ``prefix``; None where there is none."""
    kept = prefix.rstrip(chr(_LAST))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _write_record(db: Connection, change: Change) -> None:
    table, key, value, expected = change.table, change.key, change.value, change.expected
    if expected is not ANY:
        found = get_record(db, table, key)
        if found != expected:
            raise Conflict(f"the record {key!r} of {table} is another one than expected"[:300])
    if value is None:
        db.execute(_REMOVE, (table, key))
    else:
        db.execute(_PUT, (table, key, value))
