"""Traces of devices in several processes: begun at any, made where the device is, shown wherever somebody looks.

::

    PUT .../trace at B ──tell trace──> every process follows the device
    packet at A ──cast trace.packet──> the streams of B (best effort, as streams are)
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.model.interfaces import IBackplane
from broker.routing.traces import TracedPacket, Traces

_encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_change = msgspec.msgpack.Decoder(tuple[str, float]).decode
_packet = msgspec.msgpack.Decoder(tuple[str, str, str, bytes | None, Any, float]).decode

CHANGE: Final = "trace"
PACKET: Final = "trace.packet"


class TracesAcross:
    """`begin` joins the traces of a process with those of the others."""

    def __init__(self, backplane: IBackplane, traces: Traces) -> None:
        self._backplane = backplane
        self._traces = traces
        #: While what came from another process is told: it does not go out again.
        self._telling = False

    def begin(self) -> None:
        self._backplane.hear(CHANGE, self._changed)
        self._backplane.hear(PACKET, self._came)
        self._traces.on_change.append(lambda device, seconds: self._backplane.tell(CHANGE, _encode((device, seconds))))
        self._traces.watchers.append(self._crossed)

    def _changed(self, node: str, body: bytes) -> None:
        if node != self._backplane.node:
            self._traces.follow(*_change(body))

    def _crossed(self, packet: TracedPacket) -> None:
        if not self._telling:
            fields = (packet.device, packet.protocol, packet.direction, packet.raw, packet.decoded, packet.at)
            self._backplane.cast(PACKET, _encode(fields))

    def _came(self, node: str, body: bytes) -> None:
        self._telling = True
        try:
            self._traces.told_elsewhere(TracedPacket(*_packet(body)))
        finally:
            self._telling = False
