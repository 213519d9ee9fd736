"""Other processes, as far as commands know of them."""

from __future__ import annotations

from typing import Protocol

from broker.model.messages import Command, Reply
from broker.routing.command_journal import Done
from broker.routing.live import LiveDevice


class Across(Protocol):
    """Other processes that may drive a device's commands: `broker.cluster.commands`."""

    def submit(self, command: Command, done: Done) -> None:
        """Take it here or there; see `Commands.submit`."""

    def ready(self, live: LiveDevice) -> bool:
        """Whether the device's commands are ours to send. If not yet, `Commands.ready_here` is called when they are."""

    def drives(self, device: str) -> bool:
        """Whether the device's commands are this process's."""

    def reply(self, device: str, reply: Reply, pending_for: float | None) -> bool:
        """Whether this was passed on to the process that drives the device's commands; else it is for this one."""
