"""Something between the broker and Redis that keeps bytes to itself or cuts connections, where a test wants it."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

reactor: Any = reactor_module


class Between:
    """``port`` leads to Redis.

    ``hears``: whether what the broker sends reaches Redis; ``says``: whether what Redis sends reaches the broker. What
    is held back is delivered by `release`, also if the broker has given up the connection meanwhile. ``takes``: whether
    new connections are taken.
    """

    def __init__(self, port: int) -> None:
        self.hears = self.says = self.takes = True
        self.pairs: list[Pair] = []
        self._redis = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._listening: Any = None
        self.port = 0

    def start(self) -> None:
        factory = Factory.forProtocol(lambda: Front(self))
        factory.noisy = False
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def connect(self, back: Protocol) -> Deferred[Any]:
        factory = Factory.forProtocol(lambda: back)
        factory.noisy = False
        connecting: Deferred[Any] = self._redis.connect(factory)
        return connecting

    def cut(self) -> None:
        """End all connections of the broker. What is held back of them may still be released."""
        for pair in self.pairs:
            pair.front_gone()

    def release(self) -> None:
        """Deliver to Redis what was held back."""
        for pair in self.pairs:
            pair.release()

    async def stop(self) -> None:
        await self._listening.stopListening()
        for pair in self.pairs:
            pair.front_gone()
            if pair.back.transport is not None:
                pair.back.transport.abortConnection()


class Back(Protocol):
    transport: Any

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def connectionMade(self) -> None:
        self.pair.release()

    def dataReceived(self, data: bytes) -> None:
        self.pair.from_redis(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.pair.front_gone()


class Front(Protocol):
    transport: Any

    def __init__(self, between: Between) -> None:
        self.between = between

    def connectionMade(self) -> None:
        if not self.between.takes:
            self.transport.abortConnection()
            return
        self.pair = Pair(self.between, self)
        self.between.pairs.append(self.pair)

    def dataReceived(self, data: bytes) -> None:
        self.pair.to_redis(data)


class Pair:
    """One connection of the broker, and the one to Redis that belongs to it."""

    def __init__(self, between: Between, front: Front) -> None:
        self.between = between
        self.front: Front | None = front
        self.back = Back(self)
        self.held: list[bytes] = []
        between.connect(self.back).addErrback(lambda _: self.front_gone())

    def to_redis(self, data: bytes) -> None:
        if self.back.transport is None or not self.between.hears:
            self.held.append(data)
        else:
            self.back.transport.write(data)

    def from_redis(self, data: bytes) -> None:
        if self.front is not None and self.between.says:
            self.front.transport.write(data)

    def release(self) -> None:
        if self.back.transport is not None:
            self.back.transport.write(b"".join(self.held))
            self.held = []

    def front_gone(self) -> None:
        front, self.front = self.front, None
        if front is not None:
            front.transport.abortConnection()
