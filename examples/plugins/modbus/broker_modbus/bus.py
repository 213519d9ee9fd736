"""The connection to a slave, or to a gateway with several slaves behind it: one request at a time, in turn.

Many devices take one connection and one request, so that is all that they get: who asks waits for those before. An
answer counts if it has the number and the unit of the request; others are counted, as they are late. A connection on
which three requests in a row were not answered is cut and made anew, as it may be half open. Twisted's `ClientService`
connects again, with a growing pause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pymodbus.pdu import ModbusPDU
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.extension import ListenerStats
from broker_modbus import codec
from broker_modbus.settings import Settings

#: Unanswered requests in a row after which the connection is not believed in any more.
MAX_SILENCE: Final = 3
FIRST_PAUSE: Final = 0.5
#: A transaction's number has two bytes; 0 is left out, as some gateways put it where they have none.
MAX_TRANSACTION: Final = 65_535


class NoAnswer(Exception):
    """Nobody has answered. What was asked for may have been done."""


class Refused(Exception):
    """The device has answered with an exception; ``code`` is its number."""

    def __init__(self, code: int) -> None:
        super().__init__(codec.EXCEPTIONS.get(code, f"exception {code}"))
        self.code = code


@dataclass(slots=True)
class Counts:
    """Of all devices, since the start."""

    polls: int = 0
    unanswered: int = 0
    refused: int = 0
    strays: int = 0
    writes: int = 0


class BusConnection(Protocol):
    """One connection."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._decoder = codec.FrameDecoder()
        self._transaction = 0
        self._waiting: tuple[codec.Frame, Deferred[ModbusPDU]] | None = None
        self._silence = 0

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        self._bus.made(self)

    def ask(self, unit: int, request: ModbusPDU, timeout: float) -> Deferred[ModbusPDU]:
        """The answer; fails with NoAnswer. Not to be called again before that has fired."""
        self._transaction = self._transaction % MAX_TRANSACTION + 1
        data = codec.frame(self._transaction, unit, request)
        answered: Deferred[ModbusPDU] = Deferred()
        self._waiting = codec.Frame(self._transaction, unit, bytes((request.function_code,))), answered
        transport: Any = self.transport
        transport.write(data)
        self._bus.stats.messages_out += 1
        self._bus.stats.bytes_out += len(data)
        return answered.addTimeout(timeout, self._bus.reactor).addErrback(self._unanswered)

    def _unanswered(self, failure: Failure) -> Failure:
        self._waiting = None
        if not failure.check(TimeoutError):
            return failure
        self._silence += 1
        if self._silence >= MAX_SILENCE:
            self.abort("idle")
        return Failure(NoAnswer("no answer in time"))

    def dataReceived(self, data: bytes) -> None:
        self._bus.stats.bytes_in += len(data)
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except codec.Malformed:
            self._bus.stats.malformed += 1
            self.abort("malformed")

    def _take(self, frame: codec.Frame) -> None:
        self._bus.stats.messages_in += 1
        waiting = self._waiting
        if waiting is None or waiting[0][:2] != frame[:2]:
            self._bus.counts.strays += 1
            return
        if frame.pdu[0] & 0x7F != waiting[0].pdu[0]:
            raise codec.Malformed("the answer to something else")
        answer = codec.answer(frame.pdu)
        self._waiting = None
        self._silence = 0
        waiting[1].callback(answer)

    def abort(self, reason: str) -> None:
        """Cut it; called by the broker, too, when it stops."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._bus.lost(self)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting[1].errback(NoAnswer("the connection was lost"))


class Bus:
    """A host and a port. ``connections`` is the listener's set of what is open."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        host: str,
        port: int,
        stats: ListenerStats,
        counts: Counts,
        connections: set[BusConnection],
    ) -> None:
        self.reactor = reactor
        self.stats = stats
        self.counts = counts
        #: How many devices use it.
        self.users = 0
        self._settings = settings
        self._connections = connections
        self._connection: BusConnection | None = None
        self._turn = DeferredLock()
        self._service = ClientService(
            HostnameEndpoint(reactor, host, port, timeout=settings.timeout),
            Factory.forProtocol(lambda: BusConnection(self)),
            retryPolicy=backoffPolicy(FIRST_PAUSE, max(FIRST_PAUSE, settings.reconnect_max)),
            clock=reactor,
        )

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def start(self) -> None:
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """Fires when the connection is gone."""
        stopped: Deferred[None] = self._service.stopService()
        return stopped

    async def ask(self, unit: int, request: ModbusPDU) -> ModbusPDU:
        """One request, when it is its turn. Raises NoAnswer, Refused."""
        await self._turn.acquire()
        try:
            if self._connection is None:
                raise NoAnswer("there is no connection")
            answer = await self._connection.ask(unit, request, self._settings.timeout)
        finally:
            self._turn.release()
        if not answer.isError():
            return answer
        if answer.exception_code in codec.NOT_THERE:
            raise NoAnswer(codec.EXCEPTIONS[answer.exception_code])
        raise Refused(answer.exception_code)

    # -- from the connection ---------------------------------------------------------------------------------------

    def made(self, connection: BusConnection) -> None:
        self._connection = connection
        self._connections.add(connection)
        self.stats.accepted += 1

    def lost(self, connection: BusConnection) -> None:
        self._connections.discard(connection)
        if self._connection is connection:
            self._connection = None
            self.stats.close("connection_lost")
