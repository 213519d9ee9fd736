"""Whose downlinks may use how much of a band's air time.

All share one budget, the band's share of an hour. A downlink is sent while what was sent and is booked, of all
priorities, stays below the ceiling of its own; so the last part of the budget is open to the more important ones only,
as in The Things Stack (pkg/gatewayserver/scheduling/sub_band.go, 40 to 100 %).

Commands have a priority of 0 to 64 (PRIOR of customer servers; over HTTP up to 255); what the network itself owes motes
stands above them.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

#: What commands have that name none.
NORMAL: Final = 32
#: Acknowledgements and MAC commands.
ANSWER: Final = 1000
#: Join-accepts.
JOIN: Final = 1001

#: The least priority of a class, and the class.
CLASSES: Final = ((JOIN, "joins"), (ANSWER, "answers"), (48, "high"), (32, "normal"), (16, "low"), (0, "lowest"))

Share = Annotated[float, Meta(gt=0, le=1)]


class Ceilings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[listeners.lorawan.ceilings]``: which part of a band's air time is open to whom."""

    #: Commands of priority 0 to 15.
    lowest: Share = 0.4
    #: Commands of priority 16 to 31.
    low: Share = 0.6
    #: Commands of priority 32 to 47; 32 is that of commands that name none.
    normal: Share = 0.8
    #: Commands of priority 48 and more.
    high: Share = 0.9
    #: Acknowledgements, answers to MAC commands and our own.
    answers: Share = 0.95
    #: Join-accepts: who cannot join has nothing at all.
    joins: Share = 1.0

    def of(self, priority: int) -> float:
        """The part that is open to a priority."""
        for least, name in CLASSES:
            if priority >= least:
                share: float = getattr(self, name)
                return share
        return self.lowest
