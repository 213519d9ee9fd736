"""Cases played side by side, and what came of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tests.conformance.rows import Difference

#: Threads for cases that only wait for answers: more of them gain nothing, less would let one late answer hold up all.
SIDE_BY_SIDE: Final = 8

Case = tuple[str, Callable[[], None]]


@dataclass(slots=True)
class Outcome:
    """`failures`: one line a case that failed, in the order of the cases."""

    cases: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return self.cases - len(self.failures)

    def __str__(self) -> str:
        return f"{self.passed} of {self.cases} cases passed in {self.seconds:.1f} s"


def run(cases: Iterable[Case], threads: int = SIDE_BY_SIDE) -> Outcome:
    """Play the cases; titles that occur more than once get a number."""
    started = time.monotonic()
    listed: Sequence[Case] = list(cases)
    with ThreadPoolExecutor(threads) as pool:
        lines = list(pool.map(lambda case: _line(case[1]), listed))
    seen: Counter[str] = Counter()
    outcome = Outcome(len(listed), time.monotonic() - started)
    for (title, _), line in zip(listed, lines, strict=True):
        seen[title] += 1
        if line:
            number = f" #{seen[title]}" if seen[title] > 1 else ""
            outcome.failures.append(f"{title}{number}: {line}")
    return outcome


def _line(play: Callable[[], None]) -> str:
    try:
        play()
    except (Difference, AssertionError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
