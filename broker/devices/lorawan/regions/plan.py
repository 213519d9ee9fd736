"""What a row of the region tables has: data rates, channels, windows, sizes, powers, bands.

Frequencies are in Hz, powers in dBm EIRP, sizes in bytes. Sizes are M, the largest MACPayload: a frame has 5 bytes more
(MHDR, MIC), its FRMPayload 8 bytes less, and those that its FOpts take.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.devices.lorawan.regions.masks import MaskRules

_DATR: Final = re.compile(r"SF([0-9]{1,2})BW([0-9]{3,4})")
#: Hz that a gateway's reading of a frequency may lie beside the channel.
TOLERANCE: Final = 5_000
#: Hz: channels of fixed plans are multiples of it, and no two are nearer.
_RASTER: Final = 100_000
#: Channels that a gateway hears of a fixed plan: a block.
BLOCK: Final = 8
#: Channels that a mote of a plan without fixed ones has at most.
MAX_CHANNELS: Final = 16
#: Channels of a CFList of type 0 and its size.
CF_LIST_CHANNELS: Final = 5
CF_LIST_SIZE: Final = 16


class DataRate(NamedTuple):
    """LoRa: spreading factor and bandwidth in Hz. FSK: spreading 0 and bits a second."""

    spreading: int
    bandwidth: int

    @property
    def datr(self) -> str | int:
        """As Semtech's JSON writes it."""
        return f"SF{self.spreading}BW{self.bandwidth // 1000}" if self.spreading else self.bandwidth

    @property
    def required_snr(self) -> float:
        """The SNR (dB) at which it can just be received (SX1276 data sheet, table 13)."""
        return -2.5 * (self.spreading - 4) if self.spreading else 0.0


def data_rate(datr: str | int) -> DataRate:
    """The data rate that Semtech's JSON calls so. Raises ValueError."""
    if isinstance(datr, int):
        return DataRate(0, datr)
    found = _DATR.fullmatch(datr)
    if found is None:
        raise ValueError(f"not a data rate: {datr!r}")
    return DataRate(int(found[1]), int(found[2]) * 1000)


class Band(NamedTuple):
    """A range of frequencies with the largest share of the time that a gateway may send in it."""

    low: int
    high: int
    duty: float
    #: dBm that gateways may send with in it; None: as everywhere in the region.
    eirp: float | None = None

    @property
    def name(self) -> str:
        """In MHz: ``868.0-868.6``."""
        return f"{self.low / 1e6}-{self.high / 1e6}"


@dataclass(frozen=True, slots=True)
class Channel:
    """An uplink channel, with the data rates (numbers) that it may be used with."""

    index: int
    frequency: int
    min_rate: int
    max_rate: int


@dataclass(frozen=True, slots=True)
class JoinChannel:
    """A channel on which a mote joins, where its windows follow from that channel: frequencies up and down.

    ``rx2`` is that of the join-accept and of the whole session.
    """

    index: int
    frequency: int
    rx1: int
    rx2: int


