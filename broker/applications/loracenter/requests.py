"""What a registered customer server asks for: one method a CMD (document, chapter 4).

Whatever is wrong is answered with the CODE and MSG of the command's own section; where a section is silent, with those
of the table of codes (0 for anything that is not ours to do). A mote of somebody else does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from broker.applications.loracenter import codec
from broker.applications.loracenter.answers import NO_SUCH_GATEWAY, TRY_LATER, Asked, Refusal
from broker.applications.loracenter.broadcast import Broadcasts
from broker.applications.loracenter.codec import Request
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.customers import Customer, Session
from broker.applications.loracenter.deliveries import Deliveries, of_sendto
from broker.applications.loracenter.gateways import GatewayRequests
from broker.applications.loracenter.network import ask_network
from broker.applications.loracenter.settings import Settings
from broker.cluster.commands import cancel_anywhere
from broker.core import Core
from broker.model.errors import BrokerError
from broker.model.messages import CANCELLED, QUEUED, Command

REFUSED: Final = "CSREG Refused"


class Requests:
    """``carry_out`` answers a request, at once or when storage has answered."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LoraCenterCounters,
        deliveries: Deliveries,
        gateways: GatewayRequests,
        broadcasts: Broadcasts,
    ) -> None:
        self._core = core
        self._counted = counted
        self.settings = settings
        self._methods: dict[str, Callable[[Asked], Awaitable[None]]] = {
            "SENDTO": deliveries.send_to,
            "QUERYLEN": self._queue_length,
            "QUERYQLEN": self._queue_length,
            "CLEARQ": self._clear,
            "CLEARAQ": self._clear_all,
            "CANCELCMD": self._cancel,
            "GETPRIORGW": self._best_gateway,
            "BROADCAST": broadcasts.broadcast,
            "GETGWINFO": gateways.information,
            "GWCOMSEND": gateways.pass_through,
        }

    async def carry_out(self, session: Session, customer: Customer, request: Request) -> None:
        asked = Asked(session, customer, request)
        named = request.get("cseui")
        if named is not None and codec.eui(named) != customer.cs_eui:
            if request.cmd != "CLEARAQ":  # which has no answer then
                asked.say(0, "CSEUI ERROR")
            return
        method = self._methods.get(request.cmd)
        if method is None:
            self._counted.unknown_commands += 1
            asked.say(0, "UNKNOWN CMD")
            return
        try:
            await method(asked)
        except Refusal as refusal:
            asked.say(refusal.code, refusal.text)
        except BrokerError:
            asked.say(0, TRY_LATER)

    # -- the queue of a mote ---------------------------------------------------------------------------------------

    async def _queue_length(self, asked: Asked) -> None:
        """All that waits for the mote, whoever sent it: it is what a further SENDTO would have before it."""
        record = await asked.mote(self._core, -1)
        length = len(await waiting_anywhere(self._core, record.id))
        asked.say(1, str(length) if self.settings.queue_length_in_msg else "QUEUE LEN", Qlen=length)

    async def _clear(self, asked: Asked) -> None:
        """What this customer server sent and has not been handed over."""
        record = await asked.mote(self._core, -1)
        waiting = await waiting_anywhere(self._core, record.id)
        await self._cancel_all([command for command in waiting if command.origin == asked.customer.origin])
        asked.say(1, "CLEAR QUEUE OK")

    async def _clear_all(self, asked: Asked) -> None:
        await self._cancel_all(await waiting_of_anywhere(self._core, asked.customer.origin))
        if self._core.lora is not None:
            await self._core.lora.withdraw(asked.customer.origin)
        asked.dev_eui = None
        asked.say(1, "CLEAR CSEUI QUEUE OK")

    async def _cancel(self, asked: Asked) -> None:
        """The oldest SENDTO with that Token that still waits."""
        record = await asked.device(self._core)
        token = codec.integer(asked.get("canceltoken"), 0, codec.MAX_TOKEN)
        if record is None or token is None:
            raise Refusal(-1, "Cancel Failed")
        for command in await waiting_anywhere(self._core, record.id):
            if of_sendto(command, asked.customer.origin, str(token)):
                await self._cancel_all([command])
                asked.say(1, "Canceled CMD ,OK")
                return
        raise Refusal(-1, "Cancel Failed")

    async def _cancel_all(self, commands: list[Command]) -> None:
        """Answers when that is on disk."""
        for command in commands:
            await cancel_anywhere(self._core.commands, command)
        if commands:
            # Storage sees every write that was asked for before, so the last one tells of all.
            stored = await self._core.storage.get_command(commands[-1].id)
            if stored is not None and stored.status != CANCELLED:
                raise Refusal(0, TRY_LATER)

    # -- gateways --------------------------------------------------------------------------------------------------

    async def _best_gateway(self, asked: Asked) -> None:
        record = await asked.mote(self._core)
        if asked.app_eui is None:
            asked.app_eui = codec.eui(record.attributes.get("join_eui"))
        gateway = await ask_network(self._core, "nearest_gateway", record.id)
        if gateway is None:
            raise Refusal(-2, NO_SUCH_GATEWAY)
        asked.say(1, gateway)


async def waiting_anywhere(core: Core, device_id: str) -> list[Command]:
    """What is queued for a device, oldest first, whichever process drives it. Raises Unavailable."""
    across: Any = core.commands.across
    if across is None or device_id in across.owned:
        return core.commands.waiting(device_id)
    return [command for command in await across.open_of(device_id) if command.status == QUEUED]


async def waiting_of_anywhere(core: Core, origin: str) -> list[Command]:
    """What is queued of one origin, likewise."""
    if core.commands.across is None:
        return core.commands.waiting_of(origin)
    return [
        command
        for command in await core.storage.open_commands()
        if command.origin == origin and command.status == QUEUED
    ]
