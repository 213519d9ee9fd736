"""``core.events``: from whoever has something to tell to the disk, and from there to those who want to know.

`Events.emit` only takes note. What waits is written in one commit, the journal's entry and that of each sink's queue
together; then the watchers are told. While storage refuses, events wait in memory, up to ``max_waiting``; past that the
oldest are lost, and counted. Until `open`, and where nobody opens it, they wait there too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.events.catalogue import KINDS
from broker.events.event import Event, checked_details
from broker.events.journal import Journal
from broker.model.errors import BrokerError
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage

#: Events in one commit.
BATCH: Final = 100
#: Events that wait for storage: an hour of a busy fleet, some megabytes.
MAX_WAITING: Final = 10_000


class Waiting:
    """An event that is not on disk yet.

    ``changes``: what belongs into the same commit. ``rules``: those that it may be for, ``sinks``: those that it is
    for, whatever the rules say; None: as the rules say. ``routed`` is the router's own.
    """

    __slots__ = ("changes", "event", "routed", "rules", "sinks")

    def __init__(
        self,
        event: Event,
        changes: Sequence[Change] = (),
        rules: Collection[str] | None = None,
        sinks: Collection[str] | None = None,
    ) -> None:
        self.event = event
        self.changes = changes
        self.rules = rules
        self.sinks = sinks
        self.routed: Any = None


class Router(Protocol):
    """Finds out who else has to hear of events."""

    async def route(self, one: Waiting) -> Sequence[Change]:
        """What else belongs into the commit of an event, which has its number. Raises Unavailable.

        Called again with the same one after a commit that failed.
        """

    def kept(self, batch: Sequence[Waiting]) -> None:
        """They are on disk."""


class Events:
    """``clock`` gives UNIX seconds."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, clock: Callable[[], float] = time.time, max_waiting: int = MAX_WAITING) -> None:
        self._clock = clock
        self._max_waiting = max_waiting
        self._waiting: deque[Waiting] = deque()
        #: What is being written; it goes before what waits.
        self._batch: list[Waiting] = []
        self._storage: IStorage | None = None
        self.journal: Journal | None = None
        self.router: Router | None = None
        #: Told of each event once it is on disk; must not block.
        self.watchers: list[Callable[[Event], None]] = []
        self._writing: Deferred[None] | None = None
        self._refused = False
        self.emitted: dict[str, int] = {}
        self.lost = 0

    # -- for whoever has something to tell -------------------------------------------------------------------------

    def emit(
        self,
        kind: str,
        device: str | None,
        details: Mapping[str, Any],
        protocol: str | None = None,
        *,
        changes: Sequence[Change] = (),
        rules: Collection[str] | None = None,
        sinks: Collection[str] | None = None,
    ) -> None:
        """Take note of an event of a kind of `KINDS`; nothing fails and nothing is waited for.

        ``device`` is an id of the registry, or of a LoRaWAN gateway; None for what concerns the whole broker.
        ``details`` is JSON. ``changes`` of records go into the event's own commit; for ``rules`` and ``sinks`` see
        `Waiting`. Raises ValueError for a kind that is in no catalogue.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of event")
        self.take(Waiting(self.made(kind, device, details, protocol), changes, rules, sinks))

    def take(self, one: Waiting) -> None:
        """The same for an event that is made already."""
        kind = one.event.kind
        self.emitted[kind] = self.emitted.get(kind, 0) + 1
        self._waiting.append(one)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self.lost += 1
        self._go_on()

    def made(self, kind: str, device: str | None, details: Mapping[str, Any], protocol: str | None = None) -> Event:
        """An event that is not emitted."""
        return Event(
            id=uuid4().hex,
            kind=kind,
            at=self._clock(),
            device=device,
            protocol=protocol,
            details=checked_details(dict(details)),
        )

    # -- its life --------------------------------------------------------------------------------------------------

    @deferred
    async def open(self, storage: IStorage) -> None:
        """Begin to write. Raises Unavailable."""
        journal = Journal(storage)
        await journal.open()
        self._storage, self.journal = storage, journal
        self._go_on()

    @deferred
    async def close(self) -> None:
        """Write what waits; what storage does not take now is lost, and said to be."""
        await self.settled()
        if self._storage is not None and (self._waiting or self._batch):
            self.log.warn("stopped with {count} events not written", count=len(self._waiting) + len(self._batch))
        self._storage = None

    def shut(self) -> None:
        """Another process writes events now. What waits is for that one, but for what belongs to our own knowledge."""
        self._storage = self.journal = self.router = None
        waiting = (*self._batch, *self._waiting)
        self._batch = []
        self._waiting = deque(one for one in waiting if not one.changes)

    def first(self, most: int) -> Sequence[Waiting]:
        """Those that have waited for the longest, for the process that writes events."""
        return [self._waiting[number] for number in range(min(most, len(self._waiting)))]

    def passed_on(self, some: Sequence[Waiting]) -> None:
        """They are that process's now."""
        for one in some:
            if self._waiting and self._waiting[0] is one:
                self._waiting.popleft()

    def told_elsewhere(self, event: Event) -> None:
        """Another process has written it: tell the watchers."""
        self._watch([event])

    @deferred
    async def settled(self) -> None:
        """Answers when everything that was emitted is on disk, or storage has refused it once."""
        self._go_on()
        while self._writing is not None:
            turn: Deferred[None] = Deferred()
            self._writing.addBoth(turn.callback)
            await turn

    def tick(self) -> None:
        """Try again what storage has refused; called once a second."""
        self._go_on()

    @property
    def waiting(self) -> Sequence[Event]:
        """What is not on disk yet, in its order."""
        return [one.event for one in (*self._batch, *self._waiting)]

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "events_waiting": len(self._waiting) + len(self._batch),
            "events_emitted_total": sum(self.emitted.values()),
            "events_lost_total": self.lost,
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._writing is None and self._storage is not None and (self._batch or self._waiting):
            self._writing = Deferred()
            Deferred.fromCoroutine(self._write()).addErrback(self._fault).addBoth(self._written)

    def _written(self, _: Any) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.callback(None)

    def _fault(self, failure: Any) -> None:
        self.log.failure("fault while events were written", failure)

    async def _write(self) -> None:
        storage, journal = self._storage, self.journal
        assert storage is not None and journal is not None
        while (self._batch or self._waiting) and self._storage is storage:
            batch = self._batch
            while self._waiting and len(batch) < BATCH:
                batch.append(self._waiting.popleft())
            for number, one in enumerate(batch, journal.newest + 1):
                one.event.number = number
            try:
                changes: list[Change] = []
                for one in batch:
                    changes += [journal.change(one.event), *one.changes]
                    if self.router is not None:
                        changes += await self.router.route(one)
                await storage.write_records(changes)
            except BrokerError as error:
                if self._storage is not storage:
                    return
                if not self._refused:  # said once, not every second
                    self.log.warn("events wait: {why}", why=error.message)
                self._refused = True
                return
            self._refused = False
            if self._storage is storage:
                self._batch = []
            journal.newest = batch[-1].event.number
            if self.router is not None:
                self.router.kept(batch)
            self._tell([one.event for one in batch])

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self.log.info(
                "event {kind} {device} {details}", kind=event.kind, device=event.device or "", details=event.details
            )
        self._watch(events)

    def _watch(self, events: Sequence[Event]) -> None:
        for event in events:
            for watcher in list(self.watchers):
                try:
                    watcher(event)
                except Exception:
                    self.log.failure("fault while told of an event")
