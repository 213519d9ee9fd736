"""Slots: where and when a frame could go out, and which is tried first.

A slot is a gateway, its clock, a frequency and a data rate. Those of class A are RX1 of each gateway that heard the
uplink, and RX2 of each; those of class C are the parameters of RX2, as soon as it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.reception import Reception
from broker.devices.lorawan.regions import Band, DataRate, Region

#: dB above what demodulation needs from which on a gateway is as good as any other.
GOOD_MARGIN: Final = 10.0
#: What a frame has beside its MACPayload: MHDR and MIC.
FRAME_OVER_PAYLOAD: Final = 5


class Rx(NamedTuple):
    """The windows as a mote knows them. None: as its region has it."""

    #: Seconds from the end of an uplink to RX1.
    delay: float
    #: RX1DROffset.
    offset: int
    #: Hz.
    rx2_frequency: int | None = None
    #: Number of the data rate.
    rx2_rate: int | None = None
    #: A downlink dwell time of 400 ms.
    dwell: bool = False
    #: The windows of a join-accept.
    join: bool = False


class Slot(NamedTuple):
    """``start``: the gateway's own microseconds, None for "at once"; ``latest``: when it must have left (monotonic)."""

    gateway: Gateway
    start: int | None
    latest: float
    frequency: int
    rate: DataRate
    band: Band | None


class Plan(NamedTuple):
    """``slots`` that take the frame, the best first."""

    slots: list[Slot]
    #: There are windows, but the frame is too long for each of them.
    too_long: bool


def rx2(region: Region, rx: Rx) -> tuple[int, int]:
    """Frequency and number of the data rate of a mote's second window."""
    frequency = region.rx2_frequency if rx.rx2_frequency is None else rx.rx2_frequency
    return frequency, region.rx2_rate if rx.rx2_rate is None else rx.rx2_rate


def fits(size: int, region: Region, rate: int) -> bool:
    """Whether a frame of ``size`` bytes may be sent at this data rate."""
    return size - FRAME_OVER_PAYLOAD <= region.max_payload[rate]


def margin(reception: Reception) -> float:
    """dB above what demodulation at the frame's own data rate needs."""
    number = reception.gateway.region.rate_of(reception.datr)
    return reception.snr - (reception.gateway.region.rates[number].required_snr if number is not None else 0.0)


def by_margin(receptions: Sequence[Reception]) -> list[Reception]:
    """The best for a downlink first: of all that hear the mote well, the one with the least to do."""
    if len(receptions) == 1:
        return list(receptions)

    def worth(reception: Reception) -> tuple[bool, float, float]:
        above = margin(reception)
        good = above >= GOOD_MARGIN
        return not good, reception.gateway.load if good else 0, -above

    return sorted(receptions, key=worth)
