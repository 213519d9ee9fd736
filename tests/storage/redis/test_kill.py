"""kill -9 at any moment, of the broker and of Redis: everything that was acknowledged is there.

What the child processes do is in `tests.storage.test_kill` and `tests.storage.test_session_kill`. When it is Redis that
is killed, the child lives on: what was under way at that moment is neither lost nor done twice, and the child hears of
no failure at all.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.redis_server import RedisServer
from tests.storage import test_kill, test_session_kill
from tests.storage.test_kill import Child, start

reactor: Any = reactor_module
REDIS_ROUNDS = 5


class _OnRedis:
    """Mixed into a test case: a server of its own."""

    server: RedisServer

    def setUp(self) -> None:
        case: Any = self
        self.server = RedisServer(Path(case.mktemp()))
        case.addCleanup(self.server.remove)
        self.server.start()

    def where(self) -> str:
        return self.server.url

    async def kill_redis(self, child: Child, chance: random.Random) -> None:
        """Several times, while the child works; then the child."""
        await child.began
        for _ in range(REDIS_ROUNDS):
            await deferLater(reactor, chance.uniform(0.01, 0.3))
            self.server.kill()
            await deferToThread(self.server.start)
        await deferLater(reactor, 0.2)
        child.kill()


class BrokerKilled(_OnRedis, test_kill.KillTests):
    async def test_redis_is_killed(self) -> None:
        child = start(test_kill.CHILD, Child(None), self.where(), "1000000")
        await self.kill_redis(child, random.Random(5))
        lines = await child.ended
        self.assertGreater(len(lines), 100)
        await self.check(self.where(), lines)


class BrokerWithSessionsKilled(_OnRedis, test_session_kill.KillTests):
    async def test_redis_is_killed(self) -> None:
        child = start(test_session_kill.CHILD, Child(None), self.where(), "1", "10000000")
        await self.kill_redis(child, random.Random(6))
        lines = await child.ended
        self.assertGreater(len(lines), 100)
        await self.check(self.where(), lines)
