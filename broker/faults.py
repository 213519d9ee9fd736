"""Faults of our own in the log: each in full, but not a thousand times a second."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

#: Faults of one kind that are logged in full within a minute; the others are counted.
FAULTS_A_MINUTE = 5

# Not an attribute of the class: Twisted would name the logger after the class.
faults_log = Logger(namespace="broker.faults")


class Faults:
    """Tells the log about faults of our own, but not a thousand times a second."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        #: What -> (since, how many)
        self._recent: dict[str, tuple[float, int]] = {}

    def report(self, what: str, error: BaseException) -> None:
        """What `broker.routing.router.Router` calls."""
        now = self._monotonic()
        since, count = self._recent.get(what, (now, 0))
        if now - since > 60.0:
            if count > FAULTS_A_MINUTE:
                faults_log.error("{count} more faults: {what}", count=count - FAULTS_A_MINUTE, what=what)
            since, count = now, 0
        self._recent[what] = (since, count + 1)
        if count < FAULTS_A_MINUTE:
            faults_log.failure("fault while telling of: {what}", failure=Failure(error), what=what)
