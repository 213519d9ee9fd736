"""First on the path of a broker process under test: its wall clock is the machine's and what a file says, in seconds.

Python reads every wall time of the broker through ``time.time``, so writing another number is a jump of its clock.
"""

import os
import time

_real = time.time
_path = os.environ["TEST_CLOCK"]
_seen: list[float] = [0.0, 0.0]


def _jumping() -> float:
    now = _real()
    if now - _seen[0] > 0.02:
        with open(_path, encoding="ascii") as file:
            _seen[:] = [now, float(file.read() or _seen[1])]
    return now + _seen[1]


time.time = _jumping
