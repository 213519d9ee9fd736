"""`python -m benchmarks`: what a message costs in this broker, beside other brokers on the same work.

Each shape of load runs against fresh server processes: `twistd -n broker` with authentication, rights and metrics on,
on SQLite and, where it makes a difference, on a Redis; and the peers that are installed. Figures are the server's CPU
microseconds (user + system, all threads) a message. Then the same messages beside ever more devices, subscriptions,
sessions and connections. Targets are those of the issues that are named.

`python -m benchmarks profile NAME` shows in which lines the broker spends the time of a shape.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks import profile
from benchmarks.children import BenchmarkError, NotInstalled, install_peers
from benchmarks.growth import GROWTHS, Growth, growth_json, growth_lines, measure_growth
from benchmarks.measure import PEERS, Peers, measure
from benchmarks.shape import Shape
from benchmarks.shapes import SHAPES
from benchmarks.table import HEAD, Progress, lines

NOISE = (
    "Machines are noisy: other work, clock speeds and caches move\n"
    "these figures by a third and more. Compare within one run, look at the minimum first, run again what looks odd."
)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only these shapes (may have *, may be repeated)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, two repetitions")
    parser.add_argument("--repetitions", type=int, metavar="N", help="how often each is measured (default: 5)")
    names = list(dict.fromkeys(kind.name for kind in PEERS))
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="the other brokers (none: ours alone)")
    parser.add_argument("--reactor", default="", help="twistd's --reactor (default: its own choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument(
        "--install-peers", action="store_true", help="install aedes and amqtt under .venv/peers, and end"
    )
    return parser


def epilog() -> str:
    rows = [(shape.name, f"{shape.protocol}: {shape.title}") for shape in SHAPES]
    rows += [(growth.name, f"growth: {growth.title}") for growth in GROWTHS]
    width = max(len(name) for name, _ in rows)
    found = [f"  {name:<{width}}  {title}" for name, title in rows]
    alone = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if '"__main__"' in path.read_text("utf-8"))
    alone.remove("__main__")
    found += ["", "Apart from these, each on its own:", *(f"  python -m benchmarks.{name}" for name in alone)]
    return "\n".join(["shapes:", *found])


def wanted(patterns: list[str] | None) -> tuple[list[Shape], list[Growth]]:
    """What is asked for. Raises BenchmarkError for a name that fits nothing."""
    asked = patterns or ["*"]
    names = [*(shape.name for shape in SHAPES), *(growth.name for growth in GROWTHS)]
    for pattern in asked:
        if not any(fnmatch(name, pattern) for name in names):
            raise BenchmarkError(f"there is no shape {pattern}; see --help")
    shapes = [shape for shape in SHAPES if any(fnmatch(shape.name, pattern) for pattern in asked)]
    return shapes, [growth for growth in GROWTHS if any(fnmatch(growth.name, pattern) for pattern in asked)]


def say(line: str) -> None:
    print(line, flush=True)


def run(arguments: argparse.Namespace) -> bool:
    """Measure and print; whether all of it could be measured. Raises BenchmarkError for a name that fits nothing."""
    shapes, growths = wanted(arguments.only)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    share, repetitions = (0.1, 2) if arguments.quick else (1.0, 5)
    repetitions = arguments.repetitions or repetitions
    progress = Progress(len(shapes) + len(growths))

    def tell(line: str) -> None:
        progress.clear()
        say(line)

    peers = Peers(arguments.peers, tell)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "reactor": arguments.reactor or None,
    }
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    reactor = f", reactor {arguments.reactor}" if arguments.reactor else ""
    say(f"Python {machine['python']}, {machine['machine']}, {machine['cores']} cores, load {load}{reactor}")
    say(f"Server CPU a message; {repetitions} repetitions after a warm-up. {NOISE}")
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    if shapes:
        say(f"\n{HEAD}")
    for shape in shapes:
        try:
            measured = measure(shape, peers, repetitions, share, arguments.reactor, progress.told)
        except BenchmarkError as error:
            failed.append(f"{error}")
            continue
        finally:
            progress.step()
        for line in lines(measured):
            say(line)
        rows += [result.as_dict() for result in measured]
    found = []
    for growth in growths:
        try:
            grown = grow(growth, arguments.quick, progress, peers)
        except (BenchmarkError, OSError) as error:
            failed.append(f"{growth.name}: {error}")
        else:
            found += [] if grown is None else [grown]
    if arguments.json is not None:
        text = json.dumps({"machine": machine, "rows": rows, "growth": found}, indent=1)
        arguments.json.write_text(text + "\n")
    for line in failed:
        print(f"benchmarks: not measured: {line}", file=sys.stderr)
    return not failed


def grow(growth: Growth, quick: bool, progress: Progress, peers: Peers) -> dict[str, Any] | None:
    """Measure and print; None where something for it is not installed."""
    try:
        found = measure_growth(growth, quick, progress.told)
    except NotInstalled as error:
        peers.missing("redis", error)
        return None
    finally:
        progress.step()
    say("")
    for line in growth_lines(growth, found):
        say(line)
    return growth_json(growth, found)


def main(given: Sequence[str]) -> int:
    try:
        if given and given[0] == "profile":
            return profile.main(given[1:])
        arguments = options().parse_args(given)
        if arguments.install_peers:
            install_peers()
        else:
            return 0 if run(arguments) else 1
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
