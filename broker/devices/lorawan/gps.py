"""GPS time, which gateways say (``tmms``) and motes are told (DeviceTimeAns), and UNIX time, in which we reckon."""

from __future__ import annotations

from typing import Final

#: UNIX time of 1980-01-06, and the leap seconds since then, of which GPS time knows nothing.
GPS_EPOCH: Final = 315_964_800
LEAP_SECONDS: Final = 18


def gps_seconds(at: float) -> float:
    """Seconds since the GPS epoch of a UNIX time."""
    return at - GPS_EPOCH + LEAP_SECONDS


def unix_time(seconds: float) -> float:
    """The UNIX time of seconds since the GPS epoch."""
    return seconds + GPS_EPOCH - LEAP_SECONDS
