"""What one process does for all: who has it, who is next, who is asked."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from broker.cluster.duty import Duties, Duty
from broker.fleet.progress import Progress
from broker.model.errors import Unavailable
from tests.cluster.hub import Hub, Plane


class DutyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hub = Hub()
        self.log: list[str] = []

    def duty(self, plane: Plane, begin: Any = None) -> Duty:
        def begun() -> Deferred[None]:
            self.log.append(f"{plane.node} begins")
            return succeed(None) if begin is None else begin()

        return Duty(plane, "it", begun, lambda: self.log.append(f"{plane.node} ends"))

    def look(self, duty: Duty) -> None:
        self.successResultOf(Deferred.fromCoroutine(duty.look()))

    def test_the_first_has_it_and_the_next_takes_over(self) -> None:
        a, b = (self.duty(self.hub.join(node)) for node in "ab")
        self.look(a)
        self.look(b)
        self.assertEqual((a.leads, b.leads, b.leader), (True, False, "a"))
        self.hub.kill("a")
        self.assertTrue(b.leads)
        self.assertEqual(self.log, ["a begins", "b begins"])

    def test_who_was_fenced_ends_at_once_and_may_have_it_again(self) -> None:
        planes = [self.hub.join(node) for node in "ab"]
        a, b = map(self.duty, planes)
        self.look(a)
        self.look(b)
        planes[0].fence()
        self.assertEqual((a.leads, b.leads), (False, True))
        self.look(a)
        self.assertEqual((a.leads, a.leader), (False, "b"))
        self.hub.kill("b")
        self.assertTrue(a.leads)
        self.assertEqual(self.log, ["a begins", "b begins", "a ends", "a+ begins"])

    def test_one_that_cannot_begin_leaves_it_to_others(self) -> None:
        a = self.duty(self.hub.join("a"), lambda: fail(Unavailable("no storage")))
        b = self.duty(self.hub.join("b"))
        self.failureResultOf(Deferred.fromCoroutine(a.look()), Unavailable)
        self.look(b)
        self.assertEqual((a.leads, b.leads), (False, True))
        self.assertEqual(self.log, ["a begins", "a ends", "b begins"])

    def test_fenced_while_it_begins(self) -> None:
        waiting: Deferred[None] = Deferred()
        plane = self.hub.join("a")
        a = self.duty(plane, lambda: waiting)
        looking = Deferred.fromCoroutine(a.look())
        plane.fence()
        waiting.callback(None)
        self.successResultOf(looking)
        self.assertFalse(a.leads)
        self.assertEqual(self.log, ["a begins", "a ends"])

    def test_it_does_nothing_while_it_cannot_know(self) -> None:
        plane = self.hub.join("a")
        a = self.duty(plane)
        self.look(a)
        plane.held = False
        self.assertEqual((a.leads, a.active), (True, False))

    def test_who_is_asked(self) -> None:
        planes = [self.hub.join(node) for node in "ab"]
        planes[0].answer("q", lambda node, body: body + b"!")
        a, b = map(self.duty, planes)
        duties = Duties()
        duties.add(b)
        self.failureResultOf(b.ask("q", b"early"), Unavailable)
        self.look(a)
        self.look(b)
        self.assertIs(duties.far("it"), b)
        self.assertEqual(self.successResultOf(b.ask("q", b"now")), b"now!")
        self.assertIsNone(duties.far("something else"))
        self.assertRaises(Unavailable, b.check)

    def test_retired(self) -> None:
        a, b = (self.duty(self.hub.join(node)) for node in "ab")
        self.look(a)
        self.look(b)
        b.retire()
        self.hub.kill("a")
        self.assertFalse(b.leads)


class Campaigns:
    """What is told, as `IUpdateProgress`."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def tell(*arguments: Any) -> Any:
            self.told.append((name, *arguments))
            return succeed(None) if name in ("fetching", "reported") else None

        return tell


class ProgressTests(SynchronousTestCase):
    """What updaters tell at one process arrives at the one that has the campaigns."""

    def setUp(self) -> None:
        self.hub = Hub()
        self.sides = [self.side(node) for node in "ab"]

    def side(self, node: str) -> tuple[Progress, Duty, Campaigns]:
        plane = self.hub.join(node)
        progress, campaigns = Progress(plane), Campaigns()

        def begin() -> Deferred[None]:
            progress.here = campaigns
            progress.settle()
            return succeed(None)

        def end() -> None:
            progress.here = None

        progress.duty = duty = Duty(plane, "campaigns", begin, end)
        return progress, duty, campaigns

    def look(self) -> None:
        for _, duty, _ in self.sides:
            self.successResultOf(Deferred.fromCoroutine(duty.look()))

    def test_from_the_one_to_the_other(self) -> None:
        self.look()
        (_, _, campaigns), (far, _, _) = self.sides
        far.moved("o", "sent")
        self.successResultOf(far.fetching("o"))
        far.fetched("o")
        self.successResultOf(far.reported("d", {"swversion": "2"}))
        expected = [("moved", "o", "sent"), ("fetching", "o"), ("fetched", "o"), ("reported", "d", {"swversion": "2"})]
        self.assertEqual(campaigns.told, expected)

    def test_what_is_told_while_nobody_has_them_waits(self) -> None:
        (_, _, _), (far, _, mine) = self.sides
        far.moved("o", "sent")
        self.failureResultOf(far.fetching("o"), Unavailable)
        reported = far.reported("d", {})
        self.assertNoResult(reported)
        self.hub.kill("a")
        self.successResultOf(Deferred.fromCoroutine(self.sides[1][1].look()))
        self.successResultOf(reported)
        self.assertEqual(mine.told, [("moved", "o", "sent"), ("reported", "d", {})])
