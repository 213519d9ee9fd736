"""Ordered records in memory, with the contract of storage's: all or nothing, preconditions, bytewise order."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed

from broker.model.errors import Conflict, Unavailable
from broker.storage.records import ANY, Change


class MemoryRecords:
    """``broken``: everything fails with Unavailable."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, bytes]] = {}
        self.broken = False

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        if self.broken:
            return fail(Unavailable("broken"))
        return succeed(self.tables.get(table, {}).get(key))

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        if self.broken:
            return fail(Unavailable("broken"))
        rows = sorted(self.tables.get(table, {}).items(), key=lambda row: row[0].encode())
        found = [
            row for row in rows if row[0].startswith(prefix) and (after is None or row[0].encode() > after.encode())
        ]
        return succeed(found[:limit])

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        if self.broken:
            return fail(Unavailable("broken"))
        for change in changes:
            if change.expected is not ANY and self.tables.get(change.table, {}).get(change.key) != change.expected:
                return fail(Conflict(f"{change.table} {change.key} is another by now"))
        for change in changes:
            table = self.tables.setdefault(change.table, {})
            if change.value is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.value
        return succeed(None)
