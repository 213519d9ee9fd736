"""Simulated Gizwits devices against both real listeners, in memory, with SQLite behind them and a clock that jumps.

Time goes from one scheduled call to the next, so that a day of pings and reports takes seconds; whenever somebody may
be waiting for storage, storage is waited for first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from broker.applications.gizwits import Settings, build
from broker.model.records import Product
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_traits import GizwitsBehaviour, GizwitsIdentity
from tests.applications.mqtt.bed import Bed as MqttBed
from tests.devices.gizwits.bed import MAC, PRODUCT, Listening

reactor: Any = _reactor
#: Milliseconds that storage may need for one request.
LOOKS = 10_000
PEER = IPv4Address("TCP", "192.0.2.9", 40000)


class Pool:
    """Threads that are done at once."""

    def callInThreadWithCallback(self, done: Callable[[bool, Any], None], call: Any, *given: Any, **more: Any) -> None:
        try:
            result = call(*given, **more)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


class Pipe(StringTransport):
    """One end of a connection: what is written here is read there in the next turn, all that there is in one piece."""

    clock: Clock
    reader: Protocol
    other: Pipe

    def __init__(self, way: Way) -> None:
        super().__init__(peerAddress=PEER)  # type: ignore[no-untyped-call]  # not annotated
        self.way = way
        #: It has written something.
        self.spoke = False
        self._written = b""

    def write(self, data: bytes) -> None:
        if not self._written:
            self.clock.callLater(0, self._deliver)
        self._written += data
        self.spoke = True
        self.way.stirred = True

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def _deliver(self) -> None:
        data, self._written = self._written, b""
        self.way.stirred = True
        if self.other.connected and data:
            self.other.reader.dataReceived(data)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.clock.callLater(0, self.cut)

    abortConnection = loseConnection

    def cut(self) -> None:
        """Both ends are gone."""
        self._deliver()
        for end in (self, self.other):
            if end.connected:
                end.connected = False
                end.reader.connectionLost(Failure(ConnectionDone()))


class Way:
    """An endpoint that leads to a listener; ``open`` False refuses connections. ``tries``: when each was made."""

    def __init__(self, clock: Clock, listener: Any) -> None:
        self.clock = clock
        self.listener = listener
        self.open = True
        self.tries: list[float] = []
        #: The servers' ends.
        self.ends: list[Pipe] = []
        #: Something was said since somebody last looked.
        self.stirred = False

    def connect(self, factory: Any) -> Deferred[Any]:
        self.tries.append(self.clock.seconds())
        self.stirred = True
        server = self.listener.buildProtocol(PEER) if self.open else None
        if server is None:
            return fail(ConnectionRefusedError())
        client = factory.buildProtocol(None)
        near, far = Pipe(self), Pipe(self)
        near.clock = far.clock = self.clock
        near.other, far.other = far, near
        near.reader, far.reader = client, server
        self.ends.append(far)
        client.makeConnection(near)
        server.makeConnection(far)
        return succeed(client)


class Bed(MqttBed):
    """With the product `PRODUCT`."""

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(folder)
        core = self.core
        core.reactor.getThreadPool = Pool
        core.reactor.callFromThread = lambda call, *given: call(*given)
        core.listeners["mqtt"] = self.server
        core.ports = lambda name: (("tcp", 1883),)
        self.gservice = build(core, Settings(**settings))
        self.http = Way(self.clock, self.gservice)
        self.mqtt = Way(self.clock, self.server)
        self.heard = Listening()
        core.router.listen(self.heard)
        self.told: list[tuple[float, str]] = []

    async def open(self, *devices: str) -> Bed:
        await super().open()
        await self.registry.add_product(Product(key=PRODUCT, name="lamp", protocol="gizwits"))
        await self.server.prepare()
        await self.gservice.prepare()
        return self

    def agent(self, mac: str = MAC, seed: int = 0, **behaviour: Any) -> SimulatedGizwits:
        device = SimulatedGizwits(
            self.clock,
            self.http,
            "api.gizwits.com",
            self._m2m,
            GizwitsIdentity(PRODUCT, mac),
            seed,
            GizwitsBehaviour(**{"report_every": 0, "strict": True, **behaviour}),
            lambda device, what: self.told.append((self.clock.seconds(), what)),
        )
        device.start()
        return device

    async def stop(self, device: SimulatedGizwits) -> None:
        """Switch it off; it takes no time."""
        stopped = device.stop()
        await self.pass_time(0)
        assert stopped.called

    def _m2m(self, host: str, port: int) -> Way:
        assert (host, port) == ("api.gizwits.com", 1883), (host, port)
        return self.mqtt

    async def pass_time(self, seconds: float) -> None:
        """From one call that is due to the next."""
        self.flush()
        end = self.clock.seconds() + seconds
        ticked = 0.0
        while True:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end + 1)
            # A little more: the sum of two floats may be a little less than what is due.
            self.clock.advance(max(0.0, min(due, end) - self.clock.seconds()) + 1e-6)
            self.flush()
            now = self.clock.seconds()
            if now >= ticked + 1:
                self.core.commands.tick()
                self.server.tick()
                self.gservice.tick()
                ticked = now
            while self.http.stirred or self.mqtt.stirred:
                await self._storage()
            if now >= end and due > end:
                return

    async def _storage(self) -> None:
        """What was asked of storage is answered."""
        self.http.stirred = self.mqtt.stirred = False
        for _ in range(LOOKS):
            self.clock.advance(0)
            self.flush()
            if self.http.stirred or self.mqtt.stirred or not self._waiting():
                return
            await deferLater(reactor, 0.001)
        raise AssertionError("a listener does not answer")

    def _waiting(self) -> bool:
        """Whether somebody has asked for something, and is not answered."""
        for way in (self.http, self.mqtt):
            way.ends = [end for end in way.ends if end.connected]
        return any(not end.spoke for end in (*self.http.ends, *self.mqtt.ends))
