"""What is measured of the broker while it is under load, and whether that is flat.

A line is laid through the samples of the time after the warm-up by Theil and Sen (the median of all slopes between two
of them), which single peaks do not bend. What it rises over that time is the growth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

#: The share of the run that is not looked at: caches and tables fill up to their limits.
WARM_UP: Final = 0.4
#: Samples through which the line is laid, at most: there are slopes between any two.
MAX_SAMPLES: Final = 300
#: Samples without which nothing can be said.
LEAST: Final = 20

_SUM: Final = re.compile(r"^(broker_\w+?)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Figure:
    """``allowed``: how much it may grow in the time that is looked at, and ``share`` of its size besides."""

    name: str
    unit: str
    allowed: float
    share: float = 0.0


#: Memory is what the allocator has of the system, which goes up in steps of its own; the others are counts of what was
#: opened and has to be closed again, and swing with what goes on, and with how fast the machine is just now. If one
#: connection in a hundred were not closed, there would be 140 after twenty minutes; and what is left when the restless
#: are gone is looked at besides, to the piece.
FIGURES: Final = (
    Figure("memory", "MiB", 3.0, 0.02),
    Figure("files", "descriptors", 15.0, 0.3),
    Figure("threads", "threads", 2.0),
    Figure("connections", "connections", 15.0, 0.3),
    Figure("sessions", "devices on-line", 4.0),
    Figure("commands", "open commands", 10.0),
    Figure("waiting", "operations for the disk", 200.0),
)


@dataclass(frozen=True)
class Verdict:
    """``first`` and ``last``: where the line begins and ends; ``most``: the largest of all samples."""

    figure: Figure
    first: float
    last: float
    most: float

    @property
    def growth(self) -> float:
        return self.last - self.first

    @property
    def flat(self) -> bool:
        return self.growth <= self.figure.allowed + self.figure.share * self.first

    def __str__(self) -> str:
        verdict = "flat" if self.flat else "NOT FLAT"
        return (
            f"{self.figure.name:12} {self.first:9.1f} to {self.last:9.1f} {self.figure.unit:24} "
            f"grown by {self.growth:+7.1f}, at most {self.most:9.1f}   {verdict}"
        )


def sample(pid: int, metrics: str) -> dict[str, float]:
    """Of the process and of the text of ``/metrics``, by the names of `FIGURES`."""
    status = Path(f"/proc/{pid}/status").read_text()
    sums: dict[str, float] = {}
    for name, value in _SUM.findall(metrics):
        sums[name] = sums.get(name, 0.0) + float(value)
    return {
        "memory": _field(status, "VmRSS") / 1024,
        "threads": _field(status, "Threads"),
        "files": float(len(os.listdir(f"/proc/{pid}/fd"))),
        "connections": sums["broker_connections"],
        "sessions": sums["broker_devices_online"],
        "commands": sums["broker_commands_open"],
        "waiting": sums["broker_storage_waiting"] + sums["broker_storage_session_operations_waiting"],
    }


def _field(status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def verdicts(samples: Sequence[tuple[float, dict[str, float]]]) -> list[Verdict]:
    """One for each figure. ``samples``: (seconds since the start, figures), in their order; at least `LEAST`."""
    begin = samples[0][0] + WARM_UP * (samples[-1][0] - samples[0][0])
    counted = [one for one in samples if one[0] >= begin]
    counted = counted[:: -(-len(counted) // MAX_SAMPLES)]
    found = []
    for figure in FIGURES:
        points = [(at, figures[figure.name]) for at, figures in counted]
        slope = _slope(points)
        middle = median(value - slope * at for at, value in points)
        most = max(figures[figure.name] for _, figures in samples)
        found.append(Verdict(figure, middle + slope * points[0][0], middle + slope * points[-1][0], most))
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float:
    return median(
        (later[1] - point[1]) / (later[0] - point[0])
        for number, point in enumerate(points)
        for later in points[number + 1 :]
        if later[0] > point[0]
    )
