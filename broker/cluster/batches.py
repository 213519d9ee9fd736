"""What one turn of the reactor has for one destination goes out in one piece, and one piece at a time.

While a piece is under way, what comes gathers for the next: the slower Redis is, the more travels together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Batches(Generic[T]):
    """``send(items)`` gives a Deferred; the next piece waits for it, whatever it brings. ``later(call)``: at the end of
    the turn. At most ``most`` items in a piece.
    """

    def __init__(
        self, send: Callable[[list[T]], Deferred[Any]], later: Callable[[Callable[[], None]], object], most: int
    ) -> None:
        self._send = send
        self._later = later
        self._most = most
        self._items: list[T] = []
        self._busy = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def idle(self) -> bool:
        """Nothing waits or is under way."""
        return not self._busy

    def add(self, item: T) -> None:
        self._items.append(item)
        if not self._busy:
            self._busy = True
            self._later(self._go)

    def clear(self) -> list[T]:
        """Forget what waits; it is returned."""
        items, self._items = self._items, []
        return items

    def _go(self) -> None:
        items, self._items = self._items[: self._most], self._items[self._most :]
        if not items:
            self._busy = False
            return
        self._send(items).addBoth(self._sent)

    def _sent(self, result: Any) -> Any:
        if self._items:
            self._later(self._go)
        else:
            self._busy = False
        return result if isinstance(result, Failure) else None
