"""One broker, for a long time, with all that it may be asked to do at once; then the question whether it has grown.

::

    demo (a process)   devices of every protocol, applications of every kind, commands, faults, outages, a campaign
      └─ the broker    the child of the demo; sampled
    restless clients   threads here: log-ins, takeovers, refusals, nonsense, each protocol all the time

The samples are in ``samples.csv``, one a line. The end is a report with a verdict for each figure, flat or not
(`tests.soak.figures`), and the exit status of all of them together: 0 if all are flat, nobody failed, the broker
printed no traceback, closed nothing for a fault of its own and stopped with status 0.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import TimeoutExpired

from tests.real import PATIENCE, RealBroker, eventually
from tests.simulate.processes import free_ports
from tests.soak.churn import KINDS, Place, Restless
from tests.soak.figures import FIGURES, LEAST, sample, verdicts

#: Listeners and the kind of their binding.
LISTENERS = {
    **dict.fromkeys(("http", "mqtt", "novacloud", "gservice", "loracenter"), "tcp"),
    **dict.fromkeys(("gateway88", "files"), "tls"),
    "lorawan": "udp",
}
#: What the demo says when everybody has come.
SEEN = "the whole matrix was seen"
#: What has to be closed again, and how many the demo may have more of at the end: some of it has no power at times.
OPENED = ("connections", "files")
SOME = 8
#: Seconds for the end of the demo, which waits for its broker.
STOPPING = 120.0
#: So that what is bounded by time or number reaches its bound within the warm-up of a short run, too.
SETTINGS = {
    "history.per_device": "50",
    "events.max_events": "1000",
    "commands.default_expires": "90.0",
    "listeners.loracenter.queue_time": "90.0",
    "events.max_age": "300.0",
    "listeners.loracenter.refused_grace": "0.1",
    "listeners.mqtt.limits.max_message_size": "200000",
}


class Soak:
    """``seconds`` of load, in ``folder``; ``say`` takes lines for people."""

    def __init__(self, folder: Path, seconds: float, seed: int, devices: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.seconds = seconds
        self.seed = seed
        self.say = say
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        binds = {
            f"listeners.{name}.bind": json.dumps([f"{kind}:{self.ports[name]}:interface=127.0.0.1"])
            for name, kind in LISTENERS.items()
        }
        demo = [sys.executable, "-m", "broker.simulate", "demo", "--plain"]
        options = ["--devices", str(devices), "--seed", str(seed)]
        self.broker = RealBroker(folder, {**binds, **SETTINGS}, [*demo, *options])
        #: With the demo alone.
        self.before: dict[str, float] = {}
        self.samples: list[tuple[float, dict[str, float]]] = []

    def run(self, every: float) -> int:
        """All of it; the exit status. ``every``: seconds between two samples."""
        self.broker.start()
        try:
            pid = child_of(self.broker.pid)
            eventually(lambda: any(SEEN in line for line in self.broker.output), "the demo's whole matrix", 120.0)
            self.before = sample(pid, self._metrics())
            place = Place(self.broker, self.ports)
            restless = [
                Restless(name, self.seed + number, visits(place)) for number, (name, visits) in enumerate(KINDS.items())
            ]
            self.say(f"broker {pid}, {len(restless)} kinds of restless clients, {self.seconds / 60:.0f} minutes")
            for one in restless:
                one.start()
            self._watch(pid, every, restless)
            for one in restless:
                one.stop()
            faults = [one.fault for one in restless if one.fault is not None]
            left = self._left(pid)
            metrics = self._metrics()
        finally:
            status = self._stop()
            (self.folder / "output.txt").write_text("\n".join(self.broker.output))
        return self._report(restless, faults, status, left, metrics)

    def _stop(self) -> int:
        """The demo's exit status, which is the broker's too; -9 if it had to be killed."""
        process = self.broker._process
        assert process is not None
        process.terminate()
        try:
            process.wait(STOPPING)
        except TimeoutExpired:
            self.broker.kill()
        return process.returncode

    def _watch(self, pid: int, every: float, restless: Sequence[Restless]) -> None:
        began = time.monotonic()
        told = 0.0
        with (self.folder / "samples.csv").open("w") as lines:
            print("seconds", *(one.name for one in FIGURES), sep=",", file=lines)
            while (at := time.monotonic() - began) < self.seconds and not any(one.fault for one in restless):
                figures = sample(pid, self._metrics())
                self.samples.append((at, figures))
                print(f"{at:.1f}", *(f"{figures[one.name]:.1f}" for one in FIGURES), sep=",", file=lines, flush=True)
                if at >= told:
                    self.say(f"{at / 60:5.1f} min  " + "  ".join(f"{k} {v:.0f}" for k, v in figures.items()))
                    told += self.seconds / 20
                time.sleep(max(0.0, every - (time.monotonic() - began - at)))

    def _left(self, pid: int) -> dict[str, float]:
        """The figures when the restless are gone, as soon as nothing of theirs is left or it is too late for that."""

        def gone() -> bool:
            figures = sample(pid, self._metrics())
            return all(figures[name] <= self.before[name] + SOME for name in OPENED)

        try:
            eventually(gone, "nothing of the restless any more", 60.0)
        except AssertionError:
            pass  # the report has the figures
        return sample(pid, self._metrics())

    def _metrics(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _report(
        self, restless: Sequence[Restless], faults: list[Exception], status: int, left: dict[str, float], metrics: str
    ) -> int:
        wrong = [f"{error!r} {' '.join(getattr(error, '__notes__', ()))}" for error in faults]
        output = "\n".join(self.broker.output)
        if "Traceback" in output or "Unhandled" in output:
            wrong.append("the broker printed a traceback")
        if 'reason="internal_error"' in metrics:
            wrong.append("the broker closed connections for a fault of its own")
        if status:
            wrong.append(f"the demo and its broker ended with status {status}")
        for name in OPENED:
            if left[name] > self.before[name] + SOME:
                wrong.append(f"{left[name]:.0f} {name} were left, {self.before[name]:.0f} before")
        for one in restless:
            done = ", ".join(f"{what} {count:,}" for what, count in one.counts.items())
            self.say(f"{one.name:12} {done}")
        for name, label in (("uplinks", "uplinks"), ("commands_submitted", "commands")):
            found = re.search(rf"^broker_{name}_total (\S+)$", metrics, re.MULTILINE)
            self.say(f"{label:12} {float(found[1]) if found else 0:,.0f}")
        for line in wrong:
            self.say(f"wrong: {line}")
        if len(self.samples) < LEAST:
            self.say(f"{len(self.samples)} samples are too few to say anything: NOT FLAT")
            return 1
        found_verdicts = verdicts(self.samples)
        for verdict in found_verdicts:
            self.say(str(verdict))
        flat = all(one.flat for one in found_verdicts) and not wrong
        self.say(
            f"{len(self.samples)} samples in {self.samples[-1][0] / 60:.1f} minutes: {'flat' if flat else 'NOT FLAT'}"
        )
        return 0 if flat else 1


def child_of(pid: int) -> int:
    """The broker, which is the demo's only child."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])
