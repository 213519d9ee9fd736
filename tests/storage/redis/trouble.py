"""What tests of a storage on Redis in trouble have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.storage.redis.storage import RedisStorage
from tests.redis_server import RedisServer
from tests.storage.redis.between import Between
from tests.storage.redis.places import SERVER, make_storage

reactor: Any = reactor_module


class TroubleCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.prefix = SERVER.prefix()

    def make(self, url: str = "", node: str = "node-1", **settings: Any) -> RedisStorage:
        storage = make_storage(self.prefix, url, node, **settings)
        self.addCleanup(storage.close)
        return storage

    async def opened(self, url: str = "", node: str = "node-1", **settings: Any) -> RedisStorage:
        storage = self.make(url, node, **settings)
        await storage.open()
        return storage

    def server(self, settings: dict[str, str] | None = None) -> RedisServer:
        server = RedisServer(Path(self.mktemp()), settings)
        self.addCleanup(server.remove)
        server.start()
        return server

    def between(self) -> Between:
        between = Between(SERVER.get().port)
        self.addCleanup(lambda: Deferred.fromCoroutine(between.stop()))
        between.start()
        return between

    async def unavailable(self, answer: Any, kind: type[Unavailable] = Unavailable) -> str:
        with self.assertRaises(kind) as caught:
            await answer
        self.assertNotIn("\n", caught.exception.message)
        return str(caught.exception.message)

    async def id_of(self, looking: Any) -> str:
        found = await looking
        assert found is not None
        return str(found.id)

    async def until(self, condition: Any) -> None:
        """Look every few milliseconds; the test's own time-out bounds it."""
        while not condition():
            await deferLater(reactor, 0.005)

    def journal(self, storage: RedisStorage, change: str, command: Any) -> Deferred[Exception | None]:
        done: Deferred[Exception | None] = Deferred()
        getattr(storage, change)(command, done.callback)
        return done

    def ask(self, *arguments: str) -> bytes:
        """Redis itself, past the broker."""
        return SERVER.get().ask(*arguments)

    async def there(self, key: str) -> None:
        await self.until(lambda: self.ask("EXISTS", f"{self.prefix}:{key}") == b":1\r\n")
