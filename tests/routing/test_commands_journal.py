"""The life cycle of commands where it meets its journal, late answers, removals, and those who talk back."""

from collections.abc import Callable
from functools import partial

from broker.model.errors import NotFound, Unavailable
from broker.model.messages import (
    CANCELLED,
    EXPIRED,
    FAILED,
    PENDING,
    QUEUED,
    SENT,
    SUCCEEDED,
    TIMED_OUT,
    Command,
)
from broker.routing.late_replies import MAX_LATE
from tests.routing.fakes import CommandsCase


class JournalTests(CommandsCase):
    def test_kept_before_the_caller_is_answered_and_the_device_asked(self) -> None:
        self.journal.held = True
        _, link = self.connect()
        self.submit("a")
        self.assertEqual((self.answers, link.sent, self.watching.changes), ([], [], []))
        self.journal.go_on()
        self.assertEqual((self.answers, link.sent), ([("a", None)], ["a"]))

    def test_the_caller_is_answered_before_anything_is_told(self) -> None:
        self.watching.on_change = lambda command: self.assertEqual(self.answers, [("a", None)])
        self.connect()
        self.submit("a")
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT])
        self.assertEqual(self.faults, [])

    def test_every_state_is_kept_in_order(self) -> None:
        self.connect()
        self.submit("a")
        self.reply("a", PENDING)
        self.reply("a", SUCCEEDED)
        self.assertEqual(self.journal.calls, [("add", "a"), (SENT, "a"), (PENDING, "a"), (SUCCEEDED, "a")])

    def test_refused_when_it_cannot_be_kept(self) -> None:
        self.connect()
        self.journal.failure = Unavailable("disk full")
        self.submit("a")
        self.assertIs(self.error_of("a"), self.journal.failure)
        self.assertEqual((self.commands.open, self.commands.queued("d")), (0, 0))
        self.assertEqual((self.watching.changes, self.commands.counters.submitted), ([], 0))
        self.advance(10_000)
        self.assertEqual(self.watching.changes, [])

    def test_none_overtakes_one_that_is_still_written(self) -> None:
        self.journal.held = True
        _, link = self.connect(window=5)
        for name in "ab":
            self.submit(name)
        self.journal.go_on(1)
        self.assertEqual(link.sent, ["a"])
        self.submit("c")
        self.journal.go_on()
        self.journal.go_on()
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_one_that_could_not_be_kept_holds_nothing_up(self) -> None:
        self.journal.held = True
        _, link = self.connect()
        self.submit("a")
        self.submit("b")
        self.journal.failure = Unavailable("disk full")
        self.journal.go_on(1)
        self.journal.failure = None
        self.journal.go_on()
        self.assertEqual(link.sent, ["b"])

    def test_not_there_for_others_before_it_is_kept(self) -> None:
        self.journal.held = True
        self.submit("a")
        self.assertRaises(NotFound, self.commands.cancel, "a")
        self.advance(10_000)
        self.assertEqual(self.watching.changes, [])
        self.journal.go_on()
        self.advance(1)
        self.assertEqual(self.watching.of("a"), [QUEUED, EXPIRED])

    def test_a_state_that_could_not_be_kept_is_written_again(self) -> None:
        self.connect()
        command = self.submit("a")
        self.journal.failure = Unavailable("disk full")
        self.reply("a", SUCCEEDED, {"value": 1})
        self.assertEqual((command.status, self.journal.stored["a"].status), (SUCCEEDED, SENT))
        self.commands.tick()
        self.assertEqual(self.commands.counters.failed_saves, 2)
        self.journal.failure = None
        self.commands.tick()
        self.assertEqual(self.journal.stored["a"].result, {"value": 1})
        written = len(self.journal.calls)
        self.commands.tick()
        self.assertEqual(len(self.journal.calls), written)

    def test_only_the_latest_state_is_written_again(self) -> None:
        self.connect()
        self.submit("a")
        self.journal.failure = Unavailable("disk full")
        self.reply("a", PENDING)
        self.reply("a", FAILED)
        self.journal.failure = None
        self.commands.tick()
        self.assertEqual(self.journal.calls[-1], (FAILED, "a"))
        self.assertEqual(self.journal.calls.count((FAILED, "a")), 2)

    def test_a_state_of_what_the_journal_does_not_know_is_let_go(self) -> None:
        self.submit("a")
        self.journal.failure = NotFound("removed with its device")
        self.commands.cancel("a")
        written = len(self.journal.calls)
        self.commands.tick()
        self.assertEqual(len(self.journal.calls), written)


