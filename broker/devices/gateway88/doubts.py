"""Orders of which it is not known whether they have reached their gateway.

An order is on disk as sent before it is written to the connection. If the broker, or the connection, ends in between,
or before the answer is on disk, the gateway may have it or not. A remote_control is not sent again: it may have been
carried out. A firmware_update, a backup and a recovery are, as doing one of them twice comes to the same:

::

    connection or broker gone ──> the order has time until the gateway is back        `RETURN`
    gateway back              ──> `SEND_AGAIN`: it may fetch, post, or tell its version, and so has it
                              ──> nothing of that: the order is sent again, under a new id, and has its whole time

The document has a gateway drop the same bytes under the same id within 20 s. That cannot be relied upon here: it may be
back later than that, and what it has remembered is mostly gone with its connection. So we wait for a sign first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core import Core
from broker.devices.gateway88.conversation import GIVE_UP
from broker.devices.gateway88.identity import PROTOCOL
from broker.model.messages import SENT, Command

#: Seconds that a gateway has to come back: it tries every 30 s (document), after it has noticed.
RETURN: Final = 60.0 + GIVE_UP
#: Orders of which it is remembered that the gateway has them.
MAX_KNOWN: Final = 10_000


class Doubts:
    """``may_repeat(command)``: whether doing it twice comes to the same."""

    def __init__(self, core: Core, may_repeat: Callable[[Command], bool]) -> None:
        self._core = core
        self._may_repeat = may_repeat
        #: Orders that their gateway has, as it has fetched or posted.
        self._arrived: dict[str, None] = {}

    def left(self, device_id: str) -> None:
        """The gateway is not connected, or not yet: what was sent and not answered waits for it."""
        until = self._core.clock() + RETURN
        for command in self.about(device_id):
            self._core.commands.put_off(command.id, until)

    def every_left(self) -> None:
        """The same for all gateways, after a start."""
        for device_id in {one.device for one in self._core.commands.every() if one.protocol == PROTOCOL}:
            self.left(device_id)

    def arrived(self, command_id: str) -> None:
        """The gateway has fetched, or posted: it has this order."""
        self._arrived[command_id] = None
        if len(self._arrived) > MAX_KNOWN:
            del self._arrived[next(iter(self._arrived))]

    def about(self, device_id: str) -> list[Command]:
        """The orders of a gateway of which it is not known whether they have reached it."""
        return [
            command
            for command in self._core.commands.unanswered(device_id)
            if command.status == SENT and command.id not in self._arrived and self._may_repeat(command)
        ]
