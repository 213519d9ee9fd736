"""One sink's queue, on disk: one delivery at a time, in order, until each event is delivered or given up.

::

    queue ──the oldest──> deliver ──2xx──> taken off the queue, on disk ──> the next
                             ├─ refused for good ──> a dead letter, in one commit
                             └─ not now ──> again later: retry_first, doubled up to retry_longest, less some by chance

An event that was delivered is taken off the queue before anything else is sent, however often storage has to be asked.
So it is delivered twice only if the broker is killed between the answer and that commit, some milliseconds; receivers
know it by its id. What is sent stays the same through all attempts, and so does its idempotency key.

A batch that is refused for good is sent again one by one: the others are not to blame for one that is.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from broker.events.event import Event
from broker.events.settings import EventsTable
from broker.events.sinks import DEAD_LETTERS, QUEUE, DeadLetter, Outcome, Queued, Sink, not_now
from broker.model.errors import BrokerError
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage
from broker.storage.records import Records

#: Seconds until storage is asked again that did not answer.
STORAGE_AGAIN: Final = 1.0
#: Seconds that a receiver may have us wait at most (Retry-After).
LONGEST_WISH: Final = 3_600.0
#: Seconds that a delivery which is under way may take when the broker stops.
STOP_GRACE: Final = 5.0
#: Times the first interval is doubled at most: beyond it is over any limit.
MOST_DOUBLED: Final = 40

Deliver = Callable[[Sink, Sequence[Event]], Awaitable[Outcome]]
T = TypeVar("T")
#: (key, what waits)
Entry = tuple[str, Queued]


class Courier:
    """``deliver`` must not raise; ``chance`` gives 0..1. ``sink`` may be replaced while this runs.

    ``clock`` gives UNIX seconds, for people; ``steady`` gives them without jumps, for the age of what waits.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        sink: Sink,
        storage: IStorage,
        deliver: Deliver,
        settings: EventsTable,
        reactor: Any,
        clock: Callable[[], float],
        steady: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.sink = sink
        self._storage = storage
        self._deliver = deliver
        self._settings = settings
        self._reactor = reactor
        self._clock = clock
        self._steady = steady
        self._chance = chance
        self._queue = Records(storage, QUEUE, Queued)
        self._dead = Records(storage, DEAD_LETTERS, DeadLetter)
        self.queued = 0
        self.dead = 0
        self.delivered = 0
        self.retried = 0
        self.died = 0
        #: The last outcome that was no delivery, since the last one that was.
        self.trouble: Outcome | None = None
        self.trouble_since: float | None = None
        #: UNIX seconds of the next attempt, while one is waited for.
        self.next_attempt: float | None = None
        #: What is being sent, from its first attempt on, and how often it was tried.
        self._sending: list[Entry] = []
        self._attempts = 0
        #: So many are sent one by one.
        self._singly = 0
        self._additions = 0
        self._running: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._stopped = False

    # -- its life --------------------------------------------------------------------------------------------------

    @deferred
    async def open(self) -> None:
        """Count what is there, and begin. Raises Unavailable."""
        self.queued = await self._count(QUEUE)
        self.dead = await self._count(DEAD_LETTERS)
        self.wake()

    async def _count(self, table: str) -> int:
        count, after = 0, None
        while True:
            rows = await self._storage.list_records(table, self._prefix, 1000, after)
            count += len(rows)
            if len(rows) < 1000:
                return count
            after = rows[-1][0]

    @deferred
    async def stop(self) -> None:
        """Send nothing more. What is under way has `STOP_GRACE` to be answered: if it is not, it will be sent again."""
        self._stopped = True
        self.hurry()
        running = self._running
        if running is not None:
            turn: Deferred[None] = Deferred()
            running.addBoth(turn.callback)
            giving_up = self._reactor.callLater(STOP_GRACE, running.cancel)
            await turn
            if giving_up.active():
                giving_up.cancel()

    def abandon(self) -> None:
        """Another process has the queue now: stop at once, and write nothing more."""
        self._stopped = True
        self.hurry()
        if self._running is not None:
            self._running.cancel()

    def added(self, count: int) -> None:
        """So many are on disk now."""
        self.queued += count
        self._additions += 1
        self.wake()

    def wake(self) -> None:
        """Go on, unless that is being done."""
        if self._running is None and not self._stopped and self.sink.enabled and self.queued:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._fault).addBoth(self._over)

    def hurry(self) -> None:
        """Do not wait for the next attempt: the sink was changed, or somebody asks."""
        if self._pause is not None:
            self._pause.cancel()

    def _over(self, _: Any) -> None:
        self._running = None

    def _fault(self, failure: Any) -> None:
        if failure.check(CancelledError) is None or not self._stopped:
            self.log.failure("fault while delivering to {sink}", failure, sink=self.sink.id)

    @property
    def _prefix(self) -> str:
        return f"{self.sink.id}/"

    # -- delivering ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopped and self.sink.enabled:
            additions = self._additions
            if not self._sending:
                self._sending = await self._patiently(self._next)
                self._attempts = 0
            if not self._sending:
                if additions == self._additions:
                    return
                continue  # one more has come since the list was asked for
            self._attempts += 1
            events = [entry.event for _, entry in self._sending]
            outcome = await self._deliver(self.sink, events)
            if outcome.delivered:
                await self._take_off(outcome)
            elif outcome.final:
                await self._refused(outcome)
            else:
                await self._put_off(outcome)

    def _next(self) -> Deferred[list[Entry]]:
        return self._queue.page(self._prefix, 1 if self._singly else self.sink.batch)

    async def _bury_old(self) -> None:
        """Those that have waited for too long, whether they were tried or not: the receiver was, a moment ago."""
        assert self.trouble is not None
        why = not_now(f"not delivered in time, the last time: {self.trouble.detail}", self.trouble.status)
        before = self._steady() - self._settings.retry_for
        page: list[Entry] = self._sending
        while old := [entry for entry in page if entry[1].at <= before]:
            await self._bury(old, why)
            if len(old) < len(page):
                return
            page = await self._patiently(lambda: self._queue.page(self._prefix, 500))

    async def _take_off(self, outcome: Outcome) -> None:
        entries = self._sending
        await self._write([self._queue.change(key, None) for key, _ in entries])
        self._done(entries)
        self.delivered += len(entries)
        if self.trouble is not None:
            self.log.info("{sink} takes events again", sink=self.sink.id)
        self.trouble = self.trouble_since = None

    async def _refused(self, outcome: Outcome) -> None:
        if len(self._sending) > 1:
            self._singly = len(self._sending)
            self._sending = []
            return
        self._note(outcome)
        await self._bury(self._sending, outcome)

    async def _put_off(self, outcome: Outcome) -> None:
        self._note(outcome)
        self.retried += 1
        await self._bury_old()
        table = self._settings
        seconds = min(table.retry_longest, table.retry_first * 2 ** min(self._attempts - 1, MOST_DOUBLED))
        seconds *= 1.0 - self._chance() / 2
        if outcome.retry_after is not None:
            seconds = max(seconds, min(outcome.retry_after, LONGEST_WISH))
        await self._wait(seconds)

    def _note(self, outcome: Outcome) -> None:
        if self.trouble is None:
            self.trouble_since = self._clock()
            self.log.warn("{sink} does not take events: {why}", sink=self.sink.id, why=outcome.detail)
        self.trouble = outcome

    async def _bury(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        now = self._clock()
        changes = []
        for key, entry in entries:
            letter = DeadLetter(
                event=entry.event, at=now, attempts=self._attempts, reason=outcome.detail, status=outcome.status
            )
            changes += [self._queue.change(key, None), self._dead.change(key, letter)]
        await self._write(changes)
        self._done(entries)
        self.dead += len(entries)
        self.died += len(entries)
        self.log.warn("{count} events to {sink} are given up", count=len(entries), sink=self.sink.id)

    def _done(self, entries: Sequence[Entry]) -> None:
        self.queued -= len(entries)
        self._singly = max(0, self._singly - len(entries))
        self._sending = []

    async def _write(self, changes: list[Change]) -> None:
        """Until it is on disk: nothing else is sent before."""
        await self._patiently(lambda: self._storage.write_records(changes))

    async def _patiently(self, ask: Callable[[], Deferred[T]]) -> T:
        """Ask storage until it answers."""
        told = False
        while True:
            try:
                return await ask()
            except BrokerError as error:
                if not told:  # said once, not every second
                    self.log.warn("{sink} waits for storage: {why}", sink=self.sink.id, why=error.message)
                told = True
                await self._wait(STORAGE_AGAIN)

    async def _wait(self, seconds: float) -> None:
        """`hurry` ends it. Raises CancelledError when nothing more is to be sent."""
        if self._stopped:
            raise CancelledError
        self.next_attempt = self._clock() + seconds
        self._pause = deferLater(self._reactor, seconds)
        try:
            await self._pause
        except CancelledError:
            if self._stopped:
                raise
        finally:
            self._pause = self.next_attempt = None

    # -- dead letters ----------------------------------------------------------------------------------------------

    @deferred
    async def dead_letters(self, limit: int, after: str | None) -> list[tuple[str, DeadLetter]]:
        """(event number as text, letter), the oldest first. Raises Unavailable."""
        prefix = self._prefix
        page = await self._dead.page(prefix, limit, None if after is None else prefix + after)
        return [(key.removeprefix(prefix), letter) for key, letter in page]

    @deferred
    async def revive(self, wanted: Callable[[DeadLetter], bool]) -> int:
        """Put dead letters back into the queue; how many. Raises Unavailable."""
        return await self._each_dead(wanted, True)

    @deferred
    async def drop(self, wanted: Callable[[DeadLetter], bool]) -> int:
        """Forget dead letters; how many. Raises Unavailable."""
        return await self._each_dead(wanted, False)

    async def _each_dead(self, wanted: Callable[[DeadLetter], bool], again: bool) -> int:
        done, after = 0, ""
        while True:
            page = await self._dead.page(self._prefix, 500, after or None)
            chosen = [(key, letter) for key, letter in page if wanted(letter)]
            changes = [self._dead.change(key, None) for key, _ in chosen]
            if again:
                now = self._steady()
                changes += [self._queue.change(key, Queued(event=letter.event, at=now)) for key, letter in chosen]
            if changes:
                await self._storage.write_records(changes)
            done += len(chosen)
            self.dead -= len(chosen)
            if again:
                self.added(len(chosen))
            if len(page) < 500:
                return done
            after = page[-1][0]

    @deferred
    async def trim_dead(self) -> None:
        """Keep no more than the settings allow: the oldest go. Raises Unavailable."""
        over = self.dead - self._settings.max_dead_letters
        while over > 0:
            page = await self._dead.page(self._prefix, min(over, 500))
            if not page:
                return
            await self._storage.write_records([self._dead.change(key, None) for key, _ in page])
            self.dead -= len(page)
            over -= len(page)

    @deferred
    async def forget(self) -> None:
        """The sink is gone: everything that waits for it goes, too. Raises Unavailable."""
        await self.stop()
        for table in (QUEUE, DEAD_LETTERS):
            while True:
                rows = await self._storage.list_records(table, self._prefix, 500)
                if not rows:
                    break
                await self._storage.write_records([Change(table, key, None) for key, _ in rows])
        self.queued = self.dead = 0
