"""A storage in memory with what the LoRaWAN side asks of one, for simulated time.

The real storage works in a thread, and a clock that jumps would not wait for it. Here everything is answered at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from broker.model.errors import Conflict
from broker.model.messages import Command
from broker.model.records import DeviceQuery, DeviceRecord
from broker.storage.interface import ANY, Change

Done = Callable[[Exception | None], None]


class SimulatedStorage:
    """Records, devices and open commands; what it has no method for is not used."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, bytes]] = {}
        self._devices: dict[str, DeviceRecord] = {}
        self._commands: dict[str, Command] = {}
        self.writes = 0

    # records

    def write_records(self, changes: Sequence[Change]) -> Deferred[None]:
        for change in changes:
            if change.expected is not ANY and self._tables.get(change.table, {}).get(change.key) != change.expected:
                return fail(Conflict(f"{change.table} {change.key} has another value"))
        for change in changes:
            rows = self._tables.setdefault(change.table, {})
            if change.value is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = change.value
        self.writes += 1
        return succeed(None)

    def get_record(self, table: str, key: str) -> Deferred[bytes | None]:
        return succeed(self._tables.get(table, {}).get(key))

    def list_records(
        self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None
    ) -> Deferred[list[tuple[str, bytes]]]:
        rows = sorted(self._tables.get(table, {}).items())
        found = [row for row in rows if row[0].startswith(prefix) and (after is None or row[0] > after)]
        return succeed(found[:limit])

    # devices

    def add_devices(self, records: Sequence[DeviceRecord]) -> Deferred[list[str | None]]:
        self._devices.update({record.id: record for record in records})
        return succeed([None for _ in records])

    def save_device(self, record: DeviceRecord) -> Deferred[None]:
        self._devices[record.id] = record
        return succeed(None)

    def get_device(self, device_id: str) -> Deferred[DeviceRecord | None]:
        return succeed(self._devices.get(device_id))

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        rows = sorted(one.id for one in self._devices.values() if one.protocol == query.protocol)
        found = [self._devices[id] for id in rows if cursor is None or id > cursor]
        return succeed((found[:limit], found[limit - 1].id if len(found) > limit else None))

    def save_info(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        return succeed(None)

    # the journal of commands

    def add_command(self, command: Command, done: Done) -> None:
        self.save_command(command, done)

    def save_command(self, command: Command, done: Done) -> None:
        if command.final:
            self._commands.pop(command.id, None)
        else:
            self._commands[command.id] = copy.deepcopy(command)
        done(None)

    def open(self) -> list[Command]:
        """What was ordered and has not ended, as it was written last."""
        return [copy.deepcopy(command) for command in self._commands.values()]

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        done(self._commands.get(command_id))
