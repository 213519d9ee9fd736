"""A few things of one kind that are kept on disk and, all of them, in memory: rules, sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock

from broker.model.errors import LimitExceeded, NotFound
from broker.storage.deferred import deferred
from broker.storage.interface import IStorage
from broker.storage.records import Records


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a book."""

    id: str
    created_at: float = 0.0


T = TypeVar("T", bound=Kept)


class Book(Generic[T]):
    """By id, in the order in which they were made. ``what`` names one of them in errors, ``limit`` is a setting."""

    def __init__(self, storage: IStorage, table: str, kind: type[T], what: str, most: int, limit: str) -> None:
        self._records = Records(storage, table, kind)
        self._what = what
        self._most = most
        self._limit = limit
        self._by_id: dict[str, T] = {}
        self._changing = DeferredLock()
        #: Told of an id that was added, changed or removed, once it is on disk.
        self.on_change: list[Callable[[str], None]] = []

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id: str) -> T | None:
        return self._by_id.get(id)

    def get(self, id: str) -> T:
        """Raises NotFound."""
        one = self._by_id.get(id)
        if one is None:
            raise NotFound(f"there is no {self._what} {id!r}"[:200])
        return one

    @deferred
    async def open(self) -> None:
        """Raises Unavailable."""
        found: list[tuple[str, Any]] = await self._records.all()
        self._by_id = dict(sorted(found, key=lambda row: (row[1].created_at, row[0])))

    @deferred
    async def add(self, id: str, value: T) -> None:
        """Raises LimitExceeded, Unavailable."""
        async with self._changing:
            if len(self._by_id) >= self._most:
                raise LimitExceeded(f"there are {self._most} of them already", limit=self._limit)
            await self._records.add(id, value)
            self._by_id[id] = value
        self._tell(id)

    @deferred
    async def change(self, id: str, change: Callable[[T], T]) -> T:
        """What it has become. Raises NotFound, Unavailable, and what ``change`` raises."""
        async with self._changing:
            value = change(self.get(id))
            await self._records.put(id, value)
            self._by_id[id] = value
        self._tell(id)
        return value

    @deferred
    async def remove(self, id: str) -> None:
        """Raises NotFound, Unavailable."""
        async with self._changing:
            self.get(id)
            await self._records.remove(id)
            del self._by_id[id]
        self._tell(id)

    def _tell(self, id: str) -> None:
        for told in self.on_change:
            told(id)
