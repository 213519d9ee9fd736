"""Adaptive data rate: from how a mote was heard to how it should send, sans-IO.

::

    margin    = largest SNR of the last frames - what the data rate needs - the margin that the settings keep
    faster    the fastest rate whose margin is not negative, with power that was taken away before given back
    quieter   the lowest power that leaves the margin there
    louder    margin < -HYSTERESIS: as much power as it takes
    slower    the same at full power, with LOSSY of the frames lost: the next slower rate
    NbTrans   by the share of frames that were lost:  < 5 %  one less       < 10 %  as it is
                                                      < 30 % one more      more     the most

The largest SNR of few frames is less than that of many, so a mote may be made faster after a quarter of the history: an
error is on the safe side. Everything else takes all of it. What was heard before a change says nothing about the time
after it, so the history begins anew then.

A mote that hears nothing from us helps itself (1.0.4, 4.3.1.1): full power first, then slower step by step, then all
channels and each frame once. A frame at another data rate than the one agreed on shows that.
"""

from __future__ import annotations

from math import log10
from typing import Final, NamedTuple

from broker.devices.lorawan.regions import DataRate

#: dB below the margin from which a mote is made louder or slower.
HYSTERESIS: Final = 3.0
#: Shares of lost frames.
LITTLE: Final = 0.05
LOSSY: Final = 0.1
MUCH: Final = 0.3
#: Frames of a full history after which a mote may be made faster.
SOON: Final = 4
#: SNRs are kept in quarters of a dB, as one byte each; gaps between frame counters as another.
_QUARTER: Final = 4
_ZERO: Final = 128
_MOST: Final = 255


class Sending(NamedTuple):
    """How a mote sends: data rate, TXPower index (0: loudest), NbTrans."""

    rate: int
    power: int
    repetitions: int


class Limits(NamedTuple):
    """What `decide` may choose from. ``margin``: dB; ``history``: frames of a full one."""

    #: SNR (dB, at 125 kHz) that each data rate needs; None for one that has nothing to do with it.
    needs: tuple[float | None, ...]
    #: Numbers of those that may be chosen, the slowest first; never none.
    rates: tuple[int, ...]
    #: dBm by TXPower index, the loudest first.
    powers: tuple[float, ...]
    margin: float
    history: int
    max_repetitions: int
    #: TXPower indices.
    min_power: int
    max_power: int


class History:
    """The last frames of a mote: how well the best gateway heard each, and how many were lost before it."""

    __slots__ = ("_frames", "_last")

    def __init__(self) -> None:
        #: Two bytes a frame, the oldest first.
        self._frames = b""
        self._last = -1

    def __len__(self) -> int:
        return len(self._frames) >> 1

    def add(self, fcnt: int, snr: float, most: int) -> None:
        """A new frame; ``most`` are kept. ``snr``: dB at 125 kHz."""
        level = int(snr * _QUARTER) + _ZERO
        gap = fcnt - self._last if self._last >= 0 else 1
        self._last = fcnt
        entry = bytes((0 if level < 0 else _MOST if level > _MOST else level, _MOST if gap > _MOST else gap))
        self._frames = self._frames[-2 * most + 2 :] + entry if most > 1 else entry

    def clear(self) -> None:
        """The mote sends otherwise from now on."""
        self._frames = b""

    @property
    def best(self) -> float:
        """The largest SNR, in dB; only of a history that is not empty."""
        return (max(self._frames[::2]) - _ZERO) / _QUARTER

    @property
    def lost(self) -> float:
        """The share of frames that did not come, 0 to 1."""
        sent = sum(self._frames[3::2]) + 1
        return 1 - len(self) / sent


def need(rate: DataRate) -> float | None:
    """The SNR at 125 kHz that a data rate needs; None for one that is not LoRa."""
    return rate.required_snr + 10 * log10(rate.bandwidth / 125_000) if rate.spreading else None


def at_125_khz(snr: float, rate: DataRate) -> float:
    """A measured SNR as it would be at 125 kHz, where a wider channel has more noise."""
    return snr if rate.bandwidth == 125_000 or not rate.spreading else snr + 10 * log10(rate.bandwidth / 125_000)


def decide(history: History, now: Sending, limits: Limits) -> Sending:
    """How the mote should send; ``now`` if that is well, or if too little is known."""
    known = len(history)
    needed = limits.needs[now.rate] if now.rate < len(limits.needs) else None
    if needed is None or not known or known * SOON < limits.history:
        return now
    # How it would be heard at full power, beyond the margin; and how far power goes down.
    loudest = history.best - limits.margin + _given_away(limits, now.power)
    rate = min(_fastest(loudest - _given_away(limits, limits.min_power), now.rate, limits), limits.rates[-1])
    full = known >= limits.history
    if rate == now.rate and not full:
        return now
    power = now.power
    needed = limits.needs[rate] or 0.0
    quietest = _quietest(loudest - needed, limits)
    if rate != now.rate or quietest > power:
        power = quietest
    elif loudest - _given_away(limits, power) - needed < -HYSTERESIS:
        if quietest < power:
            power = quietest
        elif history.lost >= LOSSY:
            rate = _slower(rate, limits)
    return Sending(rate, power, _repetitions(now.repetitions, history.lost, limits) if full else now.repetitions)


def _given_away(limits: Limits, power: int) -> float:
    """dB by which this TXPower index is below full power."""
    return limits.powers[0] - limits.powers[min(power, len(limits.powers) - 1)]


def _fastest(loudest: float, rate: int, limits: Limits) -> int:
    for number in reversed(limits.rates):
        needed = limits.needs[number]
        if number > rate and needed is not None and loudest >= needed:
            return number
    return rate


def _slower(rate: int, limits: Limits) -> int:
    return max((number for number in limits.rates if number < rate), default=rate)


def _quietest(spare: float, limits: Limits) -> int:
    """The largest TXPower index that takes no more than ``spare`` dB away."""
    last = min(limits.max_power, len(limits.powers) - 1)
    for index in range(last, limits.min_power, -1):
        if _given_away(limits, index) <= spare:
            return index
    return min(limits.min_power, last)


def _repetitions(now: int, lost: float, limits: Limits) -> int:
    if lost < LITTLE:
        wanted = now - 1
    elif lost < LOSSY:
        wanted = now
    elif lost < MUCH:
        wanted = now + 1
    else:
        wanted = limits.max_repetitions
    return max(1, min(wanted, limits.max_repetitions))
