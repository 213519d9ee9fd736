"""A storage on the Redis that the tests of a process share."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor

from broker.storage.redis.address import parse_address
from broker.storage.redis.settings import RedisTable
from broker.storage.redis.storage import RedisStorage
from tests.redis_server import SharedServer

SERVER = SharedServer()
#: Nothing here is so slow that it would have to be waited for longer.
QUICK: dict[str, Any] = {"retry_first": 0.02, "retry_longest": 0.1, "keep_alive": 0.5}


def make_storage(prefix: str, url: str = "", node: str = "node-1", **settings: Any) -> RedisStorage:
    """Not yet open. ``settings``: of `RedisTable` and of the storage itself."""
    own = {name: settings.pop(name) for name in ("allow_volatile", "max_pending") if name in settings}
    table = RedisTable(prefix=prefix, **QUICK | settings)
    return RedisStorage(parse_address(url or SERVER.get().url), table, reactor, time.time, node=node, **own)
