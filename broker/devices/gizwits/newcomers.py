"""How many new users or devices one address may make: anybody may make some, and nobody is to make all there can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.devices.gizwits import errors as e

#: Seconds that are counted together.
WINDOW: Final = 3_600.0
#: Addresses that are remembered; the oldest goes first.
MAX_ADDRESSES: Final = 10_000


class Newcomers:
    """Counts by address."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        #: address -> (how many, since)
        self._counts: dict[str, tuple[int, float]] = {}

    def count(self, host: str, most: int) -> None:
        """One more. Raises Refused (9041)."""
        now = self._monotonic()
        count, since = self._counts.pop(host, (0, now))
        if now - since > WINDOW:
            count, since = 0, now
        if len(self._counts) >= MAX_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        self._counts[host] = (min(count + 1, most), since)
        if count >= most:
            raise e.Refused(e.THROTTLED, f"{most} an hour are enough for one address")
