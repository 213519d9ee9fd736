"""Backplanes of several nodes in one process and one turn, for what stands on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from zope.interface import implementer

from broker.cluster.wire import NodeGone
from broker.model.cluster import Taken
from broker.model.interfaces import IBackplane


class Hub:
    """All of them, and what they share."""

    def __init__(self) -> None:
        self.planes: dict[str, Plane] = {}
        self.entries: dict[tuple[str, str], tuple[str, str]] = {}

    def join(self, node: str) -> Plane:
        plane = self.planes[node] = Plane(self, node)
        return plane

    def kill(self, node: str) -> None:
        """It is dead, and the others know."""
        del self.planes[node]
        for plane in list(self.planes.values()):
            for left in plane.on_left:
                left(node)


@implementer(IBackplane)
class Plane:
    """``held`` may be set. Everything happens at once."""

    alone = False
    held = True
    epoch = 1

    def __init__(self, hub: Hub, node: str) -> None:
        self._hub = hub
        self.node = node
        self.hearers: dict[str, list[Callable[[str, bytes], object]]] = {}
        self.answers: dict[str, Callable[[str, bytes], Any]] = {}
        self.on_left: list[Callable[[str], object]] = []
        self.on_fenced: list[Callable[[], object]] = []

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def problem(self) -> str:
        return ""

    def others(self) -> tuple[str, ...]:
        return tuple(node for node in self._hub.planes if node != self.node)

    def _say(self, planes: list[Plane], kind: str, body: bytes) -> None:
        for plane in planes:
            for call in plane.hearers.get(kind, ()):
                call(self.node, body)

    def cast(self, kind: str, body: bytes, node: str | None = None) -> None:
        planes = [one for one in self._hub.planes.values() if one is not self and node in (None, one.node)]
        self._say(planes, kind, body)

    def tell(self, kind: str, body: bytes) -> None:
        self._say(list(self._hub.planes.values()), kind, body)

    def hear(self, kind: str, call: Callable[[str, bytes], object]) -> None:
        self.hearers.setdefault(kind, []).append(call)

    def ask(self, node: str, kind: str, body: bytes, patience: float = 15.0) -> Deferred[bytes]:
        plane = self._hub.planes.get(node)
        return fail(NodeGone(node)) if plane is None else maybeDeferred(plane.answers[kind], self.node, body)

    def answer(self, kind: str, call: Callable[[str, bytes], Any]) -> None:
        self.answers[kind] = call

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        node, kept = self._hub.entries.get((space, key), ("", ""))
        if node != self.node and node in self._hub.planes:
            return succeed(Taken(False, node, kept))
        self._hub.entries[space, key] = (self.node, note or kept)
        return succeed(Taken(True, node, kept))

    def leave(self, space: str, key: str, note: str = "") -> None:
        if self._hub.entries.get((space, key), ("", ""))[0] == self.node:
            del self._hub.entries[space, key]

    def find(self, space: str, key: str) -> Deferred[Taken]:
        node, note = self._hub.entries.get((space, key), ("", ""))
        return succeed(Taken(False, node if node in self._hub.planes else "", note))

    def lead(self, duty: str) -> Deferred[bool]:
        return succeed(True)

    def watch(
        self,
        gone: Callable[[str], Any] | None = None,
        fenced: Callable[[], object] | None = None,
        joined: Callable[[], Any] | None = None,
        left: Callable[[str], object] | None = None,
    ) -> None:
        if left is not None:
            self.on_left.append(left)
        if fenced is not None:
            self.on_fenced.append(fenced)

    def fence(self) -> None:
        """Its lease is over, somebody has taken over; it is another node from now on."""
        del self._hub.planes[self.node]
        for plane in list(self._hub.planes.values()):
            for left in plane.on_left:
                left(self.node)
        for fenced in self.on_fenced:
            fenced()
        self.node += "+"
        self._hub.planes[self.node] = self