#: RX1 data rate by uplink data rate, then RX1DROffset; empty for what is no uplink data rate.
RateTable = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One row of `REGIONS`. Rows are compared by identity."""

    name: str
    #: As GETGWINFO of customer servers calls it.
    family: str
    #: By number; None where reserved.
    rates: tuple[DataRate | None, ...]
    #: Numbers that uplinks have, and downlinks.
    rates_up: tuple[int, ...]
    rates_down: tuple[int, ...]
    #: Numbers that ADR may choose from: LoRa at 125 kHz.
    uplink_rates: range
    #: M by data rate number without dwell time; 0 where nothing can be sent.
    max_payload: tuple[int, ...]
    #: M where repeaters may be between.
    repeater_payload: tuple[int, ...]
    #: M with a dwell time of 400 ms; None: there is no dwell time that could be switched on.
    dwell_payload: tuple[int, ...] | None
    #: Channels that every mote has from the start.
    channels_up: tuple[Channel, ...]
    #: Frequencies of RX1 of a fixed plan, uplink channel n to downlink channel n modulo their number; none: as uplink.
    channels_down: tuple[int, ...]
    #: Frequencies of further channels that motes are told of (CFList, NewChannelReq).
    extra: tuple[int, ...]
    #: What ChMaskCntl means.
    mask_rules: MaskRules
    rx1: RateTable
    #: With a downlink dwell time; None: the same.
    rx1_dwell: RateTable | None
    rx2_frequency: int
    rx2_rate: int
    #: What motes may send with at most, and by TXPower.
    max_eirp: float
    powers: tuple[float, ...]
    #: What gateways send with if nothing else is set: allowed, and in the gain tables of common gateways.
    power: int
    bands: tuple[Band, ...] = ()
    #: Channels to join on where that decides the windows.
    join_channels: tuple[JoinChannel, ...] = ()
    #: The dwell times that motes begin with; TxParamSetupReq can change them if ``tx_param_setup``.
    dwell_time_up: bool = False
    dwell_time_down: bool = False
    tx_param_setup: bool = False
    #: Type of the CFList: 0 frequencies, 1 channel masks, None: motes take none.
    cf_list_type: int | None = 0

    _up: dict[str | int, int] = field(init=False, repr=False)
    _down: dict[str | int, int] = field(init=False, repr=False)
    _channels: dict[int, Channel] = field(init=False, repr=False)
    _joins: dict[int, JoinChannel] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, numbers in (("_up", self.rates_up), ("_down", self.rates_down)):
            table = {rate.datr: number for number in numbers if (rate := self.rates[number]) is not None}
            object.__setattr__(self, name, table)
        channels = {_raster(channel.frequency): channel for channel in self.channels_up}
        object.__setattr__(self, "_channels", channels if self.fixed else {})
        object.__setattr__(self, "_joins", {_raster(channel.frequency): channel for channel in self.join_channels})

    # -- data rates ------------------------------------------------------------------------------------------------

    def rate_of(self, datr: str | int) -> int | None:
        """The number of an uplink's data rate as a gateway writes it."""
        return self._up.get(datr)

    def downlink_rate_of(self, datr: str | int) -> int | None:
        """The number of a downlink's data rate."""
        return self._down.get(datr)

    def rate(self, number: int) -> DataRate:
        """The data rate of this number. Raises ValueError if it is reserved."""
        found = self.rates[number] if 0 <= number < len(self.rates) else None
        if found is None:
            raise ValueError(f"{self.name} has no data rate {number}")
        return found

    @property
    def rx2_rates(self) -> tuple[int, ...]:
        """Numbers that RX2 may have: those of downlinks that anything can be sent with."""
        return tuple(number for number in self.rates_down if self.max_payload[number])

    def unfit(self, rx2_rate: int | None, channels: Collection[int]) -> str | None:
        """Why a mote of this region cannot be set to this data rate of RX2, or to channels (Hz); None: it can."""
        if rx2_rate is not None and rx2_rate not in self.rx2_rates:
            return f"rx2_rate of {self.name} is one of: {', '.join(map(str, self.rx2_rates))}"
        if channels and self.fixed:
            return f"{self.name} has all its channels from the start: no others can be set (channels)"
        room = MAX_CHANNELS - len(self.channels_up)
        if channels and len(set(channels) - {channel.frequency for channel in self.channels_up}) > room:
            return f"{self.name} has room for {room} channels beside its own"
        return None

    def payload_limit(self, rate: int, *, dwell: bool = False, repeater: bool = False) -> int:
        """M of a downlink at this data rate. ``dwell``: with a downlink dwell time of 400 ms."""
        limit = self.uplink_limit(rate, dwell=dwell)
        return min(limit, self.repeater_payload[rate]) if repeater else limit

    def uplink_limit(self, rate: int, *, dwell: bool = False) -> int:
        """M of an uplink at this data rate. ``dwell``: with an uplink dwell time of 400 ms."""
        return (self.dwell_payload if dwell and self.dwell_payload is not None else self.max_payload)[rate]

    # -- windows ---------------------------------------------------------------------------------------------------

    def rx1_rate(self, uplink: int, offset: int, *, dwell: bool = False) -> int:
        """The data rate of RX1 after an uplink of this one; an offset too large counts as the largest."""
        table = self.rx1_dwell if dwell and self.rx1_dwell is not None else self.rx1
        row = table[uplink]
        return row[min(offset, len(row) - 1)]

    def rx1_frequency(self, uplink: int, *, join: bool = False) -> int | None:
        """The frequency of RX1 after an uplink on this one; None for one that is no channel."""
        if join and self.join_channels:
            joined = self._joined_on(uplink)
            return None if joined is None else joined.rx1
        if not self.channels_down:
            return uplink
        channel = self.channel_of(uplink)
        return None if channel is None else self.channels_down[channel.index % len(self.channels_down)]

    def channel_of(self, frequency: int) -> Channel | None:
        """The channel of a fixed plan on which a gateway heard something; gateways round to some hundred hertz."""
        channel = self._channels.get(_raster(frequency))
        return channel if channel is not None and abs(channel.frequency - frequency) <= TOLERANCE else None

    def join_channel(self, frequency: int) -> int | None:
        """The number of the join channel on this frequency; None where there is no such thing."""
        channel = self._joined_on(frequency)
        return None if channel is None else channel.index

    def _joined_on(self, frequency: int) -> JoinChannel | None:
        channel = self._joins.get(_raster(frequency))
        return channel if channel is not None and abs(channel.frequency - frequency) <= TOLERANCE else None

    def rx2_for(self, join_channel: int | None) -> int:
        """The frequency of RX2 of a mote that joined on this channel (`join_channel`); None: it did not join on one."""
        for channel in self.join_channels:
            if channel.index == join_channel:
                return channel.rx2
        return self.rx2_frequency

    def band_of(self, frequency: int) -> Band | None:
        """The band with a duty cycle that a frequency lies in."""
        for band in self.bands:
            if band.low <= frequency < band.high:
                return band
        return None

    # -- channels --------------------------------------------------------------------------------------------------

    @property
    def fixed(self) -> bool:
        """A plan with all channels fixed, of which masks choose; else NewChannelReq adds channels."""
        return bool(self.channels_down)

    @property
    def blocks(self) -> int:
        """How many blocks of eight channels a fixed plan has; 0 for others."""
        return (self.mask_rules.wide or len(self.channels_up)) // BLOCK if self.fixed else 0

    def block(self, number: int) -> frozenset[int]:
        """Eight channels that a gateway hears, with their channel of 500 kHz. Raises ValueError if there are none."""
        if not 0 <= number < self.blocks:
            raise ValueError(f"{self.name} has {self.blocks} blocks of channels, of which {number} is none")
        wide = self.mask_rules.wide
        eight = frozenset(range(number * BLOCK, number * BLOCK + BLOCK))
        return eight if wide is None else eight | {wide + number}

    def cf_list_bytes(self, enabled: Collection[int] | None = None) -> bytes:
        """The CFList of a join-accept: 16 bytes, or none. ``enabled``: channel numbers; None: all of them.

        Type 0: five frequencies / 100 in three bytes LE, 0 for none. Type 1: the ChMask of each sixteen channels, LE;
        1.0.x and RP002 disagree on how many there are, and what follows those of the channels is 0 for both.
        """
        if self.cf_list_type == 0:
            first = len(self.channels_up)
            told = [
                frequency if enabled is None or number in enabled else 0
                for number, frequency in enumerate(self.extra[:CF_LIST_CHANNELS], first)
            ]
            if not any(told):
                return b""
            told += [0] * (CF_LIST_CHANNELS - len(told))
            return b"".join((frequency // 100).to_bytes(3, "little") for frequency in told) + b"\0"
        if self.cf_list_type is None or enabled is None:
            return b""
        bits = sum(1 << number for number in set(enabled))
        return bits.to_bytes(CF_LIST_SIZE - 1, "little") + b"\1"

    def masks(self, enabled: Collection[int]) -> tuple[tuple[int, int], ...]:
        """(ChMaskCntl, ChMask) of LinkADRReq that leave a mote exactly these channels (`MaskRules.sequence`)."""
        return self.mask_rules.sequence(enabled)

    def apply_mask(self, enabled: frozenset[int], cntl: int, mask: int) -> frozenset[int] | None:
        """What a mote makes of one of them (`MaskRules.apply`)."""
        return self.mask_rules.apply(enabled, cntl, mask)


def _raster(frequency: int) -> int:
    return (frequency + _RASTER // 2) // _RASTER


# -- what several rows have ----------------------------------------------------------------------------------------

#: SF12 to SF7 at 125 kHz: DR0 to DR5 of most regions.
LORA: Final = tuple(DataRate(spreading, 125_000) for spreading in (12, 11, 10, 9, 8, 7))
FSK: Final = DataRate(0, 50_000)


def steps(first: float, last: int) -> tuple[float, ...]:
    """EIRP by TXPower: two decibels less with each, from 0 to ``last``."""
    return tuple(first - 2 * index for index in range(last + 1))


def row_of(first: int, step: int, count: int) -> tuple[int, ...]:
    """Frequencies at equal distances."""
    return tuple(range(first, first + step * count, step))


def channels(frequencies: Collection[int], min_rate: int, max_rate: int, first: int = 0) -> tuple[Channel, ...]:
    """Channels with the same data rates, numbered from ``first``."""
    return tuple(Channel(index, frequency, min_rate, max_rate) for index, frequency in enumerate(frequencies, first))
