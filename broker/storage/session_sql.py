"""MQTT sessions, what is owed to them, and retained messages in SQL. Plain functions of an open connection.

The numbers of the rows of ``queue`` and ``incoming`` are those of `session_batch`. A message is one BLOB
(`session_rows`), since each column that is bound costs nearly as much as the whole of a short row.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import chain
from sqlite3 import Connection
from typing import Any, Final

from broker.model.sessions import RETAIN, LoadedSession, Op, QueueRow, RetainedRow, SessionRecord, WillRecord
from broker.storage.session_batch import SEQ_BITS, Batch, runs
from broker.storage.session_rows import HEAD, pack_message, unpack_message

#: Rows of one statement: it costs half of what a statement for each would, and the interpreter's lock is handed over
#: once in place of as many times, which a busy reactor would each time be slow to give back.
_TOGETHER: Final = 50

_SAVE_SESSION = """INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (number) DO UPDATE SET owner = excluded.owner, client_id = excluded.client_id,
        version = excluded.version, expiry = excluded.expiry, disconnected_at = excluded.disconnected_at"""
_RELEASE = f"UPDATE queue SET data = substr(data, 1, {HEAD.size}) WHERE id = ?"  # nosec B608
_LOAD_SESSIONS = f"""SELECT number, owner, client_id, version, expiry, disconnected_at,
        max(q.id), count(q.id), sum(length(data) - {HEAD.size})
    FROM sessions LEFT JOIN queue q ON q.id >= slot << {SEQ_BITS} AND q.id < (slot + 1) << {SEQ_BITS}
    GROUP BY number ORDER BY number"""  # nosec B608 # constants alone; values are parameters
#: The session is looked up together with its rows: its slot may be somebody else's by the time that this is read.
_OWN_ROWS = f"""FROM sessions CROSS JOIN {{table}} q ON q.id > (slot << {SEQ_BITS} | ?2)
        AND q.id < (slot + 1) << {SEQ_BITS} WHERE number = ?1"""
_LOAD_QUEUE = f"""SELECT q.id & {(1 << SEQ_BITS) - 1}, data {_OWN_ROWS.format(table="queue")}
    ORDER BY q.id LIMIT ?3"""
_INSERT = "INSERT OR REPLACE INTO queue VALUES (?, ?)"
_INSERT_TOGETHER = _INSERT + ", (?, ?)" * (_TOGETHER - 1)
_DELETE_RUN = "DELETE FROM queue WHERE id BETWEEN ? AND ?"
_DELETE = "DELETE FROM queue WHERE id = ?"
_DELETE_TOGETHER = f"DELETE FROM queue WHERE id IN (?{', ?' * (_TOGETHER - 1)})"  # nosec B608
_DROP_SUBSCRIPTIONS = "DELETE FROM subscriptions WHERE session IN (SELECT number FROM sessions WHERE slot = ?)"
_LOAD_INCOMING = f"SELECT q.id & 65535 {_OWN_ROWS.format(table='incoming')} ORDER BY q.id"


def write(db: Connection, batch: Batch) -> None:
    """Do the whole of a batch, in a transaction that the caller ends."""
    if batch.records:
        db.executemany(_SAVE_SESSION, [_session_row(record, slot) for record, slot in batch.records.values()])
    if batch.seen:
        rows = [(at, number) for number, at in batch.seen.items()]
        db.executemany("UPDATE sessions SET disconnected_at = ? WHERE number = ?", rows)
    if batch.recs:
        db.executemany(_RELEASE, [(row,) for row in batch.recs])
    if batch.acks:
        _delete(db, batch.acks)
    if batch.puts:
        _insert(db, batch.puts)
    if batch.outs:
        db.executemany("DELETE FROM incoming WHERE id = ?", [(row,) for row in batch.outs])
    if batch.ins:
        db.executemany("INSERT OR IGNORE INTO incoming VALUES (?)", [(row,) for row in batch.ins])
    if batch.retained:
        _write_retained(db, batch)
    if batch.subscriptions:
        _write_subscriptions(db, batch)
    if batch.wills:
        _write_wills(db, batch)
    for base in batch.drops:
        last = base + (1 << SEQ_BITS) - 1
        db.execute(_DROP_SUBSCRIPTIONS, (base >> SEQ_BITS,))
        db.execute("DELETE FROM queue WHERE id BETWEEN ? AND ?", (base, last))
        db.execute("DELETE FROM incoming WHERE id BETWEEN ? AND ?", (base, last))
        db.execute("DELETE FROM sessions WHERE slot = ?", (base >> SEQ_BITS,))


def _delete(db: Connection, rows: list[int]) -> None:
    singles: list[int] = []
    ranges: list[tuple[int, int]] = []
    for first, last in runs(rows):
        if first == last:
            singles.append(first)
        else:
            ranges.append((first, last))
    db.executemany(_DELETE_RUN, ranges)
    _in_groups(db, _DELETE_TOGETHER, _DELETE, singles, 1)


def _insert(db: Connection, puts: dict[int, Op]) -> None:
    cells = list(chain.from_iterable([(row, pack_message(op)) for row, op in sorted(puts.items())]))
    _in_groups(db, _INSERT_TOGETHER, _INSERT, cells, 2)


def _in_groups(db: Connection, together: str, single: str, cells: list[Any], width: int) -> None:
    """Run ``together`` for every `_TOGETHER` rows of ``width`` cells, and ``single`` for each of the rest."""
    step = _TOGETHER * width
    whole = len(cells) - len(cells) % step
    db.executemany(together, [cells[n : n + step] for n in range(0, whole, step)])
    db.executemany(single, [cells[n : n + width] for n in range(whole, len(cells), width)])


def _write_retained(db: Connection, batch: Batch) -> None:
    ops = batch.retained.values()
    kept = [op[1:] for op in ops if op[0] == RETAIN]
    if kept:
        db.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)", kept)
    if len(kept) < len(batch.retained):
        db.executemany("DELETE FROM retained WHERE topic = ?", [op[1:] for op in ops if op[0] != RETAIN])


def _write_subscriptions(db: Connection, batch: Batch) -> None:
    given = [(*key, options) for key, options in batch.subscriptions.items() if options is not None]
    if given:
        db.executemany("INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?)", given)
    if len(given) < len(batch.subscriptions):
        gone = [key for key, options in batch.subscriptions.items() if options is None]
        db.executemany("DELETE FROM subscriptions WHERE session = ? AND topic_filter = ?", gone)


def _write_wills(db: Connection, batch: Batch) -> None:
    left = [astuple(one) for one in batch.wills.values() if one is not None]
    if left:
        db.executemany("INSERT OR REPLACE INTO wills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", left)
    if len(left) < len(batch.wills):
        gone = [(number,) for number, will in batch.wills.items() if will is None]
        db.executemany("DELETE FROM wills WHERE number = ?", gone)


def _session_row(record: SessionRecord, slot: int) -> tuple[object, ...]:
    return (
        record.number,
        slot,
        record.owner,
        record.client_id,
        record.version,
        record.expiry,
        record.disconnected_at,
    )


def slots(db: Connection) -> list[tuple[int, int]]:
    """(session, slot) of all sessions."""
    return db.execute("SELECT number, slot FROM sessions").fetchall()


def load_sessions(db: Connection) -> list[LoadedSession]:
    """All, by number, with what is owed to each."""
    seq_mask = (1 << SEQ_BITS) - 1
    subscriptions: dict[int, dict[str, int]] = {}
    for session, topic_filter, granted in db.execute("SELECT session, topic_filter, options FROM subscriptions"):
        subscriptions.setdefault(session, {})[topic_filter] = granted
    return [
        LoadedSession(
            record=SessionRecord(*fields),
            next_seq=1 if last is None else (last & seq_mask) + 1,
            queued=queued,
            size=size or 0,
            subscriptions=subscriptions.get(fields[0], {}),
        )
        for *fields, last, queued, size in db.execute(_LOAD_SESSIONS)
    ]


def load_wills(db: Connection) -> list[WillRecord]:
    """All, by number."""
    rows = db.execute("SELECT * FROM wills ORDER BY number")
    return [replace(WillRecord(*row), retain=bool(row[6])) for row in rows]


def load_queue(db: Connection, session: int, after: int, limit: int) -> list[QueueRow]:
    """The next rows of a session after a seq."""
    return [unpack_message(seq, data) for seq, data in db.execute(_LOAD_QUEUE, (session, after, limit))]


def load_incoming(db: Connection, session: int) -> list[int]:
    """The packet ids that a session holds."""
    return [packet_id for (packet_id,) in db.execute(_LOAD_INCOMING, (session, 0))]


def load_retained(db: Connection, after: str, limit: int) -> list[RetainedRow]:
    """The next retained messages after a topic."""
    rows = db.execute("SELECT * FROM retained WHERE topic > ? ORDER BY topic LIMIT ?", (after, limit))
    return [RetainedRow(*row) for row in rows]
