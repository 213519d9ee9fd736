"""BROADCAST: the same to all class C motes of a customer server (document 4.11).

Each mote gets ``TryCnt`` commands of its own, which wait in its queue like any other and are answered by nothing. The
time of the last BROADCAST is on disk before the first of them, so a restart does not shorten the interval.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from broker.applications.loracenter import codec
from broker.applications.loracenter.answers import WRONG_PORT, Asked, Refusal
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.deliveries import DEFAULT_PRIORITY, MAX_PRIORITY, PORTS, STRICT_PORTS
from broker.applications.loracenter.outcomes import MOTE
from broker.applications.loracenter.settings import Settings
from broker.applications.ordering import new_command
from broker.core import Core
from broker.model.errors import LimitExceeded
from broker.model.messages import Command
from broker.model.records import DeviceQuery, DeviceRecord
from broker.storage.records import Records

TABLE: Final = "loracenter_broadcasts"
TOO_SOON: Final = "too frequently"
#: Motes that are read, and commands that are written, at a time.
PAGE: Final = 200


class Last(msgspec.Struct):
    """When a customer server's last BROADCAST was accepted, in UNIX seconds."""

    at: float


class Broadcasts:
    """``broadcast`` answers when all commands are on disk."""

    def __init__(self, core: Core, settings: Settings, counted: LoraCenterCounters) -> None:
        self._core = core
        self._counted = counted
        self._last = Records(core.storage, TABLE, Last)
        self.settings = settings

    async def broadcast(self, asked: Asked) -> None:
        least, most = STRICT_PORTS if self.settings.strict_ports else PORTS
        port = asked.number("port", least, most, None, WRONG_PORT)
        tries = asked.number("trycnt", 1, self.settings.max_broadcast_tries, 1, "TRYCNT PARAMETER ERROR")
        priority = asked.number("prior", 0, MAX_PRIORITY, DEFAULT_PRIORITY, "PRIOR PARAMETER ERROR")
        content = asked.payload(-3)
        asked.dev_eui = None
        customer = asked.customer
        if customer.broadcasting:
            raise Refusal(-101, TOO_SOON)
        customer.broadcasting = True
        try:
            await self._note_time(customer.id)
            await self._to_all(asked, content, {"port": port, "priority": priority}, tries)
        finally:
            customer.broadcasting = False
        self._counted.broadcasts += 1
        asked.say(1, "BROADCAST OK")

    async def _note_time(self, application: str) -> None:
        now = self._core.clock()
        last = await self._last.get(application)
        if last is not None and 0 <= now - last.at < self.settings.broadcast_interval:
            raise Refusal(-101, TOO_SOON)
        await self._last.put(application, Last(now))

    async def _to_all(self, asked: Asked, content: bytes, options: dict[str, Any], tries: int) -> None:
        query = DeviceQuery(application=asked.customer.id, protocol=MOTE)
        cursor: str | None = None
        while True:
            records, cursor = await self._core.registry.list_devices(query, PAGE, cursor)
            reached = [record for record in records if self._reached(record, asked.app_eui)]
            await self._kept(
                [
                    new_command(
                        self._core, record, content, asked.customer.origin, self.settings.queue_time, options=options
                    )
                    for record in reached
                    for _ in range(tries)
                ]
            )
            if cursor is None:
                return

    def _reached(self, record: DeviceRecord, app_eui: str | None) -> bool:
        """A class C mote that has a session, of that AppEUI if one was given."""
        lora = self._core.lora
        if lora is None or record.disabled or lora.class_of(record.id) != "C":
            return False
        return app_eui is None or codec.eui(record.attributes.get("join_eui")) == app_eui

    def _kept(self, commands: list[Command]) -> Deferred[None]:
        """Fires when all are on disk; fails with the first error, when all are over.

        A mote whose queue is full has more to hear than it can take already: that is none.
        """
        over: Deferred[None] = Deferred()
        left = len(commands) + 1
        wrong: Exception | None = None

        def done(error: Exception | None) -> None:
            nonlocal left, wrong
            left -= 1
            if error is not None and not isinstance(error, LimitExceeded):
                wrong = wrong or error
            if not left:
                over.callback(None) if wrong is None else over.errback(wrong)

        for command in commands:
            self._core.commands.submit(command, done)
        done(None)
        return over
