"""What of ChirpStack's motes outlives the process, and when an event may be acknowledged.

``lorawan_chirpstack``, by DevEUI: a `MoteRecord`. Every event that was taken changes its mote's, if only by its mark;
all that came within `GATHER` seconds are one commit. Then their messages are acknowledged to the MQTT broker, in their
order. Storage takes writes one after another, so what an event caused before (states of commands, sessions' queues) is
on disk by then as well. If the commit fails, nothing is acknowledged, and it is tried again; the MQTT broker has only
so many messages under way, so it waits with us.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.chirpstack.counters import ChirpstackCounters
from broker.devices.lorawan.chirpstack.motes import ChirpMote, ChirpMotes
from broker.mqtt.client import Message
from broker.storage.deferred import deferred
from broker.storage.records import Change, Records

#: Seconds in which events are gathered for one commit.
GATHER: Final = 0.025


class MoteRecord(msgspec.Struct, kw_only=True):
    """``near``: EUIs, the best first. ``marks``: of events that came (`ChirpMote.new`)."""

    application: str = ""
    near: tuple[str, ...] = ()
    port: int = 0
    class_c: bool = False
    marks: bytes = b""


class EventStore:
    """Reads once, at the start; writes with every batch of events."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, motes: ChirpMotes, counted: ChirpstackCounters) -> None:
        self._core = core
        self._motes = motes
        self._counted = counted
        self.records = Records(core.storage, "lorawan_chirpstack", MoteRecord)
        self._changed: dict[ChirpMote, None] = {}
        self._unacknowledged: list[Message] = []
        self._writing = False
        self._due: Any = None

    @deferred
    async def load(self) -> None:
        """Fill in what is kept of the motes. Raises Unavailable."""
        for dev_eui, record in await self.records.all():
            mote = self._motes.get(dev_eui)
            if mote is not None:
                _fill(mote, record)

    @deferred
    async def load_one(self, mote: ChirpMote) -> None:
        """The same for one."""
        record = await self.records.get(mote.dev_eui)
        if record is not None:
            _fill(mote, record)

    def forget(self, dev_eui: str) -> Deferred[None]:
        """The mote is removed."""
        self._changed = {mote: None for mote in self._changed if mote.dev_eui != dev_eui}
        return self.records.remove(dev_eui)

    @property
    def writing(self) -> bool:
        """Whether something is on its way to the disk."""
        return self._writing

    def changed(self, mote: ChirpMote) -> None:
        """To be written with the next commit."""
        self._changed[mote] = None

    def owed(self, message: Message) -> None:
        """Acknowledge it when all that was told so far is on disk."""
        if message.qos:
            self._unacknowledged.append(message)
        if self._due is None and not self._writing:
            self._due = self._core.reactor.callLater(GATHER, self._flush_due)

    def _flush_due(self) -> None:
        self._due = None
        self.flush()

    def flush(self) -> None:
        """Write what changed and acknowledge, unless that is being done: then after it."""
        if self._writing:
            return
        messages, self._unacknowledged = self._unacknowledged, []
        if not self._changed:
            _acknowledge(messages)
            return
        motes, self._changed = list(self._changed), {}
        self._writing = True
        writing: Deferred[None] = self._core.storage.write_records([self._change(mote) for mote in motes])
        writing.addCallbacks(self._written, self._not_written, callbackArgs=(messages,), errbackArgs=(motes, messages))

    def cut_off(self) -> None:
        """The connection is gone: what is not acknowledged comes again."""
        self._unacknowledged.clear()

    def settle(self) -> None:
        """Write what has come, now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self.flush()

    def _change(self, mote: ChirpMote) -> Change:
        record = MoteRecord(
            application=mote.application, near=mote.near, port=mote.port, class_c=mote.class_c, marks=mote.marks
        )
        return self.records.change(mote.dev_eui, record)

    def _written(self, _: None, messages: list[Message]) -> None:
        self._writing = False
        _acknowledge(messages)
        if self._changed or self._unacknowledged:
            self.flush()

    def _not_written(self, failure: Any, motes: list[ChirpMote], messages: list[Message]) -> None:
        """Tried again with whatever comes next, or by the tick."""
        self._writing = False
        self._counted.events_unsaved += 1
        self._unacknowledged = messages + self._unacknowledged
        for mote in motes:
            # One that was removed meanwhile must not come back.
            if self._motes.get(mote.dev_eui) is mote:
                self.changed(mote)
        self.log.warn("chirpstack: events not written: {why}", why=failure.getErrorMessage())


def _acknowledge(messages: list[Message]) -> None:
    for message in messages:
        message.acknowledge()


def _fill(mote: ChirpMote, record: MoteRecord) -> None:
    mote.near, mote.port, mote.marks, mote.present = record.near, record.port, record.marks, True
    if not mote.pinned:
        mote.application = record.application
    if not mote.class_given:
        mote.class_c = record.class_c
