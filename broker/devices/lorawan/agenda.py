"""What is to be done at a time: many entries, one timer.

A Deferred or a timer for each frame would cost more than the frame. Entries lie in a heap; the reactor is asked to call
for the first of them alone, and never sooner than `GRAIN`, so that what falls due together is done together. Nothing is
taken back: who is called looks whether it still matters.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

#: Seconds; deadlines of radio windows are kept with far more to spare.
GRAIN: Final = 0.001


class Agenda:
    """``after`` is called when all that was due has been done; ``fault`` with what an entry raised."""

    def __init__(
        self,
        reactor: Any,
        monotonic: Callable[[], float],
        after: Callable[[], None],
        fault: Callable[[BaseException], None],
    ) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._after = after
        self._fault = fault
        #: (when, number of the entry, what, with what)
        self._entries: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._number = 0
        self._timer: Any = None
        self._due = 0.0
        self._running = False
        self._stopped = False

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, when: float, call: Callable[[Any], None], argument: Any) -> None:
        """``call(argument)`` at ``when`` in monotonic seconds, or a little later."""
        self._number += 1
        heappush(self._entries, (when, self._number, call, argument))
        if not self._running and (self._timer is None or when < self._due):
            self._arm(when)

    def stop(self) -> None:
        """Nothing of it will happen any more."""
        self._stopped = True
        self.clear()

    def clear(self) -> None:
        """Nothing of what it has now will happen; there may be more."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, when: float) -> None:
        if self._stopped:
            return
        delay = max(when - self._monotonic(), GRAIN)
        self._due = when
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._run)
        else:
            self._timer.reset(delay)

    def _run(self) -> None:
        self._timer = None
        # What is added meanwhile is looked at in the end, together with what was there before.
        self._running = True
        entries = self._entries
        now = self._monotonic()
        while entries and entries[0][0] <= now:
            _, _, call, argument = heappop(entries)
            try:
                call(argument)
            except Exception as error:
                self._fault(error)
        try:
            self._after()
        except Exception as error:
            self._fault(error)
        self._running = False
        if entries:
            self._arm(entries[0][0])
