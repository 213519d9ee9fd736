"""The clock of one gateway: its `tmst`, without its wrapping every 71 minutes and without its restarts.

::

    tmst      2**32-1 │ 0 ............... 2**32-1 │ 0 ......  forwarder started again: 0 ...
    local     ────────────────────────────────────────────────────────────────────────────────>  microseconds

`local` never goes back: where the gateway's clock was set anew, it goes on from where ours says it should be. So what
is booked and what was sent can be kept in it for as long as the broker lives. Between packets it is taken to run like
ours; before the first one it is ours.
"""

from __future__ import annotations

from typing import Final

_WRAP: Final = 1 << 32
#: Seconds after a packet in which the gateway's clock is taken as known: crystals are off by 20 us a second at worst.
KNOWN_FOR: Final = 600.0
#: A clock that is this far (us) from where it should be was set anew: the forwarder has been started again.
RESTARTED: Final = 5_000_000


class GatewayClock:
    """``now``: monotonic seconds. ``local``: the gateway's own, in microseconds."""

    __slots__ = ("_local", "_synced_at", "_tmst")

    def __init__(self) -> None:
        self._tmst: int | None = None
        self._local = 0
        self._synced_at = 0.0

    def take(self, tmst: int, now: float) -> int:
        """The local time of a packet that came now, and was received at ``tmst``."""
        expected = self.reading(now)
        if self._tmst is None:
            local = expected
        else:
            ahead = (tmst - self.tmst(expected)) % _WRAP
            if ahead > _WRAP // 2:
                ahead -= _WRAP
            if abs(ahead) > RESTARTED:
                local = expected
            else:
                local = expected + ahead
                if local < self._local:
                    return local  # out of order: the later one says more
        self._tmst, self._local, self._synced_at = tmst, local, now
        return local

    def reading(self, now: float) -> int:
        """What it shows, as far as anybody can tell."""
        return self._local + int((now - self._synced_at) * 1e6)

    def known(self, now: float) -> bool:
        """Whether that is good enough to tell the gateway a time."""
        return self._tmst is not None and now - self._synced_at <= KNOWN_FOR

    def tmst(self, local: int) -> int:
        """A local time as the gateway counts it."""
        return ((self._tmst or 0) + local - self._local) % _WRAP
