"""A broker that runs as a child of ours, watched by the reactor: its output, whether it takes work, how it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed

from broker.simulate.process import apart, broker_arguments, broker_environment

#: Seconds between two looks at /readyz while the broker starts.
POLL: Final = 0.1
#: Seconds that the broker has to stop (it takes up to 10 to close its connections) before it is killed.
STOP_TIMEOUT: Final = 15.0


class BrokerChild(ProcessProtocol):
    """`twistd -n broker` with the environment's settings. ``on_line`` gets each line that it writes.

    ``status`` is None while it runs, then its exit status, 128 and the signal's number if a signal ended it.
    """

    def __init__(self, reactor: Any, on_line: Callable[[str], object]) -> None:
        self.status: int | None = None
        self._reactor = reactor
        self._on_line = on_line
        self._rest = b""
        self._waiting: list[Deferred[int]] = []
        self._process: Any = None
        self._kill: Any = None

    def start(self, settings: Mapping[str, str], inherited: Mapping[str, str] | None = None) -> None:
        """Both as for `broker.simulate.process.broker_environment`."""
        arguments = apart(broker_arguments())
        environment = broker_environment(settings, inherited)
        self._process = self._reactor.spawnProcess(self, arguments[0], arguments, environment)

    def ended(self) -> Deferred[int]:
        """Fires with the status when it has ended."""
        done: Deferred[int] = Deferred()
        if self.status is None:
            self._waiting.append(done)
        else:
            done.callback(self.status)
        return done

    async def ready(self, url: str) -> bool:
        """Wait until ``url``/readyz says yes (True) or the broker has ended (False)."""
        agent = Agent(self._reactor, connectTimeout=5)
        while self.status is None:
            try:
                response: Any = await agent.request(b"GET", url.encode() + b"/readyz")
            except (ConnectError, ResponseFailed):
                pass  # it does not listen yet
            else:
                if response.code == 200:
                    return self.status is None
            await deferLater(self._reactor, POLL)
        return False

    def stop(self) -> Deferred[int]:
        """SIGTERM, and SIGKILL if that does not help; fires with the status."""
        ended = self.ended()
        if self.status is None and self._kill is None:
            self._signal(signal.SIGTERM)
            self._kill = self._reactor.callLater(STOP_TIMEOUT, self._signal, signal.SIGKILL)
        return ended

    def hurry(self) -> None:
        """A second SIGTERM: the broker ends at once."""
        if self.status is None:
            self._signal(signal.SIGTERM)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    def errReceived(self, data: bytes) -> None:
        self.outReceived(data)

    def processExited(self, reason: Failure) -> None:
        """`processEnded` follows when its output is at its end, too."""

    def processEnded(self, reason: Failure) -> None:
        if self._rest:
            self.outReceived(b"\n")
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        value: Any = reason.value
        self.status = 128 + value.signal if value.signal else value.exitCode or 0
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(self.status)

    def _signal(self, number: int) -> None:
        try:
            self._process.signalProcess(number)
        except ProcessExitedAlready:
            pass  # `processEnded` is on its way
