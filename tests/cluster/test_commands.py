"""Commands across processes, one process seen from within: its backplane and its storage are of this test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from broker.cluster.commands import LOOKED_UP, OPEN, SILENCE, CommandsAcross
from broker.cluster.events import RouterAcross
from broker.cluster.packing import pack_command
from broker.model.cluster import Taken
from broker.model.errors import Unavailable
from broker.model.messages import CANCELLED, QUEUED, SENT, SUCCEEDED, Command
from tests.routing.fakes import CommandsCase, FakeJournal, Watching, make_command


class Plane:
    """A backplane of which the test is the other side."""

    node = "here.1"

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[str, bytes], Any]] = {}
        self.hearers: dict[str, Callable[[str, bytes], object]] = {}
        #: device -> who has it and the note kept with it
        self.entries: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.casts: list[tuple[str, str | None]] = []
        self.reply: Deferred[bytes] | None = None
        #: What waits until the test says that the directory answers.
        self.takes: list[Callable[[], None]] | None = None
        self.told: dict[str, Any] = {}

    def answer(self, kind: str, call: Callable[[str, bytes], Any]) -> None:
        self.answers[kind] = call

    def hear(self, kind: str, call: Callable[[str, bytes], object]) -> None:
        self.hearers[kind] = call

    def watch(self, **told: Any) -> None:
        self.told.update(told)

    def tell(self, kind: str, body: bytes) -> None:
        """Nobody else is told."""

    def cast(self, kind: str, body: bytes, node: str | None = None) -> None:
        self.casts.append((kind, node))

    def ask(self, node: str, kind: str, body: bytes, patience: float = 15.0) -> Deferred[bytes]:
        self.asked.append((node, kind))
        return succeed(b"") if self.reply is None else self.reply

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        taken: Deferred[Taken] = Deferred()

        def answered() -> None:
            node, kept = self.entries.get(key, ("", ""))
            if node and node not in (self.node, "gone"):
                taken.callback(Taken(False, node, kept))
            else:
                self.entries[key] = (self.node, "")
                taken.callback(Taken(True, "" if node == self.node else node, kept))

        if self.takes is None:
            answered()
        else:
            self.takes.append(answered)
        return taken

    def leave(self, space: str, key: str, note: str = "") -> None:
        def left() -> None:
            self.entries.pop(key, None)

        if self.takes is None:
            left()
        else:
            self.takes.append(left)

    def find(self, space: str, key: str) -> Deferred[Taken]:
        return succeed(Taken(False, *self.entries.get(key, ("", ""))))


class Shelf:
    """Of the storage what commands across processes ask. ``trouble`` is what it fails with."""

    def __init__(self, journal: FakeJournal) -> None:
        self._journal = journal
        self.trouble: Exception | None = None
        self.read: list[str] = []

    def _answer(self, value: Any) -> Deferred[Any]:
        return succeed(copy.deepcopy(value)) if self.trouble is None else fail(self.trouble)

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        self.read.append(command_id)
        return self._answer(self._journal.stored.get(command_id))

    def open_commands(self) -> Deferred[list[Command]]:
        return self._answer(list(self._journal.open_commands()))

    def list_commands(self, device_id: str, limit: int, cursor: str | None) -> Deferred[tuple[list[Command], None]]:
        found = [command for command in self._journal.stored.values() if command.device == device_id]
        return self._answer((found[::-1], None))

    def get_device(self, device_id: str) -> Deferred[None]:
        return self._answer(None)


class Far(Watching):
    """A consumer that hears of other processes' devices."""

    def interests(self) -> set[str]:
        return {"*"}


class AcrossCase(CommandsCase):
    def start(self) -> None:
        super().start()
        self.plane = Plane()
        self.shelf = Shelf(self.journal)
        self.time = Clock()
        plane: Any = self.plane
        self.across = CommandsAcross(
            plane, self.commands, self.devices, self.router, self.shelf, self.time, lambda live: succeed(None)
        )
        self.across.begin()


