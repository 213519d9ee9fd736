"""Keeps the devices that are connected true to the registry when it changes under them.

A product that gets or loses sensors sorts the last values of its connected devices anew, so that an unmapped key
becomes a value the moment its sensor exists; and the open commands of a device that is removed end. Devices that are
away are sorted when they come back.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.model.errors import BrokerError
from broker.model.records import DeviceQuery
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.storage.registry import Change, Registry

log = Logger(namespace="broker.storage")

#: Devices of a product that are looked at together.
PAGE = 1_000


class ProductWatch:
    """Listens to the registry from the moment it is made."""

    def __init__(self, registry: Registry, devices: LiveDevices, commands: Commands) -> None:
        self._registry = registry
        self._devices = devices
        self._commands = commands
        registry.on_change.append(self.changed)

    def changed(self, change: Change) -> None:
        """What the registry calls after a change is on disk."""
        if change.what == "device_removed":
            self._commands.cancel_device(change.id, "the device was removed")
        elif change.what == "product_updated":
            self._begin(self._remap_product(change.id))
        elif change.what == "device_updated" and self._devices.get(change.id) is not None:
            self._begin(self._remap_device(change.id))

    def _begin(self, job: Any) -> None:
        started: Deferred[None] = Deferred.fromCoroutine(job)
        started.addErrback(lambda failure: failure.trap(BrokerError))
        started.addErrback(lambda failure: log.failure("fault while a product's values were sorted", failure))

    async def _remap_product(self, key: str) -> None:
        product = await self._registry.get_product(key)
        if product is None:
            return
        sensors = product.value_keys | product.command_keys
        cursor: str | None = None
        while True:
            records, cursor = await self._registry.list_devices(DeviceQuery(product=key), PAGE, cursor)
            for record in records:
                self._remap(record.id, sensors)
            if cursor is None:
                return

    async def _remap_device(self, device_id: str) -> None:
        record = await self._registry.find_device(device_id)
        if record is None:
            return
        product = None if record.product is None else await self._registry.get_product(record.product)
        self._remap(device_id, None if product is None else product.value_keys | product.command_keys)

    def _remap(self, device_id: str, sensors: frozenset[str] | None) -> None:
        live = self._devices.get(device_id)
        if live is not None and live.values.sensors != sensors:
            live.values.remap(sensors)
