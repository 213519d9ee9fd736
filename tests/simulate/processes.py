"""Child processes in tests: started in a folder of their own, watched line by line, never left behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from broker.simulate.process import broker_environment, nothing_else

reactor: Any = _reactor
#: Seconds within which a line has to come.
PATIENCE = 40.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Running(ProcessProtocol):
    """A process: its lines, and Deferreds for what is waited for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended: Deferred[int] = Deferred()
        self._rest = b""
        self._waiting: list[tuple[str, int, Deferred[None]]] = []

    def until(self, part: str, count: int = 1) -> Deferred[None]:
        """Fires when so many lines with ``part`` in them have come; fails if the process ends before."""
        seen: Deferred[None] = Deferred()
        self._waiting.append((part, count, seen))
        self._look()
        return seen.addTimeout(PATIENCE, reactor, lambda *_: self._missed(part))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal does it."""
        transport: Any = self.transport
        os.killpg(transport.pid, signal.SIGINT)

    def type(self, keys: bytes) -> None:
        """On its terminal."""
        transport: Any = self.transport
        transport.write(keys)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode(errors="replace") for line in lines]
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.outReceived(data)

    def processExited(self, reason: Failure) -> None:
        """See `processEnded`."""

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        waiting, self._waiting = self._waiting, []
        for part, _, seen in waiting:
            if not seen.called:
                seen.errback(AssertionError(f"ended before it said {part!r}:\n{self.output}"))
        self.ended.callback(-value.signal if value.signal else value.exitCode or 0)

    def _missed(self, part: str) -> None:
        raise AssertionError(f"it has not said {part!r}:\n{self.output}")

    def _look(self) -> None:
        self._waiting = [entry for entry in self._waiting if not entry[2].called]
        for entry in list(self._waiting):
            part, count, seen = entry
            if sum(part in line for line in self.lines) >= count:
                self._waiting.remove(entry)
                seen.callback(None)


class ProcessTests(TestCase):
    """A test with a folder and a few free ports, and the settings of a broker that uses them."""

    timeout = 90

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        names = ("http", "mqtt", "novacloud", "gservice", "loracenter")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    def settings(self) -> dict[str, str]:
        """As for `broker.simulate.process.broker_environment`."""
        binds = {f"listeners.{name}.bind": f'["tcp:{port}:interface=127.0.0.1"]' for name, port in self.ports.items()}
        return {**binds, "listeners.lorawan.bind": '["udp:0:interface=127.0.0.1"]'}

    def start(self, *arguments: str) -> Running:
        """Our interpreter with these arguments, in a process group of its own."""
        leader = "import os, sys; os.setpgid(0, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        return self._spawn([sys.executable, "-c", leader, "-u", *arguments])

    def start_on_terminal(self, *arguments: str) -> Running:
        """The same on a terminal of its own, into which `Running.type` types."""
        terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "140", "LINES": "40"}
        return self._spawn([sys.executable, *arguments], terminal, terminal=True)

    def _spawn(self, command: Sequence[str], more: Mapping[str, str] = {}, terminal: bool = False) -> Running:
        running = Running()
        environment = {**broker_environment(nothing_else(self.settings())), **more}
        process = reactor.spawnProcess(running, sys.executable, command, environment, str(self.folder), usePTY=terminal)

        def clean() -> Deferred[Any]:
            try:
                process.signalProcess("KILL")
            except ProcessExitedAlready:
                pass  # as it should be
            return running.ended

        self.addCleanup(clean)
        return running
