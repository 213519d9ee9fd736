"""Answers to commands that have ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.model.messages import PENDING, Command, Reply
from broker.routing.command_journal import CommandCounters, Journal

#: How many late answers one command keeps.
MAX_LATE: Final = 10


class LateReplies:
    """``unsaved``: commands that are not in the journal as they are. ``keep(command)`` is called when one has more."""

    def __init__(
        self,
        journal: Journal,
        unsaved: Mapping[str, Command],
        counters: CommandCounters,
        keep: Callable[[Command], None],
    ) -> None:
        self._journal = journal
        self._unsaved = unsaved
        self._counters = counters
        self._keep = keep
        #: Answers whose command is being looked up: (device, answer) by command id.
        self._waiting: dict[str, list[tuple[str, Reply]]] = {}

    def take(self, device_id: str, reply: Reply) -> None:
        """An answer to nothing that is open: kept with its command if it is one of this device, else counted."""
        command_id = reply.command_id
        waiting = self._waiting.setdefault(command_id, [])
        if len(waiting) >= MAX_LATE:
            self._counters.unmapped_replies += 1
            return
        waiting.append((device_id, reply))
        if len(waiting) > 1:
            return  # one look-up for all: each would get a copy of its own, and the last copy saved would win

        def found(command: Command | None) -> None:
            command = self._unsaved.get(command_id, command)
            for device, late in self._waiting.pop(command_id):
                self._found(command, device, late)

        self._journal.find_command(command_id, found)

    def _found(self, command: Command | None, device_id: str, reply: Reply) -> None:
        known = command is not None and command.device == device_id and command.final
        if command is None or not known or reply.status in (PENDING, command.status):
            self._counters.unmapped_replies += 1
            return
        self._counters.late_replies += 1
        if len(command.late) < MAX_LATE:
            entry = {"status": reply.status, "result": reply.payload, "at": round(reply.received_at, 3)}
            command.late.append(entry)
            self._keep(command)
