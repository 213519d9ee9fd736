"""ChirpStack v4's MQTT messages: topics and JSON to plain values, commands to JSON (sans-IO).

::

    <prefix>application/<id>/device/<dev_eui>/event/<up|join|txack|ack|log|status|...>       JSON, ChirpStack -> us
    <prefix>application/<id>/device/<dev_eui>/command/down                                   JSON, us -> ChirpStack
    <region>/gateway/<gateway_id>/state/conn   (retained)   <region>/gateway/<gateway_id>/event/stats
                                                                            JSON or Protocol Buffers, gateway -> us

Fields are those of ``api/proto/integration/integration.proto`` and ``gw.proto`` in their JSON mapping: camelCase, bytes
as base64, enumerations by name (a number is taken as well), and what has its default value may be missing. Fields that
we have no use for are not looked at. EUIs are written with 16 lower-case digits there.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from broker.devices.lorawan.chirpstack import protobuf
from broker.devices.lorawan.identity import canonical_eui
from broker.model.jsontext import encode

EVENTS: Final = ("up", "join", "txack", "ack", "log", "status")

Unsigned = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Text = Annotated[str, Meta(max_length=1024)]

#: Numbers of LogLevel and LogCode, for writers that do not use the names.
_LEVELS: Final = ("INFO", "WARNING", "ERROR")
_CODES: Final = (
    "UNKNOWN",
    "DOWNLINK_PAYLOAD_SIZE",
    "UPLINK_CODEC",
    "DOWNLINK_CODEC",
    "OTAA",
    "UPLINK_F_CNT_RESET",
    "UPLINK_MIC",
    "UPLINK_F_CNT_RETRANSMISSION",
    "DOWNLINK_GATEWAY",
    "RELAY_NEW_END_DEVICE",
    "F_CNT_DOWN",
    "EXPIRED",
)
_CLASSES: Final = ("CLASS_A", "CLASS_B", "CLASS_C")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class EventError(ValueError):
    """A message that is not what its topic is for."""


class _Part(msgspec.Struct, rename="camel", gc=False):
    """A message or a part of one."""


class DeviceInfo(_Part, gc=False):
    """Of whom a message is."""

    application_id: Text = ""
    dev_eui: Text = ""
    device_class_enabled: str | int | None = None

    @property
    def class_c(self) -> bool | None:
        """None where it is not said, as by older versions. Class B counts as A here: it has windows to wait for."""
        said = self.device_class_enabled
        return None if said is None else _name(_CLASSES, said) == "CLASS_C"


class RxInfo(_Part, gc=False):
    """How one gateway heard it; dBm and dB, of which 0 is left out in JSON."""

    gateway_id: Text = ""
    rssi: float | None = 0.0
    snr: float | None = 0.0


class Lora(_Part, gc=False):
    bandwidth: Unsigned = 0
    spreading_factor: Unsigned = 0


class Fsk(_Part, gc=False):
    datarate: Unsigned = 0


class Modulation(_Part, gc=False):
    lora: Lora | None = None
    fsk: Fsk | None = None


class TxInfo(_Part, gc=False):
    """``frequency`` in Hz."""

    frequency: Unsigned = 0
    modulation: Modulation | None = None

    @property
    def data_rate(self) -> str | int | None:
        """As packet forwarders write it: SF7BW125, or bits a second of FSK."""
        modulation = self.modulation
        if modulation is None:
            return None
        if modulation.lora is not None:
            return f"SF{modulation.lora.spreading_factor}BW{modulation.lora.bandwidth // 1000}"
        return None if modulation.fsk is None else modulation.fsk.datarate


class Event(_Part):
    """What all events have."""

    device_info: DeviceInfo
    deduplication_id: Text = ""
    time: Text | None = None

    @property
    def at(self) -> float | None:
        """When ChirpStack made it, UNIX seconds; None if it does not say so in a way that can be read."""
        return unix_time(self.time)


class Up(Event):
    """An uplink; ``f_port`` 0 and no data: it had only MAC commands."""

    dev_addr: Text = ""
    f_cnt: Unsigned = 0
    f_port: Annotated[int, Meta(ge=0, le=255)] = 0
    confirmed: bool = False
    data: bytes = b""
    rx_info: list[RxInfo] = []
    tx_info: TxInfo | None = None


class Join(Event):
    """Said with the first uplink after a join."""

    dev_addr: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{8}$")] = "00000000"


class TxAck(Event):
    """A gateway has taken a downlink."""

    queue_item_id: Text = ""
    f_cnt_down: Unsigned = 0
    gateway_id: Text = ""


class Ack(Event):
    """A confirmed downlink was acknowledged, or was not."""

    queue_item_id: Text = ""
    acknowledged: bool = False


class Log(Event):
    """Something went wrong. ``context`` may have ``queue_item_id``."""

    level: str | int = "INFO"
    code: str | int = "UNKNOWN"
    description: str = ""
    context: dict[str, str] = {}

    @property
    def level_name(self) -> str:
        return _name(_LEVELS, self.level)

    @property
    def code_name(self) -> str:
        return _name(_CODES, self.code)


class Status(Event):
    """What the mote answered to DevStatusReq. ``battery_level`` in percent, ``margin`` in dB."""

    margin: Annotated[int, Meta(ge=-128, le=127)] = 0
    external_power_source: bool = False
    battery_level_unavailable: bool = False
    battery_level: Annotated[float, Meta(ge=0, le=100)] = 0.0

    @property
    def battery(self) -> int:
        """As the mote said it (LoRaWAN 1.0.3, 5.5): 0 external power, 1 to 254 the level, 255 cannot be measured."""
        if self.external_power_source:
            return 0
        if self.battery_level_unavailable:
            return 255
        return min(254, max(1, round(self.battery_level * 254 / 100)))


_DECODERS: Final[dict[str, Any]] = {
    "up": msgspec.json.Decoder(Up),
    "join": msgspec.json.Decoder(Join),
    "txack": msgspec.json.Decoder(TxAck),
    "ack": msgspec.json.Decoder(Ack),
    "log": msgspec.json.Decoder(Log),
    "status": msgspec.json.Decoder(Status),
}


def parse_event(what: str, application: str, dev_eui: str, text: bytes) -> Event:
    """The event of a topic with these words. Raises EventError."""
    try:
        event: Event = _DECODERS[what].decode(text)
    except (ValueError, RecursionError) as error:
        raise EventError(str(error)) from None
    info = event.device_info
    if info.dev_eui.upper() != dev_eui:
        raise EventError("of another device than its topic says")
    if info.application_id and info.application_id != application:
        raise EventError("of another application than its topic says")
    return event


def _name(names: tuple[str, ...], value: str | int) -> str:
    if isinstance(value, str):
        return value
    return names[value] if 0 <= value < len(names) else str(value)


def item_of(text: str) -> str:
    """The id of a queue item as it stands in our commands; empty for what is no UUID."""
    lower = text.lower()
    return lower if _UUID.fullmatch(lower) else ""


def unix_time(text: str | None) -> float | None:
    """UNIX seconds from RFC 3339, with any number of digits behind the second; None for anything else."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else at.timestamp()


