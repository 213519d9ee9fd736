"""Changes of the registry, told to the other processes on the same Redis.

::

    registry.on_change ──> PUBLISH <prefix>:changes ──> the others' registry.heard, and their listeners

The registry keeps no devices in memory, but it keeps `Rights`, and listeners close connections of devices that were
disabled: without this a process would only know of its own changes. A channel loses what is said while a connection is
away, so when it is back everything that is held is read again.
"""

from __future__ import annotations

from secrets import token_hex
from typing import ClassVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.model.records import DeviceRecord
from broker.storage.identity import Change
from broker.storage.redis.connection import RedisSubscriber
from broker.storage.redis.storage import RedisStorage
from broker.storage.registry import Registry

#: As what a new device is told, which is no `Change`.
ADDED = "device_added"


class Told(msgspec.Struct, array_like=True):
    """On the wire: JSON. ``sender``: a process, which does not listen to itself."""

    sender: str
    what: str
    id: str
    other: str = ""


class RegistryChanges:
    """``subscriber``: a connection for this (and what else its owner subscribes to), which its owner opens and closes.

    `start` before that; from then on the registry's changes go out.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, storage: RedisStorage, subscriber: RedisSubscriber, registry: Registry, prefix: str) -> None:
        self.channel = f"{prefix}:changes"
        #: Told by others; that could not be told.
        self.heard = 0
        self.unsaid = 0
        self._storage = storage
        self._subscriber = subscriber
        self._registry = registry
        self._token = token_hex(8)
        self._hearing = False
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Told).decode

    def start(self) -> Deferred[None]:
        """Answers when the channel is subscribed to, or will be with the connection."""
        self._registry.on_change.append(self._changed)
        self._registry.on_added.append(self._added)
        self._subscriber.on_up.append(self._up)
        return self._subscriber.subscribe(self.channel, self._told)

    def stop(self) -> Deferred[None]:
        """Say and hear nothing more."""
        self._registry.on_change.remove(self._changed)
        self._registry.on_added.remove(self._added)
        self._subscriber.on_up.remove(self._up)
        return self._subscriber.unsubscribe(self.channel)

    def _changed(self, change: Change) -> None:
        self._say(change.what, change.id, change.other)

    def _added(self, record: DeviceRecord) -> None:
        self._say(ADDED, record.id, "")

    def _say(self, what: str, id: str, other: str) -> None:
        if not self._hearing:
            message = self._encode(Told(self._token, what, id, other))
            self._storage.connection.call("PUBLISH", self.channel, message).addErrback(self._not_said)

    def _not_said(self, failure: Failure) -> None:
        """The others have lost their connections as well, and read again what they hold."""
        failure.trap(Unavailable)
        self.unsaid += 1

    def _told(self, message: bytes) -> None:
        told = self._decode(message)
        if told.sender == self._token:
            return
        self.heard += 1
        if told.what == ADDED:
            self._storage.get_device(told.id).addCallback(self._new).addErrback(self._missed)
        else:
            self._pass_on(Change(told.what, told.id, told.other))

    def _new(self, record: DeviceRecord | None) -> None:
        if record is not None:
            self._pass_on(record)

    def _pass_on(self, news: Change | DeviceRecord) -> None:
        self._hearing = True
        try:
            if isinstance(news, Change):
                self._registry.heard(news)
            else:
                self._registry.heard_of_new(news)
        finally:
            self._hearing = False

    def _up(self) -> None:
        if self._subscriber.connects > 1:
            Deferred.fromCoroutine(self._read_again()).addErrback(self._missed)

    async def _read_again(self) -> None:
        for rights in self._registry.rights_held():
            devices = set(await self._storage.devices_of(rights.id))
            for what, ids in (("unbound", rights.devices - devices), ("bound", devices - rights.devices)):
                for device_id in ids:
                    self._pass_on(Change(what, rights.id, device_id))

    def _missed(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        self.log.warn("changes of other processes could not be read: {why}", why=failure.getErrorMessage())
