"""An `IUpdateProgress` that keeps what it is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from broker.model.errors import Unavailable
from broker.model.interfaces import IUpdateProgress


@implementer(IUpdateProgress)
class Progress:
    """``held``: when set, downloads wait for it. ``broken``: nothing can be noted."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.held: Deferred[None] | None = None
        self.broken = False

    def take(self) -> list[tuple[str, ...]]:
        """What was told since the last look."""
        told, self.told = self.told, []
        return told

    def moved(self, order_id: str, step: str) -> None:
        self.told.append((step,))

    def returned(self, order_id: str, why: str) -> None:
        self.told.append(("returned", why))

    def failed(self, order_id: str, why: str) -> None:
        self.told.append(("failed", why))

    def unanswered(self, order_id: str) -> None:
        self.told.append(("unanswered",))

    def fetching(self, order_id: str) -> Deferred[None]:
        if self.broken:
            return fail(Unavailable("the disk is full"))
        self.told.append(("fetching", order_id))
        return succeed(None) if self.held is None else self.held

    def fetched(self, order_id: str) -> None:
        self.told.append(("fetched", order_id))

    def exchanged(self, device_id: str, why: str) -> None:
        self.told.append(("exchanged", device_id, why))

    def reported(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        if self.broken:
            return fail(Unavailable("the disk is full"))
        self.reports.append((device_id, dict(info)))
        return succeed(None)
