"""An epoll reactor that spends less on each event: ``twistd --reactor=broker -n broker``.

Twisted wraps every event in a logging context and several checks. On a plain read event of a connection of ours the
context is of no use (our log lines name their connection themselves), so ``doRead`` is called directly. Everything else
(writes, errors, hang-ups, other descriptors) goes Twisted's way. It also runs what is due at the end of a turn
(`callAtTurnEnd`) without a timer. Its timers go by the monotonic clock.

`install` does without the short way when this Twisted does not have the parts that are overridden.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.internet.tcp import Connection
from twisted.python import log

#: What this file overrides or calls in Twisted without a promise that it stays.
_NEEDED = ("_poller", "_selectables", "_disconnectSelectable", "_doReadOrWrite", "doPoll")


class SteadyReactor(EPollReactor):
    """`EPollReactor` whose timers no jump of the wall clock moves.

    Twisted's own go by the wall clock: set back by an hour, it would hold every timer up for an hour.
    """

    seconds = staticmethod(time.monotonic)


class BrokerReactor(SteadyReactor):
    """The same with a short way for plain reads."""

    def __init__(self) -> None:
        super().__init__()
        self._turn_end: list[Callable[[], object]] = []

    def callAtTurnEnd(self, call: Callable[[], object]) -> None:
        """Call once when this round of events is over, or, outside a round, before the next one begins."""
        self._turn_end.append(call)

    def _run_turn_end(self) -> None:
        due = self._turn_end
        while due:
            self._turn_end = []
            for call in due:
                try:
                    call()
                except BaseException:
                    log.err()
            due = self._turn_end

    def doPoll(self, timeout: float | None) -> None:
        if self._turn_end:
            self._run_turn_end()
            if timeout is None or timeout > 0:
                timeout = self.timeout()  # it was found before these calls, which may have set timers
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for descriptor, event in events:
            selectable: Any = selectables.get(descriptor)
            if selectable is None:
                continue  # an earlier event of this round closed it
            if event == EPOLLIN and isinstance(selectable, Connection):
                why: Any
                try:
                    why = selectable.doRead()
                except BaseException as error:
                    log.err()
                    why = error
                if why:
                    self._disconnectSelectable(selectable, why, True)
            else:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
        if self._turn_end:
            self._run_turn_end()

    doIteration = doPoll  # type: ignore[assignment]  # as Twisted has it


def suitable() -> bool:
    """Whether this Twisted has everything that `BrokerReactor` builds on."""
    made = EPollReactor.__init__.__code__.co_names
    return all(hasattr(EPollReactor, name) or name in made for name in _NEEDED)


def install() -> None:
    """Install the reactor; called by twistd for ``--reactor=broker``."""
    installReactor(BrokerReactor() if suitable() else SteadyReactor())
