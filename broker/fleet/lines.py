"""The lines of one open campaign as they change: counted in memory, kept on disk, in this order.

What storage refuses is tried again with each tick; memory goes ahead meanwhile, and nothing is begun that is not on
disk first (`broker.fleet.turns`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.fleet.line import Line, Tally
from broker.fleet.store import CampaignStore
from broker.model.errors import BrokerError, Unavailable


class Lines:
    """``changed`` hears of each change. The answers are None, or the error with which storage refused."""

    def __init__(self, campaign: str, store: CampaignStore, clock: Callable[[], float], changed: Callable[[], None]):
        self.tally = Tally()
        self._campaign = campaign
        self._store = store
        self._clock = clock
        self._changed = changed
        #: Lines of which storage has refused a change, by device.
        self._refused: dict[str, Line] = {}

    def enter(self, line: Line, state: str, note: str = "", **fields: Any) -> Deferred[BrokerError | None]:
        """A line goes over to a state."""
        before = self._apply(line, state, note, fields)
        return self._save([(line, before)])

    def enter_all(self, lines: Sequence[tuple[Line, str, str]]) -> Deferred[BrokerError | None]:
        """Several of them, each with its state and note, in one write."""
        return self._save([(line, self._apply(line, state, note, {})) for line, state, note in lines])

    def add(self, lines: Sequence[Line]) -> Deferred[BrokerError | None]:
        """New ones. Those that are refused do not exist."""
        adding: Deferred[Any] = self._store.save(self._campaign, [(line, None) for line in lines])

        def added(_: Any) -> None:
            for line in lines:
                self.tally.add(line)
            self._changed()

        adding.addCallbacks(added, _error)
        return adding

    def keep(self, line: Line, note: str) -> Deferred[BrokerError | None]:
        """Something about a line has changed, but not its state."""
        line.remark(self._clock(), note)
        return self._save([(line, line.state)])

    def forgive(self, line: Line) -> None:
        """The line has not failed yet; `enter_all` keeps that."""
        self.tally.add(line, -1)
        line.failures = 0
        self.tally.add(line)

    def mend(self) -> None:
        """Try again what was refused."""
        refused, self._refused = self._refused, {}
        for line in refused.values():
            saving = self._store.mend(self._campaign, line)
            saving.addErrback(self._not_saved, [line])

    @property
    def settled(self) -> bool:
        """Everything is on disk, or on its way there."""
        return not self._refused

    def _apply(self, line: Line, state: str, note: str, fields: dict[str, Any]) -> str:
        before = line.state
        self.tally.add(line, -1)
        for name, value in fields.items():
            setattr(line, name, value)
        line.enter(state, self._clock(), note)
        self.tally.add(line)
        self._changed()
        return before

    def _save(self, changed: Iterable[tuple[Line, str]]) -> Deferred[BrokerError | None]:
        lines = list(changed)
        if any(line.device in self._refused for line, _ in lines):
            return self._mend_now([line for line, _ in lines])
        saving: Deferred[Any] = self._store.save(self._campaign, lines)
        saving.addErrback(self._not_saved, [line for line, _ in lines])
        return saving

    def _mend_now(self, lines: Sequence[Line]) -> Deferred[BrokerError | None]:
        answer: Deferred[Any] | None = None
        for line in lines:
            self._refused.pop(line.device, None)
            answer = self._store.mend(self._campaign, line)
            answer.addErrback(self._not_saved, [line])
        assert answer is not None
        return answer

    def _not_saved(self, failure: Failure, lines: Sequence[Line]) -> BrokerError:
        for line in lines:
            self._refused[line.device] = line
        return _error(failure)


def _error(failure: Failure) -> BrokerError:
    error = failure.value
    if not isinstance(error, BrokerError):
        failure.raiseException()
    return error if isinstance(error, Unavailable) else Unavailable(str(error))
