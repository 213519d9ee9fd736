"""One process drives a device's commands, and each command is sent once: what is asked for at once takes its turn."""

from __future__ import annotations

import copy
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from broker.cluster.commands import CommandsAcross
from broker.model.cluster import Taken
from broker.model.errors import Unavailable
from broker.model.messages import SENT
from tests.routing.fakes import CommandsCase, make_command


class Plane:
    """A backplane whose directory answers when the test wants it."""

    def __init__(self) -> None:
        self.node = "a.1"
        self.asked: list[Deferred[Taken]] = []
        self.left: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}
        self.questions: list[tuple[str, str]] = []

    def answer(self, kind: str, call: Any) -> None:
        self.answers[kind] = call

    def hear(self, kind: str, call: Any) -> None:
        """Nobody says anything."""

    def watch(self, **calls: Any) -> None:
        self.calls = calls

    def take(self, space: str, key: str) -> Deferred[Taken]:
        answer: Deferred[Taken] = Deferred()
        self.asked.append(answer)
        return answer

    def leave(self, space: str, key: str, note: str = "") -> None:
        self.left.append((key, note))

    def ask(self, node: str, kind: str, body: bytes, patience: float = 15.0) -> Deferred[bytes]:
        self.questions.append((node, kind))
        return fail(Unavailable("no answer"))

    def find(self, space: str, key: str) -> Deferred[Taken]:
        return succeed(Taken(False, "", ""))


class Storage:
    """Pages of commands come when the test wants it, as they are then."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.sessions = self
        self.uncertain = False
        self.asked: list[Deferred[Any]] = []

    def list_commands(self, device_id: str, limit: int, cursor: str | None) -> Deferred[Any]:
        page: Deferred[Any] = Deferred()
        self.asked.append(page)
        return page

    def answer(self) -> None:
        self.asked.pop(0).callback((self._journal.open_commands()[::-1], None))

    def open_commands(self) -> Deferred[Any]:
        return succeed(self._journal.open_commands())

    def get_device(self, device_id: str) -> Deferred[None]:
        return succeed(None)

    def get_command(self, command_id: str) -> Deferred[Any]:
        return succeed(copy.deepcopy(self._journal.stored.get(command_id)))


class AcrossTests(CommandsCase):
    def setUp(self) -> None:
        super().setUp()
        self.plane = Plane()
        self.storage = Storage(self.journal)
        self.clock = Clock()
        plane: Any = self.plane
        self.across = CommandsAcross(
            plane, self.commands, self.devices, self.router, self.storage, self.clock, lambda live: succeed(None)
        )
        self.across.begin()
        self.journal.stored["old"] = make_command("old")
        self.journal.stored["older"] = make_command("older", status=SENT)

    def had_by(self, node: str) -> None:
        """The directory gives us the device, which that node had."""
        self.plane.asked.pop(0).callback(Taken(True, node, ""))

    def release(self) -> Deferred[bytes]:
        answer: Deferred[bytes] = self.plane.answers["dev.release"]("b.2", b"d")
        return answer

    def test_two_that_ask_at_once_take_it_up_once(self) -> None:
        """A link that comes and a command that is submitted: with two looks at storage "old" would be sent twice."""
        _, link = self.connect()
        self.submit("new")
        self.assertEqual(len(self.plane.asked), 1, "the second waits for the first")
        self.had_by("dead.1")
        self.storage.answer()
        self.assertEqual(link.sent, ["old"])
        self.had_by("a.1")
        self.assertEqual(self.storage.asked, [])
        self.reply("old", "succeeded")
        self.assertEqual(link.sent, ["old", "new"])

    def test_a_sweep_takes_up_what_is_open_when_it_has_the_device(self) -> None:
        """Not what was open when it looked for devices: the one that had it has sent it meanwhile."""
        sweeping = Deferred.fromCoroutine(self.across.sweep())
        self.journal.stored["old"].status = SENT
        self.had_by("")
        self.storage.answer()
        self.assertIsNone(self.successResultOf(sweeping))
        _, link = self.connect()
        self.assertEqual((link.sent, self.across.owned), ([], {"d"}))

    def test_a_sweep_beside_a_link(self) -> None:
        _, link = self.connect()
        sweeping = Deferred.fromCoroutine(self.across.sweep())
        self.assertEqual(len(self.plane.asked), 1)
        self.had_by("dead.1")
        self.storage.answer()
        self.assertEqual(link.sent, ["old"])
        if self.plane.asked:
            self.had_by("a.1")
        self.assertIsNone(self.successResultOf(sweeping))
        self.assertEqual((link.sent, self.storage.asked), (["old"], []))

    def test_it_is_not_given_while_it_is_taken(self) -> None:
        self.connect()
        self.failureResultOf(self.release(), Unavailable)
        self.had_by("dead.1")
        self.failureResultOf(self.release(), Unavailable)
        self.storage.answer()
        self.assertEqual(self.plane.left, [])
        self.assertEqual(self.successResultOf(self.release()), b"")
        self.assertEqual((self.plane.left, self.across.owned), ([("d", "open")], set()))

    def test_it_is_not_given_while_a_commit_is_uncertain(self) -> None:
        self.connect()
        self.had_by("dead.1")
        self.storage.answer()
        self.storage.uncertain = True
        self.failureResultOf(self.release(), Unavailable)
        self.storage.uncertain = False
        self.assertEqual(self.successResultOf(self.release()), b"")

    def test_who_was_fenced_while_he_took_it_has_not_got_it(self) -> None:
        self.submit("new")
        self.had_by("dead.1")
        self.plane.node = "a.7"
        self.storage.answer()
        self.assertIsInstance(self.error_of("new"), Unavailable)
        self.assertEqual((self.across.owned, self.commands.open), (set(), 0))

    def test_one_that_was_kept_by_another_who_died_before_he_said_so(self) -> None:
        """It is as good as taken, and goes on."""
        self.submit("new")
        self.plane.asked.pop(0).callback(Taken(False, "b.2", ""))
        self.assertEqual(self.plane.questions, [("b.2", "cmd.submit")])
        self.journal.stored["new"] = make_command("new")
        self.clock.advance(1.0)
        self.had_by("b.2")
        self.storage.answer()
        self.assertIsNone(self.error_of("new"))
        _, link = self.connect(window=9)
        self.assertEqual(link.sent, ["old", "new"])

    def test_who_asks_again_for_what_was_given_still_hears_that_something_is_open(self) -> None:
        """Redis was away when it was given: that it has nothing now is no sign that nothing is open."""
        self.connect()
        self.had_by("dead.1")
        self.storage.answer()
        self.successResultOf(self.release())
        self.successResultOf(self.release())
        self.assertEqual(self.plane.left, [("d", "open"), ("d", "open")])
