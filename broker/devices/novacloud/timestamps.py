"""The device's own time (guide 4.1): seconds since 1970, optional, and often wrong.

==========================================  =======================================
``timestamp``                               becomes
==========================================  =======================================
missing, null                               nothing
a number from 0                             that time
a number over 1e11                          that many milliseconds, marked so
over 24 h in the future, negative,          nothing, marked with what was given
true or false, anything else
==========================================  =======================================

The time of receipt is kept beside it in any case.
"""

from __future__ import annotations

from typing import Any, Final

#: Seconds past this would be in the year 5138, so it is milliseconds.
MILLISECONDS_FROM: Final = 1e11
#: Clocks are off, but not by more than a wrong time zone.
MAX_AHEAD: Final = 86_400.0
#: Of an unusable timestamp that is text, this much is shown.
_SHOWN: Final = 64


def device_time(given: Any, now: float) -> tuple[float | None, dict[str, Any] | None]:
    """The usable time in UNIX seconds or None, and the mark for the message's ``meta`` or None."""
    if given is None:
        return None, None
    if isinstance(given, bool) or not isinstance(given, int | float) or given < 0:
        return None, _unusable(given)
    milliseconds = given > MILLISECONDS_FROM
    limit = now + MAX_AHEAD
    # Compared as whole numbers: an integer may be too large for a float.
    if given > (limit * 1000 if milliseconds else limit):
        return None, _unusable(given)
    if milliseconds:
        return given / 1000, {"timestamp": "milliseconds"}
    return float(given), None


def _unusable(given: Any) -> dict[str, Any]:
    mark: dict[str, Any] = {"timestamp": "unusable"}
    if isinstance(given, str):
        mark["timestamp_given"] = given[:_SHOWN]
    elif isinstance(given, bool | float) or (isinstance(given, int) and given.bit_length() <= _SHOWN):
        mark["timestamp_given"] = given
    return mark
