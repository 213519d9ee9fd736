"""A storage in memory with what the LoRaWAN side uses of one: bytes and copies of what it was given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed

from broker.model.errors import Conflict, NotFound, Unavailable
from broker.model.messages import Command
from broker.model.records import DeviceQuery, DeviceRecord
from broker.storage.interface import ANY, Change

Done = Callable[[Exception | None], None]


class MemoryStorage:
    """Answers at once; while ``held``, when `go_on` is called; while ``away``, with Unavailable."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, bytes]] = {}
        self.devices: dict[str, DeviceRecord] = {}
        self.commands: dict[str, Command] = {}
        self.held = False
        self.away = False
        self.writes = 0
        self._waiting: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Nothing to do: `tests.storage.records_contract` opens and closes storages."""

    async def close(self) -> None:
        self.away = True

    def go_on(self) -> None:
        """Answer what waits, and nothing that is asked meanwhile."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer()

    def _later(self, work: Callable[[], Any]) -> Deferred[Any]:
        def outcome() -> Any:
            if self.away:
                return Unavailable("storage is away")
            try:
                return work()
            except (Conflict, NotFound) as error:
                return error

        if not self.held:
            value = outcome()
            return fail(value) if isinstance(value, Exception) else succeed(value)
        answer: Deferred[Any] = Deferred()

        def now() -> None:
            value = outcome()
            (answer.errback if isinstance(value, Exception) else answer.callback)(value)

        self._waiting.append(now)
        return answer

    # records

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        def write() -> None:
            after = dict(self.tables)
            for name in {change.table for change in changes}:
                after[name] = dict(after.get(name, {}))
            for change in changes:
                rows = after[change.table]
                if change.expected is not ANY and rows.get(change.key) != change.expected:
                    raise Conflict("another value")
                if change.value is None:
                    rows.pop(change.key, None)
                else:
                    rows[change.key] = change.value
            self.tables = after
            self.writes += 1

        return self._later(write)

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        return self._later(lambda: self.tables.get(table, {}).get(key))

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        def read() -> list[tuple[str, bytes]]:
            rows = sorted(self.tables.get(table, {}).items())
            return [row for row in rows if row[0].startswith(prefix) and (after is None or row[0] > after)][:limit]

        return self._later(read)

    # devices

    def get_device(self, device_id: str) -> Deferred[DeviceRecord | None]:
        return self._later(lambda: copy.deepcopy(self.devices.get(device_id)))

    def add_devices(self, records: Sequence[DeviceRecord]) -> Deferred[list[str | None]]:
        def add() -> list[str | None]:
            self.devices.update({record.id: record for record in records})
            return [None for _ in records]

        return self._later(add)

    def save_device(self, record: DeviceRecord) -> Deferred[None]:
        return self._later(lambda: self.devices.update({record.id: msgspec.structs.replace(record)}))

    def delete_device(self, device_id: str) -> Deferred[None]:
        return self._later(lambda: self.devices.pop(device_id) and None)

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        def read() -> tuple[list[DeviceRecord], str | None]:
            rows = sorted(
                (one for one in self.devices.values() if one.protocol == query.protocol), key=lambda one: one.id
            )
            rest = [copy.deepcopy(one) for one in rows if cursor is None or one.id > cursor]
            return rest[:limit], rest[limit - 1].id if len(rest) > limit else None

        return self._later(read)

    # commands

    def add_command(self, command: Command, done: Done) -> None:
        self.save_command(command, done)

    def save_command(self, command: Command, done: Done) -> None:
        kept = copy.deepcopy(command)
        saving = self._later(lambda: self.commands.update({kept.id: kept}))
        saving.addCallbacks(lambda _: done(None), lambda failure: done(failure.value))

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        return self._later(lambda: copy.deepcopy(self.commands.get(command_id)))

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        done(copy.deepcopy(self.commands.get(command_id)))

    def open_commands(self) -> list[Command]:
        return [copy.deepcopy(command) for command in self.commands.values() if not command.final]
