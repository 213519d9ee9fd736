"""BROADCAST: the same to all class C motes of a customer server (document 4.11).

::

    BROADCAST ──> multicast groups of the application ──> one message each, sent TryCnt times
              └─> class C motes that are in none of them ──> TryCnt commands each

A group is used when each of its members is meant: bound to the customer server, and of the AppEUI if one was given. Its
motes hear one frame together, where commands would be one for each of them. What is too long for the group's data rate,
or finds its queue full, goes to its motes one by one.

Commands wait in the queues of their motes like any others. None of all this is answered by anything. The time of the
last BROADCAST is on disk before the first of it, so a restart does not shorten the interval.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from broker.applications.loracenter import codec
from broker.applications.loracenter.answers import WRONG_PORT, Asked, Refusal
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.deliveries import DEFAULT_PRIORITY, MAX_PRIORITY, PORTS, STRICT_PORTS
from broker.applications.loracenter.network import ask_network
from broker.applications.loracenter.outcomes import MOTE
from broker.applications.loracenter.settings import Settings
from broker.applications.ordering import new_command
from broker.core import Core
from broker.model.errors import Conflict, Invalid, LimitExceeded, NotFound
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
        known = await self._last.look(application)
        if known is not None and 0 <= now - known[0].at < self.settings.broadcast_interval:
            raise Refusal(-101, TOO_SOON)
        try:  # the same customer server may ask another process at the same moment
            await self._core.storage.write_records(
                [self._last.change(application, Last(now), None if known is None else known[1])]
            )
        except Conflict:
            raise Refusal(-101, TOO_SOON) from None

    async def _to_all(self, asked: Asked, content: bytes, options: dict[str, Any], tries: int) -> None:
        told = await self._to_groups(asked, content, options, tries)
        async for records in self._motes(asked):
            reached = await self._reached([one for one in records if one.id not in told and _meant(one, asked.app_eui)])
            await self._kept(
                [
                    new_command(
                        self._core, record, content, asked.customer.origin, self.settings.queue_time, options=options
                    )
                    for record in reached
                    for _ in range(tries)
                ]
            )

    async def _to_groups(self, asked: Asked, content: bytes, options: dict[str, Any], tries: int) -> set[str]:
        """Who was told that way."""
        groups: dict[str, Any] = await ask_network(self._core, "groups_of", asked.customer.id) or {}
        meant: set[str] = set()
        told: set[str] = set()
        if groups:
            async for records in self._motes(asked):
                meant.update(record.id for record in records if _meant(record, asked.app_eui))
        for group in sorted(groups):
            members = frozenset(groups[group])
            wanted = members <= meant and not members <= told
            if wanted and await self._to_group(asked, group, content, options, tries):
                told |= members
        return told

    async def _motes(self, asked: Asked) -> AsyncIterator[list[DeviceRecord]]:
        """All that are bound to the customer server, a page at a time."""
        query = DeviceQuery(application=asked.customer.id, protocol=MOTE)
        cursor: str | None = None
        while True:
            records, cursor = await self._core.registry.list_devices(query, PAGE, cursor)
            yield records
            if cursor is None:
                return

    async def _to_group(self, asked: Asked, group: str, content: bytes, options: dict[str, Any], tries: int) -> bool:
        """Whether the group has taken it; it is on disk then."""
        try:
            await self._core.lora.send_to_group(
                group,
                content,
                port=options["port"],
                tries=tries,
                priority=options["priority"],
                expires=self.settings.queue_time,
                origin=asked.customer.origin,
            )
        except (Invalid, LimitExceeded, NotFound):
            return False
        self._counted.group_broadcasts += 1
        return True

    async def _reached(self, records: list[DeviceRecord]) -> list[DeviceRecord]:
        """The class C motes among them that have a session."""
        classes = await ask_network(self._core, "classes_of", [record.id for record in records]) or []
        return [record for record, known in zip(records, classes, strict=False) if known == "C"]

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


def _meant(record: DeviceRecord, app_eui: str | None) -> bool:
    """Whether a BROADCAST with this AppEUI, or with none, is for a mote."""
    if record.disabled:
        return False
    return app_eui is None or codec.eui(record.attributes.get("join_eui")) == app_eui
