"""What concerns the process and its reactor, and none of the broker's parts."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from typing import Any


def at_turn_end(reactor: Any) -> Callable[[Callable[[], None]], object]:
    """How to have something called at the end of the reactor's turn: without a timer on a reactor that can."""
    if hasattr(reactor, "callAtTurnEnd"):
        schedule: Callable[[Callable[[], None]], object] = reactor.callAtTurnEnd
        return schedule
    return partial(reactor.callLater, 0)


def raise_open_files_limit() -> None:
    """Every connection takes a descriptor, and the usual soft limit of 1024 is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
