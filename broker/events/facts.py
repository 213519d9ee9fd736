"""What rules ask of a device: looked up once, kept until the registry says that it changed."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from broker.model.records import DeviceQuery
from broker.storage.deferred import deferred
from broker.storage.identity import Change
from broker.storage.interface import IStorage

#: Devices that are kept; all are forgotten when there are more.
MAX_KEPT: Final = 20_000
#: Protocols whose devices are gateways.
GATEWAYS: Final = frozenset({"gateway88"})
#: Children that are counted, and that an event names.
MAX_CHILDREN: Final = 10_000
PAGE: Final = 1_000


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``parents``: through whom it is reached; while all of them are away, its own absence says nothing."""

    id: str
    protocol: str
    name: str = ""
    product: str | None = None
    parents: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    gateway: bool = False
    disabled: bool = False


class FactFinder:
    """``lora`` is an ILoraNetwork once there is one."""

    def __init__(self, storage: IStorage) -> None:
        self._storage = storage
        self._kept: dict[str, Facts] = {}
        self._changes = 0
        self.lora: Any = None

    @deferred
    async def of(self, id: str) -> Facts | None:
        """A device of the registry or a gateway of LoRaWAN; None: neither. Raises Unavailable."""
        facts = self._kept.get(id)
        if facts is None:
            facts = await self._look_up(id)
        if facts is None or facts.protocol != "lorawan" or self.lora is None or facts.gateway:
            return facts
        # Which gateways heard a mote changes with each of its frames.
        return msgspec.structs.replace(facts, parents=(*facts.parents, *self.lora.gateways_of(id)))

    async def _look_up(self, id: str) -> Facts | None:
        changes = self._changes
        finding, listing = self._storage.get_device(id), self._storage.applications_of(id)
        try:
            record = await finding
        finally:
            applications = await listing
        if record is None:
            gateway = None if self.lora is None else self.lora.gateway(id)
            return None if gateway is None else Facts(id=id, protocol="lorawan", name=gateway["name"], gateway=True)
        parent = record.attributes.get("parent")
        facts = Facts(
            id=id,
            protocol=record.protocol,
            name=record.name,
            product=record.product,
            parents=(parent,) if isinstance(parent, str) else (),
            applications=tuple(applications),
            gateway=record.protocol in GATEWAYS,
            disabled=record.disabled,
        )
        if changes == self._changes:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[id] = facts
        return facts

    @deferred
    async def children_of(self, id: str) -> list[str]:
        """The devices that are reached through this one alone, no more than `MAX_CHILDREN`. Raises Unavailable."""
        found: list[str] = []
        cursor: str | None = None
        while len(found) < MAX_CHILDREN:
            asked: Deferred[Any] = self._storage.list_devices(DeviceQuery(parent=id), PAGE, cursor)
            records, cursor = await asked
            found += [record.id for record in records if not record.disabled]
            if cursor is None:
                break
        if self.lora is not None and self.lora.gateway(id) is not None:
            found += self.lora.motes_behind(id)
        return found[:MAX_CHILDREN]

    def forget(self) -> None:
        """Changes are not told any more."""
        self._changes += 1
        self._kept.clear()

    def changed(self, change: Change) -> None:
        """The registry has changed (`Registry.on_change`)."""
        self._changes += 1
        if change.what in ("bound", "unbound"):
            self._kept.pop(change.other, None)
        elif change.what == "application_removed":
            self._kept.clear()
        else:
            self._kept.pop(change.id, None)
