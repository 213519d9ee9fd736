"""What the matrix asks of an application, whatever kind it is.

Each answers in its own terms: `uplink` returns when it has heard a message, `command` when it was told that the device
has done it, `refusal` when it was told that it was not done, `rights` when it was turned away from a device that is not
its own. What does not come is an AssertionError. `Impossible` says that a document has no word for it.
"""

from __future__ import annotations

from typing import Any

from tests.matrix.devices import Device, Order
from tests.matrix.mailbox import Mailbox
from tests.matrix.stage import Stage


class Impossible(Exception):
    """A document leaves no way for this; the text names its section. What follows from it has been checked."""


class Side:
    """One application. ``number`` makes its marks its own."""

    name = ""
    title = ""

    def __init__(self, reactor: Any, stage: Stage, number: int) -> None:
        self.reactor = reactor
        self.stage = stage
        self.number = number
        self.heard = Mailbox(reactor, self.title)

    async def start(self, devices: list[Device]) -> None:
        """Be there, and listening."""
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    async def uplink(self, device: Device, mark: int) -> None:
        raise NotImplementedError

    async def command(self, device: Device, order: Order) -> None:
        raise NotImplementedError

    async def presence(self, device: Device, online: bool, since: int) -> None:
        """``since``: how long the mailbox was before the device came or went."""
        raise NotImplementedError

    async def refusal(self, device: Device, order: Order) -> None:
        raise NotImplementedError

    async def rights(self, stranger: Device, order: Order) -> None:
        raise NotImplementedError

    def heard_of(self, stranger: Device) -> list[Any]:
        """What has come here of a device of which nothing may."""
        return self.heard.all(lambda event: stranger.id in repr(event) or stranger.eui in repr(event))
