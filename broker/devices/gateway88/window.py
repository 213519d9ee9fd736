"""A time of day in which something may begin, by the clocks of a place: ``02:00-05:00`` in ``Europe/Berlin``.

It is asked with the time that it is, each time anew, so nothing is planned that a change of the clocks could upset: an
hour that the place's clocks leave out is never inside, one that they show twice is so both times.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FORM: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class Window(NamedTuple):
    """``begin`` and ``end``: minutes of the day; an end before the beginning is that of the next day."""

    begin: int
    end: int
    zone: ZoneInfo

    @staticmethod
    @lru_cache(maxsize=8)
    def parse(text: str, zone: str) -> Window:
        """``HH:MM-HH:MM``, empty for always, and the name of a time zone. Raises ValueError."""
        try:
            place = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{zone!r} is no time zone, such as Europe/Berlin or UTC") from None
        if not text:
            return Window(0, 24 * 60, place)
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no time of day such as 02:00-05:00")
        hours = [int(digits) for digits in found.groups()]
        begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if end > 24 * 60 or begin == end:
            raise ValueError(f"{text!r} is no time of day such as 02:00-05:00")
        return Window(begin, end, place)

    def is_open(self, at: float) -> bool:
        """``at`` in UNIX seconds."""
        local = datetime.fromtimestamp(at, self.zone)
        minute = local.hour * 60 + local.minute
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end
