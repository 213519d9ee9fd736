"""What a mote is set to beside its data rate: windows, channels, duty cycle, dwell times; and what the network wants.

::

    at the start     told by the join-accept, or as every mote of the region begins (ABP)        begins, joined
    wanted           that, with what the settings and the mote's own registration say            wanted
    confirmed        what the mote has said yes to (`state`)

The network's RX2, channels and dwell times are meant for its region; motes of others keep theirs, unless they are set
for the mote itself. The delay, the offset and the duty cycle are for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from broker.devices.lorawan.mac.codec import MAX_EIRP, frequency_bytes
from broker.devices.lorawan.regions import Channel, Region
from broker.devices.lorawan.regions.plan import CF_LIST_CHANNELS, MAX_CHANNELS
from broker.devices.lorawan.settings import DwellTime, Settings
from broker.devices.lorawan.windows import Rx

#: What a registration may say of its mote: name -> smallest and largest.
RANGES: Final[dict[str, tuple[int, int]]] = {
    "rx1_delay": (1, 15),
    "rx1_offset": (0, 7),
    "rx2_frequency": (100_000_000, 1_677_721_500),
    "rx2_rate": (0, 15),
    "max_duty_cycle": (0, 15),
}
FIELDS: Final = (*RANGES, "channels", "adr")


class Parameters(NamedTuple):
    """Frequencies in Hz, data rates and channels by number."""

    #: Seconds from the end of an uplink to RX1, and RX1DROffset.
    delay: int
    offset: int
    rx2_frequency: int
    rx2_rate: int
    #: MaxDCycle: at most 1 / 2**duty of the time on air.
    duty: int
    #: Dwell times of 400 ms, and the index of the largest EIRP.
    up_dwell: bool
    down_dwell: bool
    eirp: int
    #: Channels that are on.
    enabled: frozenset[int]
    #: Channels beside those of the region.
    extra: tuple[Channel, ...]

    def rx(self) -> Rx:
        """The windows that follow from it."""
        return Rx(float(self.delay), self.offset, self.rx2_frequency, self.rx2_rate, self.down_dwell)


class Shared:
    """Of equal parameters one is kept: a hundred thousand motes have few that differ."""

    def __init__(self) -> None:
        self._known: dict[Parameters, tuple[Parameters, Rx]] = {}

    def of(self, parameters: Parameters) -> tuple[Parameters, Rx]:
        """These, and the windows that follow from them."""
        found = self._known.get(parameters)
        if found is None:
            found = self._known[parameters] = parameters, parameters.rx()
        return found


class Own(NamedTuple):
    """What the registration of a mote says; None: as the network has it."""

    rx1_delay: int | None = None
    rx1_offset: int | None = None
    rx2_frequency: int | None = None
    rx2_rate: int | None = None
    max_duty_cycle: int | None = None
    channels: tuple[int, ...] | None = None
    adr: bool | None = None


def own(fields: Mapping[str, Any]) -> Own | None:
    """Of a record; None when it says nothing."""
    said = {name: fields[name] for name in FIELDS if fields.get(name) is not None}
    if not said:
        return None
    if "channels" in said:
        said["channels"] = tuple(said["channels"])
    return Own(**said)


def faults(fields: Mapping[str, Any]) -> str | None:
    """What is wrong with what a registration says, in a sentence."""
    for name, (low, high) in RANGES.items():
        value = fields.get(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            return f"{name} of a lorawan device is a whole number from {low} to {high}"
    if (fields.get("rx2_frequency") or 0) % 100 != 0:
        return "rx2_frequency of a lorawan device is in Hz, a multiple of 100"
    channels = fields.get("channels")
    if channels is not None and not (
        isinstance(channels, list) and len(channels) <= MAX_CHANNELS and all(map(_is_frequency, channels))
    ):
        return f"channels of a lorawan device is a list of at most {MAX_CHANNELS} frequencies in Hz, multiples of 100"
    if not isinstance(fields.get("adr"), bool | None):
        return "adr of a lorawan device is true or false"
    return None


def _is_frequency(value: Any) -> bool:
    low, high = RANGES["rx2_frequency"]
    return type(value) is int and low <= value <= high and value % 100 == 0


def begins(region: Region) -> Parameters:
    """As every mote of the region begins."""
    return Parameters(
        delay=1,
        offset=0,
        rx2_frequency=region.rx2_frequency,
        rx2_rate=region.rx2_rate,
        duty=0,
        up_dwell=region.dwell_time_up,
        down_dwell=region.dwell_time_down,
        eirp=max((number for number, eirp in enumerate(MAX_EIRP) if eirp <= region.max_eirp), default=0),
        enabled=frozenset(channel.index for channel in region.channels_up),
        extra=(),
    )


def joined(region: Region, own: Own | None, settings: Settings, frequency: int) -> tuple[Parameters, bytes]:
    """As it will be after a join-accept to a request on ``frequency`` (Hz); and the CFList: 16 bytes, or none."""
    start = begins(region)._replace(rx2_frequency=region.rx2_for(region.join_channel(frequency)))
    want = wanted(start, region, own, settings)
    told = start._replace(delay=want.delay, offset=want.offset, rx2_rate=want.rx2_rate)
    if region.cf_list_type == 0:
        # Later ones than the CFList has room for are told of by NewChannelReq.
        extra = want.extra[:CF_LIST_CHANNELS] if _own_channels(region, own, settings) is not None else _cf_list(region)
        enabled = told.enabled | {channel.index for channel in extra}
        return told._replace(extra=extra, enabled=enabled), _frequencies(extra)
    # Motes of 1.0.2 take no masks from it: all are told them once more by LinkADRReq.
    return told, region.cf_list_bytes(None if want.enabled == start.enabled else want.enabled)


def _frequencies(extra: tuple[Channel, ...]) -> bytes:
    """A CFList of type 0."""
    if not extra:
        return b""
    told = [channel.frequency for channel in extra] + [0] * (CF_LIST_CHANNELS - len(extra))
    return b"".join(map(frequency_bytes, told)) + b"\0"


def wanted(start: Parameters, region: Region, own: Own | None, settings: Settings) -> Parameters:
    """What the mote is to be set to, which begins with ``start``. What its region does not have is left as it is."""
    of = own or Own()
    here = region.name == settings.region
    offset = settings.rx1_offset if of.rx1_offset is None else of.rx1_offset
    rate = of.rx2_rate if of.rx2_rate is not None else settings.rx2_rate if here and settings.rx2_rate >= 0 else None
    if rate is None or rate not in region.rx2_rates:
        rate = start.rx2_rate
    frequency = of.rx2_frequency or (settings.rx2_frequency if here else 0) or start.rx2_frequency
    up, down = _dwell(start, region, settings.dwell_time if here else "region")
    extra = start.extra
    frequencies = _own_channels(region, own, settings)
    if frequencies is not None:
        extra = _channels(region, frequencies)
    return start._replace(
        delay=of.rx1_delay or settings.rx1_delay,
        offset=min(offset, len(next(filter(None, region.rx1))) - 1),
        rx2_frequency=frequency,
        rx2_rate=rate,
        duty=settings.max_duty_cycle if of.max_duty_cycle is None else of.max_duty_cycle,
        up_dwell=up,
        down_dwell=down,
        enabled=_enabled(start, region, extra, settings),
        extra=extra,
    )


def _own_channels(region: Region, own: Own | None, settings: Settings) -> tuple[int, ...] | None:
    """Frequencies that are asked for; None: whatever the mote has."""
    if region.fixed:
        return None
    if own is not None and own.channels is not None:
        return own.channels
    return settings.channels or None if region.name == settings.region else None


def _channels(region: Region, frequencies: tuple[int, ...]) -> tuple[Channel, ...]:
    first = len(region.channels_up)
    known = {channel.frequency for channel in region.channels_up}
    new = [frequency for frequency in dict.fromkeys(frequencies) if frequency not in known]
    slowest, fastest = region.uplink_rates[0], region.uplink_rates[-1]
    return tuple(
        Channel(index, frequency, slowest, fastest)
        for index, frequency in enumerate(new[: MAX_CHANNELS - first], first)
    )


def _cf_list(region: Region) -> tuple[Channel, ...]:
    return _channels(region, region.extra[:CF_LIST_CHANNELS])


def _enabled(start: Parameters, region: Region, extra: tuple[Channel, ...], settings: Settings) -> frozenset[int]:
    if region.fixed:
        block = settings.channel_block
        return region.block(block) if 0 <= block < region.blocks else start.enabled
    return frozenset(channel.index for channel in (*region.channels_up, *extra))


def _dwell(start: Parameters, region: Region, setting: DwellTime) -> tuple[bool, bool]:
    if setting == "region" or not region.tx_param_setup:
        return start.up_dwell, start.down_dwell
    return setting in ("up", "both"), setting in ("down", "both")
