"""Where there are other processes, what goes out is on disk as sent before it does: an heir must not send it again."""

from __future__ import annotations

from broker.model.errors import Unavailable
from broker.model.messages import EXPIRED, QUEUED, SENT, SUCCEEDED, TIMED_OUT, Command, Reply
from broker.routing.command_journal import Done
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice
from tests.routing.fakes import CommandsCase


class Several:
    """Other processes, which have nothing to do with our devices."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def submit(self, command: Command, done: Done) -> None:
        self._commands.submit_here(command, done)

    def ready(self, live: LiveDevice) -> bool:
        return True

    def drives(self, device: str) -> bool:
        return True

    def reply(self, device: str, reply: Reply, pending_for: float | None) -> bool:
        return False


class NotedTests(CommandsCase):
    def start(self) -> None:
        super().start()
        self.commands.across = Several(self.commands)

    def refuse(self) -> None:
        """Storage takes nothing."""
        self.journal.failure = Unavailable("Redis is full")
        self.journal.go_on()

    def allow(self) -> None:
        self.journal.failure = None

    def test_not_sent_before_it_is_noted(self) -> None:
        _, link = self.connect()
        self.journal.held = True
        command = self.submit("a")
        self.journal.go_on(1)
        self.assertEqual((link.sent, self.watching.of("a")), ([], [QUEUED]))
        self.assertFalse(self.commands.settled("d"))
        self.journal.go_on()
        self.assertEqual((link.sent, self.watching.of("a"), command.status), (["a"], [QUEUED, SENT], SENT))
        self.assertEqual(self.journal.stored["a"].status, SENT)
        self.assertTrue(self.commands.settled("d"))

    def test_a_journal_that_answers_at_once(self) -> None:
        _, link = self.connect(window=2)
        for name in "abc":
            self.submit(name)
        self.assertEqual(link.sent, ["a", "b"])
        self.reply("a", SUCCEEDED)
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_one_after_the_other(self) -> None:
        """None overtakes one that is being noted, however many fit on the link."""
        for name in "abc":
            self.submit(name)
        self.journal.held = True
        _, link = self.connect(window=3)
        for _ in range(3):
            self.assertEqual(len(self.journal.waiting), 1)
            self.journal.go_on()
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_what_could_not_be_noted_waits_in_its_place(self) -> None:
        for name in "ab":
            self.submit(name)
        self.journal.held = True
        _, link = self.connect(window=2)
        self.refuse()
        self.assertEqual((link.sent, [one.id for one in self.commands.waiting("d")]), ([], ["a", "b"]))
        self.assertEqual(self.watching.of("a"), [QUEUED])
        self.advance(0.25)
        self.refuse()
        self.assertEqual(link.sent, [])
        self.allow()
        self.advance(0.25)
        for _ in range(3):
            self.journal.go_on()
        self.assertEqual(link.sent, ["a", "b"])

    def test_a_journal_that_refuses_at_once(self) -> None:
        """It is asked once a tick, and not for ever."""
        for name in "ab":
            self.submit(name)
        self.journal.failure = Unavailable("no connection to Redis")
        _, link = self.connect(window=2)
        self.submit("c")  # it is not kept either
        asked = self.journal.calls.count((SENT, "a"))
        self.assertEqual((asked, link.sent), (1, []))
        self.advance(0.25)
        self.assertEqual(self.journal.calls.count((SENT, "a")), 2)
        self.allow()
        self.advance(0.25)
        self.assertEqual(link.sent, ["a", "b"])

    def test_it_expires_as_if_it_had_never_been_taken(self) -> None:
        command = self.submit("a", expires=10.0)
        self.journal.held = True
        _, link = self.connect()
        self.refuse()
        self.journal.held = False
        self.advance(10.0)
        self.assertEqual((command.status, link.sent, self.watching.of("a")), (EXPIRED, [], [QUEUED, EXPIRED]))

    def test_the_link_has_gone_meanwhile(self) -> None:
        self.submit("a")
        self.journal.held = True
        live, first = self.connect()
        self.devices.detach(live, first, "connection_lost")
        self.journal.go_on()
        self.assertEqual((first.sent, self.commands.queued("d")), ([], 1))
        self.journal.go_on()
        self.assertEqual(self.journal.stored["a"].status, QUEUED)
        _, second = self.connect()
        self.journal.go_on()
        self.assertEqual((first.sent, second.sent), ([], ["a"]))

    def test_another_link_has_come_meanwhile(self) -> None:
        self.submit("a")
        self.journal.held = True
        _, first = self.connect()
        _, second = self.connect()
        for _ in range(3):
            self.journal.go_on()
        self.assertEqual((first.sent, second.sent, self.watching.of("a")), ([], ["a"], [QUEUED, SENT]))

    def test_its_time_is_over_before_it_is_noted(self) -> None:
        command = self.submit("a", timeout=5.0)
        self.submit("b")
        self.journal.held = True
        _, link = self.connect()
        self.advance(5.0)
        self.assertEqual(command.status, TIMED_OUT)
        for _ in range(3):
            self.journal.go_on()
        self.assertEqual(link.sent, ["b"])

    def test_another_process_takes_over_meanwhile(self) -> None:
        self.submit("a")
        self.journal.held = True
        _, link = self.connect()
        self.commands.give_up_all()
        self.journal.go_on()
        self.assertEqual((link.sent, self.watching.of("a")), ([], [QUEUED]))

    def test_an_heir_does_not_send_it_again(self) -> None:
        self.connect()
        self.submit("a")
        self.start()
        self.commands.adopt("d", list(self.journal.open_commands()))
        _, link = self.connect()
        self.assertEqual(link.sent, [])
        self.reply("a", SUCCEEDED)
        self.assertEqual(self.journal.stored["a"].status, SUCCEEDED)
