"""Looks at what crosses a connection, packet by packet, without the connection knowing.

While there is a tap, ``dataReceived`` of this one connection and the write of its outbox lead past it; without one,
they are what they always were. So tracing costs those nothing that are not traced. Who gives the decoders says what a
packet is (`PacketDecoder`); a decoder that fails ends the tap, never the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.logger import Logger

from broker.routing.outbox import Outbox
from broker.routing.traces import IN, OUT

log = Logger(namespace="broker.trace")

#: (direction, the packet's bytes or None where they hold secrets, what it says)
Tell = Callable[[str, bytes | None, Any], None]
#: A packet's bytes (None where they hold secrets) and what it says, for JSON.
Packet = tuple[bytes | None, Any]


class PacketDecoder(Protocol):
    """One direction of one connection: chunks in, whole packets out."""

    def feed(self, data: bytes) -> Iterable[Packet]: ...


class Tap:
    """Begins at once; `remove` ends it. ``pending``: what the connection has read of a packet that is not whole yet."""

    def __init__(
        self,
        connection: Any,
        outbox: Outbox,
        incoming: PacketDecoder,
        outgoing: PacketDecoder,
        tell: Tell,
        pending: bytes = b"",
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._decoders: Final = {IN: incoming, OUT: outgoing}
        self._tell = tell
        self._on = True
        self._receive = connection.dataReceived
        self._received = self._take
        self._wrote = self._put
        connection.dataReceived = self._received
        self._write = outbox.redirect(self._wrote)
        if pending:
            self._look(IN, pending)

    def remove(self) -> None:
        """Look no further; harmless twice."""
        self._on = False
        connection = self._connection
        if connection.__dict__.get("dataReceived") is self._received:
            del connection.dataReceived
        if self._outbox.write is self._wrote:
            self._outbox.redirect(self._write)

    def _take(self, data: bytes) -> None:
        self._look(IN, bytes(data))
        self._receive(data)

    def _put(self, data: bytes) -> None:
        self._look(OUT, bytes(data))
        self._write(data)

    def _look(self, direction: str, data: bytes) -> None:
        if not self._on:
            return
        try:
            for raw, decoded in self._decoders[direction].feed(data):
                self._tell(direction, raw, decoded)
        except Exception:
            log.failure("fault while tracing {identity}", identity=self._connection.identity)
            self.remove()


class Chunks:
    """A decoder for protocols of which nothing else is known: each chunk is a packet."""

    def feed(self, data: bytes) -> Iterable[Packet]:
        yield data, None
