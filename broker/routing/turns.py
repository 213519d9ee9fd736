"""The end of the reactor's turn: when all that came in it has been looked at, and what it led to is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def at_turn_end(reactor: Any) -> Callable[[Callable[[], None]], object]:
    """How to have something called at the end of the reactor's turn: without a timer on a reactor that can
    (`broker.reactor`)."""
    if hasattr(reactor, "callAtTurnEnd"):
        schedule: Callable[[Callable[[], None]], object] = reactor.callAtTurnEnd
        return schedule
    return partial(reactor.callLater, 0)
