"""Operations in the order of the calls, many of them in one script: Redis's part of what `storage.lane` is for SQLite.

::

    tell(job) ──> queue ──turn's end──> all that waits, up to MAX_BATCH, in one EVALSHA ──> answers, in their order

One batch is under way at a time; what gathers meanwhile is the next one. Redis answers when the batch is on disk (as
far as its own settings promise that), and a look-up in a batch sees the changes before it.

A short loss of the connection is waited out: what is queued stays queued for ``doubt_timeout`` seconds, as SQLite waits
for a lock. After that everything is refused until the connection is back. `WriteLane` (in `writer`) has what a change
needs besides: it must neither be lost nor done twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import BrokerError, Conflict, Invalid, NotFound, Unavailable
from broker.routing.turns import at_turn_end
from broker.storage.redis.connection import RedisConnection
from broker.storage.redis.replies import FATAL, Argument, Lost, Refused, text_of
from broker.storage.redis.scripts import READ
from broker.storage.redis.settings import RedisTable

#: Called once with (result, None) or (None, error).
Answer: TypeAlias = Callable[[Any, Exception | None], None]
Decode: TypeAlias = Callable[[Any], Any]

#: Operations, and bytes of their arguments, in one batch: while it runs, Redis does nothing else.
MAX_BATCH: Final = 500
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024

#: A look-up; a change; a change that gives back room, which a full Redis is asked for as well.
LOOK, CHANGE, FREEING = "look", "change", "freeing"

_KINDS: Final = {b"conflict": Conflict, b"not-found": NotFound, b"invalid": Invalid, b"unavailable": Unavailable}


class Job:
    """One operation. ``undo``: takes it back, if it was done after all when its caller has heard that it failed."""

    __slots__ = ("answer", "arguments", "decode", "kind", "name", "size", "undo")

    def __init__(
        self,
        name: str,
        arguments: Sequence[Argument],
        kind: str,
        answer: Answer,
        decode: Decode | None = None,
        undo: Job | None = None,
    ) -> None:
        self.name = name
        #: Text is encoded now, so that what is not text is told to whoever brought it.
        self.arguments = [one.encode() if isinstance(one, str) else one for one in arguments]
        self.kind = kind
        self.answer = answer
        self.decode = decode
        self.undo = undo
        self.size = sum([len(one) for one in self.arguments if isinstance(one, bytes)])


class Lane:
    """For look-ups. ``connection`` is opened and closed by its owner, who loads `scripts.ALL` with it."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        connection: RedisConnection,
        prefix: str,
        settings: RedisTable,
        reactor: Any,
        max_pending: int,
        max_batch: int = MAX_BATCH,
    ) -> None:
        self.connection = connection
        self.max_pending = max_pending
        #: Jobs that were asked for and not yet answered.
        self.pending = 0
        #: Why nothing is taken any more, whatever the connection does; empty while that is not so.
        self.ended = "the storage is not open"
        self._key = f"{prefix}:"
        self._settings = settings
        self._reactor = reactor
        self._at_turn_end = at_turn_end(reactor)
        self._max_batch = max_batch
        self._queue: deque[Job] = deque()
        self._busy = False
        #: Whether the connection has been away for longer than is waited.
        self._away = False
        self._patience: Any = None
        self._settling: list[Deferred[None]] = []
        connection.on_up.append(self._up)
        connection.on_down.append(self._down)

    # -- from the storage ------------------------------------------------------------------------------------------

    def tell(self, job: Job) -> None:
        """Queue a job. When nothing is taken its answer is called at once."""
        refusal = self.refusal()
        if refusal is not None:
            job.answer(None, refusal)
            return
        self.pending += 1
        self._queue.append(job)
        if not self._busy and self.connection.connected:
            self._busy = True
            self._at_turn_end(self._submit)

    def ask(
        self,
        name: str,
        *arguments: Argument,
        kind: str = LOOK,
        decode: Decode | None = None,
    ) -> Deferred[Any]:
        """The same with a Deferred."""
        waiting: Deferred[Any] = Deferred()

        def answer(result: Any, error: Exception | None) -> None:
            if error is not None:
                waiting.errback(Failure(error))
            else:
                waiting.callback(result)

        try:
            job = Job(name, arguments, kind, answer, decode)
        except UnicodeEncodeError:
            answer(None, Invalid("a name holds half of a surrogate pair, which is not text"))
        else:
            self.tell(job)
        return waiting

    def refusal(self) -> Unavailable | None:
        """Why no work is taken now."""
        if self.ended:
            return Unavailable(self.ended)
        if self._away:
            return Unavailable(self.connection.trouble_now or "no connection to Redis")
        if self.pending >= self.max_pending:
            return Unavailable(f"{self.max_pending} operations wait for the storage already")
        return None

    def begin(self) -> None:
        """The connection was opened."""
        self.ended = ""
        if not self.connection.connected:
            self._wait()

    def settle(self) -> Deferred[None]:
        """Take no more; answers when all that was taken is answered."""
        self.ended = self.ended or "the storage is closed"
        settled: Deferred[None] = Deferred()
        self._settling.append(settled)
        if not self.pending:
            self._all_answered()
        return settled

    # -- the connection --------------------------------------------------------------------------------------------

    def _up(self) -> None:
        self._away = False
        self._wait_no_more()
        if not self._busy and self._queue:
            self._busy = True
            self._submit()

    def _down(self, why: str) -> None:
        if self.pending or not self.ended:
            self._wait()

    def _wait(self) -> None:
        """For the connection to come back, for so long and no longer."""
        if self._patience is None and not self._away:
            self._patience = self._reactor.callLater(self._settings.doubt_timeout, self._give_up)

    def _wait_no_more(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()

    def _give_up(self) -> None:
        """It has been away for too long: nothing is waited for."""
        self._patience = None
        self._away = True
        self._refuse_queue(Unavailable(self.connection.trouble_now or "no connection to Redis"))

    def _refuse_queue(self, error: Unavailable) -> None:
        queue, self._queue = self._queue, deque()
        self._finish([(job, None, error) for job in queue])

    # -- batches ---------------------------------------------------------------------------------------------------

    def _next_batch(self) -> list[Job]:
        jobs: list[Job] = []
        size = 0
        while self._queue and len(jobs) < self._max_batch and (not jobs or size < MAX_BATCH_BYTES):
            job = self._queue.popleft()
            jobs.append(job)
            size += job.size
        return jobs

    def _submit(self) -> None:
        """Send the next batch. ``_busy`` is set."""
        if not self._queue or not self.connection.connected:
            self._busy = False
            return
        self._send(self._next_batch())

    def _send(self, jobs: list[Job]) -> None:
        answer = self.connection.run(READ, (self._key,), ("read", *lines_of(jobs)))
        answer.addCallbacks(self._answered, self._failed, callbackArgs=(jobs,), errbackArgs=(jobs,))

    def _answered(self, reply: Any, jobs: list[Job]) -> None:
        self._done(jobs, reply[1])
        self._submit()

    def _failed(self, failure: Failure, jobs: list[Job]) -> None:
        error = self.presentable(failure)
        if isinstance(error, Lost) or (isinstance(error, Refused) and error.code in FATAL):
            # A look-up has changed nothing: it is done again when the connection is back.
            self._put_back(jobs)
        else:
            self._finish([(job, None, error) for job in jobs])
        self._submit()

    def _put_back(self, jobs: list[Job]) -> None:
        self._queue.extendleft(reversed(jobs))
        if self._away:
            self._refuse_queue(Unavailable(self.connection.trouble_now or "no connection to Redis"))

    def _done(self, jobs: list[Job], answers: list[Any]) -> None:
        self._finish([(job, *self._outcome(job, answer)) for job, answer in zip(jobs, answers, strict=True)])

    def _outcome(self, job: Job, answer: list[Any]) -> tuple[Any, Exception | None]:
        if len(answer) == 1:
            try:
                return (answer[0] if job.decode is None else job.decode(answer[0])), None
            except BrokerError as error:
                return None, error
            except Exception as error:
                return None, self.presentable(Failure(error))
        known = _KINDS.get(answer[0])
        if known is not None:
            return None, known(text_of(answer[1])[:300])
        self.log.error("fault in a script of the storage: {text}", text=text_of(answer[1]))
        return None, Unavailable("the storage failed by a fault of the broker; the log has it")

    def _finish(self, outcomes: Sequence[tuple[Job, Any, Exception | None]]) -> None:
        self.pending -= len(outcomes)
        for job, result, error in outcomes:
            try:
                job.answer(result, error)
            except Exception:
                self.log.failure("an answer of the storage could not be taken")
        if not self.pending:
            self._all_answered()

    def _all_answered(self) -> None:
        if self.ended:
            self._wait_no_more()
        settling, self._settling = self._settling, []
        for settled in settling:
            settled.callback(None)

    def presentable(self, failure: Failure) -> BrokerError:
        """Only the errors of the contract come out; any other is a fault of ours and is logged as one."""
        error = failure.value
        if isinstance(error, BrokerError):
            return error
        self.log.failure("fault in the storage", failure)
        return Unavailable("the storage failed by a fault of the broker; the log has it")


def lines_of(jobs: Sequence[Job]) -> list[Argument]:
    """The operations as the runners want them."""
    lines: list[Argument] = []
    for job in jobs:
        lines += (job.name, len(job.arguments))
        lines += job.arguments
    return lines
