"""What a protocol keeps for itself: records of one type, by key, in tables that it names.

::

    sessions = Records(core.storage, "lorawan_sessions", Session)
    await sessions.put("70B3D57ED0000001", session)                       on disk when it answers
    await core.storage.write_records([sessions.change(eui, one), queue.change(key, None)])       all, or nothing

A table needs no making; its name begins with the protocol's. Values are stored as MessagePack of the struct's fields by
name, so a field may be added to a struct when it has a default, and one may be removed; a record that can no longer be
read is Unavailable and is never passed over in silence.

A value expected to be there is given as the bytes that `look` gave, never encoded anew: after a field was added the
same value has other bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from broker.model.errors import Invalid, Unavailable
from broker.storage.deferred import deferred
from broker.storage.interface import ANY, Change, Expected, IStorage

__all__ = ["ANY", "Change", "Expected", "Records"]

T = TypeVar("T", bound=msgspec.Struct)

#: Records that `Records.all` asks for at a time: some milliseconds of work for the reactor.
SLICE = 1_000


class Records(Generic[T]):
    """One table. Errors are those of the storage: Unavailable, and Conflict where something is expected."""

    def __init__(self, storage: IStorage, table: str, kind: type[T]) -> None:
        self.storage = storage
        self.table = table
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)

    def change(self, key: str, value: T | None, expected: Expected = ANY) -> Change:
        """For `IStorage.write_records`, together with changes of other tables. None removes.

        Raises Invalid for a value that MessagePack cannot hold (JSON has greater integers).
        """
        try:
            return Change(self.table, key, None if value is None else self._encode(value), expected)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Invalid(f"the record {key!r} of {self.table} cannot be kept: {error}"[:300]) from None

    @deferred
    async def put(self, key: str, value: T) -> None:
        await self.storage.write_records((self.change(key, value),))

    @deferred
    async def add(self, key: str, value: T) -> None:
        """Put where nothing is yet; Conflict."""
        await self.storage.write_records((self.change(key, value, None),))

    def remove(self, key: str) -> Deferred[None]:
        """What is not there is no error."""
        return self.storage.write_records((self.change(key, None),))

    @deferred
    async def get(self, key: str) -> T | None:
        """Sees every write that was asked for before."""
        raw = await self.storage.get_record(self.table, key)
        return None if raw is None else self._decode(key, raw)

    @deferred
    async def look(self, key: str) -> tuple[T, bytes] | None:
        """The value, and its bytes for ``expected``."""
        raw = await self.storage.get_record(self.table, key)
        return None if raw is None else (self._decode(key, raw), raw)

    @deferred
    async def page(self, prefix: str = "", limit: int = 1000, after: str | None = None) -> list[tuple[str, T]]:
        """(key, value) in the order of the keys; sees every write that was answered before."""
        rows: Sequence[tuple[str, bytes]] = await self.storage.list_records(self.table, prefix, limit, after)
        return [(key, self._decode(key, raw)) for key, raw in rows]

    @deferred
    async def all(self, prefix: str = "") -> list[tuple[str, T]]:
        """Every record, for the start; read in slices, so that other work goes on in between."""
        found: list[tuple[str, T]] = []
        after: str | None = None
        while True:
            slice = await self.page(prefix, SLICE, after)
            found += slice
            if len(slice) < SLICE:
                return found
            after = slice[-1][0]

    def _decode(self, key: str, raw: bytes) -> T:
        try:
            return self._decoder.decode(raw)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"the record {key!r} of {self.table} cannot be read: {error}"[:300]) from None
