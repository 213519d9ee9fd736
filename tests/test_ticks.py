"""One timer for all that is done every so often."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.ticks import Ticks


class TickTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ticks = Ticks(self.clock, 0.25)
        self.done: list[str] = []

    def pass_time(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.advance(0.25)

    def test_each_as_often_as_it_wants(self) -> None:
        self.ticks.add(lambda: self.done.append("often"), 0.25)
        self.ticks.add(lambda: self.done.append("seldom"), 1.0)
        self.ticks.add(lambda: self.done.append("at most"), 0.01)
        self.ticks.start()
        self.pass_time(8)
        self.assertEqual([self.done.count(name) for name in ("often", "seldom", "at most")], [8, 2, 8])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_fault_keeps_neither_itself_nor_the_others_from_going_on(self) -> None:
        def fail() -> None:
            self.done.append("fault")
            raise RuntimeError("ours")

        self.ticks.add(fail, 0.25)
        self.ticks.add(lambda: self.done.append("other"), 0.25)
        self.ticks.start()
        self.pass_time(2)
        self.assertEqual(self.done, ["fault", "other"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_the_end(self) -> None:
        self.ticks.stop()
        self.ticks.start()
        self.ticks.stop()
        self.pass_time(4)
        self.assertEqual((self.done, self.clock.getDelayedCalls()), ([], []))
