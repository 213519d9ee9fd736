"""The table as text: columns, verdicts, and a line that says how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.measure import Result
from benchmarks.shape import Target

HEAD = (
    f"{'protocol':<11}{'what':<40}{'on':<7}{'server':<10}"
    f"{'min':>9}{'median':>9}    {'per s':>10}{'p50 ms':>8}{'p99 ms':>8}{'ratio':>7}  target"
)
UNITS = {"figure": "", "ratio": " x", "p50": " ms p50", "longest": " ms longest", "rate": "/s"}


def lines(results: Sequence[Result]) -> list[str]:
    """A line for each of ours and for each peer, whose ratio is ours (on the first storage) to its."""
    ours = [result for result in results if result.is_ours]
    peers = [result for result in results if not result.is_ours]
    said = [_line(one, "; ".join(verdicts(one, peers) + beside(one)), one is ours[0]) for one in ours]
    return said + [_line(peer, "", False, ours[0].best / peer.best) for peer in peers]


def _line(result: Result, verdict: str, first: bool, ratio: float | None = None) -> str:
    shape = result.shape
    digits = 2 if shape.unit == "us" and result.best < 1000 else 1
    p50, p99 = (result.percentile(share) for share in (0.5, 0.99))
    cells = [
        f"{shape.protocol if first else '':<11}{shape.title if first else '':<40}",
        f"{result.storage:<7}{result.server:<10}",
        f"{result.best:9.{digits}f}{result.median:9.{digits}f} {shape.unit:<3}{max(result.rates):10,.0f}",
        "".join(f"{'' if value is None else f'{value:.2f}':>8}" for value in (p50, p99)),
        f"{'' if ratio is None else f'{ratio:.2f}':>7}  {verdict}",
    ]
    return "".join(cells).rstrip()


def beside(result: Result) -> list[str]:
    """What a storage that is a process of its own has used; what did not arrive."""
    redis = [f"Redis itself {min(result.stored):.2f} us"] if any(result.stored) else []
    return redis + ([f"{result.lost} lost"] if result.lost else [])


def verdicts(ours: Result, peers: Sequence[Result]) -> list[str]:
    """Each target, with whether it is met and which issue has set it."""
    said = []
    for target in ours.shape.targets:
        found = reached(target, ours, peers)
        if found is not None:
            least = target.of == "rate"
            met = found >= target.value if least else found <= target.value
            unit = f" {ours.shape.unit}" if target.of == "figure" else UNITS[target.of]
            if target.of == "ratio":
                unit += f" {target.beside}"
            text = f"{'>=' if least else '<='} {target.value:,g}{unit} (#{target.issue})"
            said.append(f"{text} {'met' if met else f'MISSED by {distance(found, target.value)}'}")
    return said


def distance(found: float, value: float) -> str:
    return f"{abs(found / value - 1) * 100:.0f} %"


def reached(target: Target, ours: Result, peers: Sequence[Result]) -> float | None:
    """What stands against the target's value; None where it was not measured."""
    match target.of:
        case "figure":
            return ours.best
        case "ratio":
            return next((ours.best / peer.best for peer in peers if peer.server == target.beside), None)
        case "p50":
            return ours.percentile(0.5)
        case "longest":
            return ours.percentile(1.0)
        case "rate":
            return max(ours.rates)


class Progress:
    """One line on a terminal's standard error that is written over; nothing where that is a file."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty()

    def told(self, what: str) -> None:
        """What is being done now."""
        if self._shown:
            left = ""
            if self._done:
                seconds = (time.monotonic() - self._began) / self._done * (self._steps - self._done)
                left = f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"
            text = f"[{self._done + 1}/{self._steps}] {what}{left}"
            sys.stderr.write(f"\r\x1b[K{text[:110]}")
            sys.stderr.flush()

    def step(self) -> None:
        """One more row is measured."""
        self._done += 1
        self.clear()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
