"""Redis as one side of a copy. The keys are explained in ``broker/storage/redis/lua``.

While the copier is there it has a name among the nodes, so that no broker starts. A target that is not whole yet has
notes in ``<prefix>:copying``, and no broker starts on it either.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import gatherResults
from twisted.internet.task import LoopingCall

from broker.model.errors import Conflict, Unavailable
from broker.storage.copying.redis_rows import (
    CELLS,
    COUNTED,
    OF_SESSION,
    OWNED,
    READING_COMMANDS,
    WRITING,
    Operation,
    device_cells,
    time_of,
)
from broker.storage.copying.tables import OWNERS, PAGE, Page, Row, plain
from broker.storage.redis.address import RedisAddress
from broker.storage.redis.connection import Call, RedisConnection
from broker.storage.redis.fitness import check_fitness
from broker.storage.redis.journal import read_retained, read_session, read_will
from broker.storage.redis.replies import Argument, Reply, text_of
from broker.storage.redis.rows import unpack_row
from broker.storage.redis.schema import COPIER, check_schema
from broker.storage.redis.scripts import ALL, READ, WRITE
from broker.storage.redis.settings import RedisTable
from broker.storage.redis.writer import LEASE, RENEW_EVERY, Holder

#: Keys that are there without anything being kept.
_EMPTY: Final = ("schema", "nodes", "node_names", "writer:", "probe", "copying")
#: Devices or sessions whose rows are asked for at once: a few, and twice as many each time, until a page is full.
_TOGETHER: Final = 5
#: Keys that one step of emptying takes.
_SCANNED: Final = 1_000


class RedisSide:
    """``reactor``: the running one. ``allow_volatile``: see [storage]."""

    def __init__(self, address: RedisAddress, settings: RedisTable, reactor: Any, allow_volatile: bool) -> None:
        self.name = f"redis: {address}, prefix {settings.prefix}"
        self._key = f"{settings.prefix}:"
        self._allow_volatile = allow_volatile
        name = f"{settings.prefix}:{COPIER}"
        self.redis = RedisConnection(address, settings, reactor, name, prepare=self._greet, scripts=ALL)
        #: Tables that Redis gives whole, and the numbers of the sessions: nothing changes meanwhile.
        self._whole: dict[str, list[Row]] = {}
        self._numbers: list[int] = []
        self._renewing = LoopingCall(self._renew)
        self._renewing.clock = reactor

    async def _greet(self, call: Call) -> None:
        await check_fitness(call, self._allow_volatile)
        await check_schema(call, self._key)

    async def open(self) -> None:
        await self.redis.open()
        flat = await self.run(("live_nodes",))
        for name, details in zip(flat[::2], flat[1::2], strict=True):
            holder = msgspec.json.decode(details, type=Holder) if details else None
            if holder is None or not holder.is_dead():
                who = "somebody else copies it" if text_of(name) == COPIER else f"the broker {text_of(name)!r} uses it"
                raise Unavailable(f"{self.name}: {who} ({holder or 'unknown'})")
        await self.run(("begin_copy", COPIER, msgspec.json.encode(Holder.mine()), int(LEASE * 1000)))
        self._renewing.start(RENEW_EVERY, now=False)

    async def close(self) -> None:
        if self._renewing.running:
            self._renewing.stop()
            if self.redis.connected:
                await self.run(("leave", COPIER))
        await self.redis.close()

    def _renew(self) -> Any:
        renewing = self.redis.run(WRITE, (self._key,), ("run", "renew", 2, COPIER, int(LEASE * 1000)))
        # Whoever reads or writes next is told.
        return renewing.addErrback(lambda failure: failure.trap(Unavailable))

    async def run(self, *operations: Operation) -> Any:
        """Operations of the storage's scripts, together or not at all; the answer of the last one."""
        reply: Any = await self.redis.run(WRITE, (self._key,), ("run", *_lines(operations)))
        for answer in reply[1]:
            if len(answer) > 1:
                raise Unavailable(f"{self.name}: {text_of(answer[1])}"[:300])
        return reply[1][-1][0]

    async def look(self, name: str, *arguments: Argument) -> Any:
        """One operation that only reads."""
        reply: Any = await self.redis.run(READ, (self._key,), ("read", *_lines([(name, *arguments)])))
        return reply[1][0][0]

    async def all_of(self, commands: Sequence[Operation]) -> list[Any]:
        """Their replies, asked for at once."""
        return list(await gatherResults([self.redis.call(*command) for command in commands], consumeErrors=True))

    def key(self, name: str) -> str:
        return self._key + name

    # -- reading ---------------------------------------------------------------------------------------------------

    async def count(self, table: str) -> int:
        counting = COUNTED.get(table)
        if counting is not None:
            command, name = counting
            counted: Any = await self.redis.call(command, self.key(name))
            return int(counted)
        if table == "records":
            names = await self._record_tables()
            counts: list[int] = await self.all_of([("ZCARD", self.key(f"rk:{name}")) for name in names])
            return sum(counts)
        command, prefix = OWNED[table]
        total = 0
        after: str | None = ""
        while after is not None:
            owners, after = await self._owners(table, after, PAGE)
            some: list[int] = await self.all_of([(command, self.key(prefix + owner)) for owner in owners])
            total += sum(some)
        return total

    async def read(self, table: str, after: str) -> Page:
        if table == "records":
            return await self._read_records(after)
        if table == "devices":
            return await self._read_devices(after)
        if table == "retained":
            return await self._read_retained(after)
        if table in OWNED:
            return await self._read_owned(table, after)
        first = int(after or "0")
        rows = self._whole.get(table)
        if rows is None or not first:
            rows = self._whole[table] = await getattr(self, f"_all_{table}")()
        page = rows[first : first + PAGE]
        return page, str(first + PAGE) if len(page) == PAGE else None

    async def _all_products(self) -> list[Row]:
        return await self._packed("products")

    async def _all_applications(self) -> list[Row]:
        return await self._packed("applications")

    async def _packed(self, table: str) -> list[Row]:
        rows: Any = await self.redis.call("HVALS", self.key(table))
        return sorted((plain(table, unpack_row(raw)) for raw in rows), key=lambda row: str(row[0]).encode())

    async def _all_sessions(self) -> list[Row]:
        flat: Any = await self.redis.call("HGETALL", self.key("sessions"))
        seen: Any = await self.redis.call("HGETALL", self.key("seen"))
        lost = dict(zip(seen[::2], seen[1::2], strict=True))
        rows = [
            plain("sessions", (*read_session(raw), time_of(lost.get(number))))
            for number, raw in zip(flat[::2], flat[1::2], strict=True)
        ]
        return sorted(rows)

    async def _all_wills(self) -> list[Row]:
        rows: Any = await self.redis.call("HVALS", self.key("wills"))
        return sorted(plain("wills", read_will(raw)) for raw in rows)

    async def _record_tables(self) -> list[str]:
        found: set[str] = set()
        cursor: Reply = b"0"
        while True:
            cursor, keys = await self._scan(cursor, "rk:*")
            found.update(key.decode().removeprefix(self.key("rk:")) for key in keys)
            if cursor == b"0":
                return sorted(found, key=str.encode)

    async def _scan(self, cursor: Reply, pattern: str) -> tuple[Reply, list[bytes]]:
        reply: Any = await self.redis.call("SCAN", text_of(cursor), "MATCH", self.key(pattern), "COUNT", _SCANNED)
        return reply[0], reply[1]

    async def _read_records(self, after: str) -> Page:
        tables = await self._record_tables()
        at, last = json.loads(after) if after else ("", None)
        for table in tables:
            if table.encode() < at.encode():
                continue
            low = f"({last}" if table == at and last is not None else "-"
            flat = await self.look("list_records", table, low, "+", PAGE)
            rows: list[Row] = [(table, key.decode(), value) for key, value in zip(flat[::2], flat[1::2], strict=True)]
            if rows:
                return rows, json.dumps((table, rows[-1][1]))
        return [], None

    async def _read_devices(self, after: str) -> Page:
        low = f"({json.loads(after)[0]}" if after else "-"
        found, _ = await self.look("find_devices", low, PAGE, PAGE, *[""] * 8)
        rows = [plain("devices", device_cells(id.decode(), flat)) for id, flat in found]
        return rows, json.dumps([rows[-1][0]]) if len(rows) == PAGE else None

    async def _read_retained(self, after: str) -> Page:
        low = f"({json.loads(after)[0]}" if after else "-"
        topics: Any = await self.redis.call("ZRANGEBYLEX", self.key("retained:t"), low, "+", "LIMIT", 0, PAGE)
        raw: Any = await self.redis.call("HMGET", self.key("retained"), *topics) if topics else []
        rows = [
            plain("retained", (topic.decode(), *read_retained(one))) for topic, one in zip(topics, raw, strict=True)
        ]
        return rows, json.dumps([rows[-1][0]]) if len(rows) == PAGE else None

    async def _owners(self, table: str, after: str, limit: int) -> tuple[list[str], str | None]:
        """Ids of devices or applications, or numbers of sessions, in their order."""
        if table in OF_SESSION:
            if not after or not self._numbers:
                numbers: Any = await self.redis.call("HKEYS", self.key("sessions"))
                self._numbers = sorted(map(int, numbers))
            first = bisect_right(self._numbers, int(after or "-1"))
            owners = [str(one) for one in self._numbers[first : first + limit]]
        elif table == "bindings":
            ids: Any = await self.redis.call("HKEYS", self.key("applications"))
            owners = [one.decode() for one in sorted(ids) if not after or one > after.encode()][:limit]
        else:
            low = f"({after}" if after else "-"
            ids = await self.redis.call("ZRANGEBYLEX", self.key("devices"), low, "+", "LIMIT", 0, limit)
            owners = [one.decode() for one in ids]
        return owners, owners[-1] if len(owners) == limit else None

    async def _read_owned(self, table: str, after: str) -> Page:
        owners, cursor = await self._owners(table, after, OWNERS)
        _, prefix = OWNED[table]
        reading = READING_COMMANDS[table]
        rows: list[Row] = []
        first, together = 0, _TOGETHER
        while first < len(owners):
            some = owners[first : first + together]
            first, together = first + together, 2 * together
            replies = await self.all_of([(reading[0], self.key(prefix + owner), *reading[1:]) for owner in some])
            for owner, flat in zip(some, replies, strict=True):
                cells = await self._command_cells(flat) if table == "commands" else CELLS[table](flat)
                rows += [plain(table, (owner, *one)) for one in cells]
            if len(rows) >= PAGE:
                return rows, some[-1]
        return rows, cursor

    async def _command_cells(self, ids: list[bytes]) -> list[Row]:
        rows = await self.all_of([("HMGET", self.key("c:") + id.decode(), "n", "a", "b") for id in ids])
        found = []
        for id, (n, always, state) in zip(ids, rows, strict=True):
            found.append((int(n), id.decode(), *unpack_row(always), *unpack_row(state)))
        return found


