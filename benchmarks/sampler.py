"""A broker's command line with a sampler in its process: which line runs, asked at steps of the CPU time used.

SIGRTMIN begins, SIGRTMIN + 1 ends and writes the counts to the file that BENCHMARK_SAMPLES names. A sample is a timer's
signal (ITIMER_PROF), which Python handles between two steps of its own: what C code uses, a system call too, counts for
the line that has called it. Calls are not watched, so short functions look no more expensive than they are.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

#: Seconds of CPU between two samples; the system rounds it up to its tick.
EVERY: Final = 0.001
BEGIN: Final = signal.SIGRTMIN
END: Final = signal.SIGRTMIN + 1
FILE: Final = "BENCHMARK_SAMPLES"

Place = tuple[str, str, int]


class Sampler:
    def __init__(self) -> None:
        #: (file, function, line) that ran
        self.lines: Counter[Place] = Counter()
        #: (file, function, its first line) on the stack, each once a sample
        self.functions: Counter[Place] = Counter()

    def begin(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def sample(self, _: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        code = frame.f_code
        self.lines[code.co_filename, code.co_qualname, frame.f_lineno or 0] += 1
        seen = set()
        while frame is not None:
            seen.add(frame.f_code)
            frame = frame.f_back
        self.functions.update((code.co_filename, code.co_qualname, code.co_firstlineno) for code in seen)

    def end(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        found = {"lines": list(self.lines.items()), "functions": list(self.functions.items())}
        file = Path(os.environ[FILE])
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(file)


def main() -> None:
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(BEGIN, sampler.begin)
    signal.signal(END, sampler.end)
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
