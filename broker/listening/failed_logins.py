"""Who has failed to log in, by address, and what that costs: the same for every listener with a log-in.

::

    level   +1 for each failure; ``max_failed_logins`` leak away in ``failed_login_window``
      │
      ├─ up to max_failed_logins     a failure is answered at once
      ├─ over it                     a failure is answered after 1, 2, 4 ... ``max_login_delay`` seconds
      └─ at lockout_failed_logins    nobody from there is heard any more, right or wrong, until some has leaked away

The delay slows those down who wait for their answer, and nobody else at that address. Who does not wait fills the
bucket, and is not heard in the end: so guesses that are looked at are no more than the bucket holds and what leaks out
of it, however many connections they come over, but for those that are under way when it fills. An IPv6 address counts
as its network (`NETWORK`), as a single customer has 2**64 addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from math import ceil
from typing import Final

from broker.listening.settings import Limits

#: Bits of an IPv6 address that are told apart: what one site is given at the least (RFC 6177).
NETWORK: Final = 64
#: Addresses that are remembered; those that failed the longest ago go first.
MAX_ADDRESSES: Final = 10_000


def counted_as(host: str) -> str:
    """What an address counts as: itself, or the network that it is in."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    kept = int(address) >> (128 - NETWORK) << (128 - NETWORK)
    return f"{IPv6Address(kept)}/{NETWORK}"


class FailedLogins:
    """One listener's. ``limits()`` are those in force; ``monotonic`` gives seconds that never jump."""

    __slots__ = ("_levels", "_limits", "_monotonic")

    def __init__(self, limits: Callable[[], Limits], monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        #: What an address counts as -> (level, when that was), the latest failure last.
        self._levels: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def failed(self, host: str) -> float:
        """Count a failure; the seconds after which it may be answered."""
        limits = self._limits()
        level = self.level(host) + 1.0
        key = counted_as(host)
        self._levels.pop(key, None)
        if len(self._levels) >= MAX_ADDRESSES:
            del self._levels[next(iter(self._levels))]
        self._levels[key] = (level, self._monotonic())
        over = ceil(level - limits.max_failed_logins)
        return min(2.0 ** min(over - 1, 30), limits.max_login_delay) if over > 0 else 0.0

    def locked_out(self, host: str) -> float:
        """Seconds until somebody from there is heard again; 0: now."""
        limits = self._limits()
        if not limits.lockout_failed_logins or not self._levels:
            return 0.0
        over = self.level(host) - limits.lockout_failed_logins + 1.0
        return max(0.0, over * limits.failed_login_window / limits.max_failed_logins)

    def level(self, host: str) -> float:
        """Failures of an address that have not leaked away."""
        found = self._levels.get(counted_as(host))
        if found is None:
            return 0.0
        limits, (level, at) = self._limits(), found
        return max(0.0, level - (self._monotonic() - at) * limits.max_failed_logins / limits.failed_login_window)
