"""A gateway's RAM and flash, as its heartbeats tell: they fill up, until something is freed."""

from __future__ import annotations

from random import Random
from typing import Final

#: Bytes.
TOTAL_RAM: Final = 134_217_728
#: Kilobytes, as the document has it.
TOTAL_DISK: Final = 16_384


class Level:
    """How much of something is used, as a share. It grows by about ``step``; over ``most`` it is freed to ``least``."""

    __slots__ = ("_least", "_most", "_random", "_step", "used")

    def __init__(self, random: Random, least: float, most: float, step: float) -> None:
        self._random = random
        self._least = least
        self._most = most
        self._step = step
        self.used = random.uniform(least, most)

    def next(self) -> float:
        self.used += self._random.uniform(0, 2 * self._step)
        if self.used > self._most:
            self.used = self._least
        return self.used


class Memory:
    """Both."""

    def __init__(self, random: Random) -> None:
        self._ram = Level(random, 0.45, 0.85, 0.01)
        self._disk = Level(random, 0.5, 0.9, 0.002)

    def next(self) -> dict[str, int]:
        """The body of a heartbeat."""
        return {
            "totalram": TOTAL_RAM,
            "freeram": round(TOTAL_RAM * (1 - self._ram.next())),
            "totaldisk": TOTAL_DISK,
            "freedisk": round(TOTAL_DISK * (1 - self._disk.next())),
        }
