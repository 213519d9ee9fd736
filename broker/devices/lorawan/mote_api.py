"""``/api/v1/lorawan/motes/{eui}``: what a mote's MAC layer is set to, and what it is to be set to.

The fields of a PATCH are those of the device (``PATCH /devices/{id}`` takes them, too); here they have their types. A
change is on disk when it is answered; the mote is told after its next uplinks, and ``mac`` shows how far that is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.devices.lorawan.identity import canonical_eui
from broker.devices.lorawan.mac.parameters import FIELDS
from broker.devices.lorawan.motes import PROTOCOL
from broker.devices.lorawan.network import Network
from broker.devices.lorawan.regions.plan import MAX_CHANNELS
from broker.devices.lorawan.settings import RegionName
from broker.model.errors import Invalid, NotFound
from broker.model.interfaces import ILoraNetwork
from broker.model.records import DeviceQuery, DeviceRecord
from broker.web.routes import ADMIN, API, Call, Route

Hertz = Annotated[int, Meta(ge=100_000_000, le=1_677_721_500, multiple_of=100)]
Channels = Annotated[list[Hertz], Meta(max_length=MAX_CHANNELS)]


class MoteSettings(msgspec.Struct, kw_only=True):
    """What this mote is to be set to; what is null is as the settings of the network have it.

    ``adr``: whether it is told its data rate. ``rx1_delay``: seconds to RX1. ``rx1_offset``: RX1DROffset.
    ``rx2_frequency``: Hz. ``rx2_rate``: data rate. ``max_duty_cycle``: on air for 1 / 2**this of the time.
    ``channels``: Hz, beside the region's own.
    """

    adr: bool | None = None
    rx1_delay: int | None = None
    rx1_offset: int | None = None
    rx2_frequency: int | None = None
    rx2_rate: int | None = None
    max_duty_cycle: int | None = None
    channels: list[int] | None = None


class MoteChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays, null leaves it to the settings of the network."""

    adr: bool | UnsetType | None = UNSET
    rx1_delay: Annotated[int, Meta(ge=1, le=15)] | UnsetType | None = UNSET
    rx1_offset: Annotated[int, Meta(ge=0, le=7)] | UnsetType | None = UNSET
    rx2_frequency: Hertz | UnsetType | None = UNSET
    rx2_rate: Annotated[int, Meta(ge=0, le=15)] | UnsetType | None = UNSET
    max_duty_cycle: Annotated[int, Meta(ge=0, le=15)] | UnsetType | None = UNSET
    channels: Channels | UnsetType | None = UNSET


class Dwell(msgspec.Struct, kw_only=True):
    """Dwell times of 400 ms."""

    up: bool
    down: bool


class MacShape(msgspec.Struct, kw_only=True):
    """What the mote has said yes to, or begun with.

    ``data_rate``: that of its last frame. ``power``: TXPower index, 0 the loudest. ``pending``: names of commands that
    it has not answered. ``refused``: those that it has said no to, with their fields. ``enabled``: channel numbers, of
    a plan that has them fixed.
    """

    data_rate: int | None
    power: int
    nb_trans: int
    rx1_delay: int
    rx1_offset: int
    rx2_frequency: int
    rx2_rate: int
    max_duty_cycle: int | None
    channels: list[int]
    pending: list[str]
    refused: list[str]
    enabled: list[int] | None = None
    dwell_time: Dwell | None = None


class StatusShape(msgspec.Struct, kw_only=True):
    """Its last DevStatusAns. ``battery``: 0 mains, 1 to 254 of full, 255 unknown; ``margin``: dB; ``at``: UNIX time."""

    battery: int
    margin: int
    at: float


class MoteShape(msgspec.Struct, kw_only=True):
    """A mote. ``dev_addr`` is null without a session, ``mac`` of one that was asked nothing yet.

    ``joined``: it has a session. ``up`` and ``down``: the next frame counters. ``gateways``: EUIs of those that heard
    its last frame, the best first. ``queued``: commands that wait for its windows.
    """

    dev_eui: str
    name: str
    device_class: Literal["A", "C"] = msgspec.field(name="class")
    network: Literal["own", "chirpstack"]
    online: bool
    last_seen: float | None
    joined: bool
    up: int | None
    down: int | None
    gateways: list[str]
    queued: int
    region: RegionName | None
    dev_addr: str | None
    set: MoteSettings
    mac: MacShape | None
    status: StatusShape | None


