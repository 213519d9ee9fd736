"""The life of a command, for every protocol in one place (DESIGN §5).

::

    submit ──> queued ──> sent ──> (pending ──>) succeeded | failed | timed_out
                  │                 ▲      │
                  ├──> expired      └──────┘ each further 'pending' extends the time
                  └──> cancelled

* A command is in the journal before the caller hears that it was taken, and open commands are read back after a
  restart (`restore`).
* It is written to the device when the device is there and ready, in the order of arrival, at most ``link.window``
  unanswered at once of those that went out on this link.
* A command whose options name another one in ``after`` leaves when that one has ended; those behind it wait with it.
* A command that was sent and lost its connection is not sent again: its device may have done it already. It is answered
  or it times out.
* A link with a ``window`` of 0 is given nothing: its side looks at what is `waiting` when the device can be reached,
  and takes one (`take`), which is on disk as sent before the side hears that it has it.
* The first final state stands; a later answer is kept in ``late``.

Everything is synchronous. The journal is told what to keep and calls back when that is safe; states that could not be
written (full disk) are written again by `tick`. Time comes from ``clock``; the owner calls `tick` a few times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop
from typing import Any

from broker.model.errors import BrokerError, Conflict, DeviceOffline, LimitExceeded, NotFound
from broker.model.interfaces import IDeviceLink
from broker.model.messages import (
    CANCELLED,
    EXPIRED,
    FAILED,
    PENDING,
    QUEUED,
    SENT,
    TIMED_OUT,
    Command,
    Reply,
)
from broker.routing.command_across import Across
from broker.routing.command_journal import CommandCounters, Done, Journal
from broker.routing.command_tables import OpenCommands
from broker.routing.late_replies import LateReplies
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.waiters import Waiters

#: A command that may not wait (``expires`` 0) still has to cross the journal and a link that is just getting ready.
NO_WAIT_GRACE = 2.0

#: Time that a 'pending' answer adds when its device's link is gone before we could ask it.
DEFAULT_PENDING_TIMEOUT = 300.0


class Commands(OpenCommands):
    """All open commands. ``max_queued`` bounds a device's queue, ``max_open`` all of them together."""

    def __init__(
        self,
        journal: Journal,
        devices: LiveDevices,
        router: Router,
        clock: Callable[[], float],
        *,
        max_queued: int = 100,
        max_open: int = 100_000,
    ) -> None:
        super().__init__()
        self._journal = journal
        self._devices = devices
        self._router = router
        self._clock = clock
        self.max_queued = max_queued
        self.max_open = max_open
        self.counters = CommandCounters()
        waiters = Waiters(lambda error: router.fault("wait", error))
        self._waiters = waiters.waiting
        #: ``wait(command_id, call)`` and ``heard(command)``: see `Waiters`.
        self.wait, self.heard = waiters.wait, waiters.heard
        #: Devices whose queue is being sent: what is told meanwhile may submit more.
        self._dispatching: set[str] = set()
        self._late = LateReplies(journal, self._unsaved, self.counters, self._keep)
        #: Where there are other processes.
        self.across: Across | None = None
        #: Commands of these origins are told to `followers` in every process, wherever they are driven.
        self.followed: set[str] = set()
        #: Told of a command that another process drives; must not block.
        self.followers: list[Callable[[Command], object]] = []
        #: Told of a device whose commands are this process's from now on.
        self.on_adopted: list[Callable[[str], object]] = []

    # -- from the applications' side -------------------------------------------------------------------------------

    def submit(self, command: Command, done: Done) -> None:
        """Take a command. ``done(None)`` when it is kept; ``done(error)`` when it is refused.

        Errors: DeviceOffline (it may not wait and the device is away), LimitExceeded (queue full), and whatever the
        journal fails with.
        """
        if self.across is not None:
            self.across.submit(command, done)
        else:
            self.submit_here(command, done)

    def submit_here(self, command: Command, done: Done) -> None:
        """The same, for a device whose commands are driven by this process."""
        try:
            self._admit(command)
        except BrokerError as error:
            done(error)
            return
        may_wait = command.expires_at > command.created_at
        command.deadline = command.expires_at if may_wait else command.created_at + NO_WAIT_GRACE
        self._open[command.id] = command
        self._queues.setdefault(command.device, {})[command.id] = command
        self._adding.add(command.id)

        def kept(error: Exception | None) -> None:
            self._adding.discard(command.id)
            if error is not None:
                self._forget(command)
                done(error)
                return
            if not command.final and self._open.get(command.id) is not command:
                done(None)  # given up meanwhile: who has it now finds it in the journal
                return
            if command.final:  # its device was removed while it was written
                self._save(command)
                done(None)
                return
            self.counters.submitted += 1
            self._watch(command)
            done(None)
            self._router.command(command)
            self._dispatch(command.device)

        self._journal.add_command(command, kept)

    def cancel(self, command_id: str) -> Command:
        """Take a command back that still waits. Raises NotFound, or Conflict if it has left already."""
        command = self._open.get(command_id)
        if command is None or command_id in self._adding:
            raise NotFound("no such open command")
        if command.status != QUEUED:
            raise Conflict(f"the command is {command.status} and cannot be cancelled any more")
        self._end(command, CANCELLED, None)
        self._dispatch(command.device)
        return command

    def cancel_device(self, device_id: str, reason: str) -> None:
        """The device is removed: nothing of it stays open."""
        waiting = self._queues.get(device_id, {})
        unanswered = self._unanswered.get(device_id, {})
        for command in [*waiting.values(), *unanswered.values()]:
            self._end(command, CANCELLED if command.status == QUEUED else FAILED, {"error": reason})

    # -- from the devices' side ------------------------------------------------------------------------------------

    def ready(self, live: LiveDevice) -> None:
        """The device's link takes commands from now on: send what waited."""
        if self.across is None or self.across.ready(live):
            self.ready_here(live)

    def ready_here(self, live: LiveDevice) -> None:
        """The same, when the device's commands are driven by this process."""
        if live.link is not None and not live.ready:
            live.ready = True
            self._on_link.pop(live.ref.id, None)
            self._dispatch(live.ref.id)

    def take(self, command_id: str, done: Done) -> None:
        """Take one that is `waiting`: it is sent from now on. ``done(None)`` when that is on disk.

        ``done(error)``: it is not, or there is no such command; then it waits as before.
        """
        command = self._open.get(command_id)
        if command is None or command.status != QUEUED or command_id in self._adding:
            done(NotFound("no such command waits"))
            return
        live = self._devices.get(command.device)
        usual = DEFAULT_PENDING_TIMEOUT if live is None or live.link is None else live.link.answer_timeout
        before = command.deadline
        self._unqueue(command)
        self._unanswered.setdefault(command.device, {})[command.id] = command
        self._set_deadline(command, self._clock() + (usual if command.timeout is None else command.timeout))
        command.status = SENT
        command.updated_at = self._clock()

        def kept(error: Exception | None) -> None:
            if command.final:  # its device was removed meanwhile
                done(error or NotFound("the command has ended"))
                return
            if self._open.get(command.id) is not command:
                done(error or NotFound("the command is another process's"))
                return
            if error is not None:
                self._put_back(command, before)
                done(error)
                return
            self._router.command(command)
            done(None)

        self._journal.save_command(command, kept)

    def fail(self, command_id: str, result: Any) -> None:
        """End an open command, waiting or not, as failed; harmless when it is not open."""
        command = self._open.get(command_id)
        if command is not None and command_id not in self._adding:
            self._end(command, FAILED, result)

    def put_off(self, command_id: str, until: float, exactly: bool = False) -> None:
        """An open command is waited for until then (UNIX seconds), or for longer if it is already and not ``exactly``.

        Harmless when it is not open.
        """
        command = self._open.get(command_id)
        if command is not None and command.deadline is not None and (exactly or command.deadline < until):
            self._set_deadline(command, until)
            self._save(command)

    def reply(self, device_id: str, reply: Reply, pending_for: float | None = None) -> bool:
        """A device answered. False if there is no such open command of this device (it may still become late).

        ``pending_for``: seconds that this 'pending' adds, if not the link's own.
        """
        command = self._open.get(reply.command_id)
        if command is None or command.device != device_id or command.status == QUEUED:
            if self.across is None or not self.across.reply(device_id, reply, pending_for):
                self.late_reply(device_id, reply)
            return False
        if reply.status == PENDING:
            live = self._devices.get(device_id)
            link = live.link if live is not None else None
            extra = DEFAULT_PENDING_TIMEOUT if link is None else link.pending_timeout
            self._set_deadline(command, reply.received_at + (extra if pending_for is None else pending_for))
            self._change(command, PENDING, reply.payload)
            if not getattr(link, "pending_in_window", True):
                self._off_link(command)
                self._dispatch(device_id)
        else:
            self._end(command, reply.status, reply.payload)
            self._dispatch(device_id)
        return True

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """End what is over its time and write again what could not be written."""
        now = self._clock()
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            _, command_id = heappop(deadlines)
            command = self._open.get(command_id)
            if command is None or command.deadline is None:
                continue
            if command.deadline > now:  # it was put off
                self._watch(command)
                continue
            self._end(command, EXPIRED if command.status == QUEUED else TIMED_OUT, None)
            self._dispatch(command.device)
        for command in list(self._unsaved.values()):
            del self._unsaved[command.id]
            self._save(command)
        unnoted, self._unnoted = self._unnoted, set()
        for device_id in unnoted:
            self._dispatch(device_id)

    # -- other processes -------------------------------------------------------------------------------------------

    def drives(self, device_id: str) -> bool:
        """Whether the device's commands are this process's: always, where there is no other."""
        return self.across is None or self.across.drives(device_id)

    def adopt(self, device_id: str, commands: Iterable[Command]) -> None:
        """Another process had them: open commands of one device, oldest first."""
        self.restore(command for command in commands if command.id not in self._open and not command.final)
        self._dispatch(device_id)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _admit(self, command: Command) -> None:
        live = self._devices.get(command.device)
        if command.expires_at <= command.created_at and (live is None or not live.online):
            raise DeviceOffline("the device is offline and the command may not wait for it")
        if self.queued(command.device) >= self.max_queued:
            raise LimitExceeded(f"{self.max_queued} commands wait for this device already", limit="commands.max_queued")
        if len(self._open) >= self.max_open:
            raise LimitExceeded(f"{self.max_open} commands are open already", limit="commands.max_open")

    def _dispatch(self, device_id: str) -> None:
        """Send what waits, as far as the device is ready and its window allows."""
        if device_id in self._dispatching:
            return  # whoever is at it looks again after each command
        self._dispatching.add(device_id)
        try:
            while self._send_next(device_id):
                pass
        finally:
            self._dispatching.discard(device_id)

    def _send_next(self, device_id: str) -> bool:
        live = self._devices.get(device_id)
        queue = self._queues.get(device_id)
        if not queue or live is None or live.link is None or not live.ready:
            return False
        if len(self._on_link.get(device_id, ())) >= live.link.window:
            return False
        if device_id in self._noting or device_id in self._unnoted:
            return False
        command = next(iter(queue.values()))
        if command.id in self._adding or command.options.get("after") in self._open:
            return False  # the next one may not overtake it
        self._send(command, live.link)
        return True

    def _send(self, command: Command, link: IDeviceLink) -> None:
        now = self._clock()
        if command.deadline is not None and command.deadline <= now:
            self._end(command, EXPIRED, None)
            return
        before = command.deadline
        self._unqueue(command)
        self._unanswered.setdefault(command.device, {})[command.id] = command
        self._on_link.setdefault(command.device, set()).add(command.id)
        self._set_deadline(command, now + (command.timeout if command.timeout is not None else link.answer_timeout))
        if self.across is None:
            self._change(command, SENT, None)
            self._hand_over(command, link)
            return
        # Whoever takes over from this process must not find waiting what has left.
        command.status, command.updated_at = SENT, now
        self._noting.add(command.device)
        self._journal.save_command(command, lambda error: self._noted(command, link, before, error))

    def _noted(self, command: Command, link: IDeviceLink, before: float | None, error: Exception | None) -> None:
        """That it is sent is on disk, or is not."""
        device_id = command.device
        self._noting.discard(device_id)
        if self._open.get(command.id) is not command:  # it has ended, or is another process's
            self._dispatch(device_id)
            return
        live = self._devices.get(device_id)
        if error is None and live is not None and live.link is link and live.ready:
            self._router.command(command)
            self._hand_over(command, link)
            self._dispatch(device_id)
            return
        self._off_link(command)
        self._put_back(command, before)
        if error is not None:
            self._unnoted.add(device_id)
        else:  # its link has gone meanwhile: it waits for the next one
            self._save(command)
            self._dispatch(device_id)

    def _hand_over(self, command: Command, link: IDeviceLink) -> None:
        if command.final:  # somebody who was told of it ended it
            return
        try:
            link.send_command(command)
        except BrokerError as error:
            self._end(command, FAILED, {"error": error.message})
        except Exception as error:
            self._router.fault("send_command", error)
            self._end(command, FAILED, {"error": "internal error"})

    def _change(self, command: Command, status: str, result: Any) -> None:
        command.status = status
        command.updated_at = self._clock()
        if result is not None:
            command.result = result
        self._save(command)
        self._router.command(command)

    def _end(self, command: Command, status: str, result: Any) -> None:
        if command.final:
            return
        self._forget(command)
        command.deadline = None
        self.counters.ended[status] = self.counters.ended.get(status, 0) + 1
        self._change(command, status, result)
        self.heard(command)

    def _save(self, command: Command) -> None:
        if command.id in self._adding:
            return  # saved when it turns out to be in the journal at all

        def saved(error: Exception | None) -> None:
            if error is not None and not isinstance(error, NotFound):  # NotFound: removed with its device
                self.counters.failed_saves += 1
                if self.drives(command.device):  # else it would be laid over what its new owner writes
                    self._unsaved[command.id] = command

        self._journal.save_command(command, saved)

    def late_reply(self, device_id: str, reply: Reply) -> None:
        """An answer to nothing that is open: kept with its command if it is one of this device, else counted."""
        self._late.take(device_id, reply)

    def _keep(self, command: Command) -> None:
        self._save(command)
        self._router.command(command)