class RestoreTests(CommandsCase):
    def test_open_commands_go_on_after_a_restart(self) -> None:
        live, link = self.connect()
        for name in "abc":
            self.submit(name)
        self.reply("a", PENDING)
        self.devices.detach(live, link, "shutdown")
        self.start()
        self.commands.restore(self.journal.open_commands())
        self.assertEqual((self.commands.open, self.commands.queued("d")), (3, 2))
        _, link = self.connect(window=2)
        self.assertEqual(link.sent, ["b", "c"])
        self.assertTrue(self.reply("a", SUCCEEDED))
        self.assertEqual(self.journal.stored["a"].status, SUCCEEDED)

    def test_time_goes_on_too(self) -> None:
        self.connect()
        self.submit("sent")
        self.submit("queued", "away", expires=100.0)
        self.start()
        self.now += 50.0
        self.commands.restore(self.journal.open_commands())
        self.commands.tick()
        self.assertEqual(self.journal.stored["sent"].status, TIMED_OUT)
        self.advance(50.0)
        self.assertEqual(self.journal.stored["queued"].status, EXPIRED)

    def test_restored_commands_can_be_cancelled(self) -> None:
        self.submit("a")
        self.start()
        self.commands.restore(self.journal.open_commands())
        self.commands.cancel("a")
        self.assertEqual(self.journal.stored["a"].status, CANCELLED)


class LateTests(CommandsCase):
    def timed_out(self) -> None:
        _, link = self.connect()
        self.submit("a")
        self.advance(link.answer_timeout)
        self.watching.changes.clear()

    def test_kept_with_its_command(self) -> None:
        self.timed_out()
        self.now = 2000.1234
        self.assertFalse(self.reply("a", SUCCEEDED, {"value": 1}))
        stored = self.journal.stored["a"]
        self.assertEqual(stored.status, TIMED_OUT)
        self.assertEqual(stored.late, [{"status": SUCCEEDED, "result": {"value": 1}, "at": 2000.123}])
        self.assertEqual(self.watching.changes, [("a", TIMED_OUT)])
        self.assertEqual(self.commands.counters.late_replies, 1)

    def test_not_more_than_so_many(self) -> None:
        self.timed_out()
        for _ in range(MAX_LATE + 5):
            self.reply("a", SUCCEEDED)
        self.assertEqual(len(self.journal.stored["a"].late), MAX_LATE)
        self.assertEqual(len(self.watching.changes), MAX_LATE)

    def test_what_is_only_counted(self) -> None:
        self.timed_out()
        self.submit("queued", "away")
        calls = (
            ("unknown", SUCCEEDED, "d"),
            ("a", SUCCEEDED, "another device"),
            ("a", PENDING, "d"),
            ("queued", SUCCEEDED, "away"),
        )
        for id, status, device in calls:
            self.assertFalse(self.reply(id, status, device=device))
        self.assertEqual(self.commands.counters.unmapped_replies, len(calls))
        self.assertEqual(self.journal.stored["a"].late, [])

    def test_another_device_cannot_answer_an_open_command(self) -> None:
        self.connect()
        command = self.submit("a")
        self.assertFalse(self.reply("a", SUCCEEDED, device="another device"))
        self.assertEqual(command.status, SENT)

    def test_a_repeated_answer_is_only_counted(self) -> None:
        self.connect()
        self.submit("a")
        self.reply("a", SUCCEEDED)
        self.assertFalse(self.reply("a", SUCCEEDED))
        self.assertEqual((self.journal.stored["a"].late, self.commands.counters.unmapped_replies), ([], 1))

    def test_two_while_the_first_is_looked_up_are_both_kept(self) -> None:
        self.timed_out()
        self.journal.held = True
        self.reply("a", SUCCEEDED, 1)
        self.reply("a", FAILED, 2)
        self.reply("a", SUCCEEDED, 3, device="another device")
        self.journal.go_on()
        self.journal.go_on()
        self.assertEqual([entry["result"] for entry in self.journal.stored["a"].late], [1, 2])
        self.assertEqual(self.commands.counters.unmapped_replies, 1)

    def test_a_flood_while_storage_is_slow_is_bounded(self) -> None:
        self.timed_out()
        self.journal.held = True
        for _ in range(1000):
            self.reply("a", SUCCEEDED)
        self.assertEqual(len(self.journal.waiting), 1)
        self.assertEqual(self.commands.counters.unmapped_replies, 1000 - MAX_LATE)

    def test_storage_that_fails(self) -> None:
        self.timed_out()
        self.journal.failure = Unavailable("locked")
        self.assertFalse(self.reply("a", SUCCEEDED))
        self.assertEqual(self.commands.counters.unmapped_replies, 1)

    def test_late_to_a_state_that_is_not_kept_yet(self) -> None:
        _, link = self.connect()
        self.submit("a")
        self.journal.failure = Unavailable("disk full")
        self.advance(link.answer_timeout)
        self.reply("a", SUCCEEDED, 1)
        self.journal.failure = None
        self.commands.tick()
        stored = self.journal.stored["a"]
        self.assertEqual((stored.status, [entry["result"] for entry in stored.late]), (TIMED_OUT, [1]))


