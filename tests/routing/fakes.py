"""Stand-ins for what the life cycle of commands works with: a device's link, a journal, a consumer."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from broker.model.interfaces import IConsumer, IDeviceLink
from broker.model.messages import QUEUED, Command, DeviceRef, Presence, Reply, Uplink
from broker.routing.command_journal import Done
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues


@implementer(IDeviceLink)
class FakeLink:
    """A device's connection that keeps what it is told. ``on_send`` runs with each command; it may raise."""

    protocol = "fake"
    answer_timeout = 30.0
    pending_timeout = 300.0

    def __init__(self, window: int = 1) -> None:
        self.window = window
        self.sent: list[str] = []
        self.closed: list[str] = []
        self.on_send: Callable[[Command], None] = lambda command: None
        self.on_close: Callable[[], None] = lambda: None

    def send_command(self, command: Command) -> None:
        self.sent.append(command.id)
        self.on_send(command)

    def close_link(self, reason: str) -> None:
        self.closed.append(reason)
        self.on_close()


class FakeJournal:
    """A journal in memory. It answers at once, or when told to (``held``); ``failure`` is what it fails with."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.held = False
        self.stored: dict[str, Command] = {}
        self.calls: list[tuple[str, str]] = []
        self.waiting: list[Callable[[], None]] = []

    def add_command(self, command: Command, done: Done) -> None:
        self._write("add", command, done)

    def save_command(self, command: Command, done: Done) -> None:
        self._write(command.status, command, done)

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        self.calls.append(("find", command_id))

        def look() -> None:
            done(copy.deepcopy(self.stored.get(command_id)) if self.failure is None else None)

        self._answer(look)

    def go_on(self, count: int | None = None) -> None:
        """Answer the oldest ``count`` calls that wait, or all."""
        count = len(self.waiting) if count is None else count
        answers, self.waiting[:count] = self.waiting[:count], []
        for answer in answers:
            answer()

    def open_commands(self) -> Iterable[Command]:
        """What a restart would read."""
        return [copy.deepcopy(command) for command in self.stored.values() if not command.final]

    def _write(self, what: str, command: Command, done: Done) -> None:
        self.calls.append((what, command.id))
        kept = copy.deepcopy(command)

        def write() -> None:
            error = self.failure
            if error is None:
                self.stored[kept.id] = kept
            done(error)

        self._answer(write)

    def _answer(self, call: Callable[[], None]) -> None:
        if self.held:
            self.waiting.append(call)
        else:
            call()


@implementer(IConsumer)
class Watching:
    """Keeps (id, status) of every change. ``on_change`` runs with each."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.on_change: Callable[[Command], None] = lambda command: None

    def uplink(self, message: Uplink) -> None:
        raise AssertionError(message)

    def presence(self, change: Presence) -> None:
        """Not of interest here."""

    def command(self, change: Command) -> None:
        self.changes.append((change.id, change.status))
        self.on_change(change)

    def of(self, command_id: str) -> list[str]:
        """The states that one command went through, as they were told."""
        return [status for known, status in self.changes if known == command_id]


def make_command(
    id: str,
    device: str = "d",
    *,
    now: float = 1000.0,
    expires: float = 3600.0,
    timeout: float | None = None,
    status: str = QUEUED,
) -> Command:
    command = Command(id, device, "fake", {"on": True}, "admin", now, now + expires, timeout)
    command.status = status
    return command


class CommandsCase(SynchronousTestCase):
    """A life cycle with a fake journal, a clock of its own and one device ``d`` that is away."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.faults: list[tuple[str, str]] = []
        self.journal = FakeJournal()
        self.watching = Watching()
        self.answers: list[tuple[str, Exception | None]] = []
        self.start()

    def start(self) -> None:
        """A new life over the same journal; the old one is forgotten."""
        self.router = Router(lambda what, error: self.faults.append((what, str(error))))
        self.router.listen(self.watching)
        self.devices = LiveDevices(self.router, lambda: self.now)
        self.commands = Commands(self.journal, self.devices, self.router, lambda: self.now, max_queued=5, max_open=8)

    def connect(self, window: int = 1, device: str = "d", *, ready: bool = True) -> tuple[LiveDevice, FakeLink]:
        link = FakeLink(window)
        live = self.devices.attach(DeviceRef("fake", device), link, lambda: (LastValues(), {}))
        if ready:
            self.commands.ready(live)
        return live, link

    def submit(self, id: str, device: str = "d", *, expires: float = 3600.0, timeout: float | None = None) -> Command:
        command = make_command(id, device, now=self.now, expires=expires, timeout=timeout)
        self.commands.submit(command, lambda error: self.answers.append((id, error)))
        return command

    def reply(self, id: str, status: str, payload: Any = None, device: str = "d") -> bool:
        return self.commands.reply(device, Reply(id, status, payload, self.now))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.commands.tick()

    def error_of(self, id: str) -> Exception | None:
        """What the submitter of ``id`` was answered, which must have happened once."""
        (error,) = [error for known, error in self.answers if known == id]
        return error
