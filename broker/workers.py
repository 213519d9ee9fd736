"""``[broker] workers``: a parent that starts as many brokers as asked for, and keeps them running.

::

    parent   the data folder's lock, the token, the certificate, the numbers of ports that are 0
       └── worker 1 ... N    a broker each, <name>-w1 ..., in the same data folder, on the same ports (SO_REUSEPORT)

The system shares what connects among the workers; datagrams of one sender go to one of them. A worker that ends is
started again, soon the first time, then after longer and longer. One that cannot even start at first, because of what
is configured, ends all of them with exit status 1; it has said why. SIGHUP is passed on; SIGTERM ends the workers, and
then the parent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from broker.config import Config
from broker.data_dir import DataDir, DataDirError
from broker.listening.binding import BindError, parse_bind, reserve
from broker.process import raise_open_files_limit
from broker.service import StartFailed
from broker.tls import Certificate, TlsError

#: Where a worker finds its number.
VARIABLE = "BROKER_WORKER"
#: Seconds before a worker is started again: the first time, and at most; twice as long each time.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: Seconds of life after which a worker counts as well, and a new one as the first again.
WELL_AFTER = 30.0
#: Seconds between two looks for workers that have ended unnoticed.
REAP_EVERY = 1.0
#: Seconds that workers have to end.
STOP_GRACE = 15.0

_TWISTD = "from twisted.scripts.twistd import run; run()"

log = Logger(namespace="broker.workers")


def worker_number(environment: Mapping[str, str]) -> int:
    """Which worker this process is; 0: none."""
    text = environment.get(VARIABLE, "")
    return int(text) if text.isascii() and text.isdigit() else 0


class Worker(ProcessProtocol):
    """One place for a worker: the process that is in it, and those that follow."""

    def __init__(self, number: int, parent: WorkersService) -> None:
        self.number = number
        self.transport: Any = None
        self.started_at = 0.0
        self.pause = FIRST_PAUSE
        self.was_well = False
        self._parent = parent

    def connectionMade(self) -> None:
        log.info("worker {number}: process {pid}", number=self.number, pid=self.transport.pid)

    def processExited(self, reason: Any) -> None:
        """Everything is done in `processEnded`."""

    def processEnded(self, reason: Any) -> None:
        self.transport = None
        value = reason.value
        how = f"signal {value.signal}" if value.signal else f"exit status {value.exitCode}"
        self._parent.ended(self, how, value.exitCode)

    def signal(self, number: int) -> None:
        if self.transport is not None:
            self.transport.signalProcess(number)


class WorkersService(Service):
    """The parent, with the calls that `broker.tap` has for a `BrokerService`. ``options``: of ``twistd broker``."""

    name = "broker"

    def __init__(
        self,
        config: Config,
        reactor: Any,
        options: list[str],
        *,
        environment: Mapping[str, str],
        on_failure: Callable[[], None] = lambda: None,
        log_file: str | None = None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._options = options
        self._environment = dict(environment)
        self._on_failure = on_failure
        self._log_file = log_file
        self._data_dir: DataDir | None = None
        self._held: list[Any] = []
        self._workers: list[Worker] = []
        self._stopping: Deferred[None] | None = None
        self._calls: list[Any] = []
        self._reaping = LoopingCall(self._reap)
        self._reaping.clock = reactor

    def startService(self) -> None:
        """Raises StartFailed for what can be known at once."""
        Service.startService(self)
        raise_open_files_limit()
        config = self._config
        try:
            self._data_dir = DataDir(config.data_dir)
            if not config.broker.admin_token:
                self._data_dir.admin_token()
            Certificate(config.tls, self._data_dir.path)
            binds = self._ports()
        except (DataDirError, TlsError, BindError) as error:
            self._let_go()
            raise StartFailed(f"broker: {error}") from None
        for name, texts in binds.items():
            self._environment[f"BROKER__LISTENERS__{name.upper()}__BIND"] = msgspec.json.encode(texts).decode()
        for number in range(1, config.broker.workers + 1):
            worker = Worker(number, self)
            self._workers.append(worker)
            self._start(worker)
        self._reaping.start(REAP_EVERY, now=False)

    def _ports(self) -> dict[str, list[str]]:
        """The bindings of listeners with a port of 0, with the number that the system gives; it stays ours."""
        found: dict[str, list[str]] = {}
        for name, settings in self._config.listeners.items():
            texts = []
            for text in settings.bind:
                bind = parse_bind(text)
                if bind.kind and not bind.port:
                    held = reserve(name, bind, self._reactor, None, share=True, listen=False)
                    _, port = held.address()
                    interface = f":interface={bind.interface}" if bind.interface else ""
                    texts.append(f"{bind.kind}:{port}{interface}")
                    if bind.kind == "udp":  # it would be given datagrams
                        held.release()
                    else:
                        self._held.append(held)
                else:
                    texts.append(text)
            if texts != list(settings.bind):
                found[name] = texts
        return found

    def _start(self, worker: Worker) -> None:
        if self._stopping is not None:
            return
        worker.started_at = self._reactor.seconds()
        environment = {
            **self._environment,
            VARIABLE: str(worker.number),
            "BROKER__BROKER__NAME": f'"{self._config.broker.name}-w{worker.number}"',
        }
        log_file = [] if self._log_file is None else [f"--logfile={self._log_file}-w{worker.number}"]
        arguments = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile=", *log_file, "broker", *self._options]
        self._reactor.spawnProcess(
            worker, sys.executable, arguments, env=environment, path=os.getcwd(), childFDs={0: 0, 1: 1, 2: 2}
        )

    def ended(self, worker: Worker, how: str, status: int | None) -> None:
        """A worker's process is over."""
        if self._stopping is not None:
            self._look()
            return
        lived = self._reactor.seconds() - worker.started_at
        if status == 1 and not worker.was_well and worker.pause == FIRST_PAUSE and lived < WELL_AFTER:
            log.critical("worker {number} cannot start", number=worker.number)
            self._on_failure()
            return
        if lived >= WELL_AFTER:
            worker.pause, worker.was_well = FIRST_PAUSE, True
        pause = worker.pause
        worker.pause = min(2 * pause, LONGEST_PAUSE)
        log.error("worker {number} ended: {how}; another one in {pause} s", number=worker.number, how=how, pause=pause)
        self._calls = [call for call in self._calls if call.active()]
        self._calls.append(self._reactor.callLater(pause, self._start, worker))

    @staticmethod
    def _reap() -> None:
        """A SIGCHLD that got lost must not leave a place empty."""
        from twisted.internet.process import reapAllProcesses

        reapAllProcesses()

    # -- signals ---------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP."""
        self._tell_all(signal.SIGHUP)

    def hurry(self) -> None:
        """A second SIGTERM."""
        self._tell_all(signal.SIGTERM)

    def stopService(self) -> Deferred[None]:
        """Fires when all workers have ended."""
        Service.stopService(self)
        if self._stopping is None:
            self._stopping = Deferred()
            for call in self._calls:
                if call.active():
                    call.cancel()
            self._tell_all(signal.SIGTERM)
            self._calls = [self._reactor.callLater(STOP_GRACE, self._tell_all, signal.SIGKILL)]
            self._look()
        return self._stopping

    def _look(self) -> None:
        """Whether all have ended."""
        stopping = self._stopping
        if stopping is None or stopping.called or any(worker.transport is not None for worker in self._workers):
            return
        for call in self._calls:
            if call.active():
                call.cancel()
        if self._reaping.running:
            self._reaping.stop()
        self._let_go()
        stopping.callback(None)

    def _tell_all(self, number: int) -> None:
        for worker in self._workers:
            worker.signal(number)

    def _let_go(self) -> None:
        for held in self._held:
            held.release()
        if self._data_dir is not None:
            self._data_dir.close()
            self._data_dir = None
