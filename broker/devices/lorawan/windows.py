"""Slots: where and when a frame could go out, and which is tried first.

A slot is a gateway, its clock, a frequency and a data rate. Those of class A are RX1 of each gateway that heard the
uplink, and RX2 of each; those of class C are the parameters of RX2, as soon as it goes.

The order of class A's (`_ranked`), with its reasons:

1.  slots in which the mote is likely to hear: the uplink was heard, so what its SNR would be the other way round, with
    the power that the gateway may use, has to be `REACH` above what the data rate needs;
2.  the shortest frame, as a gateway that sends is deaf meanwhile: RX1 is faster than RX2 for motes that are near;
3.  more above what is needed, up to `GOOD_MARGIN`: in EU868 RX2 may have more power than RX1;
4.  the gateway with the least to do, then the one that has used less of the band's air time;
5.  the band with the larger duty cycle: what is sent in RX2 of EU868 costs a tenth of its share;
6.  RX1 before RX2, so that there is another chance when the gateway refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from broker.devices.lorawan.air import Emission
from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.reception import Reception
from broker.devices.lorawan.regions import Band, DataRate, Region
from broker.devices.lorawan.settings import Settings

#: dB above what demodulation needs from which on a mote is likely to hear.
REACH: Final = 3.0
#: The same, from which on a gateway is as good as any other.
GOOD_MARGIN: Final = 10.0
#: dBm: more is not in the gain tables of all gateways, so it has to be asked for in the settings.
USUAL_POWER: Final = 20.0
#: Steps in which the use of a band counts.
_TENTHS: Final = 10
RX2_AFTER_RX1: Final = 1.0
#: What a frame has beside its MACPayload: MHDR and MIC.
FRAME_OVER_PAYLOAD: Final = 5
#: Microseconds from now to a class C downlink: the forwarder needs some to prepare.
CLASS_C_LEAD: Final = 330_000
#: Seconds in which it has to have left.
CLASS_C_PATIENCE: Final = 60.0
#: Microseconds within which a gateway begins that is told "at once": the reference forwarder takes a second.
AT_ONCE: Final = 1_200_000
#: Gateways whose transmissions are looked at for a clash: beyond these a mote hardly hears any.
MAX_NEIGHBOURS: Final = 8


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


#: Gateways that the mote hears, each with what its clock shows at one and the same moment.
Neighbours = tuple[tuple[Gateway, int], ...]


class Slot(NamedTuple):
    """``start``: the gateway's own microseconds; None: as soon as it goes. ``latest``: when it must have left."""

    gateway: Gateway
    start: int | None
    #: Monotonic seconds.
    latest: float
    frequency: int
    rate: DataRate
    band: Band | None
    #: dBm that are allowed.
    eirp: float
    neighbours: Neighbours = ()
    #: The gateway is told no time.
    at_once: bool = False

    def emission(self, size: int, now: float, after: int = 0) -> Emission:
        """What sending ``size`` bytes in it would be; as soon as it goes: not before ``after`` on its clock."""
        length = round(airtime(self.rate, size) * 1e6)
        start = self.start
        if start is not None:
            return Emission(start, start + length, length, self.frequency, self.band)
        local = self.gateway.clock.reading(now)
        if self.at_once:
            return Emission(local, local + AT_ONCE + length, length, self.frequency, self.band)
        start = self._free_from(max(local + CLASS_C_LEAD, after), length)
        return Emission(start, start + length, length, self.frequency, self.band)

    def _free_from(self, start: int, length: int) -> int:
        while True:
            start = self.gateway.bookings.free_from(start, length)
            clash = self.clash(start, start + length)
            if clash is None:
                return start
            start = clash

    def clash(self, start: int, end: int) -> int | None:
        """When no other gateway that the mote hears sends on this frequency any more, if one does in this span."""
        own = next((local for gateway, local in self.neighbours if gateway is self.gateway), None)
        if own is None:
            return None
        for gateway, local in self.neighbours:
            if gateway is not self.gateway:
                until = gateway.bookings.clash(start - own + local, end - own + local, self.frequency)
                if until is not None:
                    return until - local + own
        return None


class Plan(NamedTuple):
    """``slots`` that take the frame, the best first."""

    slots: list[Slot]
    #: There are windows, but the frame is too long for each of them.
    too_long: bool


def after_uplink(
    receptions: Sequence[Reception], region: Region | None, size: int, rx: Rx, settings: Settings, now: float
) -> Plan:
    """RX1 and RX2 of class A. ``receptions``: the best first; ``size``: bytes of the whole frame."""
    usable = [
        reception
        for reception in receptions
        if reception.local is not None and reception.gateway.address is not None and reception.gateway.online
    ][:MAX_NEIGHBOURS]
    neighbours: Neighbours = ()
    if len(usable) > 1:
        neighbours = tuple((one.gateway, one.local or 0) for one in usable)
    ranked: list[tuple[tuple[float, ...], Slot]] = []
    windows = 0
    for reception in usable:
        plan = region or reception.gateway.region
        for delay, frequency, number in _windows(reception, plan, rx, settings.rx_window):
            windows += 1
            if fits(size, plan, number, rx.dwell):
                ranked.append(
                    _ranked(reception, plan, delay, frequency, plan.rate(number), size, neighbours, settings, now)
                )
    ranked.sort(key=_first)
    return Plan([slot for _, slot in ranked], windows > 0 and not ranked)


def _first(ranked: tuple[Any, Slot]) -> Any:
    return ranked[0]


