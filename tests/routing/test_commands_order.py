"""What leaves when: a command after another one, and what is pending beside the window."""

from broker.model.messages import CANCELLED, FAILED, PENDING, QUEUED, SENT, SUCCEEDED, TIMED_OUT, Command, Reply
from tests.routing.fakes import CommandsCase, make_command


class AfterTests(CommandsCase):
    def after(self, id: str, other: str) -> Command:
        command = make_command(id, now=self.now)
        command.options["after"] = other
        self.commands.submit(command, self.assertIsNone)
        return command

    def test_it_waits_for_the_end_of_the_other(self) -> None:
        for end in (SUCCEEDED, FAILED):
            _, link = self.connect(window=5)
            self.submit(f"first {end}")
            second = self.after(f"second {end}", f"first {end}")
            third = self.submit(f"third {end}")
            self.reply(f"first {end}", PENDING)
            self.assertEqual((link.sent, second.status, third.status), ([f"first {end}"], QUEUED, QUEUED))
            self.reply(f"first {end}", end)
            self.assertEqual(link.sent, [f"{name} {end}" for name in ("first", "second", "third")])

    def test_the_other_times_out(self) -> None:
        _, link = self.connect(window=5)
        self.submit("first")
        second = self.after("second", "first")
        self.advance(link.answer_timeout)
        self.assertEqual((link.sent, second.status), (["first", "second"], SENT))

    def test_the_other_is_taken_back(self) -> None:
        first = self.submit("first")
        second = self.after("second", "first")
        self.commands.cancel("first")
        _, link = self.connect()
        self.assertEqual((first.status, second.status, link.sent), (CANCELLED, SENT, ["second"]))

    def test_the_other_is_unknown_or_over(self) -> None:
        _, link = self.connect()
        self.after("alone", "nobody")
        self.assertEqual(link.sent, ["alone"])

    def test_after_a_restart(self) -> None:
        self.connect(window=5)
        self.submit("first")
        self.reply("first", PENDING)
        self.after("second", "first")
        self.start()
        self.commands.restore(self.journal.open_commands())
        _, link = self.connect(window=5)
        self.assertEqual(link.sent, [])
        self.reply("first", SUCCEEDED)
        self.assertEqual(link.sent, ["second"])


class PendingTests(CommandsCase):
    def test_it_keeps_its_place_in_the_window(self) -> None:
        _, link = self.connect()
        self.submit("a")
        self.submit("b")
        self.reply("a", PENDING)
        self.assertEqual(link.sent, ["a"])

    def test_unless_the_link_says_otherwise(self) -> None:
        _, link = self.connect()
        link.pending_in_window = False  # type: ignore[attr-defined]  # it is optional
        for name in ("a", "b", "c"):
            self.submit(name)
        self.reply("a", PENDING)
        self.assertEqual(link.sent, ["a", "b"])
        self.reply("a", PENDING)
        self.reply("a", SUCCEEDED)
        self.assertEqual(link.sent, ["a", "b"])
        self.reply("b", SUCCEEDED)
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_a_time_of_its_own(self) -> None:
        self.connect()
        command = self.submit("a")
        self.commands.reply("d", Reply("a", PENDING, None, self.now), 1_800.0)
        self.assertEqual(command.deadline, self.now + 1_800)
        self.advance(1_799)
        self.assertEqual(command.status, PENDING)
        self.advance(1)
        self.assertEqual(command.status, TIMED_OUT)

    def test_what_is_unanswered(self) -> None:
        self.connect(window=2)
        commands = [self.submit(name) for name in ("a", "b", "c")]
        self.reply("a", PENDING)
        self.assertEqual(self.commands.unanswered("d"), commands[:2])
        self.assertEqual(self.commands.unanswered("e"), [])
