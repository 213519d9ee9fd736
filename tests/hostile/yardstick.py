"""What the machine gives at the moment: a process that does nothing but write what it is sent to the disk, and answer.

Other tests may use the machine at the same time. What the broker's own clients may have to wait is reckoned from what
this one's only client has to wait, who lives in the same process as they.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

#: Seconds between two questions.
EVERY = 0.1

_ECHO = """\
import os, sys
kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
while data := os.read(0, 4096):
    os.pwrite(kept, data, 0)
    os.fsync(kept)
    os.write(1, data)
"""


class Yardstick:
    """It is at work when it is made; `finish` gives the median of the seconds that an answer took."""

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
        return median(self.times) if self.times else 0.0
