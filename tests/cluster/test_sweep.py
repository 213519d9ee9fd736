"""What an heir takes up of the open commands of one that is gone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from broker.cluster.commands import CommandsAcross
from broker.model.cluster import Taken
from broker.model.messages import QUEUED, SUCCEEDED, Command


def command(id: str, device: str, status: str = QUEUED) -> Command:
    made = Command(id, device, "novacloud", {}, "admin", 0.0, 1e9, 30.0)
    made.status = status
    return made


class Plane:
    """A directory that answers when it is told to."""

    node = "us.2"

    def __init__(self) -> None:
        self.asked: dict[str, Deferred[Taken]] = {}

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        self.asked[key] = Deferred()
        return self.asked[key]


class Storage:
    def __init__(self, *commands: Command) -> None:
        self.commands = {one.id: one for one in commands}

    def open_commands(self) -> Deferred[list[Command]]:
        return succeed([one for one in self.commands.values() if not one.final])

    def list_commands(self, device: str, limit: int, cursor: str | None) -> Deferred[Any]:
        return succeed(([one for one in self.commands.values() if one.device == device], None))


class Journal:
    """`broker.routing.commands.Commands`, as far as it is asked to take something up."""

    def __init__(self) -> None:
        self.on_adopted: list[Any] = []
        self.adopted: list[str] = []

    def adopt(self, device: str, commands: list[Command]) -> None:
        self.adopted += [one.id for one in commands]


class SweepTests(TestCase):
    def setUp(self) -> None:
        self.plane, self.journal = Plane(), Journal()

    def across(self, storage: Storage) -> CommandsAcross:
        parts: Any = (self.plane, self.journal, None, None, storage, None, None)
        return CommandsAcross(*parts)

    def test_what_was_done_before_the_device_is_ours(self) -> None:
        """Whoever had the device has carried one of its commands out and let the device go meanwhile."""
        storage = Storage(command("first", "d"), command("second", "d"))
        across = self.across(storage)
        sweeping = Deferred.fromCoroutine(across.sweep())
        self.assertNoResult(sweeping)
        storage.commands["first"] = command("first", "d", SUCCEEDED)
        self.plane.asked["d"].callback(Taken(True, "other.1", ""))
        self.successResultOf(sweeping)
        self.assertEqual(self.journal.adopted, ["second"])
        self.assertEqual(across.owned, {"d"})

    def test_what_the_directory_knows_nothing_of(self) -> None:
        across = self.across(Storage(command("first", "d")))
        sweeping = Deferred.fromCoroutine(across.sweep())
        self.plane.asked["d"].callback(Taken(True, "", ""))
        self.successResultOf(sweeping)
        self.assertEqual(self.journal.adopted, ["first"])

    def test_what_is_anothers(self) -> None:
        across = self.across(Storage(command("first", "d"), command("second", "e")))
        sweeping = Deferred.fromCoroutine(across.sweep())
        self.plane.asked["d"].callback(Taken(False, "other.1", ""))
        self.plane.asked["e"].callback(Taken(True, "gone.1", ""))
        self.successResultOf(sweeping)
        self.assertEqual(self.journal.adopted, ["second"])
        self.assertEqual(across.owned, {"e"})

    def test_a_device_that_is_claimed_at_the_same_time_is_taken_up_once(self) -> None:
        across = self.across(Storage(command("first", "d")))
        claiming = Deferred.fromCoroutine(across._own("d"))
        sweeping = Deferred.fromCoroutine(across.sweep())
        self.plane.asked.pop("d").callback(Taken(True, "gone.1", ""))
        self.successResultOf(claiming)
        self.plane.asked["d"].callback(Taken(True, "us.2", ""))
        self.successResultOf(sweeping)
        self.assertEqual(self.journal.adopted, ["first"])
