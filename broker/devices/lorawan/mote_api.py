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
    """What this mote is to be set to; what is null is as the settings of the network have it."""

    #: Whether it is told its data rate.
    adr: bool | None = None
    #: Seconds from the end of an uplink to RX1.
    rx1_delay: int | None = None
    #: RX1DROffset.
    rx1_offset: int | None = None
    #: Hz of RX2.
    rx2_frequency: int | None = None
    #: The number of the data rate of RX2.
    rx2_rate: int | None = None
    #: On air for at most 1 / 2**this of the time.
    max_duty_cycle: int | None = None
    #: Hz of channels beside the region's own.
    channels: list[int] | None = None


class MoteChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays, null leaves it to the settings of the network."""

    #: Whether it is told its data rate.
    adr: bool | UnsetType | None = UNSET
    #: Seconds from the end of an uplink to RX1.
    rx1_delay: Annotated[int, Meta(ge=1, le=15)] | UnsetType | None = UNSET
    #: RX1DROffset.
    rx1_offset: Annotated[int, Meta(ge=0, le=7)] | UnsetType | None = UNSET
    #: Hz of RX2.
    rx2_frequency: Hertz | UnsetType | None = UNSET
    #: The number of the data rate of RX2, one of the region.
    rx2_rate: Annotated[int, Meta(ge=0, le=15)] | UnsetType | None = UNSET
    #: On air for at most 1 / 2**this of the time.
    max_duty_cycle: Annotated[int, Meta(ge=0, le=15)] | UnsetType | None = UNSET
    #: Hz of channels beside the region's own, all of them anew; not in plans whose channels are fixed.
    channels: Channels | UnsetType | None = UNSET


class Dwell(msgspec.Struct, kw_only=True):
    """Whether a frame may take no more than 400 ms."""

    #: From the mote.
    up: bool
    #: To the mote.
    down: bool


class MacShape(msgspec.Struct, kw_only=True):
    """What the mote has said yes to, or begun with."""

    #: The number of the data rate of its last frame; null: not known.
    data_rate: int | None
    #: TXPower, 0 the loudest.
    power: int
    #: NbTrans: how often it sends each unconfirmed frame.
    nb_trans: int
    #: Seconds from the end of an uplink to RX1.
    rx1_delay: int
    #: RX1DROffset.
    rx1_offset: int
    #: Hz of RX2.
    rx2_frequency: int
    #: The number of the data rate of RX2.
    rx2_rate: int
    #: On air for at most 1 / 2**this of the time; null: not known.
    max_duty_cycle: int | None
    #: Hz of channels beside the region's own.
    channels: list[int]
    #: The names of MAC commands that it has not answered.
    pending: list[str]
    #: MAC commands that it has said no to, with their fields.
    refused: list[str]
    #: The numbers of the channels that are on, in plans whose channels are fixed; else null.
    enabled: list[int] | None = None
    #: Its dwell times, in plans that have them; else null.
    dwell_time: Dwell | None = None


class StatusShape(msgspec.Struct, kw_only=True):
    """Its last DevStatusAns."""

    #: 0: mains; 1 to 254: from empty to full; 255: it cannot say.
    battery: int
    #: dB: the signal-to-noise ratio at which it heard the question, -32 to 31.
    margin: int
    #: When it said so (UNIX seconds).
    at: float


class MoteShape(msgspec.Struct, kw_only=True):
    """A mote as it is now."""

    #: Its DevEUI, 16 upper-case hexadecimal digits: its id as a device.
    dev_eui: str
    #: Its name for people; may be empty.
    name: str
    #: A: it listens after its uplinks; C: always.
    device_class: Literal["A", "C"] = msgspec.field(name="class")
    #: Whose network it is in: the broker's own, or that of a ChirpStack.
    network: Literal["own", "chirpstack"]
    #: Whether it was heard lately.
    online: bool
    #: When it was heard last (UNIX seconds); null: never.
    last_seen: float | None
    #: Whether it has a session.
    joined: bool
    #: The next frame counter of its uplinks; null: it has no session here.
    up: int | None
    #: The next frame counter of its downlinks; null: it has no session here.
    down: int | None
    #: EUIs of the gateways that heard its last frame, the best first.
    gateways: list[str]
    #: How many commands wait for its windows.
    queued: int
    #: The channel plan that it is registered with; null: that of the gateway that hears it.
    region: RegionName | None
    #: Its DevAddr, 8 upper-case hexadecimal digits; null: it has no session here.
    dev_addr: str | None
    #: What it is to be set to.
    set: MoteSettings
    #: What it is set to; null: it was asked for nothing yet.
    mac: MacShape | None
    #: Its last word on battery and signal; null: it was not asked, or has not answered.
    status: StatusShape | None


class MoteFilter(msgspec.Struct, kw_only=True):
    """Which motes, and which page."""

    #: Only motes that have this in id or name, in any case.
    q: Annotated[str, Meta(max_length=128)] | None = None
    #: Entries of one page at most.
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Annotated[str, Meta(max_length=255)] | None = None


class MotePage(msgspec.Struct):
    """Motes by DevEUI."""

    #: The motes of this page.
    items: list[MoteShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class MotePath(msgspec.Struct):
    """Which mote."""

    #: The DevEUI of the mote, 16 hexadecimal digits.
    eui: str


class MoteCalls:
    """The calls on one network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def routes(self) -> list[Route]:
        one = f"{API}/lorawan/motes/{{eui}}"
        every = f"{API}/lorawan/motes"
        return [
            Route("GET", every, self.list_motes, ADMIN, query=MoteFilter, answers=MotePage),
            Route("GET", one, self.get_mote, ADMIN, answers=MoteShape, path_shape=MotePath),
            Route("PATCH", one, self.change_mote, ADMIN, body=MoteChanges, answers=MoteShape, path_shape=MotePath),
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
