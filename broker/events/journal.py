"""The events on disk, in their order, as many and as old as the settings say.

A record an event, by its number as 16 hexadecimal digits, so that the order of the keys is that of the events. Numbers
go on for ever: the newest event is never pruned, so the next number is known after every restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from broker.events.event import Event
from broker.model.errors import Invalid
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage
from broker.storage.records import Records

#: Events that are read at once: some milliseconds of work.
SLICE: Final = 500
#: Events that one call for a list looks at before it answers with what it has, and a cursor.
MAX_LOOKED_AT: Final = 5_000


def key_of(number: int) -> str:
    return f"{number:016x}"


class Journal:
    """`open` first."""

    def __init__(self, storage: IStorage) -> None:
        self._storage = storage
        self._records = Records(storage, "events", Event)
        #: Numbers of the oldest and the newest event that are kept; the oldest is over the newest when there is none.
        self.oldest = 1
        self.newest = 0

    @deferred
    async def open(self) -> None:
        """Find the ends. Raises Unavailable."""
        first = await self._records.page(limit=1)
        if not first:
            return
        self.oldest = int(first[0][0], 16)
        # Nobody counts on disk: the newest is found by halving what is left above one that is there.
        self.newest, above = self.oldest, 1 << 62
        while self.newest < above:
            middle = (self.newest + above + 1) // 2
            found = await self._records.page(limit=1, after=key_of(middle - 1))
            if found:
                self.newest = int(found[0][0], 16)
            else:
                above = middle - 1

    def change(self, event: Event) -> Change:
        """To be written; the event has its number."""
        return self._records.change(key_of(event.number), event)

    @deferred
    async def page(
        self, limit: int, wanted: Callable[[Event], bool], since: float | None, cursor: str | None
    ) -> tuple[list[Event], str | None]:
        """The newest first, and the cursor of the rest. A page may be short though there are more.

        ``since``: the list ends where a whole slice is older (a single one may be, by a clock that was set). Raises
        Invalid, Unavailable.
        """
        end = self.newest + 1 if cursor is None else _number(cursor)
        found: list[Event] = []
        looked_at = 0
        while end > self.oldest and looked_at < MAX_LOOKED_AT:
            begin = max(self.oldest, end - SLICE)
            events = await self._between(begin, end)
            if since is not None and events and all(event.at < since for event in events):
                return found, None
            for event in reversed(events):
                end = event.number
                if (since is None or event.at >= since) and wanted(event):
                    found.append(event)
                    if len(found) == limit:
                        return found, key_of(end) if end > self.oldest else None
            looked_at += SLICE
            end = begin
        return found, key_of(end) if end > self.oldest else None

    async def _between(self, begin: int, end: int) -> list[Event]:
        page = await self._records.page(limit=end - begin, after=key_of(begin - 1))
        return [event for key, event in page if key < key_of(end)]

    @deferred
    async def prune(self, before: float, keep: int) -> int:
        """Drop what is older than ``before`` or more than ``keep``, some at a time; how many went. Unavailable."""
        gone = 0
        while True:
            page: Sequence[tuple[str, Event]] = await self._records.page(limit=SLICE)
            last = min(self.newest - keep, self.newest - 1)
            old: list[str] = []
            # From the front on, so that what is left has no gaps: of those behind a wrong time the number counts.
            for key, one in page:
                if one.number > last and (one.at >= before or one.number >= self.newest):
                    break
                old.append(key)
            if not old:
                return gone
            await self._storage.write_records([self._records.change(key, None) for key in old])
            gone += len(old)
            self.oldest = int(old[-1], 16) + 1
            if len(old) < SLICE:
                return gone


def _number(cursor: str) -> int:
    try:
        number = int(cursor, 16)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 62 or len(cursor) != 16:
        raise Invalid("this cursor was not given by a list of events")
    return number
