"""Apps at one process, their device at another: it is told how many there are at all of them.

::

    an app comes or goes          its process ──> giz.apps [did, how many are there now] ──> the device's process
    a device comes to a process   every process with apps for it ──> likewise
    a process is gone             its apps are

Only the process that has the device tells it, and no sooner than it has subscribed: an agent that waits for a SUBACK is
sent nothing else. Best effort: a number that is lost is put right by the next one.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from zope.interface import implementer

from broker.core import Core
from broker.devices.gizwits.apps_online import AppsOnline
from broker.devices.gizwits.identity import PROTOCOL
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink

_encode = msgspec.msgpack.Encoder().encode
_number = msgspec.msgpack.Decoder(tuple[str, int]).decode


@implementer(IConsumer)
class AppsAcross:
    """``greeted(did)``: whether a device that is connected here listens to what it is told."""

    def __init__(self, core: Core, online: AppsOnline, greeted: Callable[[str], bool]) -> None:
        self._core = core
        self._online = online
        self._greeted = greeted

    def begin(self) -> None:
        """From now on; not for a process that is alone."""
        core = self._core
        self._online.pass_on = self._pass_on
        core.whereabouts.arrivals.append(self._arrived_elsewhere)
        core.router.listen_quietly(self)
        core.backplane.hear("giz.apps", self._heard)
        core.backplane.watch(left=self._left, fenced=self._fenced)

    # -- from here -------------------------------------------------------------------------------------------------

    def _pass_on(self, did: str, count: int) -> bool:
        """See `AppsOnline.pass_on`. A device that is nowhere hears of it when it comes."""
        if self._is_here(did):
            return False
        node = self._core.whereabouts.node_of(did)
        if node:
            self._cast(node, did, count)
        return True

    def _arrived_elsewhere(self, node: str, device: DeviceRef) -> None:
        if device.protocol == PROTOCOL:
            self._online.forget_far(device.id)
            count = self._online.count(device.id)
            if count:
                self._cast(node, device.id, count)

    def _cast(self, node: str, did: str, count: int) -> None:
        if self._core.backplane.node:
            self._core.backplane.cast("giz.apps", _encode((did, count)), node)

    # -- from the others -------------------------------------------------------------------------------------------

    def _heard(self, node: str, body: bytes) -> None:
        did, count = _number(body)
        if self._is_here(did):
            self._change(did, node, count)

    def _change(self, did: str, node: str, count: int) -> None:
        if self._online.change_far(did, node, count) and self._greeted(did):
            self._online.tell(did)

    def _left(self, node: str) -> None:
        for did, where in self._online.far():
            if where == node:
                self._change(did, node, 0)

    def _fenced(self) -> None:
        for did, _ in self._online.far():
            self._online.forget_far(did)

    def _is_here(self, did: str) -> bool:
        live = self._core.devices.get(did)
        return live is not None and live.online

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Never told."""

    def command(self, change: Command) -> None:
        """Of no interest."""

    def presence(self, change: Presence) -> None:
        if not change.online:
            self._online.forget_far(change.device.id)
