"""When a campaign may work: hours of local days, in time zones. Pure; times are UNIX seconds.

A window belongs to the local day on which it begins, and is one stretch of time for each such day::

    begin   the first instant that the wall clock shows this; a time that does not exist is moved by what is skipped
    end     likewise, on the following day if it is not later in the day than the beginning

=======================  ==========================  =====================================================
the clock is             02:00 to 03:00, Berlin      why
=======================  ==========================  =====================================================
put forward at 02:00     03:00 to 04:00 (summer)     its hour does not exist, and the window is not skipped
put back at 03:00        02:00 to 03:00, both        one window of two hours, and not two
as ever                  02:00 to 03:00
=======================  ==========================  =====================================================

A window that the change would leave nothing of is as long as its times say. One in which an hour occurs twice and that
ends within it (02:15 to 02:45) is the first one. Whether a window is open is asked anew with each tick of the wall
clock, so a clock that jumps is in the window that it shows, and in no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
ZoneName = Annotated[str, Meta(min_length=1, max_length=64)]
MINUTES_A_DAY: Final = 1_440


class Window(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}
):
    """Hours of local days."""

    #: When it opens, HH:MM on the wall.
    begin: TimeOfDay
    #: When it closes, HH:MM on the wall, on the next day if it is not later; the same as ``from`` is a whole day.
    end: TimeOfDay
    #: On which days it opens; empty: on all.
    days: tuple[Day, ...] = ()
    #: Whose wall: a name of the IANA database, such as Europe/Berlin.
    time_zone: ZoneName = "UTC"

    def __post_init__(self) -> None:
        zone_of(self.time_zone)


@lru_cache(maxsize=1_000)
def zone_of(name: str) -> ZoneInfo:
    """Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"time_zone: {name!r} is no time zone, such as Europe/Berlin or UTC") from None


def stretch(window: Window, day: date) -> tuple[float, float]:
    """From when until when the window that begins on this local day is open."""
    begin, end = _minutes(window.begin), _minutes(window.end)
    length = (end - begin) % MINUTES_A_DAY or MINUTES_A_DAY
    zone = zone_of(window.time_zone)
    opens = _instant(zone, day, begin)
    closes = _instant(zone, day + timedelta(days=(begin + length) // MINUTES_A_DAY), end)
    return opens, closes if closes > opens else opens + length * 60.0


def is_open(windows: Sequence[Window], now: float) -> bool:
    """Whether work may be begun; without windows, always."""
    return not windows or any(opens <= now < closes for opens, closes in _around(windows, now, 0))


def next_opening(windows: Sequence[Window], now: float) -> float | None:
    """When the next window opens, if none is open now."""
    if is_open(windows, now):
        return None
    return min((opens for opens, _ in _around(windows, now, 8) if opens > now), default=None)


def _around(windows: Sequence[Window], now: float, days: int) -> Iterator[tuple[float, float]]:
    """The stretches that began lately, and those of so many days to come."""
    for window in windows:
        today = datetime.fromtimestamp(now, zone_of(window.time_zone)).date()
        for offset in range(-2, days + 2):
            day = today + timedelta(days=offset)
            if not window.days or DAYS[day.weekday()] in window.days:
                yield stretch(window, day)


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _instant(zone: ZoneInfo, day: date, minutes: int) -> float:
    """``fold`` 0: of two the first; what does not exist is read with the offset before the change."""
    return datetime.combine(day, time(minutes // 60, minutes % 60), zone).timestamp()
