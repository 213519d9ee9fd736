"""Presence, last values and history in SQL. Plain functions of an open connection.

What JSON cannot hold (a plugin may hand over anything) is left out: one odd value must not keep the others from disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sqlite3 import Connection

from broker.model.errors import Invalid
from broker.model.jsontext import decode
from broker.model.records import LiveState, StoredMessage
from broker.storage.interface import Readings
from broker.storage.rows import MESSAGE_COLUMNS, Row, message_of, payload_cell, text

#: Devices that are looked at, and rows that go, in one step of `prune`: each step holds up commits for some ms at most.
PRUNE_DEVICES = 500
PRUNE_ROWS = 500

_SAVE_READING = """INSERT INTO readings VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (device, key) DO UPDATE SET mapped = excluded.mapped, value = excluded.value, at = excluded.at"""
_DROP_READING = "DELETE FROM readings WHERE device = ? AND key = ? AND mapped = ?"
#: A message of a device that is gone inserts nothing.
_ADD_MESSAGE = """INSERT INTO messages (device, at, kind, payload, meta)
    SELECT n, ?, ?, ?, ? FROM devices WHERE id = ?"""


def mark_offline(db: Connection, at: float) -> None:
    """At the start nobody is connected yet, whatever a crash left behind."""
    db.execute(
        "UPDATE devices SET online = 0, presence_reason = 'restart', presence_at = ? WHERE online = 1",
        (at,),
    )


def get_values(db: Connection, device_id: str) -> tuple[Readings, Readings]:
    unmapped: Readings = {}
    values: Readings = {}
    rows = db.execute(
        "SELECT key, mapped, value, at FROM readings WHERE device = (SELECT n FROM devices WHERE id = ?)",
        (device_id,),
    )
    for key, mapped, value, at in rows:
        (values if mapped else unmapped)[key] = decode(value), at
    return values, unmapped


def save_live(db: Connection, states: Sequence[LiveState]) -> None:
    dropped: list[Row] = []
    saved: list[Row] = []
    for state in states:
        row = db.execute("SELECT n, online, presence_at FROM devices WHERE id = ?", (state.device,)).fetchone()
        if row is None:
            continue
        n, online, presence_at = row
        _save_presence(db, state, n, bool(online) != state.online or presence_at != state.presence_at)
        dropped += [(n, key, 1) for key in state.removed_values]
        dropped += [(n, key, 0) for key in state.removed_unmapped]
        saved += _reading_rows(n, 0, state.unmapped)
        saved += _reading_rows(n, 1, state.values)
    db.executemany(_DROP_READING, dropped)
    db.executemany(_SAVE_READING, saved)


def _save_presence(db: Connection, state: LiveState, n: int, changed: bool) -> None:
    """Indexed columns are named only if they changed: naming them costs the index."""
    names: list[str] = ["last_seen = ?"]
    values: list[object] = [state.last_seen]
    if changed:
        names += ["online = ?", "presence_reason = ?", "presence_at = ?"]
        values += [state.online, state.reason, state.presence_at]
    if state.info is not None:
        try:
            values.append(text(state.info))
            names.append("info = ?")
        except ValueError:
            pass
    db.execute(f"UPDATE devices SET {', '.join(names)} WHERE n = ?", (*values, n))  # nosec B608


def _reading_rows(n: int, mapped: int, readings: Readings) -> Iterable[Row]:
    for key, (value, at) in readings.items():
        try:
            yield n, key, mapped, text(value), at
        except ValueError:
            continue


# history


def add_messages(db: Connection, messages: Sequence[StoredMessage]) -> None:
    db.executemany(_ADD_MESSAGE, _message_rows(messages))


def _message_rows(messages: Sequence[StoredMessage]) -> Iterable[Row]:
    for message in messages:
        meta = message.meta
        try:
            payload = payload_cell(message.payload)
            yield message.at, message.kind, payload, None if meta is None else text(meta), message.device
        except ValueError:
            continue


def list_messages(
    db: Connection,
    device_id: str,
    kind: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[StoredMessage], str | None]:
    where: dict[str, tuple[object, ...]] = {"d.id = ?": (device_id,)}
    if kind is not None:
        where["m.kind = ?"] = (kind,)
    if since is not None:
        where["m.at >= ?"] = (since,)
    if until is not None:
        where["m.at < ?"] = (until,)
    if cursor is not None:
        at, n = _position(cursor)
        where["m.at <= ?"] = (at,)
        where["(m.at, m.n) < (?, ?)"] = (at, n)
    values = [value for group in where.values() for value in group]
    rows = db.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM devices d CROSS JOIN messages m ON m.device = d.n"  # nosec B608
        f" WHERE {' AND '.join(where)} ORDER BY m.at DESC, m.n DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    page = rows[:limit]
    return [message_of(row) for row in page], f"{page[-1][3]!r}_{page[-1][6]}" if len(rows) > limit else None


def _position(cursor: str) -> tuple[float, int]:
    at, _, n = cursor.partition("_")
    try:
        return float(at), max(0, min(int(n), 1 << 62))
    except ValueError:
        raise Invalid("this cursor was not given by a list of messages") from None


# retention

#: For some devices: where the messages end that are too old or too many; (device, at, n) of the newest that has to go.
_TOO_MANY = """SELECT d.n, m.at, m.n FROM (SELECT n FROM devices WHERE n > ? ORDER BY n LIMIT ?) d
    CROSS JOIN messages m ON m.n = (
        SELECT n FROM messages WHERE device = d.n ORDER BY at DESC, n DESC LIMIT 1 OFFSET ?)"""
_TOO_OLD = """SELECT d.n FROM (SELECT n FROM devices WHERE n > ? ORDER BY n LIMIT ?) d
    WHERE (SELECT min(at) FROM messages WHERE device = d.n) < ?"""

#: (device, at, n): messages of the device up to this one have to go.
Edge = tuple[int, float, int]


def find_prunable(db: Connection, after: int, before: float, per_device: int) -> tuple[list[Edge], int | None]:
    """What has to go of the next devices, and the number to go on after, or None at the end."""
    edges = {n: (n, before, 0) for (n,) in db.execute(_TOO_OLD, (after, PRUNE_DEVICES, before))}
    for n, at, message in db.execute(_TOO_MANY, (after, PRUNE_DEVICES, per_device)):
        edges[n] = max(edges.get(n, (n, at, message)), (n, at, message))
    row = db.execute("SELECT n FROM devices WHERE n > ? ORDER BY n LIMIT 1 OFFSET ?", (after, PRUNE_DEVICES - 1))
    last = row.fetchone()
    return list(edges.values()), None if last is None else last[0]


def prune_messages(db: Connection, edges: Sequence[Edge]) -> tuple[int, list[Edge]]:
    """Delete some messages; how many, and the edges that are not yet reached."""
    gone = 0
    for number, (device, at, message) in enumerate(edges):
        room = PRUNE_ROWS - gone
        if room <= 0:
            return gone, list(edges[number:])
        gone += db.execute(
            "DELETE FROM messages WHERE n IN (SELECT n FROM messages WHERE device = ? AND at <= ?"
            " AND (at, n) <= (?, ?) ORDER BY at, n LIMIT ?)",
            (device, at, at, message, room),
        ).rowcount
        if gone >= PRUNE_ROWS:
            return gone, list(edges[number:])
    return gone, []


def prune_commands(db: Connection, before: float) -> int:
    """Delete some commands that ended before ``before``."""
    return db.execute(
        "DELETE FROM commands WHERE n IN (SELECT n FROM commands WHERE ended = 1 AND updated_at < ? LIMIT ?)",
        (before, PRUNE_ROWS),
    ).rowcount
