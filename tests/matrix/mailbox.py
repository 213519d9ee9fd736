"""What somebody has heard, in order, and waiting for some of it. Threads put; the reactor's thread waits."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.python.failure import Failure

#: Seconds for anything to be heard, on a machine that does much else beside.
PATIENCE: Final = 30.0


class Mailbox:
    """``name`` is for what is missed."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._thread = get_ident()
        self._heard: list[Any] = []
        self._waiting: list[tuple[Callable[[Any], Any], Deferred[Any]]] = []

    def put(self, event: Any) -> None:
        """From any thread."""
        if get_ident() == self._thread:
            self._put(event)
        else:
            self._reactor.callFromThread(self._put, event)

    def _put(self, event: Any) -> None:
        self._heard.append(event)
        waiting, self._waiting = self._waiting, []
        for wanted, told in waiting:
            if wanted(event):
                told.callback(event)
            else:
                self._waiting.append((wanted, told))

    def __len__(self) -> int:
        return len(self._heard)

    def all(self, wanted: Callable[[Any], Any]) -> list[Any]:
        """Those so far."""
        return [event for event in self._heard if wanted(event)]

    def until(self, wanted: Callable[[Any], Any], what: str, since: int = 0) -> Deferred[Any]:
        """The first event that is wanted, of those after ``since`` (a length from before) and those to come.

        Fails with AssertionError when it does not come.
        """
        for event in self._heard[since:]:
            if wanted(event):
                return succeed(event)
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((wanted, waiting))
        return waiting.addTimeout(PATIENCE, self._reactor).addErrback(self._missed, what)

    def _missed(self, failure: Failure, what: str) -> None:
        failure.trap(TimeoutError)
        self._waiting = [(wanted, told) for wanted, told in self._waiting if not told.called]
        raise AssertionError(f"{self._name} has not heard {what}; the last it heard: {self._heard[-5:]}")
