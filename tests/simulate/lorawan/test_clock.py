"""Simulated time beside Twisted's own."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.simulate.lorawan.clock import SimulatedClock


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.done: list[Any] = []

    def test_it_is_what_a_reactor_is(self) -> None:
        self.assertTrue(verifyObject(IReactorTime, self.clock))
        self.assertTrue(verifyObject(IDelayedCall, self.clock.callLater(1.0, self.done.append, 1)))

    def test_order(self) -> None:
        """By time, then as it was asked for; and time stands where the event is."""
        for name, delay in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
            self.clock.callLater(delay, lambda name=name: self.done.append((name, self.clock.seconds())))
        self.clock.run_until(1.5)
        self.assertEqual((self.done, self.clock.seconds()), ([("a", 1.0)], 1.5))
        self.clock.advance(10.0)
        self.assertEqual(self.done, [("a", 1.0), ("b", 2.0), ("c", 2.0)])
        self.assertEqual(self.clock.seconds(), 11.5)

    def test_cancelled_and_moved(self) -> None:
        call = self.clock.callLater(1.0, self.done.append, "cancelled")
        call.cancel()
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCancelled, call.cancel)
        later = self.clock.callLater(1.0, self.done.append, "later")
        later.reset(5.0)
        sooner = self.clock.callLater(9.0, self.done.append, "sooner")
        sooner.reset(2.0)
        delayed = self.clock.callLater(1.0, self.done.append, "delayed")
        delayed.delay(2.0)
        self.assertEqual([call.getTime() for call in (later, sooner, delayed)], [5.0, 2.0, 3.0])
        self.assertEqual(len(self.clock.getDelayedCalls()), 3)
        self.clock.advance(10.0)
        self.assertEqual(self.done, ["sooner", "delayed", "later"])
        self.assertRaises(AlreadyCalled, later.reset, 1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_past_cannot_be_asked_for(self) -> None:
        self.assertRaises(ValueError, self.clock.callLater, -1.0, self.done.append, 1)

    def test_what_is_cancelled_does_not_pile_up(self) -> None:
        for _ in range(10_000):
            self.clock.callLater(1e6, self.done.append, 1).cancel()
        self.assertLess(len(self.clock._heap), 3_000)

    def test_same_as_twisteds(self) -> None:
        """Whatever is done to both, the same happens at the same times."""
        logs = []
        for clock in (Clock(), self.clock):
            dice = random.Random(7)
            log: list[Any] = []
            calls: list[Any] = []

            def act(number: int, clock: Any = clock, dice: Any = dice, log: Any = log, calls: Any = calls) -> None:
                log.append((number, round(clock.seconds(), 6)))
                for _ in range(dice.randrange(3)):
                    calls.append(clock.callLater(dice.randrange(1, 50) / 8, act, len(calls)))
                living = [call for call in calls if call.active()]
                if living and dice.random() < 0.3:
                    dice.choice(living).cancel()
                elif living and dice.random() < 0.5:
                    dice.choice(living).reset(dice.randrange(1, 40) / 8)

            calls.append(clock.callLater(0.25, act, 0))
            calls.append(clock.callLater(0.5, act, 1))
            for _ in range(400):
                clock.advance(0.125)
            logs.append(log)
        self.assertGreater(len(logs[0]), 20)
        self.assertEqual(*logs)