class SubmittedHereTests(AcrossCase):
    """Driven by another process."""

    def setUp(self) -> None:
        super().setUp()
        self.far = Far()
        self.router.listen(self.far)
        self.plane.entries["d"] = ("there.1", "")
        self.command = self.submit("a")
        self.kept = make_command("a")
        self.journal.stored["a"] = self.kept

    def there(self, status: str) -> None:
        """What storage has of it since."""
        self.now += 1
        self.kept.status, self.kept.updated_at = status, self.now

    def test_it_is_taken_there(self) -> None:
        self.assertIsNone(self.error_of("a"))
        self.assertEqual(self.plane.asked, [("there.1", "cmd.submit")])
        self.assertIsNone(self.commands.get("a"))

    def test_its_states_are_heard(self) -> None:
        ended: list[str] = []
        self.commands.wait("a", lambda command: ended.append(command.status))
        for status in (SENT, SUCCEEDED):
            self.there(status)
            self.plane.hearers["cmd.state"]("there.1", pack_command(self.kept))
            self.assertEqual(self.command.status, status)
        self.assertEqual((ended, self.far.of("a")), ([SUCCEEDED], [SENT, SUCCEEDED]))

    def test_what_is_not_heard_is_looked_up(self) -> None:
        """The process that drives it died, or a word of it was lost."""
        ended: list[str] = []
        self.commands.wait("a", lambda command: ended.append(command.status))
        self.there(SUCCEEDED)
        self.time.advance(SILENCE - 0.1)
        self.across.look()
        self.assertEqual((self.shelf.read, ended), ([], []))
        self.time.advance(0.2)
        self.across.look()
        self.assertEqual((self.shelf.read, ended, self.far.of("a")), (["a"], [SUCCEEDED], [SUCCEEDED]))
        self.time.advance(2 * SILENCE)
        self.across.look()
        self.assertEqual(self.shelf.read, ["a"])

    def test_what_storage_knows_later_is_no_step_back(self) -> None:
        heard = copy.deepcopy(self.kept)
        heard.status, heard.updated_at = SENT, self.now + 5
        self.plane.hearers["cmd.state"]("there.1", pack_command(heard))
        self.time.advance(SILENCE)
        self.across.look()
        self.assertEqual((self.shelf.read, self.command.status, self.far.of("a")), (["a"], SENT, [SENT]))

    def test_storage_that_is_away_is_asked_again(self) -> None:
        self.there(CANCELLED)
        self.shelf.trouble = Unavailable("away")
        self.time.advance(SILENCE)
        self.across.look()
        self.assertEqual(self.command.status, QUEUED)
        self.shelf.trouble = None
        self.across.look()  # not at once
        self.assertEqual(self.shelf.read, ["a"])
        self.time.advance(SILENCE)
        self.across.look()
        self.assertEqual(self.command.status, CANCELLED)

    def test_one_whose_device_was_removed_is_forgotten(self) -> None:
        del self.journal.stored["a"]
        for _ in range(3):
            self.time.advance(SILENCE)
            self.across.look()
        self.assertEqual(self.shelf.read, ["a"])

    def test_some_at_a_time(self) -> None:
        self.commands.max_queued = LOOKED_UP
        for number in range(LOOKED_UP):
            self.submit(f"a{number}")
            self.journal.stored[f"a{number}"] = make_command(f"a{number}")
        self.time.advance(SILENCE)
        self.across.look()
        self.assertEqual(len(self.shelf.read), LOOKED_UP)
        self.across.look()
        self.assertEqual(len(set(self.shelf.read)), LOOKED_UP + 1)


