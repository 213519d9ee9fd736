"""What a listener counts: plain integers that cost next to nothing, read when somebody asks for ``/metrics``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.model.names import CLOSE_REASONS, DROP_REASONS

#: Ends of connections that nobody need look at.
USUAL: Final = frozenset(
    {"client_closed", "connection_lost", "shutdown", "takeover", "idle", "removed", "replaced", "resting"}
)
#: Of the others, the last so many are kept.
RECENT: Final = 50


class Refusal(NamedTuple):
    """A connection that was refused, or ended for something that it did. ``at`` is in UNIX seconds."""

    at: float
    reason: str
    host: str
    identity: str


class Gauge(NamedTuple):
    """Figures of a protocol that have labels: ``values`` are (values of the labels, figure)."""

    name: str
    text: str
    labels: Sequence[str]
    values: Sequence[tuple[Sequence[str], float]]


class ListenerStats:
    """Counters of one listener since the start; the reasons are those of `broker.model.names`."""

    __slots__ = (
        "accepted",
        "authenticated",
        "bytes_in",
        "bytes_out",
        "closed",
        "dropped",
        "logins_delayed",
        "logins_failed",
        "logins_locked_out",
        "malformed",
        "messages_in",
        "messages_out",
        "recent",
        "refused",
        "throttled",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.authenticated = 0
        self.logins_failed = 0
        self.logins_delayed = 0
        self.logins_locked_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages_in = 0
        self.messages_out = 0
        self.malformed = 0
        self.throttled = 0
        self.refused: dict[str, int] = {}
        self.closed: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.recent: deque[Refusal] = deque(maxlen=RECENT)

    def refuse(self, reason: str) -> None:
        """A connection was turned away before it began."""
        assert reason in CLOSE_REASONS, reason
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def close(self, reason: str) -> None:
        """A connection ended."""
        assert reason in CLOSE_REASONS, reason
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def note(self, at: float, reason: str, host: str, identity: str = "") -> None:
        """Keep an unusual end for whoever looks."""
        if reason not in USUAL:
            self.recent.append(Refusal(at, reason, host, identity))

    def drop(self, reason: str, count: int = 1) -> None:
        """Messages were not taken or not delivered."""
        assert reason in DROP_REASONS, reason
        self.dropped[reason] = self.dropped.get(reason, 0) + count