class RemovalTests(CommandsCase):
    def test_nothing_stays_open(self) -> None:
        self.connect(window=2)
        pending, sent, queued = (self.submit(name) for name in "abc")
        self.reply("a", PENDING)
        other = self.submit("other", "other")
        self.commands.cancel_device("d", "the device was removed")
        self.assertEqual([command.status for command in (pending, sent, queued)], [FAILED, FAILED, CANCELLED])
        self.assertEqual(sent.result, {"error": "the device was removed"})
        self.assertEqual((self.commands.open, other.status), (1, QUEUED))
        self.commands.cancel_device("d", "again")
        self.commands.cancel_device("unknown", "")

    def test_removed_while_it_is_written(self) -> None:
        self.journal.held = True
        _, link = self.connect()
        command = self.submit("a")
        self.commands.cancel_device("d", "removed")
        self.journal.go_on()
        self.journal.go_on()
        self.assertIsNone(self.error_of("a"))
        self.assertEqual((command.status, link.sent), (CANCELLED, []))
        self.assertEqual(self.journal.stored["a"].status, CANCELLED)
        self.assertEqual(self.watching.of("a"), [CANCELLED])

    def test_removed_while_it_could_not_be_written(self) -> None:
        self.journal.held = True
        self.submit("a")
        self.commands.cancel_device("d", "removed")
        self.journal.failure = Unavailable("disk full")
        self.journal.go_on()
        self.assertIs(self.error_of("a"), self.journal.failure)
        self.journal.held = False
        self.commands.tick()
        self.assertEqual(self.journal.calls, [("add", "a")])


class TalkingBackTests(CommandsCase):
    """Who is told of a change may do anything at once."""

    def once(self, id: str, status: str, do: Callable[[], object]) -> None:
        def change(command: Command) -> None:
            if (command.id, command.status) == (id, status):
                self.watching.on_change = lambda command: None
                do()

        self.watching.on_change = change

    def test_submits_another_when_one_is_sent(self) -> None:
        for window in (1, 2, 5):
            _, link = self.connect(window)
            first, second = f"{window}a", f"{window}b"
            self.once(first, SENT, partial(self.submit, second))
            self.submit(first)
            self.reply(first, SUCCEEDED)
            self.assertEqual(link.sent, [first, second])
            self.reply(second, SUCCEEDED)
        self.assertEqual((self.commands.open, self.faults), (0, []))

    def test_submits_another_when_one_ends(self) -> None:
        for status in (QUEUED, SUCCEEDED, FAILED, TIMED_OUT):
            _, link = self.connect()
            self.once(status + "1", status, partial(self.submit, status + "2"))
            self.submit(status + "1")
            if status == TIMED_OUT:
                self.advance(link.answer_timeout)
            else:
                self.reply(status + "1", SUCCEEDED if status == QUEUED else status)
            self.assertEqual(link.sent, [status + "1", status + "2"])
            self.reply(status + "2", SUCCEEDED)

    def test_submits_another_when_one_expires(self) -> None:
        self.once("a", EXPIRED, lambda: self.submit("b"))
        self.submit("a", expires=1.0)
        self.advance(1.0)
        _, link = self.connect()
        self.assertEqual(link.sent, ["b"])

    def test_removes_the_device_when_one_is_sent(self) -> None:
        _, link = self.connect()
        self.once("a", SENT, lambda: self.commands.cancel_device("d", "removed"))
        command = self.submit("a")
        self.assertEqual((command.status, link.sent, self.commands.open), (FAILED, [], 0))

    def test_cancels_one_while_all_are_ended(self) -> None:
        for name in "abc":
            self.submit(name)
        self.once("a", CANCELLED, lambda: self.commands.cancel("c"))
        self.commands.cancel_device("d", "removed")
        self.assertEqual([self.watching.of(name) for name in "abc"], [[QUEUED, CANCELLED]] * 3)
        self.assertEqual(self.commands.counters.ended, {CANCELLED: 3})

    def test_the_link_goes_while_the_queue_is_sent(self) -> None:
        for name in "abc":
            self.submit(name)
        live, link = self.connect(window=5, ready=False)

        def lose(command: Command) -> None:
            self.devices.detach(live, link, "connection_lost")

        link.on_send = lose
        self.commands.ready(live)
        self.assertEqual((link.sent, self.commands.queued("d")), (["a"], 2))