class DrivenHereTests(AcrossCase):
    """Submitted to another process."""

    def ask(self, command: Command) -> Any:
        found: list[Any] = []
        self.plane.answers["cmd.submit"]("there.1", pack_command(command)).addBoth(found.append)
        return found

    def own(self) -> None:
        self.submit("first")
        self.assertEqual(self.across.owned, {"d"})

    def test_asked_twice_it_is_taken_once(self) -> None:
        self.own()
        for _ in range(2):
            self.assertEqual(self.ask(make_command("a")), [b""])
        self.assertEqual(self.commands.queued("d"), 2)

    def test_asked_twice_before_it_is_written(self) -> None:
        """The second question must not be answered with yes while the first may still fail."""
        self.own()
        self.journal.held = True
        first, second = self.ask(make_command("a")), self.ask(make_command("a"))
        self.assertEqual(first, [])
        (answer,) = second
        answer.trap(Unavailable)
        self.journal.go_on()
        self.assertEqual((first, self.ask(make_command("a"))), ([b""], [b""]))

    def test_the_submitter_alone_is_told_by_us(self) -> None:
        """Others that listen hear of it as of anything; who submitted it would hear of it twice."""
        plane: Any = self.plane
        router = RouterAcross(plane, self.router, lambda device: succeed([]))
        router.submitter = self.across.submitter
        router.begin([])
        for node in ("there.1", "third.1"):
            self.plane.hearers["wish"](node, b"\x91\xa1*")
        self.own()
        self.plane.casts.clear()
        self.ask(make_command("a"))
        self.assertEqual(sorted(self.plane.casts), [("cmd.state", "there.1"), ("router.command", "third.1")])


class FencedTests(AcrossCase):
    def test_what_could_not_be_written_is_not_written_later(self) -> None:
        """Others have the command by then."""
        _, link = self.connect()
        self.submit("a")
        self.assertEqual(link.sent, ["a"])
        self.journal.held = True
        self.reply("a", SUCCEEDED)
        self.plane.told["fenced"]()
        self.journal.failure = Unavailable("another process has taken over")
        self.journal.go_on()
        self.journal.failure, self.journal.held = None, False
        self.commands.tick()
        self.assertEqual(self.journal.stored["a"].status, SENT)


class SweepTests(AcrossCase):
    """Open commands that no living process drives."""

    def test_they_are_taken_up(self) -> None:
        self.journal.stored["a"] = make_command("a")
        self.successResultOf(Deferred.fromCoroutine(self.across.sweep()))
        self.assertEqual((self.across.owned, self.commands.queued("d")), ({"d"}, 1))

    def test_those_of_others_are_not(self) -> None:
        self.journal.stored["a"] = make_command("a")
        self.plane.entries["d"] = ("there.1", "")
        self.successResultOf(Deferred.fromCoroutine(self.across.sweep()))
        self.assertEqual((self.across.owned, self.commands.open), (set(), 0))

    def test_what_was_done_while_the_directory_was_asked(self) -> None:
        """Another process sent the command and let the device go: what storage had of it before is old."""
        self.journal.stored["a"] = make_command("a")
        self.plane.takes = []
        sweeping = Deferred.fromCoroutine(self.across.sweep())
        self.journal.stored["a"] = make_command("a", status=SUCCEEDED)
        self.plane.takes.pop()()
        self.successResultOf(sweeping)
        _, link = self.connect()
        self.assertEqual((link.sent, self.commands.open), ([], 0))

    def test_let_go_while_it_is_taken_again(self) -> None:
        """The link has gone before the device was ours, and a command waits to have it: what is given back behind that
        would be another's as well."""
        self.plane.takes = []
        live, link = self.connect()
        self.submit("a")
        self.devices.detach(live, link, "connection_lost")
        while self.plane.takes:
            self.plane.takes.pop(0)()
        self.assertIsNone(self.error_of("a"))
        self.assertEqual((self.across.owned, set(self.plane.entries)), ({"d"}, {"d"}))

    def test_a_link_and_a_sweep_at_once(self) -> None:
        """Both take the device; what is open of it is sent once."""
        self.journal.stored["a"] = make_command("a")
        self.plane.entries["d"] = ("gone", OPEN)
        self.plane.takes = []
        sweeping = Deferred.fromCoroutine(self.across.sweep())
        _, link = self.connect()
        while self.plane.takes:
            self.plane.takes.pop(0)()
        self.successResultOf(sweeping)
        self.assertEqual((link.sent, self.across.owned), (["a"], {"d"}))
