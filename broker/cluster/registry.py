"""Changes of the registry, told to all processes in one order once they are in storage."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane
from broker.storage.identity import Change
from broker.storage.registry import Registry

_encode = msgspec.msgpack.Encoder().encode
_change = msgspec.msgpack.Decoder(tuple[str, str, str]).decode


class RegistryAcross:
    """`begin` joins a registry with those of the other processes."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(self, backplane: IBackplane, registry: Registry) -> None:
        self._backplane = backplane
        self._registry = registry

    def begin(self) -> None:
        self._registry.on_own.append(self._changed)
        self._backplane.hear("registry", self._heard)

    def _changed(self, change: Change) -> None:
        self._backplane.tell("registry", _encode((change.what, change.id, change.other)))

    def _heard(self, node: str, body: bytes) -> None:
        if node != self._backplane.node:
            self._registry.told_elsewhere(Change(*_change(body))).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(Unavailable):
            self.log.warn("a new device of another process is not known here yet: {why}", why=str(failure.value))
        else:
            self.log.failure("fault after a change of the registry", failure)
