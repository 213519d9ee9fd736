"""Nodes over one real Redis, for the tests."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

from broker.cluster.redis import RedisBackplane
from broker.storage.redis.address import parse_address
from broker.storage.redis.settings import RedisTable
from tests.redis_server import RedisServer, SharedServer

SERVER = SharedServer({"appendfsync": "no"})
#: Seconds: long enough for a busy machine, short enough to wait for.
LEASE = 2.0


class Nodes:
    """``case`` is a trial TestCase: at its end all are stopped."""

    def __init__(self, case: Any, server: RedisServer | None = None, lease: float = LEASE) -> None:
        self.server = SERVER.get() if server is None else server
        self.settings = RedisTable(prefix=SERVER.prefix(), retry_longest=0.2, retry_first=0.05)
        self.lease = lease
        self.all: list[RedisBackplane] = []
        case.addCleanup(self.stop)

    def build(self, name: str) -> RedisBackplane:
        clock: Any = reactor
        plane = RedisBackplane(
            parse_address(self.server.url),
            self.settings,
            clock,
            name,
            self.lease,
            lambda call: clock.callLater(0, call),
            time.time,
            time.monotonic,
        )
        self.all.append(plane)
        return plane

    @inlineCallbacks
    def start(self, name: str) -> Any:
        plane = self.build(name)
        yield plane.start()
        return plane

    @inlineCallbacks
    def stop(self) -> Any:
        for plane in self.all:
            yield plane.stop()


def pause(seconds: float) -> Deferred[None]:
    over: Deferred[None] = Deferred()
    clock: Any = reactor
    clock.callLater(seconds, over.callback, None)
    return over


@inlineCallbacks
def until(condition: Any, what: str, seconds: float = 20.0) -> Any:
    """Wait for something that other processes or Redis bring about."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds} s: {what}")
        yield pause(0.01)
