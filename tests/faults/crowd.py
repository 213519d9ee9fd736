"""Simulated devices and applications on the reactor, as `broker.simulate` has them, that go to any process.

The storm has a thread of its own; everything here that is not `Crowd` itself belongs to the reactor's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import globalLogPublisher
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.real import RealBroker

#: Seconds to establish a connection, and that a device may be silent until it goes elsewhere.
CONNECT_TIMEOUT = 3.0
SILENCE = 5.0
#: Seconds between two moments at which somebody may leave.
BEAT = 1.0


#: Twisted's has no types.
_Wrapper: Any = ProtocolWrapper
_Wrapping: Any = WrappingFactory


class _Cuttable(_Wrapper):  # type: ignore[misc]  # see above
    """A connection that can be cut in the middle of what its client says next."""

    cutting = False

    def write(self, data: bytes) -> None:
        if self.cutting:
            super().write(data[: len(data) // 2])
            self.loseConnection()
        else:
            super().write(data)

    def writeSequence(self, iovec: Sequence[bytes]) -> None:
        self.write(b"".join(iovec))

    def connectionMade(self) -> None:
        self.factory.place.connections.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:
        self.factory.place.connections.discard(self)
        super().connectionLost(reason)


class _Cutting(_Wrapping):  # type: ignore[misc]  # see above
    noisy = False
    protocol = _Cuttable

    def __init__(self, wrapped: Any, place: Anywhere) -> None:
        super().__init__(wrapped)
        self.place = place


@implementer(IStreamClientEndpoint)
class Anywhere:
    """Connects to any process that is there, another one each time. ``listener``: its name; ``tls``: its port of TLS.

    TLS itself is the client's to add.
    """

    def __init__(
        self, reactor: Any, brokers: list[RealBroker], listener: str, random: Random, *, tls: bool = False
    ) -> None:
        self.connections: set[_Cuttable] = set()
        self.cuts = 0
        self.made = 0
        self._reactor = reactor
        self._brokers = brokers
        self._listener = listener
        self._random = random
        self._tls = tls

    def ports(self) -> list[int]:
        """Where processes listen that are there."""
        found = [(one.tls_ports if self._tls else one.ports).get(self._listener) for one in self._brokers if one.ports]
        return [port for port in found if port is not None]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        ports = self.ports()
        if not ports:
            return fail(Refused("no process is there"))
        self.made += 1
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._random.choice(ports), CONNECT_TIMEOUT)
        connecting: Any = endpoint.connect(_Cutting(protocolFactory, self))
        unwrapped: Deferred[Any] = connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)
        return unwrapped

    def cut(self) -> None:
        """One connection ends within what is said on it next."""
        if self.connections:
            self.cuts += 1
            self._random.choice(sorted(self.connections, key=id)).cutting = True


class Member(Protocol):
    """What roams."""

    @property
    def online(self) -> bool: ...

    def disconnect(self) -> object:
        """Drop the connection, to come back by itself."""


class Roaming:
    """Once a second each of ``members`` drops its connection with a chance of ``rate``, and now and then one is cut.

    Who has been without a login for `SILENCE` seconds tries another process: one that is stopped takes connections and
    says nothing.
    """

    def __init__(self, reactor: Any, members: Sequence[Member], place: Anywhere, random: Random, rate: float) -> None:
        self._reactor = reactor
        self._members = members
        self._place = place
        self._random = random
        self._rate = rate
        self._since: dict[int, float] = {}
        #: Nobody leaves yet, or any more.
        self.staying = True
        self._beats = LoopingCall(self._beat)
        self._beats.clock = reactor

    def start(self) -> None:
        self._beats.start(BEAT, now=False)

    def stop(self) -> None:
        if self._beats.running:
            self._beats.stop()

    def _beat(self) -> None:
        now = self._reactor.seconds()
        for number, member in enumerate(self._members):
            if not member.online:
                if now - self._since.setdefault(number, now) > SILENCE:
                    self._since[number] = now
                    member.disconnect()
                continue
            self._since.pop(number, None)
            if not self.staying and self._random.random() < self._rate:
                if self._random.random() < 0.3:
                    self._place.cut()
                else:
                    member.disconnect()


class Crowd:
    """The storm's way to the reactor, which has to run in another thread."""

    def __init__(self, reactor: Any, brokers: list[RealBroker], random: Random) -> None:
        self.reactor = reactor
        self.brokers = brokers
        self.random = random
        #: What devices or applications raised that they should not have: tracebacks.
        self.faults: list[str] = []
        # Any callable is one; the interface says so, and no type can.
        self._observer = cast(Any, self._logged)
        globalLogPublisher.addObserver(self._observer)

    def end(self) -> None:
        """Listen no more."""
        globalLogPublisher.removeObserver(self._observer)

    def _logged(self, event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.faults.append(failure.getTraceback())

    def anywhere(self, listener: str, *, tls: bool = False) -> Anywhere:
        return Anywhere(self.reactor, self.brokers, listener, self._own_random(), tls=tls)

    def roaming(self, members: Sequence[Member], place: Anywhere, rate: float) -> Roaming:
        return Roaming(self.reactor, members, place, self._own_random(), rate)

    def _own_random(self) -> Random:
        """Of the seed, and used by one thread."""
        return Random(self.random.random())

    def call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Do it there, and wait for what it gives, raises, or what its Deferred fires with."""
        return blockingCallFromThread(self.reactor, maybeDeferred, call, *arguments)

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """The same with a coroutine."""
        return self.call(lambda: Deferred.fromCoroutine(work()))
