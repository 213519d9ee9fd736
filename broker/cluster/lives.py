"""What another process knows of the devices that are connected to it, for whoever asks here.

Where a device is, is known (`Whereabouts`); the rest is asked there, for all devices of a page in one question, and not
waited for longer than people do. What does not come is as storage has it, which is a second behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from broker.cluster.presence import Whereabouts
from broker.model.interfaces import IBackplane
from broker.routing.live import LiveDevice, LiveDevices
from broker.storage.deferred import deferred

KIND: Final = "dev.live"
#: Seconds that an answer may take.
PATIENCE: Final = 2.0

Readings = dict[str, tuple[Any, float]]

_encode = msgspec.msgpack.Encoder().encode
_ids = msgspec.msgpack.Decoder(list[str]).decode


class FarDevice(msgspec.Struct, array_like=True):
    """A device that is connected to another process; fields as those of `LiveDevice`."""

    id: str
    since: float
    presence_reason: str
    peer: str
    last_seen: float
    last_heartbeat: float
    late: bool
    values: Readings
    unmapped: Readings
    info: dict[str, Any]


_devices = msgspec.msgpack.Decoder(list[FarDevice]).decode


class LivesAcross:
    """`begin` before others may ask."""

    def __init__(self, backplane: IBackplane, devices: LiveDevices, whereabouts: Whereabouts) -> None:
        self._backplane = backplane
        self._devices = devices
        self._whereabouts = whereabouts

    def begin(self) -> None:
        self._backplane.answer(KIND, self._asked)

    @deferred
    async def of(self, ids: Iterable[str]) -> dict[str, FarDevice]:
        """Those of the devices that are connected elsewhere, as far as the answers have come."""
        by_node: dict[str, list[str]] = {}
        for id in ids:
            live = self._devices.get(id)
            node = "" if live is not None and live.online else self._whereabouts.node_of(id)
            if node:
                by_node.setdefault(node, []).append(id)
        if not by_node:
            return {}
        asked: list[Deferred[bytes]] = [
            self._backplane.ask(node, KIND, _encode(some), PATIENCE) for node, some in by_node.items()
        ]
        answers: Any = await DeferredList(asked, consumeErrors=True)
        return {device.id: device for success, data in answers if success for device in _devices(data)}

    def _asked(self, node: str, body: bytes) -> bytes:
        found = [self._devices.get(id) for id in _ids(body)]
        return _encode([_far(live) for live in found if live is not None and live.online])


def _far(live: LiveDevice) -> FarDevice:
    return FarDevice(
        live.ref.id,
        live.since,
        live.presence_reason,
        getattr(live.link, "peer", ""),
        live.last_seen,
        live.last_heartbeat,
        live.late,
        dict(live.values.values),
        dict(live.values.unmapped),
        live.info,
    )
