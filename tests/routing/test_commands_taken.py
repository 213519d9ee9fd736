"""Commands that a side takes itself, when its device can be reached."""

from __future__ import annotations

from broker.model.errors import NotFound, Unavailable
from broker.model.messages import CANCELLED, FAILED, QUEUED, SENT, SUCCEEDED, TIMED_OUT, Reply
from tests.routing.fakes import CommandsCase


class TakenTests(CommandsCase):
    def setUp(self) -> None:
        super().setUp()
        self.done: list[Exception | None] = []

    def names(self) -> list[str]:
        return [command.id for command in self.commands.waiting("d")]

    def test_a_window_of_nothing_is_given_nothing(self) -> None:
        self.submit("a")
        _, link = self.connect(window=0)
        self.submit("b")
        self.assertEqual((link.sent, self.names()), ([], ["a", "b"]))

    def test_taken_out_of_order(self) -> None:
        for name in "abc":
            self.submit(name)
        self.commands.take("b", self.done.append)
        self.assertEqual((self.done, self.names()), ([None], ["a", "c"]))
        self.assertEqual(self.watching.of("b"), [QUEUED, SENT])
        self.assertEqual(self.journal.stored["b"].status, SENT)
        self.assertEqual([command.id for command in self.commands.unanswered("d")], ["b"])
        self.assertTrue(self.commands.reply("d", Reply("b", SUCCEEDED, {}, self.now)))
        self.assertEqual(self.watching.of("b"), [QUEUED, SENT, SUCCEEDED])

    def test_not_told_before_it_is_on_disk(self) -> None:
        self.submit("a")
        self.journal.held = True
        self.commands.take("a", self.done.append)
        self.assertEqual((self.done, self.names(), self.watching.of("a")), ([], [], [QUEUED]))
        self.journal.go_on()
        self.assertEqual((self.done, self.watching.of("a")), ([None], [QUEUED, SENT]))

    def test_put_back_when_it_cannot_be_kept(self) -> None:
        for name in "abc":
            self.submit(name)
        self.journal.failure = Unavailable("no disk")
        self.commands.take("a", self.done.append)
        self.assertIsInstance(self.done[0], Unavailable)
        self.assertEqual((self.names(), self.watching.of("a")), (["a", "b", "c"], [QUEUED]))
        self.assertEqual(self.commands.unanswered("d"), [])
        self.journal.failure = None
        self.now += 3601
        self.commands.tick()
        self.assertEqual(self.commands.open, 0)

    def test_one_that_is_not_waiting(self) -> None:
        self.commands.take("none", self.done.append)
        self.submit("a")
        self.commands.take("a", self.done.append)
        self.commands.take("a", self.done.append)
        self.assertEqual([type(error) for error in self.done], [NotFound, type(None), NotFound])
        self.journal.held = True
        self.submit("b")
        self.assertEqual(self.names(), [])
        self.commands.take("b", self.done.append)
        self.assertIsInstance(self.done[-1], NotFound)

    def test_its_device_is_removed_meanwhile(self) -> None:
        self.submit("a")
        self.journal.held = True
        self.commands.take("a", self.done.append)
        self.commands.cancel_device("d", "removed")
        self.journal.go_on()
        self.assertIsInstance(self.done[0], NotFound)
        self.assertEqual(self.watching.of("a"), [QUEUED, FAILED])

    def test_given_up_while_it_is_written(self) -> None:
        """Another process has the device's commands by then."""
        for failure in (None, Unavailable("others have taken over")):
            self.setUp()
            self.submit("a")
            self.journal.held = True
            self.commands.take("a", self.done.append)
            self.commands.give_up("d")
            self.journal.failure = failure
            self.journal.go_on()
            self.assertIsInstance(self.done[0], NotFound if failure is None else Unavailable)
            self.assertEqual(self.commands.open, 0)

    def test_times_out_like_any_other(self) -> None:
        self.connect(window=0)
        self.submit("a")
        self.commands.take("a", self.done.append)
        self.now += 29
        self.commands.tick()
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT])
        self.now += 2
        self.commands.tick()
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT, TIMED_OUT])

    def test_failed_while_it_waits(self) -> None:
        self.submit("a")
        self.commands.fail("a", {"error": "too long"})
        self.commands.fail("a", {"error": "again"})
        self.commands.fail("none", {})
        self.assertEqual((self.watching.of("a"), self.names()), ([QUEUED, FAILED], []))
        self.assertEqual(self.journal.stored["a"].result, {"error": "too long"})

    def test_cancelled_while_it_waits(self) -> None:
        self.submit("a")
        self.commands.cancel("a")
        self.assertEqual((self.watching.of("a"), self.names()), ([QUEUED, CANCELLED], []))
