"""The journal of commands in SQL. Plain functions of an open connection."""

from __future__ import annotations

from sqlite3 import Connection, IntegrityError

from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.messages import Command
from broker.storage.rows import COMMAND_COLUMNS, Row, command_of

_SELECT = f"SELECT {COMMAND_COLUMNS} FROM commands c CROSS JOIN devices d ON d.n = c.device"  # nosec B608
_INSERT = """INSERT INTO commands (device, id, payload, origin, created_at, expires_at, timeout, ref, options,
        status, result, late, updated_at, deadline, ended)
    SELECT n, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15 FROM devices WHERE id = ?1"""


def add_command(db: Connection, row: Row) -> None:
    try:
        added = db.execute(_INSERT, row)
    except IntegrityError:
        raise Conflict("there is a command of this id already") from None
    if not added.rowcount:
        raise NotFound(f"there is no device {row[0]!r}")


def save_command(db: Connection, command_id: str, state: Row) -> None:
    """A command that is gone, because its device was removed, has nothing to keep: that is no error."""
    db.execute(
        "UPDATE commands SET status = ?, result = ?, late = ?, updated_at = ?, deadline = ?, ended = ? WHERE id = ?",
        (*state, command_id),
    )


def get_command(db: Connection, command_id: str) -> Command | None:
    row = db.execute(f"{_SELECT} WHERE c.id = ?", (command_id,)).fetchone()
    return None if row is None else command_of(row)


def open_commands(db: Connection) -> list[Command]:
    return [command_of(row) for row in db.execute(f"{_SELECT} WHERE c.ended = 0 ORDER BY c.n")]


def list_commands(db: Connection, device_id: str, limit: int, cursor: str | None) -> tuple[list[Command], str | None]:
    before = 1 << 62
    if cursor is not None:
        try:
            before = min(before, int(cursor))
        except ValueError:
            raise Invalid("this cursor was not given by a list of commands") from None
    rows = db.execute(
        f"SELECT {COMMAND_COLUMNS} FROM devices d CROSS JOIN commands c ON c.device = d.n"  # nosec B608
        " WHERE d.id = ? AND c.n < ? ORDER BY c.n DESC LIMIT ?",
        (device_id, max(before, 0), limit + 1),
    ).fetchall()
    return [command_of(row) for row in rows[:limit]], str(rows[limit - 1][-1]) if len(rows) > limit else None
