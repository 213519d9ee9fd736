"""Which devices are connected to other processes: known in every process, so that it can be asked for at once.

::

    a device comes or goes ──> tell dev.presence ──> every process: `Whereabouts`, and who listens to it
    a process comes        ──> tell dev.where    ──> every process tells all that it has (dev.here)
    a process is gone      ──> what was connected to it counts as gone

All of it is in the one order of what is told, so that a device that moves is where it came to last. Who went is only
believed of a process that had it: of a device that has moved, the process that it left may speak later. What is
connected to our own process (`LiveDevices`) is asked for first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from broker.cluster.packing import pack_presence, unpack_presence
from broker.model.interfaces import IBackplane, IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink
from broker.routing.live import LiveDevices
from broker.routing.router import Router

#: Devices in one note of all that are here.
TOGETHER: Final = 500
#: Why a device has gone whose process is.
LOST: Final = "lost"

#: Seconds for which it is known who went with a process.
LOST_KEPT: Final = 600.0

_encode = msgspec.msgpack.Encoder().encode
_here = msgspec.msgpack.Decoder(list[tuple[str, str, float]]).decode


class Whereabouts:
    """Of devices that are online elsewhere; without other processes there are none."""

    def __init__(self) -> None:
        #: id -> (node, protocol)
        self._devices: dict[str, tuple[str, str]] = {}
        #: Those that went with their process and are not back -> how that was told.
        self._lost: dict[str, Presence] = {}
        #: Told of each `Presence` of a device of another process; must not block or raise.
        self.listeners: list[Callable[[Presence], object]] = []
        #: Told (node, device) of each that has come to another process than it was at; likewise.
        self.arrivals: list[Callable[[str, DeviceRef], object]] = []

    def __len__(self) -> int:
        return len(self._devices)

    def online(self, device_id: str) -> bool:
        return device_id in self._devices

    def node_of(self, device_id: str) -> str:
        """The process that it is connected to; "" when it is connected to none, or to ours."""
        found = self._devices.get(device_id)
        return "" if found is None else found[0]

    def protocol_of(self, device_id: str) -> str:
        """That of a device that is connected to another process, else ""."""
        found = self._devices.get(device_id)
        return "" if found is None else found[1]

    def by_protocol(self) -> dict[str, int]:
        """How many there are."""
        counts: dict[str, int] = {}
        for _, protocol in self._devices.values():
            counts[protocol] = counts.get(protocol, 0) + 1
        return counts

    def lost(self) -> list[Presence]:
        """Those that went with their process and are not back: for who begins to listen after that."""
        return list(self._lost.values())

    # -- for `PresenceAcross` --------------------------------------------------------------------------------------

    def came(self, node: str, change: Presence) -> None:
        known = self._devices.get(change.device.id)
        self._lost.pop(change.device.id, None)
        self._devices[change.device.id] = (node, change.device.protocol)
        if known is None:
            self._tell(change)
        if known is None or known[0] != node:
            for told in self.arrivals:
                told(node, change.device)

    def went(self, node: str, change: Presence) -> None:
        known = self._devices.get(change.device.id)
        if known is not None and known[0] == node:
            del self._devices[change.device.id]
            self._tell(change)

    def is_here(self, device_id: str) -> None:
        """It has come to our own process, or gone from it."""
        self._devices.pop(device_id, None)
        self._lost.pop(device_id, None)

    def left(self, node: str, at: float) -> None:
        self._lost = {id: change for id, change in self._lost.items() if at - change.at < LOST_KEPT}
        for device_id, (where, protocol) in list(self._devices.items()):
            if where == node:
                change = self._lost[device_id] = Presence(DeviceRef(protocol, device_id), False, LOST, at)
                self.went(node, change)

    def forget(self) -> None:
        """Nothing is known any more; nobody is told."""
        self._devices.clear()

    def _tell(self, change: Presence) -> None:
        for told in self.listeners:
            told(change)


@implementer(IConsumer)
class PresenceAcross:
    """`begin` joins a process's presence with that of the others. ``clock`` gives UNIX seconds."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(
        self,
        backplane: IBackplane,
        router: Router,
        devices: LiveDevices,
        whereabouts: Whereabouts,
        clock: Callable[[], float],
    ) -> None:
        self._backplane = backplane
        self._router = router
        self._devices = devices
        self._whereabouts = whereabouts
        self._clock = clock

    def begin(self) -> None:
        """From now on: before the first link."""
        backplane = self._backplane
        self._router.listen_quietly(self)
        self._devices.attached.append(lambda live: self._whereabouts.is_here(live.ref.id))
        backplane.hear("dev.presence", self._heard)
        backplane.hear("dev.where", self._asked)
        backplane.hear("dev.here", self._listed)
        backplane.watch(left=self._left, fenced=self._whereabouts.forget, joined=self._joined)
        self._joined()

    def _joined(self) -> None:
        self._backplane.tell("dev.where", b"")

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Never told."""

    def command(self, change: Command) -> None:
        """Of no interest."""

    def presence(self, change: Presence) -> None:
        if not change.online:  # ours until now: whatever was heard of it before it came here is old
            self._whereabouts.is_here(change.device.id)
        if self._backplane.node:
            self._backplane.tell("dev.presence", pack_presence(change))

    # -- from the others -------------------------------------------------------------------------------------------

    def _heard(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        change = unpack_presence(body)
        if change.online:
            self._whereabouts.came(node, change)
        else:
            self._whereabouts.went(node, change)

    def _asked(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        here = [(live.ref.protocol, live.ref.id, live.since) for live in self._devices if live.online]
        for start in range(0, len(here), TOGETHER):
            self._backplane.tell("dev.here", _encode(here[start : start + TOGETHER]))

    def _listed(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        for protocol, device_id, since in _here(body):
            self._whereabouts.came(node, Presence(DeviceRef(protocol, device_id), True, "connected", since))

    def _left(self, node: str) -> None:
        self._whereabouts.left(node, self._clock())
