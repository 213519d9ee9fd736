"""One timer for all that the broker does every so often.

What an idle broker costs is waking up, not what it looks at then: five timers of a second each cost five times as much
as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger(namespace="broker.service")


class Ticks:
    """Wakes every ``step`` seconds. ``reactor`` gives callLater and seconds."""

    def __init__(self, reactor: Any, step: float) -> None:
        self._step = step
        self._number = 0
        #: (every so many steps, what is called)
        self._calls: list[tuple[int, Callable[[], object]]] = []
        self._timer = LoopingCall(self._wake)
        self._timer.clock = reactor

    def add(self, call: Callable[[], object], seconds: float) -> None:
        """Have it called about every so many seconds, not more often than at every step. A fault of it is logged."""
        self._calls.append((max(1, round(seconds / self._step)), call))

    def start(self) -> None:
        self._timer.start(self._step, now=False)

    def stop(self) -> None:
        """Harmless when it has not begun."""
        if self._timer.running:
            self._timer.stop()

    def _wake(self) -> None:
        self._number += 1
        for every, call in self._calls:
            if self._number % every == 0:
                try:
                    call()
                except Exception:
                    log.failure("fault in a tick: {call}", call=getattr(call, "__qualname__", repr(call)))
