"""Commands across processes: at any time one process drives those of a device.

::

    link attached, or a command submitted ──> directory, space "dev": take
        nobody's                          ──> ours
        of one that is gone, or let go    ──> ours, with what is open of it in storage
        another's   submit ──> asked to take it       link ──> asked to release the device ──> again

The process that has the link drives the commands; without a link, whoever had it last or was given the first command.
Who released a device has written all that it knew of its commands before. What was open where a process died is taken
up by its heir. Every state goes to the process where the command was submitted.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.cluster.packing import pack_command, unpack_command
from broker.cluster.replies import SPACE, RepliesAcross
from broker.model.errors import BrokerError, Conflict, Unavailable
from broker.model.interfaces import IBackplane, IConsumer
from broker.model.messages import Command, Presence, Reply, Uplink
from broker.routing.command_journal import Done
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router

#: The note of a device that has been let go, or whose owner has gone, with commands open.
OPEN: Final = "open"
#: Seconds after which storage, too, knows that a node is gone.
STORAGE_LEASE: Final = 8.0
#: Seconds between two attempts to have a device, and how many before its link is closed.
AGAIN: Final = 0.25
ATTEMPTS: Final = 100
#: Attempts to have another process take a command: between them it may have died, or let the device go.
SUBMISSIONS: Final = 5
#: Commands of a device that are looked at for open ones.
PAGE: Final = 100
#: Seconds without a word of a command that is driven elsewhere, after which it is looked up in storage, and how many
#: are looked up at once: what a process says of a command's states is best effort, and it may die.
SILENCE: Final = 5.0
LOOKED_UP: Final = 50


@implementer(IConsumer)
class CommandsAcross:
    """``storage`` is an `IStorage` that the processes share; ``save_live`` writes what is known of a live device."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(
        self,
        backplane: IBackplane,
        commands: Commands,
        devices: LiveDevices,
        router: Router,
        storage: Any,
        reactor: Any,
        save_live: Any,
    ) -> None:
        self._backplane = backplane
        self._commands = commands
        self._devices = devices
        self._router = router
        self._storage = storage
        self._reactor = reactor
        self._save_live = save_live
        #: Devices whose commands we drive.
        self.owned: set[str] = set()
        self.takeovers = 0
        self.forwarded = 0
        #: Devices that are being taken or given -> who waits to look again: what is open of one is taken up once.
        self._taking: dict[str, list[Deferred[None]]] = {}
        #: Links that wait for that -> whether they are ready for commands.
        self._claiming: dict[str, bool] = {}
        #: What was submitted here and is driven elsewhere, and when it was heard of: longest ago first.
        #: Who submitted elsewhere what is driven here.
        self._away: dict[str, tuple[Command, float]] = {}
        self._submitters: dict[str, str] = {}
        self._replies = RepliesAcross(backplane, commands, self.owned)

    def begin(self) -> None:
        """From now on: before the first link or command."""
        self._commands.across = self
        self._devices.attached.append(self._attached)
        self._router.listen_quietly(self)
        backplane = self._backplane
        self._replies.begin()
        backplane.answer("cmd.submit", self._submitted)
        backplane.answer("cmd.cancel", self._cancelled)
        backplane.answer("dev.release", self._released)
        backplane.hear("cmd.state", self._state)
        backplane.watch(gone=self._gone, fenced=self._fenced, joined=self.sweep)

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit(self, command: Command, done: Done) -> None:
        """See `Commands.submit`."""
        if command.device in self.owned:
            self._commands.submit_here(command, done)
            return
        submitting = Deferred.fromCoroutine(self._submit(command, done))
        submitting.addErrback(self._not_submitted, done)

    def _not_submitted(self, failure: Failure, done: Done) -> None:
        error = failure.value
        if not isinstance(error, BrokerError):
            self.log.failure("fault while a command was submitted", failure)
            error = Unavailable("the broker could not take the command")
        done(error)

    async def _submit(self, command: Command, done: Done) -> None:
        for attempt in range(SUBMISSIONS):
            owner = await self._own(command.device)
            if not owner:
                if attempt and await self._was_kept(command):
                    done(None)
                else:
                    self._commands.submit_here(command, done)
                return
            self._away[command.id] = (command, self._reactor.seconds())
            try:
                await self._backplane.ask(owner, "cmd.submit", pack_command(command))
            except BrokerError as error:
                self._away.pop(command.id, None)
                if not isinstance(error, Unavailable) or attempt == SUBMISSIONS - 1:
                    raise
                await self._pause(AGAIN)
                continue
            self.forwarded += 1
            done(None)
            return

    async def _was_kept(self, command: Command) -> bool:
        """Whether the one that was asked before has kept it, though we never heard of it."""
        found = await self._storage.get_command(command.id)
        if found is None:
            return False
        if self._commands.get(command.id) is None:
            self._commands.adopt(command.device, [found])
        _update(command, found)
        return True

    def _submitted(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._take_for(node, unpack_command(body)))

    async def _take_for(self, node: str, command: Command) -> bytes:
        if command.device not in self.owned:
            raise Unavailable("the device is another process's by now")
        if self._commands.get(command.id) is not None:  # it was asked before, and the answer was lost or is to come
            if await self._storage.get_command(command.id) is None:  # sees, and waits for, what was written before
                raise Unavailable("the command could not be kept")
            return b""
        kept: Deferred[None] = Deferred()
        self._submitters[command.id] = node
        self._commands.submit_here(
            command, lambda error: kept.callback(None) if error is None else kept.errback(Failure(error))
        )
        try:
            await kept
        except BrokerError as error:
            self._submitters.pop(command.id, None)  # also of one that has ended: of that no state is to come
            if not isinstance(error, Conflict):  # else it was asked before, and the answer was lost
                raise
        return b""

    # -- cancelling ------------------------------------------------------------------------------------------------

    def cancel(self, command: Command) -> Deferred[None]:
        """Wherever it is driven. Fails with NotFound, Conflict, Unavailable."""
        return Deferred.fromCoroutine(self._cancel(command))

    async def _cancel(self, command: Command) -> None:
        if self._commands.get(command.id) is None and command.device not in self.owned:
            owner = await self._own(command.device)
            if owner:
                await self._backplane.ask(owner, "cmd.cancel", command.id.encode())
                return
        self._commands.cancel(command.id)

    def _cancelled(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._cancel_here(body.decode()))

    async def _cancel_here(self, command_id: str) -> bytes:
        command = self._commands.cancel(command_id)
        await self._storage.get_command(command.id)  # sees, and waits for, what was written before
        return b""

    # -- whose a device is -----------------------------------------------------------------------------------------

    async def _own(self, device_id: str, sure: bool = False) -> str:
        """Have the device, if it is nobody's; else the node that has it. ``sure``: it has, or had, open commands, also
        where the directory knows nothing of it. They are read after it is ours: another may have sent them meanwhile.
        Raises Unavailable.
        """
        while (taking := self._taking.get(device_id)) is not None:
            before: Deferred[None] = Deferred()
            taking.append(before)
            await before
        self._taking[device_id] = []
        try:
            return await self._take(device_id, sure)
        finally:
            self._taken(device_id)

    def _taken(self, device_id: str) -> None:
        for waiting in self._taking.pop(device_id):
            waiting.callback(None)

    async def _take(self, device_id: str, sure: bool) -> str:
        taken = await self._backplane.take(SPACE, device_id)
        if not taken.mine:
            return str(taken.node)
        if device_id not in self.owned:
            node = self._backplane.node
            if sure or taken.node or taken.note:
                found = await self.open_of(device_id)
                if node != self._backplane.node:
                    raise Unavailable("another process has taken over what this one had")
                self._commands.adopt(device_id, found)
            self._have(device_id)
        return ""

    def _have(self, device_id: str) -> None:
        self.owned.add(device_id)
        for told in self._commands.on_adopted:
            told(device_id)

    async def open_of(self, device_id: str) -> list[Command]:
        """What is open of the device in storage, oldest first."""
        found: list[Command] = []
        cursor = None
        while True:
            commands, cursor = await self._storage.list_commands(device_id, PAGE, cursor)
            found += [command for command in commands if not command.final]
            if cursor is None:
                return found[::-1]

    def ready(self, live: LiveDevice) -> bool:
        """See `Commands.ready`."""
        device_id = live.ref.id
        if device_id in self._claiming:
            self._claiming[device_id] = True
            return False
        return device_id in self.owned

    def drives(self, device: str) -> bool:
        """See `broker.routing.commands.Across`."""
        return device in self.owned

    def reply(self, device: str, reply: Reply, pending_for: float | None) -> bool:
        """See `broker.routing.commands.Across`."""
        return self._replies.pass_on(device, reply, pending_for)

    def _attached(self, live: LiveDevice) -> None:
        device_id = live.ref.id
        if device_id in self._claiming:
            self._claiming[device_id] = False
        elif device_id not in self.owned:
            self._claiming[device_id] = False
            Deferred.fromCoroutine(self._claim(device_id)).addErrback(self._unclaimed, device_id)

    async def _claim(self, device_id: str) -> None:
        for _ in range(ATTEMPTS):
            try:
                owner = await self._own(device_id)
                if owner:
                    await self._backplane.ask(owner, "dev.release", device_id.encode())
                    self.takeovers += 1
                    continue
            except Unavailable:
                await self._pause(AGAIN)
                if self._devices.get(device_id) is None:
                    break
                continue
            ready = self._claiming.pop(device_id)
            live = self._devices.get(device_id)
            if live is None or live.link is None:
                self._let_go_if_idle(device_id)
            elif ready:
                self._commands.ready_here(live)
            return
        self._unclaimed(Failure(Unavailable("the device is another process's")), device_id)

    def _unclaimed(self, failure: Failure, device_id: str) -> None:
        if not failure.check(Unavailable):
            self.log.failure("fault while a device was claimed", failure)
        self._claiming.pop(device_id, None)
        live = self._devices.get(device_id)
        if live is not None and live.link is not None:
            live.link.close_link("unavailable")

    def _pause(self, seconds: float) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, over.callback, None)
        return over

    # -- letting go ------------------------------------------------------------------------------------------------

    def _released(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._release(body.decode()))

    async def _release(self, device_id: str) -> bytes:
        """The device is connected to another process."""
        if device_id in self._taking:
            raise Unavailable("the device is being taken or given")
        if device_id not in self.owned:
            # Perhaps it was let go before, and Redis did not take that: it must not be lost that something is open.
            self._backplane.leave(SPACE, device_id, OPEN)
            await self._backplane.find(SPACE, device_id)
            return b""
        # What a commit of which nobody knows may yet write would be laid over what the next owner writes.
        if not self._commands.settled(device_id) or self._storage.sessions.uncertain:
            raise Unavailable("its commands are being written")
        live = self._devices.get(device_id)
        if live is not None:
            await self._save_live(live)
        if not self._commands.settled(device_id):
            raise Unavailable("its commands are being written")
        # Nothing is awaited from here on until it is not ours any more.
        live = self._devices.get(device_id)
        if live is not None:
            link = self._devices.surrender(live)
            if link is not None:
                link.close_link("takeover")
        held = self._commands.holds(device_id)
        self._commands.give_up(device_id)
        self.owned.discard(device_id)
        self._taking[device_id] = []
        try:
            await self._storage.get_device(device_id)  # waits for what was written before
            self._backplane.leave(SPACE, device_id, OPEN if held else "")
        finally:
            self._taken(device_id)
        await self._backplane.find(SPACE, device_id)
        return b""

    def _let_go_if_idle(self, device_id: str) -> None:
        live = self._devices.get(device_id)
        if device_id in self._claiming or device_id not in self.owned or (live is not None and live.link is not None):
            return
        if device_id in self._taking:  # what is given back behind that would be ours all the same
            self._reactor.callLater(AGAIN, self._let_go_if_idle, device_id)
            return
        if not self._commands.holds(device_id):
            self.owned.discard(device_id)
            self._backplane.leave(SPACE, device_id)

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Never told."""

    def presence(self, change: Presence) -> None:
        if not change.online:
            self._let_go_if_idle(change.device.id)

    def command(self, change: Command) -> None:
        node = self._submitters.get(change.id)
        if change.origin in self._commands.followed:
            node = ""
        if node is not None:
            self._backplane.cast("cmd.state", pack_command(change), node or None)
            if change.final:
                self._submitters.pop(change.id, None)
        if change.final:
            self._reactor.callLater(0, self._let_go_if_idle, change.device)

    def submitter(self, command_id: str) -> str:
        """The other process where a command was submitted that is driven here; "" where there is none."""
        return self._submitters.get(command_id, "")

    def _state(self, node: str, body: bytes) -> None:
        self._heard_of(unpack_command(body))

    def _heard_of(self, heard: Command) -> None:
        """A command that was submitted here has another state."""
        for told in self._commands.followers if heard.origin in self._commands.followed else ():
            told(heard)
        command, _ = self._away.pop(heard.id, (None, 0.0))
        if command is None:
            return
        _update(command, heard)
        if not command.final:
            self._away[command.id] = (command, self._reactor.seconds())
        self._router.told_elsewhere("command", command)
        if command.final:
            self._commands.heard(command)

    def look(self) -> None:
        """Look up what has not been heard of for some time; called several times a second."""
        now = self._reactor.seconds()
        silent: list[str] = []
        for command_id, (_, heard_at) in self._away.items():
            if now - heard_at < SILENCE or len(silent) == LOOKED_UP:
                break
            silent.append(command_id)
        for command_id in silent:
            command, _ = self._away.pop(command_id)
            self._away[command_id] = (command, now)
        if silent:
            Deferred.fromCoroutine(self._look_up(silent)).addErrback(self._not_looked_up)

    async def _look_up(self, command_ids: list[str]) -> None:
        for command_id in command_ids:
            kept = await self._storage.get_command(command_id)
            command, _ = self._away.get(command_id, (None, 0.0))
            if command is None:
                continue
            if kept is None:  # forgotten with its device
                del self._away[command_id]
            elif kept.updated_at > command.updated_at:
                self._heard_of(kept)

    def _not_looked_up(self, failure: Failure) -> None:
        if not failure.check(Unavailable):  # which passes, and then it is looked up
            self.log.failure("fault while commands of other processes were looked up", failure)

    # -- those that are gone ---------------------------------------------------------------------------------------

    async def _gone(self, node: str) -> None:
        mark = self._storage.mark_dead_offline
        await mark()
        # Storage believes in a node for some seconds of its own: if our lease is shorter, it has to be asked again.
        self._reactor.callLater(STORAGE_LEASE, lambda: mark().addErrback(self._not_looked_up))
        await self.sweep()

    async def sweep(self) -> None:
        """Take up the open commands that no process drives which lives. Raises Unavailable."""
        found = await self._storage.open_commands()
        for device_id in dict.fromkeys(command.device for command in found):
            if device_id not in self.owned:
                await self._own(device_id, sure=True)

    def _fenced(self) -> None:
        self._commands.give_up_all()
        self.owned.clear()
        self._submitters.clear()
        self._away.clear()
        for live in self._devices:
            link = self._devices.surrender(live)
            if link is not None:
                link.close_link("unavailable")


def _update(command: Command, heard: Command) -> None:
    for name in ("status", "result", "updated_at", "late", "deadline"):
        setattr(command, name, getattr(heard, name))


async def cancel_anywhere(commands: Commands, command: Command) -> None:
    """Cancel a command, whichever process drives it. Raises NotFound, Conflict, Unavailable."""
    across: Any = commands.across
    if across is None:
        commands.cancel(command.id)
    else:
        await across.cancel(command)