class RedisTarget(RedisSide):
    """Written page by page, each with the note of how far it reaches."""

    async def begin(self, source: str, resume: bool, force: bool) -> dict[str, str]:
        flat: Any = await self.redis.call("HGETALL", self.key("copying"))
        notes = {text_of(name): text_of(cursor) for name, cursor in zip(flat[::2], flat[1::2], strict=True)}
        if resume and notes:
            if notes.pop("source", "") != source:
                raise Conflict(f"what was interrupted in {self.name} is a copy of something else: --force begins anew")
            return notes
        if not force and notes:
            raise Conflict(f"a copy to {self.name} was interrupted: --resume goes on with it, --force begins anew")
        if not force and not await self._is_empty():
            raise Conflict(f"{self.name} is not empty: --force empties it")
        # Noted first: an emptying that is interrupted leaves nothing that looks whole.
        await self.run(("copied", "source", source))
        await self._remove_all()
        return {}

    async def _is_empty(self) -> bool:
        cursor: Reply = b"0"
        while True:
            cursor, keys = await self._scan(cursor, "*")
            names = (key.decode("utf-8", "replace").removeprefix(self._key) for key in keys)
            if any(not name.startswith(_EMPTY) for name in names):
                return False
            if cursor == b"0":
                return True

    async def _remove_all(self) -> None:
        kept = {self.key(name).encode() for name in ("schema", "nodes", "copying", f"writer:{COPIER}")}
        cursor: Reply = b"0"
        while True:
            cursor, keys = await self._scan(cursor, "*")
            gone = [key for key in keys if key not in kept]
            if gone:
                await self.redis.call("UNLINK", *gone)
            if cursor == b"0":
                return

    async def finish(self) -> None:
        await self.run(("name_node", COPIER))
        await self.redis.call("DEL", self.key("copying"))

    async def write(self, table: str, rows: Sequence[Row], cursor: str) -> None:
        operations: list[Operation] = list(WRITING[table](rows))
        await self.run(*operations, ("copied", table, cursor))


def _lines(operations: Sequence[Operation]) -> list[Argument]:
    """The operations as the scripts' runners want them."""
    lines: list[Argument] = []
    for name, *arguments in operations:
        lines += (name, len(arguments))
        lines += arguments
    return lines
