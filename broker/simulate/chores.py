"""What a simulated device does at the same time: coroutines that end together when it is switched off."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.python.failure import Failure


class Chores:
    """``failed(failure)`` hears of those that raise; they are expected not to."""

    def __init__(self, reactor: Any, failed: Callable[[Failure], object]) -> None:
        self._reactor = reactor
        self._failed = failed
        self._running: set[Deferred[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it until it is done, or until `end`."""
        chore = Deferred.fromCoroutine(work)
        self._running.add(chore)
        chore.addErrback(lambda failure: failure.trap(CancelledError, ConnectingCancelledError))
        chore.addErrback(self._failed)
        chore.addCallback(lambda _: self._running.discard(chore))

    def end(self) -> None:
        """Stop all of them where they wait."""
        running, self._running = self._running, set()
        for chore in running:
            chore.cancel()

    def sleep(self, seconds: float) -> Deferred[None]:
        calls: list[Any] = []
        done: Deferred[None] = Deferred(lambda _: calls[0].cancel())
        calls.append(self._reactor.callLater(seconds, done.callback, None))
        return done
