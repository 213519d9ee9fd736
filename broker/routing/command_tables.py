"""The open commands in memory, by what they are looked up by; what becomes of them is `broker.routing.commands`'.

::

    _open          id -> command                                every one of them
    _queues        device -> those that wait, oldest first      _adding: not in the journal yet
    _unanswered    device -> those that are sent or pending     _on_link: those that take a place in the link's window
    _deadlines     a heap of (when to look, id)                 for each open command one not later than its deadline
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappush
from typing import Final

from broker.model.messages import QUEUED, Command

#: Entries of the list of deadlines that may belong to nothing any more, besides one for each open command.
MAX_STALE_DEADLINES: Final = 1000


class OpenCommands:
    """All of them."""

    def __init__(self) -> None:
        self._open: dict[str, Command] = {}
        #: Waiting for their device, oldest first.
        self._queues: dict[str, dict[str, Command]] = {}
        #: Sent or pending, per device.
        self._unanswered: dict[str, dict[str, Command]] = {}
        #: Ids of those among them that went out on the device's present link.
        self._on_link: dict[str, set[str]] = {}
        #: (when to look, command id): for each open command one that is not later than its deadline.
        self._deadlines: list[tuple[float, str]] = []
        #: On their way into the journal: not sent before they are in it.
        self._adding: set[str] = set()
        #: Devices of which a command is on its way to the disk as sent, before it goes out; those where that failed,
        #: which is tried again with the next tick.
        self._noting: set[str] = set()
        self._unnoted: set[str] = set()
        #: Not in the journal as they are, after a write that failed.
        self._unsaved: dict[str, Command] = {}

    # -- looking at them -------------------------------------------------------------------------------------------

    def get(self, command_id: str) -> Command | None:
        """An open command; ended ones are in storage."""
        return self._open.get(command_id)

    def waiting_of(self, origin: str) -> list[Command]:
        """What is queued of one origin, for any device."""
        return [
            command
            for queue in self._queues.values()
            for command in queue.values()
            if command.origin == origin and command.id not in self._adding
        ]

    def unanswered(self, device_id: str) -> list[Command]:
        """The commands of a device that are sent or pending, in the order in which they left."""
        return list(self._unanswered.get(device_id, {}).values())

    def waiting(self, device_id: str) -> list[Command]:
        """What is queued for a device, oldest first, for a side that takes commands itself."""
        return [command for command in self._queues.get(device_id, {}).values() if command.id not in self._adding]

    def every(self) -> list[Command]:
        """All open commands."""
        return list(self._open.values())

    @property
    def open(self) -> int:
        return len(self._open)

    def queued(self, device_id: str) -> int:
        """How many commands wait for this device."""
        return len(self._queues.get(device_id, ()))

    def holds(self, device_id: str) -> bool:
        """Whether anything of the device is open, or on its way into the journal or out of memory."""
        if device_id in self._queues or device_id in self._unanswered:
            return True
        return any(command.device == device_id for command in self._unsaved.values())

    def settled(self, device_id: str) -> bool:
        """Whether all that is known of its commands has been handed to the journal."""
        if device_id in self._noting or any(command.device == device_id for command in self._unsaved.values()):
            return False
        return not any(command_id in self._adding for command_id in self._queues.get(device_id, ()))

    def restore(self, commands: Iterable[Command]) -> None:
        """Take up the open commands of an earlier life, oldest first."""
        for command in commands:
            self._open[command.id] = command
            table = self._queues if command.status == QUEUED else self._unanswered
            table.setdefault(command.device, {})[command.id] = command
            self._watch(command)

    def give_up(self, device_id: str) -> None:
        """They are another process's: forget them as they are in the journal."""
        for command in (*self._queues.pop(device_id, {}).values(), *self._unanswered.pop(device_id, {}).values()):
            self._open.pop(command.id, None)
        self._on_link.pop(device_id, None)

    def give_up_all(self) -> None:
        """All are other processes': nothing more is written of them."""
        for device_id in {command.device for command in self._open.values()}:
            self.give_up(device_id)
        self._unsaved.clear()
        self._unnoted.clear()

    # -- their places ----------------------------------------------------------------------------------------------

    def _forget(self, command: Command) -> None:
        self._open.pop(command.id, None)
        self._unqueue(command)
        unanswered = self._unanswered.get(command.device)
        if unanswered is not None:
            unanswered.pop(command.id, None)
            if not unanswered:
                del self._unanswered[command.device]
        self._off_link(command)

    def _off_link(self, command: Command) -> None:
        """It takes no place in the window of its device's link any more."""
        on_link = self._on_link.get(command.device)
        if on_link is not None:
            on_link.discard(command.id)
            if not on_link:
                del self._on_link[command.device]

    def _unqueue(self, command: Command) -> None:
        queue = self._queues.get(command.device)
        if queue is not None:
            queue.pop(command.id, None)
            if not queue:
                del self._queues[command.device]

    def _put_back(self, command: Command, deadline: float | None) -> None:
        """It could not be taken: it waits again, in its old place."""
        unanswered = self._unanswered[command.device]
        del unanswered[command.id]
        if not unanswered:
            del self._unanswered[command.device]
        command.status = QUEUED
        self._queues[command.device] = {command.id: command, **self._queues.get(command.device, {})}
        if deadline is not None:
            self._set_deadline(command, deadline)

    def _set_deadline(self, command: Command, when: float) -> None:
        old, command.deadline = command.deadline, when
        if old is None or when < old:
            self._watch(command)

    def _watch(self, command: Command) -> None:
        deadlines = self._deadlines
        if command.deadline is not None:
            heappush(deadlines, (command.deadline, command.id))
        if len(deadlines) > 2 * len(self._open) + MAX_STALE_DEADLINES:
            # Most commands end long before their expiry: what they left behind would stay for an hour.
            deadlines[:] = [
                (known.deadline, known.id)
                for known in self._open.values()
                if known.deadline is not None and known.id not in self._adding
            ]
            heapify(deadlines)
