"""What the broker logs during a test."""

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


@implementer(ILogObserver)
class LogLines:
    """The events of the broker's own namespaces, and of any other that is named, until the test ends."""

    def __init__(self, test: SynchronousTestCase, *others: str) -> None:
        self.events: list[LogEvent] = []
        self._namespaces = ("broker.", *others)
        globalLogPublisher.addObserver(self)
        test.addCleanup(globalLogPublisher.removeObserver, self)

    def __call__(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith(self._namespaces):
            self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]
