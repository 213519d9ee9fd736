"""The journal of MQTT sessions on SQLite: a batch is one job of the write lane (`session_sql`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from broker.model.sessions import LoadedSession, QueueRow, RetainedRow, WillRecord
from broker.storage import session_sql
from broker.storage.lane import Lane
from broker.storage.session_batch import Batch, Slots
from broker.storage.session_journal import BatchJournal


class SqliteSessionJournal(BatchJournal):
    """``reactor`` gives callLater."""

    def __init__(self, write_lane: Lane, read_lane: Lane, reactor: Any) -> None:
        super().__init__(reactor, Slots())
        self._write_lane = write_lane
        self._read_lane = read_lane

    def write(self, batch: Batch, done: Callable[[Exception | None], None]) -> None:
        """See `BatchJournal`."""
        self._write_lane.tell(partial(session_sql.write, batch=batch), True, lambda _, error: done(error))

    def open(self) -> Deferred[None]:
        """Before the first op."""
        return self._write_lane.ask(session_sql.slots).addCallback(self._slots.load)

    def load_sessions(self) -> Deferred[Sequence[LoadedSession]]:
        """See the contract."""
        return self._read_lane.ask(session_sql.load_sessions)

    def load_wills(self) -> Deferred[Sequence[WillRecord]]:
        """See the contract."""
        return self._read_lane.ask(session_sql.load_wills)

    def load_queue(self, session: int, after: int, limit: int) -> Deferred[Sequence[QueueRow]]:
        """See the contract."""
        return self._read_lane.ask(lambda db: session_sql.load_queue(db, session, after, limit))

    def load_incoming(self, session: int) -> Deferred[Sequence[int]]:
        """See the contract."""
        return self._read_lane.ask(lambda db: session_sql.load_incoming(db, session))

    def load_retained(self, after: str, limit: int) -> Deferred[Sequence[RetainedRow]]:
        """See the contract."""
        return self._read_lane.ask(lambda db: session_sql.load_retained(db, after, limit))
