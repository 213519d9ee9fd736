"""What the machine gives at the moment: a process that computes a little, writes to the disk, and answers.

Other tests may use the machine at the same time. What the broker's own clients may have to wait is reckoned from how
much longer than by itself this takes: for its only client, who lives in the same process as theirs.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

#: Seconds between two questions, and of CPU that an answer takes.
EVERY = 0.2
WORK = 0.02

_ECHO = f"""\
import os, sys, time
kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
while data := os.read(0, 4096):
    until = time.process_time() + {WORK}
    while time.process_time() < until:
        pass
    os.pwrite(kept, data, 0)
    os.fsync(kept)
    os.write(1, data)
"""


class Yardstick:
    """It is at work when it is made; `finish` says how many times longer than its work an answer took, usually."""

    def __init__(self, folder: Path) -> None:
        self.times: list[float] = []
        self._ending = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ECHO, str(folder / "yardstick")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None and answered is not None
        while not self._ending.wait(EVERY):
            began = time.monotonic()
            asked.write(b"x" * 1_000 + b"\n")
            asked.flush()
            answered.readline()
            self.times.append(time.monotonic() - began)

    def finish(self) -> float:
        self._ending.set()
        self._thread.join()
        self._process.communicate()
        return max(1.0, median(self.times) / WORK) if self.times else 1.0
