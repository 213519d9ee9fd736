"""Records that every process has for itself, in a storage that several share: their tables have the node's name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from broker.storage.interface import Change


class OwnTables:
    """``storage``, but for the records of ``tables``, which are those of ``node``."""

    def __init__(self, storage: Any, node: str, tables: Collection[str]) -> None:
        self._storage = storage
        self._names = {table: f"{table}:{node}" for table in tables}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        """See `IStorage`."""
        names = self._names
        own = [
            msgspec.structs.replace(change, table=names[change.table]) if change.table in names else change
            for change in changes
        ]
        written: Deferred[None] = self._storage.write_records(own)
        return written

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        """See `IStorage`."""
        found: Deferred[bytes | None] = self._storage.get_record(self._names.get(table, table), key)
        return found

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        """See `IStorage`."""
        found: Deferred[list[tuple[str, bytes]]] = self._storage.list_records(
            self._names.get(table, table), prefix, limit, after
        )
        return found