# -- topics --------------------------------------------------------------------------------------------------------


class EventTopic(NamedTuple):
    """``dev_eui``: 16 upper-case digits. ``what`` is any word; `EVENTS` are those that are read."""

    application: str
    dev_eui: str
    what: str


class GatewayTopic(NamedTuple):
    """``what``: conn or stats. ``region``: what stands before, empty for nothing."""

    region: str
    eui: str
    what: str


def event_filter(prefix: str, application: str) -> str:
    """The topic filter for events of one application, or of all."""
    return f"{prefix}application/{application or '+'}/device/+/event/+"


def gateway_filters(region: str) -> tuple[str, str]:
    """The topic filters for gateways of a region; of any for "+"."""
    before = f"{region}/" if region else ""
    return f"{before}gateway/+/state/conn", f"{before}gateway/+/event/stats"


def parse_topic(topic: str, prefix: str) -> EventTopic | GatewayTopic | None:
    """Whose message it is; None when it is not for us."""
    if topic.startswith(f"{prefix}application/"):
        words = topic[len(prefix) :].split("/")
        if len(words) == 6 and (words[2], words[4]) == ("device", "event"):
            eui = canonical_eui(words[3])
            return None if eui is None else EventTopic(words[1], eui, words[5])
        return None
    words = topic.split("/")
    if len(words) not in (4, 5) or words[-4] != "gateway":
        return None
    eui = canonical_eui(words[-3])
    what = {("state", "conn"): "conn", ("event", "stats"): "stats"}.get((words[-2], words[-1]))
    return None if eui is None or what is None else GatewayTopic(words[0] if len(words) == 5 else "", eui, what)


def down(
    prefix: str, application: str, dev_eui: str, item: str, port: int, payload: bytes, confirmed: bool
) -> tuple[str, bytes]:
    """Topic and message of a downlink command. ChirpStack compares the DevEUI of both, as texts."""
    eui = dev_eui.lower()
    command = {
        "id": item,
        "devEui": eui,
        "confirmed": confirmed,
        "fPort": port,
        "data": b64encode(payload).decode("ascii"),
    }
    return f"{prefix}application/{application}/device/{eui}/command/down", encode(command)


# -- gateways ------------------------------------------------------------------------------------------------------


class Location(_Part, gc=False):
    """Degrees and metres."""

    latitude: float = 0.0
    longitude: float = 0.0
    altitude: float = 0.0


class GatewayStats(_Part, gc=False):
    """Packets since the last of these."""

    rx_packets_received: Unsigned = 0
    rx_packets_received_ok: Unsigned = 0
    tx_packets_received: Unsigned = 0
    tx_packets_emitted: Unsigned = 0
    location: Location | None = None


class _ConnState(_Part, gc=False):
    state: str | int = "OFFLINE"


_conn_decoder: Final = msgspec.json.Decoder(_ConnState)
_stats_decoder: Final = msgspec.json.Decoder(GatewayStats)


def parse_conn(data: bytes) -> bool:
    """Whether the gateway is on-line. Raises EventError."""
    try:
        if data[:1] == b"{":
            return _name(("OFFLINE", "ONLINE"), _conn_decoder.decode(data).state) == "ONLINE"
        return protobuf.whole(protobuf.fields(data), 2) == 1
    except (ValueError, RecursionError) as error:
        raise EventError(str(error)) from None


def parse_stats(data: bytes) -> GatewayStats:
    """Raises EventError."""
    try:
        if data[:1] == b"{":
            return _stats_decoder.decode(data)
        found = protobuf.fields(data)
        place = protobuf.fields(protobuf.part(found, 3)) if 3 in found else None
        return GatewayStats(
            protobuf.whole(found, 5),
            protobuf.whole(found, 6),
            protobuf.whole(found, 7),
            protobuf.whole(found, 8),
            None if place is None else Location(*(protobuf.double(place, number) for number in (1, 2, 3))),
        )
    except (ValueError, RecursionError) as error:
        raise EventError(str(error)) from None
