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
error is on the safe side. Everything else takes all of it; then a mote is judged once in a quarter. What was heard
before a change says nothing about the time after it, so the history begins anew then.

A mote that hears nothing from us helps itself (1.0.4, 4.3.1.1): full power first, then slower step by step, then all
channels and each frame once. A frame at another data rate than the one agreed on shows that.
"""

from __future__ import annotations

from bisect import bisect_right
from math import log10
from typing import Any, Final, NamedTuple

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
    #: dB that a measured SNR would be larger at 125 kHz: a wider channel has more noise.
    gains: tuple[float, ...]
    #: Numbers of those that may be chosen, the slowest first; never none.
    rates: tuple[int, ...]
    #: dB below full power by TXPower index.
    drops: tuple[float, ...]
    margin: float
    history: int
    max_repetitions: int
    #: TXPower indices.
    min_power: int
    max_power: int


def drops(powers: tuple[float, ...]) -> tuple[float, ...]:
    """dB below full power, from dBm by TXPower index."""
    return tuple(powers[0] - power for power in powers)


class History:
    """The last frames of a mote: how well the best gateway heard each, and how many were lost before it."""

    __slots__ = ("_frames", "_last", "judgement", "limits", "now", "since")

    def __init__(self) -> None:
        #: Two bytes a frame, the oldest first.
        self._frames = b""
        self._last = -1
        #: What was judged last, how, and how many frames ago.
        self.since = 0
        self.now: Sending | None = None
        self.limits: Limits | None = None
        self.judgement: Any = None

    def __len__(self) -> int:
        return len(self._frames) >> 1

    def add(self, fcnt: int, snr: float, most: int) -> None:
        """A new frame; ``most`` are kept. ``snr``: dB at 125 kHz."""
        level = int(snr * _QUARTER) + _ZERO
        gap = fcnt - self._last if self._last >= 0 else 1
        self._last = fcnt
        self.since += 1
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
    return rate.required_snr + gain(rate) if rate.spreading else None


def gain(rate: DataRate) -> float:
    """dB that an SNR at its bandwidth would be larger at 125 kHz."""
    return 10 * log10(rate.bandwidth / 125_000) if rate.spreading else 0.0


def decide(history: History, now: Sending, limits: Limits) -> Sending:
    """How the mote should send; ``now`` if that is well, or if too little is known."""
    known = len(history)
    if known * SOON < limits.history or not known:
        return now
    full = known >= limits.history
    # One that is settled need not be judged with every frame.
    again = now is not history.now or limits is not history.limits or not full
    if again or history.since * SOON >= limits.history:
        history.since, history.now, history.limits = 0, now, limits
        wish = _judge(history.best, history.lost, full, now, limits)
        history.judgement = now if wish == now else wish
    judgement: Sending = history.judgement
    return judgement


def _judge(best: float, lost: float, full: bool, now: Sending, limits: Limits) -> Sending:
    if now.rate >= len(limits.needs) or limits.needs[now.rate] is None:
        return now
    # How it would be heard at full power, beyond the margin; and how far power goes down.
    loudest = best - limits.margin + _drop(limits, now.power)
    rate = min(_fastest(loudest - _drop(limits, limits.min_power), now.rate, limits), limits.rates[-1])
    if rate == now.rate and not full:
        return now
    power = now.power
    needed = limits.needs[rate] or 0.0
    quietest = _quietest(loudest - needed, limits)
    if rate != now.rate or quietest > power:
        power = quietest
    elif loudest - _drop(limits, power) - needed < -HYSTERESIS:
        if quietest < power:
            power = quietest
        elif lost >= LOSSY:
            rate = _slower(rate, limits)
    return Sending(rate, power, _repetitions(now.repetitions, lost, limits) if full else now.repetitions)


def _drop(limits: Limits, power: int) -> float:
    return limits.drops[min(power, len(limits.drops) - 1)]


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
    index = bisect_right(limits.drops, spare) - 1
    return max(min(index, limits.max_power), limits.min_power)


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
