"""What the life of a command needs beside itself: where it is kept, and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker.model.messages import Command

Done = Callable[[Exception | None], None]


class Journal(Protocol):
    """Where commands are kept. Each call ends in one ``done(error or None)``, in the order of the calls."""

    def add_command(self, command: Command, done: Done) -> None:
        """Keep a new command."""

    def save_command(self, command: Command, done: Done) -> None:
        """Keep the present state of a known command; it is copied before this returns."""

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        """Look up a command that is no longer open, as the calls before left it; None also when storage fails."""


class CommandCounters:
    """How many commands ended how; plain numbers, read by the metrics."""

    def __init__(self) -> None:
        self.submitted = 0
        self.ended: dict[str, int] = {}
        self.unmapped_replies = 0
        self.late_replies = 0
        self.failed_saves = 0
