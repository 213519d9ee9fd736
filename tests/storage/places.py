"""A storage by where it is: for tests, and their child processes, that run on each kind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from broker.storage.redis.address import is_redis, parse_address
from broker.storage.redis.settings import RedisTable
from broker.storage.redis.storage import RedisStorage
from broker.storage.sqlite import SqliteStorage

#: It is waited for while a test starts it again, which may take a while on a busy machine.
PATIENT: dict[str, Any] = {"retry_first": 0.02, "retry_longest": 0.1, "doubt_timeout": 60.0, "connect_timeout": 60.0}


def storage_at(where: str) -> SqliteStorage | RedisStorage:
    """``where``: the path of a SQLite database, or the URL of a Redis. Not yet open."""
    if is_redis(where):
        return RedisStorage(parse_address(where), RedisTable(**PATIENT), reactor, time.time)
    return SqliteStorage(Path(where), reactor, time.time)
