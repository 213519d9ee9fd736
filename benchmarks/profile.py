"""`python -m benchmarks profile NAME`: in which lines the broker spends the CPU time of a shape's messages.

The load is that of the table, warmed up, against a broker that is asked at steps of its CPU time which line it is at
(`benchmarks.sampler`). "self": of the samples, those in which this line ran, with all that it called in C; "function":
the same for a whole function; "with calls": those in which it was anywhere on the stack.
"""

from __future__ import annotations

import argparse
import json
import linecache
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import broker as package
from benchmarks.children import PATIENCE, BenchmarkError, Broker, Child
from benchmarks.lorawan import LoraUplinks
from benchmarks.measure import Prepared
from benchmarks.processes import TwoProcesses
from benchmarks.sampler import BEGIN, END, FILE, Place
from benchmarks.shape import Shape, Work
from benchmarks.shapes import SHAPES

#: Where the hot paths are.
PATHS: Final = (
    "gateway-hb", "gizwits", "lorawan", "lorawan-downlink", "novacloud", "loracenter", "fan-out", "fan-out-qos1",
    "fan-out-qos2", "across-qos1", "stream",
)  # fmt: skip
#: Functions that nearly every sample is in say nothing: the loop of the reactor, and what has started it.
WHOLE: Final = 0.97
ROOT: Final = Path(package.__file__).resolve().parent.parent


#: Loads that go by the clock: the sampler must not make the broker lose datagrams.
GENTLER: Final[dict[str, Callable[[Broker], Work]]] = {
    "lorawan": lambda broker: LoraUplinks(broker, rate=500.0),
    "lorawan-upload": lambda broker: LoraUplinks(broker, customer=True, rate=500.0),
}


class SampledBroker(Broker):
    """`Broker` with the sampler in its process."""

    def command(self, arguments: list[str]) -> list[str]:
        at = arguments.index("-c")
        return [*arguments[:at], "-m", "benchmarks.sampler", *arguments[at + 2 :]]

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        return {**given, FILE: str(self.samples_file)}

    @property
    def samples_file(self) -> Path:
        return self.folder / "samples.json"

    def begin(self) -> None:
        os.kill(self.pid, BEGIN)

    def samples(self) -> tuple[Counter[Place], Counter[Place]]:
        """Lines and functions. Raises BenchmarkError when the broker does not write them."""
        os.kill(self.pid, END)
        until = time.monotonic() + PATIENCE
        while not self.samples_file.exists():
            self.check_alive()
            if time.monotonic() > until:
                raise BenchmarkError("the broker has not written its samples")
            time.sleep(0.02)
        found = json.loads(self.samples_file.read_text())
        return _counter(found["lines"]), _counter(found["functions"])


class SampledProcesses(TwoProcesses):
    """Two of them; the samples are those of both."""

    KIND = SampledBroker

    def begin(self) -> None:
        for broker in self.brokers:
            assert isinstance(broker, SampledBroker)
            broker.begin()

    def samples(self) -> tuple[Counter[Place], Counter[Place]]:
        """See `SampledBroker.samples`."""
        lines: Counter[Place] = Counter()
        functions: Counter[Place] = Counter()
        for broker in self.brokers:
            assert isinstance(broker, SampledBroker)
            more_lines, more_functions = broker.samples()
            lines += more_lines
            functions += more_functions
        return lines, functions


def _counter(pairs: list[Any]) -> Counter[Place]:
    return Counter({(file, name, line): count for (file, name, line), count in pairs})


def short(file: str) -> str:
    """From the repository, or the last two parts of a path elsewhere."""
    path = Path(file)
    if path.is_relative_to(ROOT) and ".venv" not in path.parts:
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-2:])


def table(lines: Counter[Place], functions: Counter[Place], count: int) -> list[str]:
    """The most expensive lines, and functions by themselves and with what they call."""
    total = sum(lines.values()) or 1
    said = [f"{'self':>6}  line"]
    for (file, name, line), hits in lines.most_common(count):
        text = linecache.getline(file, line).strip()
        said.append(f"{hits / total:6.1%}  {short(file)}:{line} {name}\n{'':8}    {text[:110]}")
    alone: Counter[tuple[str, str]] = Counter()
    for (file, name, _), hits in lines.items():
        alone[file, name] += hits
    said.append(f"\n{'self':>6}  function")
    said += [f"{hits / total:6.1%}  {short(file)} {name}" for (file, name), hits in alone.most_common(count)]
    said.append(f"\n{'with calls':>10}  function")
    inner = Counter({place: hits for place, hits in functions.items() if hits < WHOLE * total})
    said += [
        f"{hits / total:10.1%}  {short(file)}:{line} {name}"
        for (file, name, line), hits in inner.most_common(count * 2)
    ]
    return said


def sample(shape: Shape, seconds: float) -> tuple[Counter[Place], Counter[Place], float]:
    """Run it until the broker has used so much CPU; lines, functions and microseconds of CPU a message.

    Raises BenchmarkError.
    """
    make: Callable[[Any], Work] = GENTLER.get(shape.name) or shape.make
    kind: type[SampledBroker] | type[SampledProcesses]
    kind = SampledProcesses if "processes" in shape.storages else SampledBroker
    with kind(history=shape.history, more=shape.settings) as broker:
        work = make(broker)
        measure_once(work, broker, max(1, shape.messages // 4))
        broker.begin()
        used, done = 0.0, 0
        while used < seconds:
            cpu, messages = measure_once(work, broker, shape.messages)
            used += cpu
            done += messages
        lines, functions = broker.samples()
        work.close()
    return lines, functions, used / done * 1e6


def measure_once(work: Work, broker: Child, messages: int) -> tuple[float, int]:
    """Seconds of CPU, and messages that they were for."""
    if isinstance(work, Prepared):
        work.prepare(messages)
    cpu = broker.cpu()
    load = work.run(messages)
    return broker.cpu() - cpu, load.messages


def main(given: Sequence[str]) -> int:
    """Raises BenchmarkError for a name that is no shape's."""
    paths = f"The hot paths: {', '.join(PATHS)}."
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks profile",
        description=f"{__doc__}\n{paths}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a shape of python -m benchmarks --help")
    parser.add_argument("--lines", type=int, default=12, metavar="N", help="how many of each kind (default: 12)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of the broker's CPU (default: 5)")
    arguments = parser.parse_args(given)
    by_name = {shape.name: shape for shape in SHAPES}
    for name in arguments.names:
        if name not in by_name:
            raise BenchmarkError(f"there is no shape {name}; see --help")
    for name in arguments.names:
        shape = by_name[name]
        lines, functions, each = sample(shape, arguments.seconds)
        print(f"{name}: {shape.protocol}, {shape.title}: {each:.2f} us a message, {sum(lines.values()):,} samples")
        print("\n".join(table(lines, functions, arguments.lines)), end="\n\n", flush=True)
    return 0
