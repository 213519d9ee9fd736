"""A line of a campaign: one device, what has become of it, and how that came about. Pure.

::

    waiting ─> queued ─> sent ─> accepted ─> (rebooted ─>) confirmed
       ▲         │         │        │            │
       ├─────────┘ not     │        ├────────────┴──> failed ─┐ retries left
       │           sent    └────────┴──> no_answer ───────────┤
       └──────────────────────────────────────────────────────┘
    waiting ─> skipped

=========  =============================================================================================
queued     it has one of the places at work; its order is being made or waits to be sent
sent       the order has left for the device
accepted   the device has said that it will, or has asked for the image; ``fetching_at``, ``fetched_at``
rebooted   it went away after it had fetched the image, and has come back
confirmed  it has fetched the image and reports its version
failed     it has said so, or has not done what it said, or reports what it never fetched
no_answer  nothing came to the order
=========  =============================================================================================

A line that failed for want of time is confirmed after all if the device reports the version later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import msgspec

WAITING: Final = "waiting"
QUEUED: Final = "queued"
SENT: Final = "sent"
ACCEPTED: Final = "accepted"
REBOOTED: Final = "rebooted"
CONFIRMED: Final = "confirmed"
FAILED: Final = "failed"
NO_ANSWER: Final = "no_answer"
SKIPPED: Final = "skipped"
LINE_STATES: Final = (WAITING, QUEUED, SENT, ACCEPTED, REBOOTED, CONFIRMED, FAILED, NO_ANSWER, SKIPPED)
#: A device in one of these has one of the places.
AT_WORK: Final = frozenset({QUEUED, SENT, ACCEPTED, REBOOTED})
#: In the order in which they are come to; none goes back.
PROGRESS: Final = {QUEUED: 0, SENT: 1, ACCEPTED: 2, REBOOTED: 3}
FAILURES: Final = frozenset({FAILED, NO_ANSWER})
#: Those that are over, unless somebody has them tried again.
OVER: Final = frozenset({CONFIRMED, FAILED, NO_ANSWER, SKIPPED})

#: Entries of the history that a line keeps; the oldest go.
MAX_HISTORY: Final = 40


class Step(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the history: since when the line was in this state, and what is to be said to it."""

    at: float
    state: str
    note: str = ""


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``reason``: why it is in its state. Times are UNIX seconds.

    ``attempt``: how many orders there have been. ``failures``: how many of them have failed, since somebody last had
    the line tried again. ``version``: what it had when its turn came. ``reported``: the last that it told since.
    """

    device: str
    state: str = WAITING
    reason: str = ""
    since: float = 0.0
    attempt: int = 0
    failures: int = 0
    version: str | None = None
    reported: str | None = None
    fetching_at: float | None = None
    fetched_at: float | None = None
    #: When it may be tried again.
    not_before: float | None = None
    history: list[Step] = []

    def enter(self, state: str, now: float, note: str = "") -> None:
        """Go over to a state, or say something new about the present one."""
        self.state = state
        self.reason = note
        self.since = now
        self.remark(now, note)

    def remark(self, now: float, note: str) -> None:
        """Something that happened, in the present state."""
        self.history = [*self.history[-MAX_HISTORY + 1 :], Step(round(now, 3), self.state, note)]

    @property
    def failing(self) -> bool:
        """It has failed, be it that it will be tried again."""
        return self.state in FAILURES or (self.state == WAITING and self.failures > 0)


class Tally:
    """Lines by state, and how many of them count as failed for the stop. Always what counting the lines would give."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.by_state: dict[str, int] = dict.fromkeys(LINE_STATES, 0)
        self.failing = 0
        for line in lines:
            self.add(line)

    def add(self, line: Line, count: int = 1) -> None:
        """``count`` -1: the line is about to change."""
        self.by_state[line.state] += count
        self.failing += count * line.failing

    @property
    def ended(self) -> int:
        """Those of which it is known how the update went; lines that were skipped had none."""
        return self.by_state[CONFIRMED] + self.failing

    @property
    def total(self) -> int:
        return sum(self.by_state.values())


def order_id(campaign: str, device: str, attempt: int) -> str:
    """The id of an attempt's order, the same whenever it is asked for."""
    return str(uuid5(UUID(campaign), f"{device}/{attempt}"))
