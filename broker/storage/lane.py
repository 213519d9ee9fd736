"""One thread that carries out jobs in the order of the calls, and hands back the results of many at once.

::

    reactor thread                          the lane's thread
    ask(work) ──> queue ──────────────────> all that waits, up to MAX_BATCH, in one Session.run
    answers   <── one callFromThread <───── with every job's result or error

What a batch means (a transaction, a commit) is the `Session`'s business. Answers are given in the order of the calls,
so whoever asked first is told first, also across reads and writes of one lane.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from sqlite3 import Connection
from threading import Thread
from typing import Any, ClassVar, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import BrokerError, Unavailable

T = TypeVar("T")
Work = Callable[[Connection], T]
#: Called once in the reactor's thread with (result, None) or (None, error).
Answer = Callable[[Any, Exception | None], None]

#: Jobs in one batch: an answer should not wait for thousands that came after it.
MAX_BATCH = 1_000


class Job:
    """One piece of work. ``writes`` tells the session whether it needs a transaction."""

    __slots__ = ("answer", "error", "result", "work", "writes")

    def __init__(self, work: Work[Any], writes: bool, answer: Answer) -> None:
        self.work = work
        self.writes = writes
        self.answer = answer
        self.result: Any = None
        self.error: Exception | None = None


class Session(Protocol):
    """What happens in the thread."""

    def open(self) -> None:
        """Called first, in the thread. May raise Unavailable: then the thread ends."""

    def run(self, jobs: list[Job]) -> None:
        """Carry out the jobs, setting each one's ``result`` or ``error``. Must not raise."""

    def close(self) -> None:
        """Called last, in the thread. Must not raise."""


class Lane:
    """A thread with a bounded queue. ``reactor`` gives ``callFromThread``; ``max_pending`` jobs may wait."""

    log: ClassVar[Logger] = Logger()

    def __init__(self, name: str, session: Session, reactor: Any, max_pending: int) -> None:
        self.name = name
        self.max_pending = max_pending
        #: Jobs that were asked for and not yet answered.
        self.pending = 0
        self._session = session
        self._reactor = reactor
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._taking = False
        self._opened: Deferred[None] = Deferred()
        self._closers: list[Deferred[None]] = []

    def start(self) -> Deferred[None]:
        """Start the thread; answers when the session is open, or with its Unavailable."""
        # A daemon: if the process ends without `close`, that is a crash, which SQLite survives; hanging is worse.
        self._thread = Thread(target=self._live, name=f"storage {self.name}", daemon=True)
        self._taking = True
        self._thread.start()
        return self._opened

    def tell(self, work: Work[Any], writes: bool, answer: Answer) -> None:
        """Queue work and have ``answer`` called. When the queue is full or closed it is called at once."""
        refusal = self.refusal()
        if refusal is not None:
            answer(None, refusal)
            return
        self.pending += 1
        self._jobs.put(Job(work, writes, answer))

    def ask(self, work: Work[T], writes: bool = False) -> Deferred[T]:
        """The same with a Deferred."""
        waiting: Deferred[T] = Deferred()

        def answer(result: Any, error: Exception | None) -> None:
            if error is not None:
                waiting.errback(Failure(error))
            else:
                waiting.callback(result)

        self.tell(work, writes, answer)
        return waiting

    def close(self) -> Deferred[None]:
        """Finish what waits, then end the thread. Harmless when called twice or before `start`."""
        if self._thread is None:
            return succeed(None)
        if self._taking:
            self._taking = False
            self._jobs.put(None)
        ended: Deferred[None] = Deferred()
        self._closers.append(ended)
        return ended

    def refusal(self) -> Unavailable | None:
        """Why no work is taken now."""
        if not self._taking:
            return Unavailable("the storage is closed")
        if self.pending >= self.max_pending:
            return Unavailable(f"{self.max_pending} operations wait for the storage already")
        return None

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _live(self) -> None:
        tell = self._reactor.callFromThread
        try:
            self._session.open()
        except Exception as error:
            self._session.close()
            tell(self._not_opened, error)
            return
        tell(self._opened.callback, None)
        more = True
        while more:
            jobs, more = self._next_batch()
            if jobs:
                self._session.run(jobs)
                tell(self._answer, jobs)
        self._session.close()
        tell(self._join)

    def _next_batch(self) -> tuple[list[Job], bool]:
        """What waits, at least one job or the end; and whether more may come."""
        jobs: list[Job] = []
        job = self._jobs.get()
        try:
            while job is not None:
                jobs.append(job)
                if len(jobs) == MAX_BATCH:
                    return jobs, True
                job = self._jobs.get_nowait()
        except Empty:
            return jobs, True
        return jobs, False

    # -- in the reactor's thread -----------------------------------------------------------------------------------

    def _not_opened(self, error: Exception) -> None:
        self._join()
        self._opened.errback(Failure(self._presentable(error)))

    def _answer(self, jobs: list[Job]) -> None:
        self.pending -= len(jobs)
        for job in jobs:
            error = None if job.error is None else self._presentable(job.error)
            try:
                job.answer(job.result, error)
            except Exception:
                self.log.failure("an answer of the storage could not be taken")

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        self._taking = False
        if thread is not None:
            thread.join()
        closers, self._closers = self._closers, []
        for closer in closers:
            closer.callback(None)

    def _presentable(self, error: Exception) -> BrokerError:
        """Only the errors of the contract come out; any other is a fault of ours and is logged as one."""
        if isinstance(error, BrokerError):
            return error
        self.log.failure("fault in the storage", Failure(error, type(error), error.__traceback__))
        return Unavailable("the storage failed by a fault of the broker; the log has it")
