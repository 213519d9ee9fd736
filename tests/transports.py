"""A peer in memory: a transport that fills up, pauses and closes as a socket does, and the client behind it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.routing.outbox import Turn

#: What Twisted's transports take before they pause their producer.
BUFFER = 65_536
#: What Twisted reads at once.
CHUNK = 65_536
#: Not loopback, so that limits count.
ADDRESS = "192.0.2.1"


def turn_of(clock: Clock) -> Turn:
    """A turn that ends when the clock is next advanced, if only by nothing."""
    return Turn(lambda flush: clock.callLater(0, flush))


@implementer(ITransport, IConsumer, IPushProducer)
class PeerTransport:
    """A connected socket. While ``reads`` is False the peer takes nothing, and more than `BUFFER` bytes jam it.

    As with sockets, whoever closes hears of the end in another turn, and not before what was written is taken.
    """

    def __init__(self, clock: Clock, address: str = ADDRESS) -> None:
        self.protocol: Any = None
        self.clock = clock
        self.peer = IPv4Address("TCP", address, 50000)
        self.producer: Any = None
        self.connected = True
        self.disconnecting = False
        self.aborting = False
        #: "producing" or "paused", as Twisted's own transport for tests has it.
        self.producerState = "producing"
        self.reads = True
        self.unread = 0
        self.jammed = False
        self._written = bytearray()

    # -- what tests look at and do ---------------------------------------------------------------------------------

    def value(self) -> bytes:
        """What was written since `clear`."""
        return bytes(self._written)

    def clear(self) -> None:
        self._written.clear()

    def stop_reading(self) -> None:
        self.reads = False

    def start_reading(self) -> None:
        """Take everything, and from now on at once."""
        self.reads = True
        self.unread = 0
        if self.jammed:
            self.jammed = False
            if self.producer is not None:
                self.producer.resumeProducing()
        self._end_if_done()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone, by default because the peer broke it."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(error or ConnectionLost()))

    # -- what protocols do -----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self._written += data
            if not self.reads:
                self.unread += len(data)
                if self.unread > BUFFER and self.producer is not None and not self.jammed:
                    self.jammed = True
                    self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._end_if_done()

    def abortConnection(self) -> None:
        if not self.aborting:
            self.disconnecting = self.aborting = True
            self.clock.callLater(0, self.lose, ConnectionAborted())

    def getPeer(self) -> IPv4Address:
        return self.peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.254", 1)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._end_if_done()

    def pauseProducing(self) -> None:
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        self.producerState = "producing"

    def stopProducing(self) -> None:
        self.loseConnection()

    def _end_if_done(self) -> None:
        if self.disconnecting and not self.unread and self.producer is None:
            self.clock.callLater(0, self.lose, ConnectionDone())


class Peer:
    """A client of ``listener``: it sends, as far as the broker reads, and sees what it gets."""

    def __init__(self, listener: Listener, clock: Clock, address: str = ADDRESS) -> None:
        self.clock = clock
        self.transport = PeerTransport(clock, address)
        connection = listener.buildProtocol(self.transport.getPeer())
        if connection is None:
            raise ConnectionRefusedError(address)
        self.connection: Connection = connection
        self.transport.protocol = connection
        #: What the client has sent and the broker has not read yet: the client's memory, not ours.
        self.backlog = b""
        connection.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send; the broker reads as much of it as it wants to, then a turn ends."""
        self.backlog += data
        self.pump()

    def pump(self) -> None:
        """Let the broker read what there is, a chunk a turn, until it pauses; then end the turn."""
        while self.backlog and self.open and self.transport.producerState == "producing":
            chunk, self.backlog = self.backlog[:CHUNK], self.backlog[CHUNK:]
            self.connection.dataReceived(chunk)
            self.clock.advance(0)
        self.clock.advance(0)

    def take(self) -> bytes:
        """What came since the last time."""
        got: bytes = self.transport.value()
        self.transport.clear()
        return got

    def hang_up(self) -> None:
        self.transport.lose(ConnectionDone())

    @property
    def open(self) -> bool:
        return self.transport.connected and not self.transport.disconnecting

    @property
    def gone(self) -> bool:
        return not self.transport.connected

    @property
    def reason(self) -> str:
        """Why it ended; empty while it is open."""
        return "" if self.open else self.connection.reason
