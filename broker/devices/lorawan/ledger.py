"""Air time of one gateway in one band: what may still be sent, and when, sans-IO.

The law (ETSI EN 300 220-1, 5.4: the share of any hour) is kept for every hour that contains a part of an emission,
those that end with it and those that begin with it; as receive windows lie ahead, there are emissions booked later than
the one that is asked about::

                     now   ?   booked        an hour that ends with ?, the one that ends with what is booked,
    ──■───■■──■───────┬────□─────■────>      and all between: none may have more than is allowed
      └── hour ────────────┘
        └── hour ────────────────┘

With f(t) the air time in the hour that begins at t, an emission of length d that lies from s to s + d may be added if
f(t) + d is allowed for every t from s + d - hour to s: of hours that contain only a part of it none has more. While its
end passes an emission f does not fall, elsewhere it does not rise; so it is largest at the first t, or where its end
leaves an emission. That is one look-up by bisection, and one more for each that is booked later.

When something is sent "at once" by the gateway, nobody knows when exactly: an entry is a span in which an emission of
some length lies, anywhere. It counts as early as possible at the end of an hour, and as late as possible at the
beginning. As a gateway has one transmitter, emissions do not overlap: not if all of them begin as early as they may,
and not if all begin as late.

All times are microseconds of the gateway's own clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

#: Microseconds over which air time is counted.
HOUR: Final = 3_600_000_000
#: Microseconds that entries are kept for beyond that: nobody asks about an emission so far in the past.
_KEPT: Final = 60_000_000
#: Entries that may be out of date before they are thrown away together.
_SLACK: Final = 64


class Ledger:
    """Entries by time: start and end of the span, length of the emission."""

    __slots__ = ("_before", "_latest", "_lengths", "_starts", "_total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        #: Of an emission: the latest start.
        self._latest: list[int] = []
        self._lengths: list[int] = []
        #: The sum of the lengths before each; sums go on when what is old is thrown away.
        self._before: list[int] = []
        self._total = 0

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return map(self._entry, range(len(self._starts)))

    def add(self, start: int, end: int, length: int) -> None:
        """An emission of ``length`` somewhere from ``start`` to ``end``."""
        self.forget(start - HOUR - _KEPT)
        place = bisect_left(self._starts, start)
        before = self._before[place] if place < len(self._before) else self._total
        self._starts.insert(place, start)
        self._latest.insert(place, end - length)
        self._lengths.insert(place, length)
        self._before.insert(place, before)
        self._shift(place + 1, length)

    def remove(self, start: int, end: int, length: int) -> bool:
        """It was not sent after all. False if there is no such entry."""
        place = bisect_left(self._starts, start)
        if place == len(self._starts) or (start, end, length) != self._entry(place):
            return False
        del self._starts[place], self._latest[place], self._lengths[place], self._before[place]
        self._shift(place, -length)
        return True

    def _entry(self, place: int) -> tuple[int, int, int]:
        length = self._lengths[place]
        return self._starts[place], self._latest[place] + length, length

    def _shift(self, place: int, length: int) -> None:
        self._total += length
        for later in range(place, len(self._before)):
            self._before[later] += length

    def forget(self, until: int, slack: int = _SLACK) -> None:
        """Throw away what was over before, if it is more than ``slack`` entries."""
        if len(self._starts) <= slack or self._latest[slack] + self._lengths[slack] > until:
            return
        old = bisect_right(self._latest, until)
        if old and self._latest[old - 1] + self._lengths[old - 1] > until:
            old -= 1
        del self._starts[:old], self._latest[:old], self._lengths[:old], self._before[:old]

    # -- sums ------------------------------------------------------------------------------------------------------

    def _most_until(self, at: int) -> int:
        """All that may have been sent before ``at``; as `_least_until`, from a zero of no account."""
        place = bisect_left(self._starts, at) - 1
        if place < 0:
            return self._before[0] if self._before else self._total
        return self._before[place] + min(self._lengths[place], at - self._starts[place])

    def _least_until(self, at: int) -> int:
        """All that was sent before ``at`` for certain."""
        place = bisect_left(self._latest, at) - 1
        if place < 0:
            return self._before[0] if self._before else self._total
        return self._before[place] + min(self._lengths[place], at - self._latest[place])

    def _reached(self, least: int) -> int:
        """The first time at which `_least_until` is ``least``; it is more than at the beginning."""
        place = bisect_left(self._before, least) - 1
        return self._latest[place] + least - self._before[place]

    def used(self, until: int) -> int:
        """Air time of the hour that ends then."""
        return self._most_until(until) - self._least_until(until - HOUR)

    # -- what is allowed -------------------------------------------------------------------------------------------

    def wait(self, start: int, end: int, length: int, allowed: int) -> int | None:
        """Microseconds until an emission of ``length``, somewhere from ``start`` to ``end``, may be added.

        0: it may be as it is; None: never. ``allowed``: air time of an hour.
        """
        room = allowed - length
        if room < 0:
            return None
        wait = 0
        while (later := self._barrier(start + length - HOUR + wait, end - length + wait, room)) is not None:
            wait = later - (start + length - HOUR)
        return wait

    def _barrier(self, first: int, last: int, room: int) -> int | None:
        """None if no hour that begins from ``first`` to ``last`` has more than ``room``.

        Else the time, later than ``first``, before which hours must not begin.
        """
        for begin in self._peaks(first, last):
            if self._most_until(begin + HOUR) - self._least_until(begin) > room:
                # No emission can end while another is under way, so that one counts whole.
                place = bisect_left(self._starts, begin + HOUR) - 1
                return self._reached(self._before[place] + self._lengths[place] - room)
        return None

    def _peaks(self, first: int, last: int) -> Iterator[int]:
        """Where hours may begin that have the most, in order."""
        yield first
        place = bisect_right(self._starts, first + HOUR)
        if place and self._starts[place - 1] + self._lengths[place - 1] > first + HOUR:
            place -= 1
        while place < len(self._starts) and self._starts[place] - HOUR <= last:
            yield min(last, self._starts[place] + self._lengths[place] - HOUR)
            place += 1