def _windows(reception: Reception, plan: Region, rx: Rx, which: str) -> Iterator[tuple[float, int, int]]:
    """Seconds after the uplink, frequency, number of the data rate."""
    if which == "auto" and rx.join and not _sure_of_rx2(plan, reception.frequency):
        which = "rx1"
    if which != "rx2":
        number = plan.rate_of(reception.datr)
        frequency = plan.rx1_frequency(reception.frequency, join=rx.join)
        if number is not None and frequency is not None:
            yield rx.delay, frequency, plan.rx1_rate(number, rx.offset, dwell=rx.dwell)
    if which != "rx1":
        yield rx.delay + RX2_AFTER_RX1, *rx2(plan, rx, reception.frequency)


def _sure_of_rx2(plan: Region, request: int) -> bool:
    """Whether all motes listen alike in RX2 after a join-request on this frequency (Hz).

    With the join channels of CN470's 20 MHz plans RX2 is to be read as that of the session (RP002-1.0.4, 2.9.7);
    LoRaMac-node listens on the frequency of RX1 once more (RegionCN470RxConfig, not yet joined).
    """
    joined = plan.join_channel(request)
    return joined is None or plan.rx2_for(joined) == plan.rx1_frequency(request, join=True)


def _ranked(
    reception: Reception,
    plan: Region,
    delay: float,
    frequency: int,
    rate: DataRate,
    size: int,
    neighbours: Neighbours,
    settings: Settings,
    now: float,
) -> tuple[tuple[float, ...], Slot]:
    """A slot, and what it is worth: less is better; see above."""
    gateway = reception.gateway
    assert reception.local is not None
    start = reception.local + int(delay * 1e6)
    band, eirp = law(gateway.region, plan, frequency, settings.power)
    power = eirp if gateway.max_power is None else min(eirp, gateway.max_power + gateway.antenna_gain)
    above = reception.snr + power - plan.max_eirp - rate.required_snr
    length = airtime(rate, size)
    worth = (
        *((0.0, length, -min(above, GOOD_MARGIN)) if above >= REACH else (1.0, -above, length)),
        gateway.bookings.lately(start),
        int(gateway.air.filled(band, start) * _TENTHS),
        -1.0 if band is None else -band.duty,
        -above,
    )
    latest = reception.arrived + delay - settings.downlink_margin
    return worth, Slot(gateway, start, latest, frequency, rate, band, eirp, neighbours)


def at_any_time(
    gateways: Iterable[Gateway], region: Region | None, size: int, rx: Rx, settings: Settings, now: float
) -> Plan:
    """Class C: the parameters of RX2, as soon as it goes.

    A gateway behind a slow line, or whose clock was set anew, finds the time that it is told past: then ``imme``.
    """
    usable = [gateway for gateway in gateways if gateway.address is not None and gateway.online]
    neighbours: Neighbours = ()
    if len(usable) > 1:
        neighbours = tuple((gateway, gateway.clock.reading(now)) for gateway in usable[:MAX_NEIGHBOURS])
    timed: list[tuple[int, Slot]] = []
    untimed: list[Slot] = []
    long = False
    for gateway in usable:
        plan = region or gateway.region
        frequency, rate = rx2(plan, rx)
        if not fits(size, plan, rate, rx.dwell):
            long = True
            continue
        band, eirp = law(gateway.region, plan, frequency, settings.power)
        latest = now + CLASS_C_PATIENCE
        slot = Slot(gateway, None, latest, frequency, plan.rate(rate), band, eirp, neighbours)
        if gateway.clock.known(now):
            # The best gateway, unless another one is free a second earlier.
            delay = slot.emission(size, now).start - gateway.clock.reading(now)
            timed.append((delay // 1_000_000, slot))
        untimed.append(slot._replace(at_once=True))
    timed.sort(key=_first)
    return Plan([slot for _, slot in timed] + untimed, long and not untimed)


@lru_cache(maxsize=1024)
def law(here: Region, plan: Region, frequency: int, wish: int) -> tuple[Band | None, float]:
    """The band whose duty cycle counts, and the dBm EIRP that a gateway may send with.

    ``here``: where the gateway stands; ``plan``: the mote's region, which counts where the other one says nothing.
    ``wish``: what the settings say; 0: as the region has it.
    """
    band = here.band_of(frequency) or plan.band_of(frequency)
    special = None if band is None else band.eirp
    if not wish:
        return band, plan.power if special is None else min(special, USUAL_POWER)
    return band, min(wish, max(plan.power, plan.max_eirp) if special is None else special)


def rx2(region: Region, rx: Rx, uplink: int | None = None) -> tuple[int, int]:
    """Frequency and number of the data rate of a mote's second window. ``uplink``: Hz of a join-request."""
    frequency = rx.rx2_frequency
    if frequency is None:
        joined = region.join_channel(uplink) if rx.join and uplink is not None else None
        frequency = region.rx2_for(joined)
    return frequency, region.rx2_rate if rx.rx2_rate is None else rx.rx2_rate


def fits(size: int, region: Region, rate: int, dwell: bool = False) -> bool:
    """Whether a frame of ``size`` bytes may be sent at this data rate."""
    return size - FRAME_OVER_PAYLOAD <= region.payload_limit(rate, dwell=dwell)


def margin(reception: Reception) -> float:
    """dB above what demodulation at the frame's own data rate needs."""
    number = reception.gateway.region.rate_of(reception.datr)
    return reception.snr - (reception.gateway.region.rate(number).required_snr if number is not None else 0.0)
