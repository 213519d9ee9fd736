"""The SQLite storage without threads and without a disk, for thousands of short lives: its own SQL on a database in
memory, which begins as a copy of one that was prepared.

What is asked is done at once and answered in the next round of `Rounds`, so that whoever asks has to wait as with a
disk, and a test says for how long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.storage.files import FileStore
from broker.storage.lane import Answer, Job, Lane, Work
from broker.storage.place import Place
from broker.storage.schema import migrate
from broker.storage.session_sqlite import SqliteSessionJournal
from broker.storage.sqlite import MAX_PENDING, SqliteStorage
from broker.storage.writer import WriteSession

#: Rounds after which whatever goes on would go on for ever.
MAX_ROUNDS: Final = 10_000


class Rounds(Clock):
    """A reactor whose time a test moves; what its threads have done is told by `round`."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Callable[[], None]] = []

    def round(self) -> bool:
        """Tell what threads have done so far, and end the turn; whether they have done more because of that."""
        told, self._told = self._told, []
        for tell in told:
            tell()
        self.advance(0)
        return bool(self._told)

    def settle(self) -> None:
        """Until nothing is under way."""
        for _ in range(MAX_ROUNDS):
            if not self.round():
                return
        raise AssertionError(f"something is still under way after {MAX_ROUNDS} rounds")

    # -- what a reactor has, and its pool of threads ---------------------------------------------------------------

    def callFromThread(self, call: Callable[..., Any], *given: Any, **named: Any) -> None:
        self._told.append(partial(call, *given, **named))

    def getThreadPool(self) -> Rounds:
        return self

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], None], work: Callable[..., Any], *given: Any, **named: Any
    ) -> None:
        try:
            result = work(*given, **named)
        except Exception:  # as a pool of threads does: it is the caller's to hear of
            told(False, Failure())
        else:
            told(True, result)

    def stop(self) -> None:
        """A pool is stopped; this one has no threads."""


class InMemory(WriteSession):
    """``image``: a database to begin with; empty for a new one."""

    def __init__(self, image: bytes) -> None:
        super().__init__(Place(Path("memory")), 0.0)
        self.connection = self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        if image:
            self.connection.deserialize(image)
        else:
            migrate(self.connection)


class Unthreaded(Lane):
    """A lane that is always open."""

    def __init__(self, name: str, session: InMemory, reactor: Rounds) -> None:
        super().__init__(name, session, reactor, MAX_PENDING)
        self._taking = True

    def tell(self, work: Work[Any], writes: bool, answer: Answer) -> None:
        refusal = self.refusal()
        if refusal is not None:
            answer(None, refusal)
            return
        self.pending += 1
        job = Job(work, writes, answer)
        self._session.run([job])
        self._reactor.callFromThread(self._answer, [job])


class MemorySqlite(SqliteStorage):
    """Needs no `open`; ``image`` as for `InMemory`."""

    def __init__(self, reactor: Rounds, image: bytes = b"") -> None:
        super().__init__("memory", reactor, reactor.seconds)
        self._writer = self.database = InMemory(image)
        self._write_lane = Unthreaded("writer", self.database, reactor)
        self._read_lane = Unthreaded("reader", self.database, reactor)
        self.sessions = SqliteSessionJournal(self._write_lane, self._read_lane, reactor)
        self.sessions.open()

    def image(self) -> bytes:
        """All of it, as another one can begin with."""
        image: bytes = self.database.connection.serialize()
        return image


class Files(FileStore):
    """Files whose contents lie in a folder that many share, and nobody sweeps."""

    def __init__(self, storage: MemorySqlite, folder: Path, reactor: Rounds) -> None:
        super().__init__(storage, folder, reactor, reactor.seconds, reserve=0)
        self._folder.make()
        self._pool = reactor.getThreadPool()  # type: ignore[assignment]  # as much of one as is used
