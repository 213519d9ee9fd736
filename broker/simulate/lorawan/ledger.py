"""What was sent, and whether the law allows it: emissions of one transmitter, and the fullest hour of a sub-band.

The arithmetic is exact: the share of an hour is a piecewise linear function of where the hour begins, so its largest
value is at an hour that begins with an emission or ends with one. It knows nothing of how the broker counts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.simulate.lorawan.plans import Plan, SubBand

HOUR: Final = 3600.0


class Share(NamedTuple):
    """The fullest hour of a sub-band. ``used`` and ``allowed`` in seconds of that hour; ``begins``: seconds."""

    band: SubBand
    used: float
    allowed: float
    begins: float
    emissions: int
    #: dBm EIRP, the largest.
    power: float

    @property
    def lawful(self) -> bool:
        return self.used <= self.allowed + 1e-6 and self.power <= self.band.power + 1e-6


class Ledger:
    """The emissions of one transmitter, in the order in which they begin; without ``keep`` their sum alone."""

    __slots__ = ("_frequencies", "_keep", "_lengths", "_powers", "_starts", "seconds")

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep
        self._starts = array("d")
        self._lengths = array("d")
        self._frequencies = array("I")
        self._powers = array("f")
        #: All of them together.
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._starts)

    def sent(self, start: float, seconds: float, frequency: int, power: float) -> None:
        self.seconds += seconds
        if self._keep:
            self._starts.append(start)
            self._lengths.append(seconds)
            self._frequencies.append(frequency)
            self._powers.append(power)

    def emissions(self) -> list[tuple[float, float, int, float]]:
        """(start, seconds, Hz, dBm) of each."""
        return list(zip(self._starts, self._lengths, self._frequencies, self._powers, strict=True))

    def overlaps(self) -> int:
        """How many begin before the one before has ended: one transmitter cannot do that."""
        count, until = 0, float("-inf")
        for start, seconds in sorted(zip(self._starts, self._lengths, strict=True)):
            count += start < until - 1e-6
            until = max(until, start + seconds)
        return count

    def shares(self, plan: Plan) -> list[Share]:
        """Of each sub-band that anything was sent in."""
        found = []
        for band in plan.bands:
            inside = sorted(
                (start, seconds, power)
                for start, seconds, frequency, power in self.emissions()
                if band.low <= frequency < band.high
            )
            if inside:
                used, begins = fullest(inside, HOUR)
                strongest = max(power for _, _, power in inside)
                found.append(Share(band, used, band.duty * HOUR, begins, len(inside), strongest))
        return found


def fullest(emissions: Sequence[tuple[float, float, float]], window: float) -> tuple[float, float]:
    """The most seconds in any stretch of ``window`` seconds, and where that begins. Sorted, without overlaps."""
    starts = [start for start, _, _ in emissions]
    before = [0.0]
    for _, seconds, _ in emissions:
        before.append(before[-1] + seconds)

    def until(when: float) -> float:
        """Seconds of all emissions up to then."""
        number = bisect_right(starts, when)
        if not number:
            return 0.0
        start, seconds, _ = emissions[number - 1]
        return before[number - 1] + min(seconds, when - start)

    best, where = 0.0, 0.0
    for start, seconds, _ in emissions:
        for begin in (start, start + seconds - window):
            used = until(begin + window) - until(begin)
            if used > best:
                best, where = used, begin
    return best, where
