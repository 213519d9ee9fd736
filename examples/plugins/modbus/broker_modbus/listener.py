"""All Modbus devices: who is polled, from the start of the broker to its end.

Devices come from the registry: those that are there at the start, those that are added, changed, removed and disabled
later. Those with the same host and port share a connection. Of several broker processes one polls (`IBackplane.lead`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.extension import BrokerError, Change, Core, DeviceQuery, DeviceRecord, Invalid, ListenerStats
from broker_modbus.bus import Bus, BusConnection, Counts
from broker_modbus.identity import PROTOCOL, address_of, registers_of
from broker_modbus.settings import Settings
from broker_modbus.slave import Slave

PAGE: Final = 500
#: The duty that one process has, and ticks between two looks at who has it.
DUTY: Final = "modbus"
LOOK_EVERY: Final = 5


class ModbusListener:
    """What `build` returns. The broker calls `begin`, `tick` and `shut_down`, and reads the rest."""

    log = Logger(namespace="broker.modbus")

    def __init__(self, core: Core, settings: Settings) -> None:
        self.core = core
        self.settings = settings
        self.limits = settings.limits
        self.stats = ListenerStats()
        self.counts = Counts()
        self.connections: set[BusConnection] = set()
        self._slaves: dict[str, Slave] = {}
        self._buses: dict[tuple[str, int], Bus] = {}
        self._troubles: dict[str, str] = {}
        self._ticks = 0
        self._leading = self._stopped = False

    # -- from the broker -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Everything listens."""
        self.core.registry.on_added.append(self._added)
        self.core.registry.on_change.append(self._changed)
        self._do(self._look())

    def tick(self) -> None:
        """About once a second."""
        self._ticks += 1
        if self._ticks % LOOK_EVERY == 0 and not self._stopped:
            self._do(self._look())

    def shut_down(self) -> None:
        """The broker stops."""
        self._stopped = True
        self._drop_all("shutdown")

    def counters(self) -> Mapping[str, float]:
        counts = self.counts
        return {
            "modbus_devices": len(self._slaves),
            "modbus_polls_total": counts.polls,
            "modbus_unanswered_total": counts.unanswered,
            "modbus_refused_total": counts.refused,
            "modbus_stray_answers_total": counts.strays,
            "modbus_writes_total": counts.writes,
        }

    def troubles(self) -> list[str]:
        """Devices that cannot be polled as they are registered."""
        return [f"{id}: {why}" for id, why in self._troubles.items()]

    # -- who is polled ---------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Take up the devices if that is for us, and nobody else, to do; or leave them."""
        leading = await self.core.backplane.lead(DUTY)
        if self._stopped or leading == self._leading:
            return
        self._leading = leading
        if not leading:
            self._drop_all("takeover")
            return
        try:
            await self._take_all()
        except BrokerError:  # storage cannot answer now: the next look asks again
            self._leading = False

    async def _take_all(self) -> None:
        cursor: str | None = None
        while True:
            page, cursor = await self.core.registry.list_devices(DeviceQuery(protocol=PROTOCOL), PAGE, cursor)
            if self._stopped:
                return
            for record in page:
                self._take(record)
            if cursor is None:
                return

    def _added(self, record: DeviceRecord) -> None:
        if record.protocol == PROTOCOL:
            self._take(record)

    def _changed(self, change: Change) -> None:
        if change.what in ("device_removed", "device_disabled"):
            self._drop(change.id, "removed")
        elif change.what == "device_updated":
            self._do(self._update(change.id))

    async def _update(self, id: str) -> None:
        record = await self.core.registry.find_device(id)
        if record is None or record.protocol != PROTOCOL or self._stopped:
            return
        slave = self._slaves.get(id)
        if slave is None or record.disabled or slave.attributes != record.attributes:
            self._drop(id, "removed")
            self._take(record)

    def _take(self, record: DeviceRecord) -> None:
        if not self._leading or self._stopped or record.disabled or record.id in self._slaves:
            return
        if len(self._slaves) >= self.settings.max_devices:
            self._troubles[record.id] = "not polled: there are listeners.modbus.max_devices already"
            return
        try:
            where = address_of(record.attributes)
            registers = registers_of(record.attributes, self.settings)
        except Invalid as error:  # its map is not configured any more
            self._troubles[record.id] = f"not polled: {error.message}"
            return
        self._troubles.pop(record.id, None)
        # Not all at the same moment, and each at the same one after every start.
        first = crc32(record.id.encode()) % 1000 / 1000 * min(1.0, self.settings.poll_every)
        bus = self._bus(where.host, where.port)
        bus.users += 1
        self._slaves[record.id] = Slave(self, record, bus, where.unit, registers, first)

    def _drop(self, id: str, reason: str) -> None:
        self._troubles.pop(id, None)
        slave = self._slaves.pop(id, None)
        if slave is None:
            return
        slave.stop(reason)
        slave.bus.users -= 1
        if not slave.bus.users:
            for key, bus in list(self._buses.items()):
                if bus is slave.bus:
                    del self._buses[key]
            slave.bus.stop().addErrback(self._fault)

    def _drop_all(self, reason: str) -> None:
        for id in list(self._slaves):
            self._drop(id, reason)

    def _bus(self, host: str, port: int) -> Bus:
        bus = self._buses.get((host, port))
        if bus is None:
            bus = Bus(self.core.reactor, self.settings, host, port, self.stats, self.counts, self.connections)
            self._buses[host, port] = bus
            bus.start()
        return bus

    def _do(self, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(self._fault)

    def _fault(self, failure: Failure) -> None:
        if not failure.check(BrokerError):  # storage, or the backplane, cannot answer now
            self.log.failure("fault with modbus devices", failure)
