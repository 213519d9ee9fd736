"""When one gateway transmits: meanwhile it neither transmits anything else nor hears.

Spans are in its own microseconds (`clock`), in order; what is over by far is forgotten. They do not overlap, but for
those of two frames that the gateway is told to send "at once": whatever that is to it, the second one is as much later
as it was told later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

#: Microseconds between two transmissions: the radio has to be set up in between.
GUARD: Final = 20_000
#: Microseconds after which what was sent is of no account here.
FORGOTTEN: Final = 10_000_000
#: Spans that may be over before they are thrown away together.
_SLACK: Final = 16
#: Hz within which two frequencies are the same channel.
CHANNEL: Final = 100_000


class Bookings:
    """One transmitter."""

    __slots__ = ("_ends", "_frequencies", "_lengths", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lengths: list[int] = []
        self._frequencies: list[int] = []

    def lately(self, local: int) -> int:
        """How many are yet to come, or over for less than ten seconds."""
        return len(self._ends) - bisect_right(self._ends, local - FORGOTTEN)

    def conflict(self, start: int, end: int) -> int | None:
        """When it is free again, if it is not from ``start`` to ``end``."""
        first = bisect_right(self._ends, start - GUARD)
        if first < len(self._ends) and self._starts[first] - GUARD < end:
            return self._ends[first] + GUARD
        return None

    def conflict_at_once(self, start: int, end: int) -> bool:
        """Whether that is so for a frame that begins between now (``start``) and some time before ``end``."""
        for place in range(bisect_right(self._ends, start - GUARD), len(self._ends)):
            begin, length = self._starts[place], self._lengths[place]
            if begin - GUARD >= end:
                break
            if begin + length == self._ends[place] or start < begin + length + GUARD:
                return True
        return False

    def free_from(self, start: int, length: int) -> int:
        """The first time, not before ``start``, from which it is free for ``length``."""
        while (later := self.conflict(start, start + length)) is not None:
            start = later
        return start

    def clash(self, start: int, end: int, frequency: int) -> int | None:
        """When it stops sending on this frequency, if it does from ``start`` to ``end``."""
        until = None
        for number in range(bisect_right(self._ends, start), len(self._ends)):
            if self._starts[number] >= end:
                break
            if abs(self._frequencies[number] - frequency) < CHANNEL:
                until = self._ends[number]
        return until

    def add(self, start: int, end: int, frequency: int, length: int | None = None) -> None:
        """It transmits then; or only for ``length``, at any time in between."""
        over = bisect_left(self._ends, start - FORGOTTEN)
        if over > _SLACK:
            del self._starts[:over], self._ends[:over], self._lengths[:over], self._frequencies[:over]
        place = bisect_left(self._starts, start)
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        self._lengths.insert(place, end - start if length is None else length)
        self._frequencies.insert(place, frequency)

    def remove(self, start: int, end: int) -> None:
        """It does not; harmless twice."""
        place = bisect_left(self._starts, start)
        if place < len(self._starts) and (self._starts[place], self._ends[place]) == (start, end):
            del self._starts[place], self._ends[place], self._lengths[place], self._frequencies[place]
