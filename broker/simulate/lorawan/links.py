"""From a forwarder to a broker: two UDP sockets, or a broker in the same process with some milliseconds between."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.protocol import DatagramProtocol

Take = Callable[[bytes], None]

#: Seconds from a forwarder to the broker, one way: an ordinary line, and now and then a slow mobile one.
LATENCY: Final = (0.005, 0.060)


class Link(Protocol):
    """Both sockets of a forwarder."""

    def open(self, up: Take, down: Take) -> None:
        """Begin; what comes is given to the one whose socket it came to."""

    def send(self, down: bool, data: bytes) -> None:
        """Send through the upper or the lower socket."""

    def close(self) -> None:
        """Nothing comes or goes any more."""


class _Socket(DatagramProtocol):
    """Not connected: Twisted's epoll reactor takes a connected socket away once nobody listens at the other end."""

    noisy = False

    def __init__(self, server: tuple[str, int], take: Take) -> None:
        self._server = server
        self._take = take

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if tuple(addr[:2]) == self._server:
            self._take(datagram)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.write(data, self._server)


class UdpLink:
    """To a broker somewhere: ``server`` is its address and port."""

    def __init__(self, reactor: Any, server: tuple[str, int]) -> None:
        self._reactor = reactor
        self._server = server
        self._sockets: list[_Socket] = []
        self._ports: list[Any] = []

    def open(self, up: Take, down: Take) -> None:
        self._sockets = [_Socket(self._server, up), _Socket(self._server, down)]
        self._ports = [self._reactor.listenUDP(0, socket) for socket in self._sockets]

    def send(self, down: bool, data: bytes) -> None:
        if self._ports:
            self._sockets[down].send(data)

    def close(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopListening()


class Wire:
    """The socket of a broker in this process, for its transport: what goes out is given to whoever has that address.

    ``deliver(data, address)`` is the broker's end.
    """

    def __init__(self, reactor: Any, dice: random.Random, latency: tuple[float, float] = LATENCY) -> None:
        self._reactor = reactor
        self._dice = dice
        self._latency = latency
        self.deliver: Callable[[bytes, tuple[str, int]], None] = _nobody
        self.ends: dict[tuple[str, int], Take] = {}

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        end = self.ends.get(address)
        if end is None:
            return
        if data[3] == 3:
            self._reactor.callLater(self._dice.uniform(*self._latency), end, data)
        else:
            # An acknowledgement that nothing waits for: it is spared its time on the way.
            end(data)

    def up(self, data: bytes, address: tuple[str, int]) -> None:
        """From a forwarder."""
        self._reactor.callLater(self._dice.uniform(*self._latency), self._arrive, data, address)

    def _arrive(self, data: bytes, address: tuple[str, int]) -> None:
        """Whoever is the broker by then."""
        self.deliver(data, address)


def _nobody(data: bytes, address: tuple[str, int]) -> None:
    """The broker has not been started."""


class WireLink:
    """A forwarder's end of a `Wire`."""

    def __init__(self, wire: Wire, host: str) -> None:
        self._wire = wire
        self._addresses = ((host, 40_000), (host, 50_000))

    def open(self, up: Take, down: Take) -> None:
        self._wire.ends.update(zip(self._addresses, (up, down), strict=True))

    def send(self, down: bool, data: bytes) -> None:
        self._wire.up(data, self._addresses[down])

    def close(self) -> None:
        for address in self._addresses:
            self._wire.ends.pop(address, None)
