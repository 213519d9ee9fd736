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
    the turn. At most ``most`` items in a piece, and, where they have a ``weight``, ``heaviest`` of that or one item.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Deferred[Any]],
        later: Callable[[Callable[[], None]], object],
        most: int,
        weight: Callable[[T], int] | None = None,
        heaviest: int = 0,
    ) -> None:
        self._send = send
        self._later = later
        self._most = most
        self._weight = weight
        self._heaviest = heaviest
        self._items: list[T] = []
        #: What all that waits weighs.
        self.weight = 0
        self._busy = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def idle(self) -> bool:
        """Nothing waits or is under way."""
        return not self._busy

    def add(self, item: T) -> None:
        self._items.append(item)
        if self._weight is not None:
            self.weight += self._weight(item)
        if not self._busy:
            self._busy = True
            self._later(self._go)

    def clear(self) -> list[T]:
        """Forget what waits; it is returned."""
        items, self._items = self._items, []
        self.weight = 0
        return items

    def _go(self) -> None:
        count = self._count()
        items, self._items = self._items[:count], self._items[count:]
        if not items:
            self._busy = False
            return
        self._send(items).addBoth(self._sent)

    def _count(self) -> int:
        """Items of the next piece, which weigh nothing here any more."""
        if self._weight is None:
            return self._most
        if self.weight <= self._heaviest and len(self._items) <= self._most:
            self.weight = 0
            return self._most
        count = weight = 0
        for item in self._items[: self._most]:
            more = self._weight(item)
            if count and weight + more > self._heaviest:
                break
            count += 1
            weight += more
        self.weight -= weight
        return count

    def _sent(self, result: Any) -> Any:
        if self._items:
            self._later(self._go)
        else:
            self._busy = False
        return result if isinstance(result, Failure) else None
