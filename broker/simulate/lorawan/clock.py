"""Simulated time that jumps from event to event, for what runs on a reactor.

`twisted.internet.task.Clock` sorts all its calls for each one that is added; with some thousand motes and a million of
events that alone takes hours. This one keeps a heap. It is not thread-safe, and nothing in it waits for anything real.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class SimulatedCall:
    """A call that is to come. When it is moved or cancelled its entry stays in the heap, and is passed over."""

    __slots__ = ("_arguments", "_call", "_clock", "_keywords", "cancelled", "done", "when")

    def __init__(
        self, clock: SimulatedClock, when: float, call: Callable[..., object], arguments: Any, keywords: Any
    ) -> None:
        self._clock = clock
        self._call = call
        self._arguments = arguments
        self._keywords = keywords
        self.when = when
        self.done = self.cancelled = False

    def getTime(self) -> float:
        return self.when

    def active(self) -> bool:
        return not (self.done or self.cancelled)

    def cancel(self) -> None:
        self._check()
        self.cancelled = True
        self._clock.passed_over()

    def delay(self, secondsLater: float) -> None:
        self._move(self.when + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        self._move(self._clock.seconds() + secondsFromNow)

    def run(self) -> None:
        self.done = True
        self._call(*self._arguments, **self._keywords)

    def _check(self) -> None:
        if self.done:
            raise AlreadyCalled
        if self.cancelled:
            raise AlreadyCancelled

    def _move(self, when: float) -> None:
        self._check()
        self.when = when
        self._clock.passed_over()
        self._clock.enter(self)


@implementer(IReactorTime)
class SimulatedClock:
    """Begins at 0. `advance` and `run_until` do what falls due on the way, in order of time and then of asking."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, SimulatedCall]] = []
        self._number = 0
        self._stale = 0

    def seconds(self) -> float:
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> SimulatedCall:
        if delay < 0:
            raise ValueError("what is past cannot be asked for")
        call = SimulatedCall(self, self._now + delay, callable, args, kw)
        self.enter(call)
        return call

    def at(self, when: float, call: Callable[..., Any], *arguments: object) -> SimulatedCall:
        """The same at a time in seconds of this clock; now, if that is past."""
        made = SimulatedCall(self, max(when, self._now), call, arguments, {})
        self.enter(made)
        return made

    def getDelayedCalls(self) -> list[Any]:
        return [call for when, _, call in self._heap if call.active() and call.when == when]

    def enter(self, call: SimulatedCall) -> None:
        """For `SimulatedCall` alone."""
        self._number += 1
        heappush(self._heap, (call.when, self._number, call))

    def passed_over(self) -> None:
        """For `SimulatedCall` alone: one of the entries means nothing any more. The heap is never mostly such."""
        self._stale += 1
        if self._stale > 1_000 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active() and entry[2].when == entry[0]]
            heapify(self._heap)
            self._stale = 0

    def advance(self, seconds: float) -> None:
        self.run_until(self._now + seconds)

    def run_until(self, end: float) -> None:
        """Do what falls due up to then, and be there. What a call raises is raised here."""
        while self._heap and self._heap[0][0] <= end:
            when, _, call = heappop(self._heap)
            if call.done or call.cancelled or call.when != when:
                self._stale = max(0, self._stale - 1)
                continue
            self._now = when
            call.run()
        self._now = max(self._now, end)
