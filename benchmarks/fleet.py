"""A fleet of simulated 0x88 gateways whose broker is killed and started again: how long until all are back.

The gateways are a process of their own (`main`), which writes a line when one of them is answered: ``online <monotonic
seconds> <sessions resumed so far>``. The broker has one core.

Either each gateway tries in a rhythm of its own, as the document has it, or all of them in the same moment.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.children import BenchmarkError, Broker
from benchmarks.pairs import Load
from broker.simulate.gateway88.behaviour import Behaviour, mac_of, registration
from broker.simulate.gateway88.connecting import unchecked_context
from broker.simulate.gateway88.gateway import SimulatedGateway

#: Seconds between two attempts of a gateway, which is the document's 30.
EVERY: Final = 30.0
#: Seconds without a gateway that comes online after which a run counts as stuck.
PATIENCE: Final = 60.0
SEED: Final = 88
ALL_AT_ONCE: Final = "at-once"
OWN_RHYTHM: Final = "own-rhythm"
_MAIN: Final = "import sys; from benchmarks.fleet import main; main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"


class Comeback:
    """``run(n)``: n gateways are online, the broker is killed and started again, all come back.

    The time is that from when the new broker takes work; ``at_once``: from the first gateway that is back.
    """

    def __init__(self, broker: Broker, at_once: bool = False) -> None:
        self._broker = broker
        self._at_once = at_once
        self._fleet: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._count = 0

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when one of them stays away."""
        if self._count < messages:
            self._grow(messages)
        count = self._count
        killed = time.monotonic()
        self._broker.kill()
        self._broker.start_again()
        started = time.monotonic()
        os.sched_setaffinity(self._broker.pid, {0})
        times = self._returns(count, killed)
        if self._at_once:
            started = times[0]
        return Load(count, times[-1] - started, [max(0.0, at - started) for at in times])

    def _grow(self, count: int) -> None:
        """A fleet of that size in place of the one before, which is online."""
        self.close()
        os.sched_setaffinity(self._broker.pid, {0})
        self._broker.register(registration(mac_of(SEED, number)) for number in range(self._count, count))
        self._count = count
        rhythm = ALL_AT_ONCE if self._at_once else OWN_RHYTHM
        self._fleet = subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(self._broker.gateway88_port), str(count), rhythm],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._fleet,), daemon=True).start()
        self._returns(count, 0.0)

    def _read(self, fleet: subprocess.Popen[str]) -> None:
        assert fleet.stdout is not None
        for line in fleet.stdout:
            self._lines.put(line)

    def _returns(self, count: int, after: float) -> list[float]:
        """When each of so many gateways came online."""
        times: list[float] = []
        while len(times) < count:
            try:
                word, at, _ = self._lines.get(timeout=PATIENCE).split()
            except queue.Empty:
                raise BenchmarkError(f"{len(times)} of {count} gateways are online") from None
            if word == "online" and float(at) > after:
                times.append(float(at))
        return sorted(times)

    def close(self) -> None:
        fleet = self._fleet
        if fleet is not None:
            fleet.terminate()
            fleet.wait(PATIENCE)
            assert fleet.stdout is not None
            fleet.stdout.close()


def main(port: int, count: int, rhythm: str) -> None:
    """The fleet's own process, until SIGTERM."""
    from twisted.internet import reactor as made
    from twisted.internet.endpoints import TCP4ClientEndpoint

    reactor: Any = made
    resumed = 0

    def told(gateway: SimulatedGateway, what: str) -> None:
        nonlocal resumed
        if what == "online":
            resumed += gateway.counts.resumed
            gateway.counts.resumed = 0
            print(f"online {time.monotonic():.4f} {resumed}", flush=True)

    context = unchecked_context()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=EVERY)
    behaviour = Behaviour(reconnect_every=EVERY)
    for number in range(count):
        gateway = SimulatedGateway(reactor, endpoint, mac_of(SEED, number), SEED, behaviour, told, context=context)
        if rhythm == OWN_RHYTHM:
            reactor.callLater(number * EVERY / count, gateway.start)
        else:
            reactor.callWhenRunning(gateway.start)
    reactor.run()