class MoteFilter(msgspec.Struct, kw_only=True):
    """Which motes; ``q`` is looked for in id and name. ``cursor``: the ``next`` of the page before."""

    q: Annotated[str, Meta(max_length=128)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Annotated[str, Meta(max_length=255)] | None = None


class MotePage(msgspec.Struct):
    """Motes by DevEUI."""

    items: list[MoteShape]
    next: str | None


class MoteCalls:
    """The calls on one network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def routes(self) -> list[Route]:
        one = f"{API}/lorawan/motes/{{eui}}"
        every = f"{API}/lorawan/motes"
        return [
            Route("GET", every, self.list_motes, ADMIN, query=MoteFilter, answers=MotePage),
            Route("GET", one, self.get_mote, ADMIN, answers=MoteShape),
            Route("PATCH", one, self.change_mote, ADMIN, body=MoteChanges, answers=MoteShape),
        ]

    async def list_motes(self, call: Call) -> MotePage:
        """All motes, with their session, counters, gateways and queue."""
        wish: MoteFilter = call.query
        query = DeviceQuery(protocol=PROTOCOL, q=wish.q)
        records, cursor = await self._network.core.registry.list_devices(query, wish.limit, wish.cursor)
        return MotePage([self._shape(record) for record in records], cursor)

    async def get_mote(self, call: Call) -> MoteShape:
        """What a mote is set to, and is to be set to."""
        return self._shape(await self._record(call))

    async def change_mote(self, call: Call) -> MoteShape:
        """Change what a mote is to be set to."""
        wish: MoteChanges = call.body
        record = await self._record(call)
        changes = {name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET}
        if changes:
            self._check(record, wish)
            record, _ = await self._network.core.registry.update_device(record.id, changes)
        return self._shape(record)

    def _check(self, record: DeviceRecord, wish: MoteChanges) -> None:
        """By the region that it was heard in, if it names none itself; the registry looks at one that it names."""
        mote = self._network.motes.get(record.id)
        if mote is None or mote.mac is None or record.attributes.get("region") is not None:
            return
        rate = wish.rx2_rate if isinstance(wish.rx2_rate, int) else None
        fault = mote.mac.region.unfit(rate, wish.channels or ())
        if fault is not None:
            raise Invalid(fault)

    async def _record(self, call: Call) -> DeviceRecord:
        eui = canonical_eui(call.path["eui"])
        record = None if eui is None else await self._network.core.registry.find_device(eui)
        if record is None or record.protocol != PROTOCOL:
            raise NotFound(f"there is no mote {call.path['eui']!r}")
        return record

    def _shape(self, record: DeviceRecord) -> MoteShape:
        mote = self._network.motes.get(record.id)
        state = None if mote is None else mote.mac
        status: dict[str, Any] | None = None
        if state is not None and state.status is not None:
            status = dict(zip(("battery", "margin", "at"), state.status, strict=True))
        fields = record.attributes
        core = self._network.core
        live = core.devices.get(record.id)
        lora: ILoraNetwork = core.lora
        last_seen = record.last_seen if live is None else live.last_seen
        return msgspec.convert(
            {
                "dev_eui": record.id,
                "name": record.name,
                "class": "C" if fields.get("class") == "C" else "A",
                "network": fields.get("network") or "own",
                "online": live is not None and live.online,
                "last_seen": None if last_seen is None else round(last_seen, 3),
                "joined": lora.class_of(record.id) is not None,
                "up": None if mote is None else mote.up,
                "down": None if mote is None else mote.down,
                "gateways": list(lora.gateways_of(record.id)),
                "queued": core.commands.queued(record.id),
                "region": fields.get("region"),
                "dev_addr": None if mote is None else f"{mote.dev_addr:08X}",
                "set": {name: fields.get(name) for name in FIELDS},
                "mac": None if state is None else state.as_dict(),
                "status": status,
            },
            MoteShape,
        )
