"""The backplane of a process that is alone: everything is its own, and nobody need be told.

Who finds ``alone`` set does not call it for each message at all; what is called all the same is answered from here, in
the same way as by the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from broker.cluster.wire import NodeGone
from broker.model.cluster import Taken
from broker.model.interfaces import IBackplane

log = Logger(namespace="broker.cluster")


@implementer(IBackplane)
class LocalBackplane:
    """``name``: `[broker] name`."""

    alone = True
    held = True

    def __init__(self, name: str = "node-1") -> None:
        self.epoch = 0
        self.node = f"{name}.0"
        self._hearers: dict[str, list[Callable[[str, bytes], object]]] = {}
        self._answers: dict[str, Callable[[str, bytes], Any]] = {}
        self._entries: dict[str, dict[str, tuple[str, str]]] = {}

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def problem(self) -> str:
        return ""

    def others(self) -> tuple[str, ...]:
        return ()

    def cast(self, kind: str, body: bytes, node: str | None = None) -> None:
        """There is nobody to hear it."""

    def tell(self, kind: str, body: bytes) -> None:
        for call in self._hearers.get(kind, ()):
            try:
                call(self.node, body)
            except Exception:
                log.failure("fault of who hears {kind}", kind=kind)

    def hear(self, kind: str, call: Callable[[str, bytes], object]) -> None:
        self._hearers.setdefault(kind, []).append(call)

    def ask(self, node: str, kind: str, body: bytes, patience: float = 0.0) -> Deferred[bytes]:
        if node != self.node:
            return fail(NodeGone(node))
        return maybeDeferred(self._answers[kind], node, body)

    def answer(self, kind: str, call: Callable[[str, bytes], Any]) -> None:
        self._answers[kind] = call

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        entries = self._entries.setdefault(space, {})
        node, kept = entries.get(key, ("", ""))
        entries[key] = (self.node, note or kept)
        return succeed(Taken(True, node, kept))

    def leave(self, space: str, key: str, note: str = "") -> None:
        entries = self._entries.setdefault(space, {})
        if entries.get(key, ("", ""))[0] != self.node:
            return
        if note:
            entries[key] = ("", note)
        else:
            del entries[key]

    def find(self, space: str, key: str) -> Deferred[Taken]:
        node, note = self._entries.get(space, {}).get(key, ("", ""))
        return succeed(Taken(False, node, note))

    def lead(self, duty: str) -> Deferred[bool]:
        return succeed(True)

    def watch(
        self,
        gone: Callable[[str], Any] | None = None,
        fenced: Callable[[], object] | None = None,
        joined: Callable[[], Any] | None = None,
        left: Callable[[str], object] | None = None,
    ) -> None:
        """Nobody comes or goes."""
