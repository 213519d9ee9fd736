"""Sign-ins of several processes: a start does not wait for long for those that are there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.http.sessions_across import PATIENCE, SessionsAcross
from broker.model.errors import Unavailable


class Plane:
    """Two others that are there and do not answer."""

    alone = False
    node = "here.1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.answers: list[Deferred[bytes]] = []

    def others(self) -> tuple[str, ...]:
        return ("one.1", "two.1")

    def ask(self, node: str, kind: str, body: bytes, patience: float) -> Deferred[bytes]:
        self.asked.append((node, patience))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, kind: str, call: Any) -> None:
        """Nobody asks."""

    hear = answer


class BeginTests(SynchronousTestCase):
    def test_others_that_do_not_answer(self) -> None:
        plane, clock = Plane(), Clock()
        sessions: Any = SimpleNamespace(on_end=[], on_use=[], every=list)
        core: Any = SimpleNamespace(backplane=plane, reactor=clock, monotonic=clock.seconds)
        begun = SessionsAcross(sessions, core).begin()
        plane.answers[0].errback(Unavailable("one has not answered"))
        self.assertNoResult(begun)
        plane.answers[1].errback(Unavailable("two has not answered"))
        self.successResultOf(begun)
        self.assertEqual(plane.asked, [("one.1", PATIENCE), ("two.1", PATIENCE)])
