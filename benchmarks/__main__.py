"""`python -m benchmarks`: what a message costs in this broker, beside other brokers on the same work.

Each shape of load runs against fresh server processes: `twistd -n broker` with authentication, rights and metrics on,
and the peers that are installed. Figures are the server's CPU microseconds (user + system, all threads) a message.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.children import BenchmarkError, install_peers
from benchmarks.measure import PEERS, Peers, Result, measure
from benchmarks.shapes import SHAPES, Shape

NOISE = (
    "Machines are noisy: other work, clock speeds and caches move\n"
    "these figures by a third and more. Compare within one run, look at the minimum first, run again what looks odd."
)
HEAD = (
    f"{'':42}{'':11}{'min':>8}{'median':>9}{'':4}{'messages/s':>11}{'client us':>10}{'p50 ms':>8}{'p99 ms':>8}  target"
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
    width = max(len(shape.name) for shape in SHAPES)
    lines = [f"  {shape.name:<{width}}  {shape.title}" for shape in SHAPES]
    alone = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if '"__main__"' in path.read_text("utf-8"))
    lines += ["", "Apart from these, each on its own:", *(f"  python -m benchmarks.{name}" for name in alone)]
    return "\n".join(["shapes:", *lines])


def wanted(patterns: list[str] | None) -> list[Shape]:
    """The shapes that are asked for. Raises BenchmarkError for a name that fits none."""
    if not patterns:
        return list(SHAPES)
    for pattern in patterns:
        if not any(fnmatch(shape.name, pattern) for shape in SHAPES):
            raise BenchmarkError(f"there is no shape {pattern}; see --help")
    return [shape for shape in SHAPES if any(fnmatch(shape.name, pattern) for pattern in patterns)]


def row(result: Result, ours: Result, beside: Result | None) -> str:
    """One line of the table."""
    shape = result.shape
    digits = 2 if shape.unit == "us" and result.best < 1000 else 1
    p50, p99 = (result.percentile(share) for share in (0.5, 0.99))
    cells = [
        f"{shape.title if result is ours else '':42}{result.server:11}",
        f"{result.best:8.{digits}f}{result.median:9.{digits}f} {shape.unit:3}",
        f"{max(result.rates):11,.0f}{min(result.client):10.2f}",
        "".join(f"{'' if value is None else f'{value:.2f}':>8}" for value in (p50, p99)),
    ]
    if result is ours:
        cells.append(f"  {verdict(result, beside)}")
    else:
        cells.append(f"  ours is {ours.best / result.best:.2f} x this")
    return "".join(cells).rstrip()


def verdict(ours: Result, beside: Result | None) -> str:
    """Whether the targets are kept."""
    said = []
    shape = ours.shape
    if shape.target is not None:
        said.append(f"<= {shape.target:g} {'ok' if ours.best <= shape.target else 'MISSED'}")
    if shape.target_ratio is not None and beside is not None:
        kept = ours.best <= shape.target_ratio * beside.best
        said.append(f"<= {shape.target_ratio:g} x {beside.server} {'ok' if kept else 'MISSED'}")
    return ", ".join(said)


def say(line: str) -> None:
    print(line, flush=True)


def run(arguments: argparse.Namespace) -> None:
    shapes = wanted(arguments.only)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    share, repetitions = (0.1, 2) if arguments.quick else (1.0, 5)
    repetitions = arguments.repetitions or repetitions
    peers = Peers(arguments.peers, say)
    reactor = f", reactor {arguments.reactor}" if arguments.reactor else ""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    say(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {load}{reactor}")
    say(f"Server CPU a message; {repetitions} repetitions after a warm-up. {NOISE}\n")
    say(HEAD)
    results: list[Result] = []
    for shape in shapes:
        measured = measure(shape, peers, repetitions, share, arguments.reactor)
        ours, beside = measured[0], next((one for one in measured if one.server == "mosquitto"), None)
        for result in measured:
            say(row(result, ours, beside))
        results += measured
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([result.as_dict() for result in results], indent=1) + "\n")


def main() -> int:
    arguments = options().parse_args()
    try:
        if arguments.install_peers:
            install_peers()
        else:
            run(arguments)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
