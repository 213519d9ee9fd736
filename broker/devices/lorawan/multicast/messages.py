"""What is to be sent to groups: from being taken to its end, on disk all the way.

::

    accept ──> queued ──> sending ──> sent | partly_sent | failed
                 │           │
                 ├──> expired └──> cancelled
                 └──> cancelled

* A message is on disk before its caller hears that it was taken, and what has not ended goes on after a restart.
* Of what waits for a group the highest priority goes first, and of these the oldest. One that has begun is carried to
  its end before the next: motes take no frame with a lower counter than one that they have heard.
* What has ended is kept for whoever asks, the newest ``kept_group_messages`` of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan import frames
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.multicast.groups import Group, Groups, Message
from broker.devices.lorawan.multicast.records import CANCELLED, EXPIRED, MESSAGES, QUEUED, MessageRecord
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.windows import FRAME_OVER_PAYLOAD, fits, rx2
from broker.model.errors import Invalid, LimitExceeded, NotFound, Unavailable
from broker.storage.deferred import deferred
from broker.storage.records import Change

_RANDOM_BITS: Final = (1 << 62) - 1


class Messages:
    """``wake(group)`` is called when something is there for it; `sending` gives it."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        groups: Groups,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._clock = core.clock
        self._storage = core.storage
        self._counted = counted
        self._groups = groups
        self._random_bytes = random_bytes
        self.settings = settings
        self.wake: Callable[[Group], None] = lambda group: None
        self._sequence = 0
        #: Ended, and not yet written as such.
        self._unsaved: dict[Message, Group] = {}

    def clear(self) -> None:
        """Ends that have not been written will not be."""
        self._unsaved.clear()

    # -- in --------------------------------------------------------------------------------------------------------

    @deferred
    async def accept(
        self,
        group: Group,
        payload: bytes,
        *,
        port: int,
        tries: int,
        priority: int,
        expires: float,
        origin: str,
        ref: str | None = None,
    ) -> Message:
        """Take a message; answers when it is on disk. ``expires``: seconds that it may take until its last emission.

        Raises Invalid (too long), LimitExceeded (too many wait), NotFound (the group went meanwhile), Unavailable.
        """
        self._check_size(group, len(payload))
        waiting = sum(not message.record.final for message in group.messages.values())
        if waiting + group.adding >= self.settings.max_group_messages:
            raise LimitExceeded(
                f"{waiting + group.adding} messages wait for this group already",
                limit="listeners.lorawan.max_group_messages",
            )
        now = self._clock()
        record = MessageRecord(
            id=self._new_id(now),
            group=group.id,
            payload=payload,
            port=port,
            tries=tries,
            priority=priority,
            origin=origin,
            ref=ref,
            created_at=now,
            expires_at=now + expires,
            updated_at=now,
        )
        group.adding += 1
        try:
            await self._groups.messages.add(record.key, record)
        finally:
            group.adding -= 1
        if group.removed:
            await self._groups.messages.remove(record.key)
            raise NotFound(f"there is no group {group.id!r} any more")
        message = group.messages[record.id] = Message(record)
        self._counted.multicasts += 1
        self.wake(group)
        return message

    def _check_size(self, group: Group, size: int) -> None:
        region, rx = group.region, group.rx(self.settings)
        _, rate = rx2(region, rx)
        if not fits(frames.OVERHEAD + size, region, rate, rx.dwell):
            most = region.payload_limit(rate, dwell=rx.dwell) - frames.OVERHEAD + FRAME_OVER_PAYLOAD
            raise Invalid(f"at data rate {rate} of {region.name} a message has at most {most} bytes")

    def _new_id(self, now: float) -> str:
        """A UUID of version 7 (RFC 9562, 5.7), with a sequence in place of the sub-milliseconds."""
        self._sequence = (self._sequence + 1) & 0xFFF
        random = int.from_bytes(self._random_bytes(8), "big") & _RANDOM_BITS
        milliseconds = int(now * 1000) & 0xFFFF_FFFF_FFFF
        return str(UUID(int=milliseconds << 80 | 7 << 76 | self._sequence << 64 | 2 << 62 | random))

    # -- whose turn it is ------------------------------------------------------------------------------------------

    @staticmethod
    def next_of(group: Group) -> Message | None:
        """The one that has begun; else of the highest priority the oldest."""
        best: Message | None = None
        for message in group.messages.values():
            record = message.record
            if record.final:
                continue
            if record.fcnt is not None:
                return message
            if best is None or record.priority > best.record.priority:
                best = message
        return best

    def expired(self, message: Message) -> bool:
        return message.record.expires_at <= self._clock()

    # -- out -------------------------------------------------------------------------------------------------------

    def end(self, group: Group, message: Message, status: str, error: str = "", missed: Iterable[str] = ()) -> None:
        """It is over, once."""
        message.record = msgspec.structs.replace(
            message.record, status=status, error=error, missed=tuple(missed), updated_at=self._clock()
        )
        message.waiting = ""
        self._write_end(group, message)
        self.wake(group)

    def expire(self, group: Group, message: Message) -> None:
        """Nothing of it was sent in its time; the error is what it waited for last."""
        self.end(group, message, EXPIRED, message.waiting.upper())

    def forget(self, message: Message) -> None:
        """Its group is removed, and it with that."""
        self._tell(message, True)

    def _write_end(self, group: Group, message: Message) -> None:
        record = message.record
        surplus = group.ended[: max(0, len(group.ended) + 1 - self.settings.kept_group_messages)]
        changes = [self._groups.messages.change(record.key, record)]
        changes += [Change(MESSAGES, f"{group.id}/{id}", None) for id in surplus]

        def written(_: None) -> None:
            self._unsaved.pop(message, None)
            group.messages.pop(record.id, None)
            group.ended = [id for id in group.ended if id not in surplus]
            group.ended.append(record.id)
            self._tell(message, True)

        def not_written(failure: Any) -> None:
            self._unsaved[message] = group
            self.log.warn("lorawan: the end of a group's message not written: {why}", why=failure.getErrorMessage())
            self._tell(message, False)

        self._unsaved.pop(message, None)
        writing: Deferred[None] = self._storage.write_records(changes)
        writing.addCallbacks(written, not_written)

    @staticmethod
    def _tell(message: Message, saved: bool) -> None:
        watchers, message.watchers = message.watchers, []
        for watch in watchers:
            watch(saved)

    def tick(self) -> None:
        """End what waited too long; write again what could not be written."""
        now = self._clock()
        for group in self._groups:
            for message in [] if group.removed else list(group.messages.values()):
                record = message.record
                # One that has begun is ended by `sending`, which knows what became of it.
                waits = record.fcnt is None and not record.final and group.flying is not message
                if waits and record.expires_at <= now:
                    self.expire(group, message)
        for message, group in list(self._unsaved.items()):
            if self._groups.find(group.id) is not group:
                del self._unsaved[message]
            elif not group.removed:
                self._write_end(group, message)

    # -- taking back -----------------------------------------------------------------------------------------------

    @deferred
    async def cancel(self, group: Group, message: Message) -> None:
        """No further emission begins; answers when that is on disk. Raises NotFound (the group went), Unavailable."""
        if group.removed:
            raise NotFound(f"there is no group {group.id!r} any more")
        if message.record.final:
            return
        over: Deferred[bool] = Deferred()
        message.watchers.append(over.callback)
        message.cancelled = True
        if group.flying is not message:
            self.end(group, message, CANCELLED)
        if not await over:
            raise Unavailable("the message is cancelled, but that could not be written yet")

    @deferred
    async def withdraw(self, origin: str) -> None:
        """Take back what this origin has sent and no gateway was asked for yet. Raises Unavailable."""
        ending = [
            self.cancel(group, message)
            for group in self._groups
            if not group.removed
            for message in list(group.messages.values())
            if message.record.origin == origin and message.record.status == QUEUED and group.flying is not message
        ]
        for each in ending:
            await each

    # -- looking ---------------------------------------------------------------------------------------------------

    @deferred
    async def find(self, group: Group, id: str) -> Message:
        """One of a group's messages, ended or not. Raises NotFound, Unavailable."""
        message = group.messages.get(id)
        if message is None and id in group.ended:
            record = await self._groups.messages.get(f"{group.id}/{id}")
            message = None if record is None else Message(record)
        if message is None:
            raise NotFound(f"the group {group.id!r} has no message {id!r}"[:200])
        return message

    @deferred
    async def page(self, group: Group, limit: int, before: str | None) -> list[Message]:
        """The newest first, those with ids less than ``before``. Raises Unavailable."""
        ids = sorted((*group.messages, *group.ended), reverse=True)
        wanted = [id for id in ids if before is None or id < before][:limit]
        found: list[Message] = []
        for id in wanted:
            try:
                found.append(await self.find(group, id))
            except NotFound:
                continue  # it made room for another this moment
        return found
