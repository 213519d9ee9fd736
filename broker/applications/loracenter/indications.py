"""What customer servers are told of their own accord: UPLOAD, MOTEJOIN, UPLOADSQ (document 4.9, 4.10, 4.13).

==============================  ==========================================================================
from                            becomes
==============================  ==========================================================================
a mote's payload                UPLOAD on its port; with signal_quality_upload also UPLOADSQ, Dir UP
a mote's join                   MOTEJOIN
a mote's DevStatusAns           UPLOADSQ, Dir DOWN, with signal_quality_upload
another device's message        UPLOAD of its payload as bytes on foreign_port, if the device has a dev_eui
a 0x88 gateway's presence       GWSTATEUPLOAD (`gateways`)
==============================  ==========================================================================

Who hears of a device is looked up once and kept until anything about bindings, devices or connections changes. The
alias of a device that is no mote comes from storage, so its first messages wait for that, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.applications.loracenter import codec
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.customers import Customer, Customers
from broker.applications.loracenter.deliveries import Deliveries
from broker.applications.loracenter.gateways import GATEWAY88, GatewayRequests
from broker.applications.loracenter.outcomes import MOTE
from broker.applications.loracenter.settings import Settings
from broker.core import Core
from broker.model.errors import BrokerError
from broker.model.interfaces import IConsumer
from broker.model.messages import EVENT, RAW, STATUS, Command, DeviceRef, Presence, Uplink
from broker.storage.registry import Change

#: Devices whose hearers are kept; past this the table is started anew.
MAX_ROUTES: Final = 500_000
#: Messages of one device that wait for its alias.
MAX_WAITING: Final = 100
#: The port of a message that says none.
NO_PORT: Final = 1


class Alias:
    """The DevEUI of a device that is no mote; while it is looked up, ``waiting`` holds what to do with it then."""

    __slots__ = ("eui", "waiting")

    def __init__(self) -> None:
        self.eui: str | None = None
        self.waiting: list[Callable[[str | None], None]] | None = []


@implementer(IConsumer)
class Indications:
    """Listens to all devices."""

    log = Logger(namespace="broker.loracenter")

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LoraCenterCounters,
        customers: Customers,
        deliveries: Deliveries,
        gateways: GatewayRequests,
    ) -> None:
        self._core = core
        self._counted = counted
        self._customers = customers
        self._deliveries = deliveries
        self._gateways = gateways
        self.settings = settings
        self._routes: dict[str, tuple[Customer, ...]] = {}
        self._generation = 0
        self._aliases: dict[str, Alias] = {}
        core.registry.on_change.append(self._changed)
        core.router.listen(self)

    def interests(self) -> set[str]:
        """See `IFarConsumer`."""
        return {f"a:{customer.id}" for customer in self._customers.all()}

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        """See `IConsumer`."""
        return bool(self._hearers(device.id))

    def uplink(self, message: Uplink) -> None:
        device = message.device
        if not self._hearers(device.id):
            return
        if device.protocol == MOTE:
            self._of_mote(message)
            return
        port = self.settings.foreign_port
        alias = self._aliases.get(device.id)
        if alias is not None and alias.waiting is None:  # known, as nearly always: no need of a function
            self._upload(message, alias.eui, port)
        else:
            self._with_alias(device.id, lambda eui: self._upload(message, eui, port))

    def presence(self, change: Presence) -> None:
        device = change.device
        if device.protocol == GATEWAY88 and self._hearers(device.id):
            online = change.online
            self._with_alias(device.id, lambda eui: self._gateways.device_came_or_went(device.id, online, eui))

    def command(self, change: Command) -> None:
        if change.options:
            self._deliveries.changed(change)

    # -- who hears of it -------------------------------------------------------------------------------------------

    def _hearers(self, device_id: str) -> tuple[Customer, ...]:
        routes = self._routes
        if self._generation != self._customers.generation or len(routes) > MAX_ROUTES:
            self._generation = self._customers.generation
            routes.clear()
        found = routes.get(device_id)
        if found is None:
            found = tuple(one for one in self._customers.all() if one.rights.may_see(device_id))
            routes[device_id] = found
        return found

    def _with_alias(self, device_id: str, call: Callable[[str | None], None]) -> None:
        """``call(alias)``, after all calls for the same device before it."""
        alias = self._aliases.get(device_id)
        if alias is None:
            if len(self._aliases) > MAX_ROUTES:
                self._aliases = {key: one for key, one in self._aliases.items() if one.waiting is not None}
            alias = self._aliases[device_id] = Alias()
            assert alias.waiting is not None
            alias.waiting.append(call)
            Deferred.fromCoroutine(self._look_up(device_id, alias)).addErrback(self._fault)
        elif alias.waiting is None:
            call(alias.eui)
        elif len(alias.waiting) < MAX_WAITING:
            alias.waiting.append(call)
        else:
            self._counted.lost_uploads += 1

    async def _look_up(self, device_id: str, alias: Alias) -> None:
        try:
            record = await self._core.storage.get_device(device_id)
        except BrokerError:
            self._counted.lost_uploads += len(alias.waiting or ())
            del self._aliases[device_id]
            return
        if record is not None:
            # An id may be an EUI itself, as in SENDTO.
            alias.eui = record.dev_eui or (record.id if codec.eui(record.id) == record.id else None)
        waiting, alias.waiting = alias.waiting or [], None
        for call in waiting:
            call(alias.eui)

    def _fault(self, failure: Failure) -> None:
        self.log.failure("fault while telling of a device", failure)

    def _changed(self, change: Change) -> None:
        if change.what not in ("device_updated", "device_removed"):
            return
        # One that is being looked up was asked for after this change, or it would have been answered before it.
        alias = self._aliases.get(change.id)
        if alias is not None and alias.waiting is None:
            del self._aliases[change.id]

    # -- what is said ----------------------------------------------------------------------------------------------

    def _of_mote(self, message: Uplink) -> None:
        kind, meta = message.kind, message.meta or {}
        eui = message.device.id
        if kind == RAW:
            self._upload(message, eui, meta.get("port") or NO_PORT)
            if self.settings.signal_quality_upload:
                best: dict[str, Any] = next(iter(meta.get("gateways") or ()), {})
                self._quality(eui, "UP", best.get("eui"), meta.get("rssi"), meta.get("snr"))
        elif kind == EVENT:
            payload = message.payload
            if isinstance(payload, dict) and payload.get("event") == "join":
                for customer in self._hearers(eui):
                    customer.tell(codec.mote_join(customer.cs_eui, customer.token(), eui))
        elif kind == STATUS and self.settings.signal_quality_upload:
            payload = message.payload
            margin = payload.get("margin") if isinstance(payload, dict) else None
            lora: Any = self._core.lora
            self._quality(eui, "DOWN", None if lora is None else lora.nearest_gateway(eui), None, margin)

    def _upload(self, message: Uplink, eui: str | None, port: int) -> None:
        if eui is None:
            return
        data = message.as_bytes()
        for customer in self._hearers(message.device.id):
            self._counted.uploads += len(customer.sessions)
            customer.tell(codec.upload(customer.cs_eui, customer.token(), eui, data, port))

    def _quality(self, eui: str, way: str, gateway: str | None, rssi: float | None, snr: float | None) -> None:
        for customer in self._hearers(eui):
            customer.tell(codec.signal_quality(customer.cs_eui, customer.token(), eui, way, gateway, rssi, snr))
