"""A rate limit: so many at once, and so many a second on average."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many events in so much time; all of them may come at once."""

    #: How many.
    events: Annotated[int, Meta(ge=1, le=1_000_000)]
    #: Within how many seconds.
    seconds: Annotated[float, Meta(gt=0, le=1e7)]


class TokenBucket:
    """``now`` is monotonic."""

    __slots__ = ("_at", "_limit", "_tokens")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit = limit
        self._tokens = float(limit.events)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more is within the limit; if so, it counts."""
        if not self.has(now):
            return False
        self._tokens -= 1.0
        return True

    def has(self, now: float) -> bool:
        limit = self._limit
        self._tokens = min(float(limit.events), self._tokens + max(0.0, now - self._at) * limit.events / limit.seconds)
        self._at = now
        # What is lost to rounding must not keep the last one waiting.
        return self._tokens >= 1.0 - 1e-9
