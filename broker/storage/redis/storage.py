"""Redis as the storage. `broker.storage.interface` is the contract.

::

    writes, look-ups of one thing ──> write lane (`writer`) ── one connection: exactly once, in the order of the calls
    lists, history                ──> read lane (`lane`)    ── another one, so that long answers hold nobody up

Which sees what: Redis does one thing after the other, so a look-up sees every write that was asked for before it, and a
list every write that was answered before. The operations are Lua, in ``lua/``, where the keys are explained; the MQTT
journal is in `journal`; what a Redis must be like in `fitness`.

What is answered is as durable as Redis's own settings make it: with AOF and ``appendfsync always`` it is on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from broker.model.errors import Invalid, Unavailable
from broker.model.messages import Command
from broker.model.records import ApplicationRecord, DeviceQuery, DeviceRecord, LiveState, Product, StoredMessage
from broker.storage.deferred import deferred
from broker.storage.interface import Change, Done, IStorage, Readings
from broker.storage.redis import questions, rows
from broker.storage.redis.address import RedisAddress
from broker.storage.redis.connection import Call, RedisConnection
from broker.storage.redis.fitness import check_fitness
from broker.storage.redis.journal import RedisSessionJournal
from broker.storage.redis.lane import CHANGE, FREEING, Answer, Decode, Job, Lane
from broker.storage.redis.replies import Argument, Unfit
from broker.storage.redis.schema import check_schema
from broker.storage.redis.scripts import ALL
from broker.storage.redis.settings import RedisTable
from broker.storage.redis.writer import RENEW_EVERY, WriteLane, renewal
from broker.storage.rows import text

#: Operations that may wait for Redis: past this, new work is refused rather than piled up.
MAX_PENDING: Final = 10_000
#: Seconds that a batch proves the storage's health.
PROVEN_FOR: Final = 30.0
#: Bytes that the probe of `health` writes and takes back.
PROBE_SIZE: Final = 16_384
#: Look-ups of lists that go into one script: Redis does nothing else meanwhile.
LISTS_TOGETHER: Final = 4
#: Devices that one page of a search may look at before it ends.
MAX_SEARCHED: Final = 50_000
#: Devices that are put off-line, and commands that are loaded or go, in one step.
STEP: Final = 500


@implementer(IStorage)
class RedisStorage:
    """``node``: this process's name, which no other may have. ``clock``: UNIX seconds."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        address: RedisAddress,
        settings: RedisTable,
        reactor: Any,
        clock: Callable[[], float],
        *,
        node: str = "node-1",
        allow_volatile: bool = False,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self.node = node
        self._clock = clock
        self._allow_volatile = allow_volatile
        self._key = f"{settings.prefix}:"
        self._database = ""
        self._cautioned = ""
        self._writing = RedisConnection(
            address, settings, reactor, f"{settings.prefix}:{node}:writer", prepare=self._greet_writer, scripts=ALL
        )
        self._reading = RedisConnection(
            address, settings, reactor, f"{settings.prefix}:{node}:reader", prepare=self._greet, scripts=ALL
        )
        self._write_lane = WriteLane(self._writing, settings.prefix, node, settings, reactor, max_pending)
        self._read_lane = Lane(self._reading, settings.prefix, settings, reactor, max_pending, LISTS_TOGETHER)
        self.sessions = RedisSessionJournal(self._write_lane, self._read_lane, reactor)
        self._renewing = LoopingCall(self._renew)
        self._renewing.clock = reactor

    @property
    def connection(self) -> RedisConnection:
        """The one that changes go through: what is published on it comes behind them."""
        return self._writing

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "waiting": self._write_lane.pending + self._read_lane.pending,
            "commits_total": self._write_lane.batches,
            "failed_commits_total": self._write_lane.failed_batches,
            "session_operations_waiting": self.sessions.position - self.sessions.committed,
            "session_batches_total": self.sessions.batches,
            "session_messages_spared_total": self.sessions.spared,
        }

    # -- life ------------------------------------------------------------------------------------------------------

    @deferred
    async def open(self) -> None:
        try:
            # The writer first: it has the name, and knows whose database it is.
            await self._writing.open()
            await self._reading.open()
            self._write_lane.begin()
            self._read_lane.begin()
            await self.sessions.open()
            await self._write_lane.ask("name_node", self.node, kind=CHANGE)
            await self.mark_offline()
        except BaseException:
            await self._end()
            raise
        self._renewing.start(RENEW_EVERY, now=False)

    @deferred
    async def mark_offline(self) -> None:
        """Put those devices off-line that a crash of this node left online, or of one that has not come back."""
        await self._mark_offline([self.node])

    async def _mark_offline(self, own: list[str]) -> None:
        dead = [node for node in rows.read_ids(await self._write_lane.ask("dead_nodes")) if node != self.node]
        for node in [*own, *dead]:
            at = rows.time_text(self._clock())
            while await self._write_lane.ask("mark_offline", node, at, STEP, kind=CHANGE):
                pass
        for node in dead:
            await self._write_lane.ask("forget_node", node, kind=CHANGE)

    @deferred
    async def mark_dead_offline(self) -> None:
        """As `mark_offline`, for other nodes alone."""
        await self._mark_offline([])

    @deferred
    async def settle(self) -> None:
        await self.sessions.settle()
        await self.get_product("")  # whatever is looked up sees what was written before

    def when_fenced(self, call: Callable[[], None]) -> None:
        """``call`` whenever Redis refuses a change because other processes have taken over what this one had."""
        self._write_lane.fenced = call

    def abandon(self) -> Deferred[None]:
        """Another process has what this one had: what waits is refused. Fires when nothing is under way any more."""
        return self._write_lane.abandon()

    @deferred
    async def close(self) -> None:
        await self.sessions.settle()
        if self._renewing.running:
            self._renewing.stop()
        if not self._write_lane.ended:
            self._write_lane.tell(Job("leave", (self.node,), FREEING, lambda _, error: None))
        await self._end()

    async def _end(self) -> None:
        await gatherResults([self._read_lane.settle(), self._write_lane.settle()])
        await gatherResults([self._reading.close(), self._writing.close()])

    async def _greet(self, call: Call) -> None:
        caution = await check_fitness(call, self._allow_volatile)
        found = await check_schema(call, self._key)
        if found.copying:
            raise Unfit("a copy into it was interrupted: `python -m broker.storage copy` with --resume goes on with it")
        if found.copied:
            raise Unavailable("it is being copied")
        if self._database and found.database != self._database:
            raise Unavailable("it has lost the data of this broker, or is another one than before: restart the broker")
        self._database = found.database
        if caution and caution != self._cautioned:
            self.log.warn("{caution}", caution=caution)
        self._cautioned = caution

    async def _greet_writer(self, call: Call) -> None:
        await self._greet(call)
        await self._write_lane.claim(call)

    def _renew(self) -> None:
        if not self._write_lane.pending and self._writing.connected:
            self._write_lane.tell(renewal(self._write_lane, self._not_renewed))

    def _not_renewed(self) -> None:
        self._write_lane.doubtful = True

    @deferred
    async def health(self) -> str:
        """Proven by writing something, unless a batch proved it a moment ago and nothing was refused since."""
        lane = self._write_lane
        refusal = lane.refusal() or self._read_lane.refusal()
        if refusal is not None:
            return refusal.message
        for connection in (self._writing, self._reading):
            if not connection.connected:
                return connection.trouble_now
        if not lane.doubtful and time.monotonic() - lane.proven_at < PROVEN_FOR:
            return ""
        try:
            await self._change("probe", PROBE_SIZE)
        except Unavailable as error:
            return error.message
        lane.doubtful = False
        return ""

    # -- products --------------------------------------------------------------------------------------------------

    def add_product(self, product: Product) -> Deferred[None]:
        return self._change("add_product", *rows.product_arguments(product))

    def save_product(self, product: Product) -> Deferred[None]:
        return self._change("save_product", *rows.product_arguments(product))

    def delete_product(self, key: str) -> Deferred[None]:
        return self._free("delete_product", key)

    def get_product(self, key: str) -> Deferred[Product | None]:
        return self._look("get_product", key, decode=rows.read_product)

    def list_products(self) -> Deferred[list[Product]]:
        return self._list("list_products", decode=rows.read_products)

    # -- devices ---------------------------------------------------------------------------------------------------

    def add_devices(self, records: Sequence[DeviceRecord]) -> Deferred[list[str | None]]:
        cells = [cell for record in records for cell in rows.device_arguments(record)]
        return self._change("add_devices", self.node, len(records), *cells, decode=questions.read_refusals)

    def save_device(self, record: DeviceRecord) -> Deferred[None]:
        return self._change("save_device", *rows.registered_arguments(record))

    def delete_device(self, device_id: str) -> Deferred[None]:
        return self._free("delete_device", device_id)

    def get_device(self, device_id: str) -> Deferred[DeviceRecord | None]:
        return self._look("get_device", device_id, decode=partial(rows.read_device, device_id))

    def find_by_dev_eui(self, dev_eui: str) -> Deferred[DeviceRecord | None]:
        return self._look("find_by_dev_eui", dev_eui, decode=rows.read_named_device)

    def count_devices(self) -> Deferred[dict[str, int]]:
        return self._list("count_devices", decode=questions.read_counts)

    @deferred
    async def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> tuple[list[DeviceRecord], str | None]:
        """In steps, so that a search for what there is not holds nobody up."""
        found: list[DeviceRecord] = []
        looked_at = 0
        while True:
            want = limit + 1 - len(found)
            batch, last = await self._list("find_devices", *questions.query_arguments(query, want, cursor))
            found += [record for record in map(rows.read_named_device, batch) if record is not None]
            if len(found) > limit:
                return found[:limit], found[limit - 1].id
            if not last:
                return found, None
            cursor = last.decode()
            looked_at += questions.LOOKED_AT
            if query.q and looked_at >= MAX_SEARCHED:
                return found, cursor

    def save_info(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        return self._change("save_info", device_id, text(info))

    # -- applications and bindings ---------------------------------------------------------------------------------

    def add_application(self, record: ApplicationRecord) -> Deferred[None]:
        return self._change("add_application", *rows.application_arguments(record))

    def save_application(self, record: ApplicationRecord) -> Deferred[None]:
        return self._change("save_application", *rows.application_arguments(record))

    def delete_application(self, application_id: str) -> Deferred[None]:
        return self._free("delete_application", application_id)

    def get_application(self, application_id: str) -> Deferred[ApplicationRecord | None]:
        return self._look("get_application", application_id, decode=rows.read_application)

    def find_by_cs_eui(self, cs_eui: str) -> Deferred[ApplicationRecord | None]:
        return self._look("find_by_cs_eui", cs_eui, decode=rows.read_application)

    def list_applications(self) -> Deferred[list[ApplicationRecord]]:
        return self._list("list_applications", decode=rows.read_applications)

    def bind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._change("bind", application_id, device_id)

    def unbind(self, application_id: str, device_id: str) -> Deferred[None]:
        return self._free("unbind", application_id, device_id)

    def devices_of(self, application_id: str) -> Deferred[list[str]]:
        return self._look("devices_of", application_id, decode=rows.read_ids)

    def applications_of(self, device_id: str) -> Deferred[list[str]]:
        return self._look("applications_of", device_id, decode=rows.read_ids)

    # -- last values, presence, history ----------------------------------------------------------------------------

    def get_values(self, device_id: str) -> Deferred[tuple[Readings, Readings]]:
        return self._look("get_values", device_id, decode=rows.read_values)

    def save_live(self, states: Sequence[LiveState]) -> Deferred[None]:
        return self._change("save_live", self.node, *rows.live_arguments(states))

    def add_messages(self, messages: Sequence[StoredMessage]) -> Deferred[None]:
        return self._change("add_messages", *rows.message_arguments(messages))

    @deferred
    async def list_messages(
        self,
        device_id: str,
        kind: str | None,
        since: float | None,
        until: float | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[list[StoredMessage], str | None]:
        at, number = ("", 0) if cursor is None else questions.position_of(cursor)
        low = "-inf" if since is None else rows.time_text(since)
        high = rows.time_text(until)
        answer = await self._list("list_messages", device_id, kind or "", low, high, limit + 1, at, number)
        found = rows.read_messages(device_id, answer)
        page = [message for message, _ in found[:limit]]
        return page, found[limit - 1][1] if len(found) > limit else None

    @deferred
    async def prune(self, before: float, per_device: int) -> int:
        edge = rows.time_text(before)
        gone, after = 0, "-"
        while after:
            count, last = await self._free("prune_messages", after, edge, per_device)
            gone += count
            after = f"({last.decode()}" if last else ""
        while count := await self._free("prune_commands", edge, STEP):
            gone += count
        return gone

    # -- commands --------------------------------------------------------------------------------------------------

    def add_command(self, command: Command, done: Done) -> None:
        try:
            arguments = rows.new_command_arguments(command)
        except ValueError as error:
            done(Invalid(f"the command cannot be kept: {error}"))
            return
        # Whoever hears that it was not kept may send another one: then this one must not be carried out.
        undo = Job("remove_command", (command.id,), FREEING, lambda _, error: None)
        self._tell("add_command", arguments, CHANGE, lambda _, error: done(error), undo)

    def save_command(self, command: Command, done: Done) -> None:
        self._tell("save_command", rows.command_arguments(command), FREEING, lambda _, error: done(error))

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        self.get_command(command_id).addCallbacks(done, lambda _: done(None))

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        return self._look("get_command", command_id, decode=rows.read_command)

    @deferred
    async def open_commands(self) -> list[Command]:
        found: list[Command] = []
        last = 0
        while True:
            batch = await self._list("open_commands", last, STEP, decode=rows.read_commands)
            found += [command for command, _ in batch]
            if len(batch) < STEP:
                return found
            last = batch[-1][1]

    @deferred
    async def list_commands(self, device_id: str, limit: int, cursor: str | None) -> tuple[list[Command], str | None]:
        before = "+inf"
        if cursor is not None:
            try:
                before = str(max(0, min(int(cursor), 1 << 62)))
            except ValueError:
                raise Invalid("this cursor was not given by a list of commands") from None
        found = await self._list("list_commands", device_id, before, limit + 1, decode=rows.read_commands)
        page = [command for command, _ in found[:limit]]
        return page, str(found[limit - 1][1]) if len(found) > limit else None

    # -- records ---------------------------------------------------------------------------------------------------

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        kind = CHANGE if any(change.value is not None for change in changes) else FREEING
        return self._write_lane.ask("write_records", *questions.change_arguments(changes), kind=kind)

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        return self._look("get_record", table, key)

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        low, high = questions.key_range(prefix, after)
        return self._list("list_records", table, low, high, limit, decode=questions.read_records)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _change(self, name: str, *arguments: Argument, decode: Decode | None = None) -> Deferred[Any]:
        return self._write_lane.ask(name, *arguments, kind=CHANGE, decode=decode)

    def _free(self, name: str, *arguments: Argument) -> Deferred[Any]:
        """A change that gives back room."""
        return self._write_lane.ask(name, *arguments, kind=FREEING)

    def _look(self, name: str, *arguments: Argument, decode: Decode | None = None) -> Deferred[Any]:
        return self._write_lane.ask(name, *arguments, decode=decode)

    def _list(self, name: str, *arguments: Argument, decode: Decode | None = None) -> Deferred[Any]:
        return self._read_lane.ask(name, *arguments, decode=decode)

    def _tell(
        self, name: str, arguments: Sequence[Argument], kind: str, answer: Answer, undo: Job | None = None
    ) -> None:
        try:
            job = Job(name, arguments, kind, answer, undo=undo)
        except UnicodeEncodeError:
            answer(None, Invalid("a name holds half of a surrogate pair, which is not text"))
            return
        self._write_lane.tell(job)
