"""A copy from one storage into another: page after page, then both are read once more and compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from broker.model.errors import Unavailable
from broker.storage.copying.tables import TABLES, Digest, Side, Summing, Target

#: The cursor of a table that is done.
DONE = "done"
#: Stands in front of a cursor: an empty one means that a table was begun.
_AT = "at "


class Told(Protocol):
    """Whoever shows how far it is."""

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` rows of ``what``; once more when it is through."""


@dataclass(slots=True)
class Outcome:
    """table -> what was found in both."""

    tables: dict[str, Digest]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(digest.rows for digest in self.tables.values())


async def copy(
    source: Side, target: Target, told: Told, *, resume: bool, force: bool, clock: Callable[[], float] = time.monotonic
) -> Outcome:
    """Raises Conflict where the target is not to be written, and Unavailable; then it may be resumed."""
    began = clock()
    try:
        await source.open()
        await target.open()
        reached = await target.begin(source.name, resume, force)
        for table in TABLES:
            await _copy_table(source, target, told, table, reached.get(table, ""))
        tables = {}
        for table in TABLES:
            tables[table] = await _verified(source, target, told, table)
        await target.finish()
    finally:
        await target.close()
        await source.close()
    return Outcome(tables, clock() - began)


async def _copy_table(source: Side, target: Target, told: Told, table: str, reached: str) -> None:
    total = await source.count(table)
    done = await target.count(table)
    told.progress(table, done, total)
    after: str | None = None if reached == DONE else reached.removeprefix(_AT)
    while after is not None:
        rows, after = await source.read(table, after)
        await target.write(table, rows, DONE if after is None else _AT + after)
        done += len(rows)
        told.progress(table, done, total)


async def _verified(source: Side, target: Side, told: Told, table: str) -> Digest:
    total = await source.count(table)
    what = f"{table}, verified"
    one = await _sum(source, table, lambda done: told.progress(what, done, 2 * total))
    two = await _sum(target, table, lambda done: told.progress(what, total + done, 2 * total))
    if one != two:
        raise Unavailable(
            f"{table}: the copy differs from the source ({one.rows:,} rows there, {two.rows:,} here): begin anew with"
            " --force, and see that nobody changes the source"
        )
    return one


async def _sum(side: Side, table: str, told: Callable[[int], None]) -> Digest:
    summing = Summing()
    after: str | None = ""
    while after is not None:
        rows, after = await side.read(table, after)
        summing.add(rows)
        told(summing.rows)
    return summing.digest()
