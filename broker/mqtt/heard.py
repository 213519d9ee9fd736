"""Whether the other processes know what this one's sessions are subscribed to: a SUBACK waits for it.

::

    SUBSCRIBE ──> told (mqtt.sub, mqtt.want ...) ──> mqtt.mark [n] ──log──> each other process: mqtt.seen [n] ──> SUBACK

What is told is read in its order, so whoever has seen a mark knows all that was told before it. Only processes are
waited for that serve clients by now: one that joins asks for everything before it does.

A process that does not answer within `PATIENCE` (stopped, or without its Redis) is not waited for again until it does:
what is published there before it has read on may miss the subscription.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from broker.mqtt.interest import decode, encode

#: Seconds that a SUBACK waits for the others.
PATIENCE: Final = 2.0


class Heard:
    """``tell(kind, body)`` reaches all, in its order."""

    def __init__(self, backplane: Any, tell: Callable[[str, bytes], object], reactor: Any) -> None:
        self._backplane = backplane
        self._tell = tell
        self._reactor = reactor
        self._mark = 0
        #: Something was told since the last mark.
        self._changed = False
        #: What processes have seen that serve clients; those that have let us wait in vain.
        self._seen: dict[str, int] = {}
        self._silent: set[str] = set()
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._timer: Any = None
        #: Marks of others that are to be answered at the end of the turn.
        self._owed: dict[str, int] = {}
        backplane.hear("mqtt.mark", self._marked)
        backplane.hear("mqtt.seen", self._was_seen)

    def changed(self) -> None:
        """Something is being told."""
        self._changed = True

    def serves(self, node: str) -> None:
        """That process knows all that was told until now, or will before it serves."""
        self._seen[node] = self._mark
        self._silent.discard(node)

    def left(self, node: str) -> None:
        """That process is gone."""
        self._seen.pop(node, None)
        self._silent.discard(node)
        self._look()

    @property
    def behind(self) -> int:
        """Other processes that do not know all that was told."""
        upto = self._mark + self._changed
        return sum(seen < upto for seen in self._seen.values())

    def known(self) -> Deferred[None] | None:
        """Fires when all that was told is known to the others, or they have let us wait for too long; None: it is."""
        if not self._seen:
            return None
        if self._changed:
            self._changed = False
            self._mark += 1
            self._tell("mqtt.mark", encode(self._mark))
        if self._reached(self._mark):
            return None
        known: Deferred[None] = Deferred()
        self._waiting.append((self._mark, known))
        if self._timer is None:
            self._timer = self._reactor.callLater(PATIENCE, self._too_long, self._mark)
        return known

    def clear(self) -> None:
        """We are another process now."""
        self._seen.clear()
        self._silent.clear()
        self._owed.clear()
        self._look()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _reached(self, mark: int) -> bool:
        return all(seen >= mark or node in self._silent for node, seen in self._seen.items())

    def _look(self) -> None:
        while self._waiting and self._reached(self._waiting[0][0]):
            self._waiting.pop(0)[1].callback(None)
        if not self._waiting and self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()

    def _too_long(self, mark: int) -> None:
        self._timer = None
        self._silent.update(node for node, seen in self._seen.items() if seen < mark)
        self._look()
        if self._waiting and self._timer is None:
            self._timer = self._reactor.callLater(PATIENCE, self._too_long, self._waiting[0][0])

    def _marked(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        if not self._owed:
            self._reactor.callLater(0, self._answer)
        self._owed[node] = decode(body)

    def _answer(self) -> None:
        owed, self._owed = self._owed, {}
        for node, mark in owed.items():
            self._backplane.cast("mqtt.seen", encode(mark), node)

    def _was_seen(self, node: str, body: bytes) -> None:
        if node in self._seen:
            self._seen[node] = max(self._seen[node], decode(body))
            if self._seen[node] >= self._mark:
                self._silent.discard(node)
            self._look()
