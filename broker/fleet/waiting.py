"""The devices of a campaign whose turn has not come, and whose is next. Pure; times are monotonic seconds.

::

    due heap ──its time has come──> online? ──> next()
                                       └─ no ──> away ──came()──> due heap

Each device has a place in the spread: a share of it that is always the same, counted from `opened`. An entry of the
heap is good only if it says what is known of the device, so nothing has to be looked for when that changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from zlib import crc32


class Waiting:
    """``salt`` decides about the order in the spread."""

    def __init__(self, salt: str) -> None:
        self._salt = salt
        self._opened_at = 0.0
        self._spread = 0.0
        #: Device -> when it is due; inf: when it is back.
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, device: str) -> bool:
        return device in self._due

    def opened(self, now: float, spread: float) -> None:
        """Work may begin, from now on, spread over so many seconds."""
        self._opened_at = now
        self._spread = spread
        self._due = {
            device: max(self._start(device), when if when < inf else now) for device, when in self._due.items()
        }
        self._heap = [(when, device) for device, when in self._due.items()]
        heapify(self._heap)

    def add(self, device: str, not_before: float = 0.0) -> None:
        """It waits, at least so long."""
        when = self._due[device] = max(not_before, self._start(device))
        heappush(self._heap, (when, device))

    def discard(self, device: str) -> None:
        """It waits no longer; harmless when it did not."""
        self._due.pop(device, None)

    def came(self, device: str, now: float) -> None:
        """It is online; its turn comes if it was passed over for being away."""
        if self._due.get(device) == inf:
            self.add(device, now)

    def next(self, now: float, is_online: Callable[[str], bool]) -> str | None:
        """A device that is due and online; it is none of those that wait from now on."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, device = heappop(heap)
            if self._due.get(device) != when:
                continue
            if is_online(device):
                del self._due[device]
                return device
            self._due[device] = inf
        return None

    def _start(self, device: str) -> float:
        """When its part of the spread begins."""
        if not self._spread:
            return self._opened_at
        return self._opened_at + crc32(f"{self._salt}{device}".encode()) / 2**32 * self._spread


class Rate:
    """So many in any minute."""

    def __init__(self) -> None:
        self._begun: deque[float] = deque()

    def note(self, at: float) -> None:
        """One has begun."""
        self._begun.append(at)

    def allows(self, now: float, most: int | None) -> bool:
        """Whether another one may begin."""
        if most is None:
            self._begun.clear()
            return True
        while self._begun and self._begun[0] <= now - 60.0:
            self._begun.popleft()
        return len(self._begun) < most
