"""The default storage: SQLite in WAL mode, synchronous=FULL, group commit. `interface` is the contract.

::

    writes, look-ups of one thing ──> write lane ── the only connection that writes (`writer`)
    lists, history                ──> read lane  ── a read-only connection

Which sees what: the write lane keeps the order of the calls, so a look-up sees every write that was asked for before,
answered or not, and is answered after the commit that it depends on. The read lane sees what was committed when its
turn comes, so every write that was answered before the list was asked for. Long lists never hold up a commit.

The SQL is in `registry_sql`, `live_sql`, `commands_sql`, `records_sql` and `session_sql`; the MQTT journal in
`session_journal` and `session_sqlite`; threads in `lane`; transactions and failures in `writer`; files, modes and the
lock in `place`; tables and versions in `schema`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from broker.model.errors import Invalid, Unavailable
from broker.model.messages import Command
from broker.model.records import ApplicationRecord, DeviceQuery, DeviceRecord, LiveState, Product, StoredMessage
from broker.storage import commands_sql, live_sql, records_sql, registry_sql
from broker.storage.deferred import deferred
from broker.storage.interface import Change, Done, IStorage, Readings
from broker.storage.lane import Lane, Work
from broker.storage.place import Place
from broker.storage.rows import command_row, command_state
from broker.storage.session_sqlite import SqliteSessionJournal
from broker.storage.writer import ReadSession, WriteSession

T = TypeVar("T")

#: Operations that may wait for the disk: past this, new work is refused rather than piled up.
MAX_PENDING = 10_000
#: Seconds to wait for a lock. Nobody else should hold one (see `place`), so this is for a person's sqlite3 shell.
BUSY_TIMEOUT = 1.0
#: Seconds that a commit proves the storage's health: to write for every look at it would wear flash out.
PROVEN_FOR = 30.0
#: Bytes that the probe of `health` writes and takes back: more than the pages that happen to be free.
PROBE_SIZE = 16_384


@implementer(IStorage)
class SqliteStorage:
    """``reactor`` gives callFromThread; ``clock`` UNIX seconds."""

    def __init__(
        self,
        path: str | Path,
        reactor: Any,
        clock: Callable[[], float],
        *,
        max_pending: int = MAX_PENDING,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self.path = Path(path)
        self._writer = WriteSession(Place(self.path), busy_timeout, lambda db: live_sql.mark_offline(db, clock()))
        self._write_lane = Lane("writer", self._writer, reactor, max_pending)
        self._read_lane = Lane("reader", ReadSession(self.path, busy_timeout), reactor, max_pending)
        self.sessions = SqliteSessionJournal(self._write_lane, self._read_lane, reactor)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "waiting": self._write_lane.pending + self._read_lane.pending,
            "commits_total": self._writer.commits,
            "failed_commits_total": self._writer.failed_commits,
            "session_operations_waiting": self.sessions.position - self.sessions.committed,
            "session_batches_total": self.sessions.batches,
            "session_messages_spared_total": self.sessions.spared,
        }

    @deferred
    async def open(self) -> None:
        await self._write_lane.start()
        try:
            await self._read_lane.start()
            await self.sessions.open()
        except BaseException:
            await self._read_lane.close()
            await self._write_lane.close()
            raise

    @deferred
    async def close(self) -> None:
        await self.sessions.settle()
        # The reader first: the last connection that closes empties the log, and that has to be the one that writes.
        await self._read_lane.close()
        await self._write_lane.close()

    @deferred
    async def settle(self) -> None:
        await self.sessions.settle()
        await self._look(lambda db: None)

    def mark_dead_offline(self) -> Deferred[None]:
        return succeed(None)

    @deferred
    async def health(self) -> str:
        """Proven by writing something, unless a commit proved it a moment ago and nothing failed since."""
        writer = self._writer
        refusal = self._write_lane.refusal() or self._read_lane.refusal()
        if refusal is not None:
            return refusal.message
        if not writer.doubtful and time.monotonic() - writer.proven_at < PROVEN_FOR:
            return ""
        try:
            await self._change(probe)
        except Unavailable as error:
            return error.message
        writer.doubtful = False
        return ""

    # products

    def add_product(self, product: Product) -> Deferred[None]:
        return self._change(lambda db: registry_sql.add_product(db, product))

    def save_product(self, product: Product) -> Deferred[None]:
        return self._change(lambda db: registry_sql.save_product(db, product))

    def delete_product(self, key: str) -> Deferred[None]:
        return self._change(lambda db: registry_sql.delete_product(db, key))

    def get_product(self, key: str) -> Deferred[Product | None]:
        return self._look(lambda db: registry_sql.get_product(db, key))

    def list_products(self) -> Deferred[list[Product]]:
        return self._list(registry_sql.list_products)

    # devices

    def add_devices(self, records: Sequence[DeviceRecord]) -> Deferred[list[str | None]]:
        return self._change(lambda db: registry_sql.add_devices(db, records))

    def save_device(self, record: DeviceRecord) -> Deferred[None]:
        return self._change(lambda db: registry_sql.save_device(db, record))

    def delete_device(self, device_id: str) -> Deferred[None]:
        return self._change(lambda db: registry_sql.delete_device(db, device_id))

    def get_device(self, device_id: str) -> Deferred[DeviceRecord | None]:
        return self._look(lambda db: registry_sql.get_device(db, device_id))

    def find_by_dev_eui(self, dev_eui: str) -> Deferred[DeviceRecord | None]:
        return self._look(lambda db: registry_sql.find_by_dev_eui(db, dev_eui))

    def count_devices(self) -> Deferred[dict[str, int]]:
        return self._list(registry_sql.count_devices)

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        return self._list(lambda db: registry_sql.list_devices(db, query, limit, cursor))

    def save_info(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        return self._change(lambda db: registry_sql.save_info(db, device_id, info))

    # applications and bindings

    def add_application(self, record: ApplicationRecord) -> Deferred[None]:
        return self._change(lambda db: registry_sql.add_application(db, record))

    def save_application(self, record: ApplicationRecord) -> Deferred[None]:
        return self._change(lambda db: registry_sql.save_application(db, record))

    def delete_application(self, application_id: str) -> Deferred[None]:
        return self._change(lambda db: registry_sql.delete_application(db, application_id))

    def get_application(self, application_id: str) -> Deferred[ApplicationRecord | None]:
        return self._look(lambda db: registry_sql.get_application(db, application_id))

    def find_by_cs_eui(self, cs_eui: str) -> Deferred[ApplicationRecord | None]:
        return self._look(lambda db: registry_sql.find_by_cs_eui(db, cs_eui))

    def list_applications(self) -> Deferred[list[ApplicationRecord]]:
        return self._list(registry_sql.list_applications)

    def bind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._change(lambda db: registry_sql.bind(db, application_id, device_id))

    def unbind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._change(lambda db: registry_sql.unbind(db, application_id, device_id))

    def devices_of(self, application_id: str) -> Deferred[list[str]]:
        return self._look(lambda db: registry_sql.devices_of(db, application_id))

    def applications_of(self, device_id: str) -> Deferred[list[str]]:
        return self._look(lambda db: registry_sql.applications_of(db, device_id))

    # last values, presence, history

    def get_values(self, device_id: str) -> Deferred[tuple[Readings, Readings]]:
        return self._look(lambda db: live_sql.get_values(db, device_id))

    def save_live(self, states: Sequence[LiveState]) -> Deferred[None]:
        return self._change(lambda db: live_sql.save_live(db, states))

    def add_messages(self, messages: Sequence[StoredMessage]) -> Deferred[None]:
        return self._change(lambda db: live_sql.add_messages(db, messages))

    def list_messages(
        self,
        device_id: str,
        kind: str | None,
        since: float | None,
        until: float | None,
        limit: int,
        cursor: str | None,
    ) -> Deferred[tuple[list[StoredMessage], str | None]]:
        return self._list(lambda db: live_sql.list_messages(db, device_id, kind, since, until, limit, cursor))

    @deferred
    async def prune(self, before: float, per_device: int) -> int:
        """The reader finds what has to go, the writer deletes it; each step is small and lets others in between."""
        gone = 0
        last: int | None = 0
        while last is not None:
            edges, last = await self._list(
                partial(live_sql.find_prunable, after=last, before=before, per_device=per_device)
            )
            while edges:
                count, edges = await self._change(partial(live_sql.prune_messages, edges=edges))
                gone += count
        while count := await self._change(lambda db: live_sql.prune_commands(db, before)):
            gone += count
        return gone

    # commands

    def add_command(self, command: Command, done: Done) -> None:
        try:
            row = command_row(command)
        except ValueError as error:
            done(Invalid(f"the command cannot be kept: {error}"))
            return
        self._write_lane.tell(lambda db: commands_sql.add_command(db, row), True, lambda _, error: done(error))

    def save_command(self, command: Command, done: Done) -> None:
        id, state = command.id, command_state(command)
        self._write_lane.tell(lambda db: commands_sql.save_command(db, id, state), True, lambda _, error: done(error))

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        self._write_lane.tell(lambda db: commands_sql.get_command(db, command_id), False, lambda found, _: done(found))

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        return self._look(lambda db: commands_sql.get_command(db, command_id))

    def open_commands(self) -> Deferred[list[Command]]:
        return self._list(commands_sql.open_commands)

    def list_commands(
        self, device_id: str, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[Command], str | None]]:
        return self._list(lambda db: commands_sql.list_commands(db, device_id, limit, cursor))

    # records

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        kept = tuple(changes)
        return self._change(lambda db: records_sql.write_records(db, kept))

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        return self._look(lambda db: records_sql.get_record(db, table, key))

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        return self._list(lambda db: records_sql.list_records(db, table, prefix, limit, after))

    # inside

    def _change(self, work: Work[T]) -> Deferred[T]:
        return self._write_lane.ask(work, writes=True)

    def _look(self, work: Work[T]) -> Deferred[T]:
        return self._write_lane.ask(work)

    def _list(self, work: Work[T]) -> Deferred[T]:
        return self._read_lane.ask(work)


def probe(db: sqlite3.Connection) -> None:
    """Write something of some size and take it back, in one transaction: it fails when work would fail."""
    db.execute("INSERT INTO probe VALUES (zeroblob(?))", (PROBE_SIZE,))
    db.execute("DELETE FROM probe")
