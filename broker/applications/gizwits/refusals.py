"""Apps on WebSocket that are told when a command of theirs fails, whichever process drives it."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from broker.applications.gizwits.business import ACK_APP, ACK_SN
from broker.model.interfaces import IFarConsumer
from broker.model.messages import SUCCEEDED, Command, Presence, Uplink


@implementer(IFarConsumer)
class Refusals:
    """``told``: client id -> who is told of a command of its own that has failed. Listens quietly."""

    def __init__(self) -> None:
        self.told: dict[str, Callable[[Command], None]] = {}

    def interests(self) -> set[str]:
        """None: the states of what was submitted here come in any case."""
        return set()

    def uplink(self, message: Uplink) -> None:
        """Of no interest."""

    def presence(self, change: Presence) -> None:
        """Of no interest."""

    def command(self, change: Command) -> None:
        options = change.options
        if options and ACK_SN in options and change.final and change.status != SUCCEEDED:
            told = self.told.get(options[ACK_APP])
            if told is not None:
                told(change)
