"""The storage that ``storage.url`` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.config import Config, sqlite_path
from broker.storage.redis.address import is_redis, parse_address
from broker.storage.redis.storage import RedisStorage
from broker.storage.sqlite import SqliteStorage


def storage_of(config: Config, reactor: Any, clock: Callable[[], float]) -> SqliteStorage | RedisStorage:
    """Not yet open. ``reactor``: as each of them wants it; ``clock``: UNIX seconds."""
    if not is_redis(config.storage.url):
        return SqliteStorage(sqlite_path(config), reactor, clock)
    return RedisStorage(
        parse_address(config.storage.url),
        config.redis,
        reactor,
        clock,
        node=config.broker.name,
        allow_volatile=config.storage.allow_volatile,
    )


def storage_kind(config: Config) -> str:
    """For people, without secrets."""
    url = config.storage.url
    return f"redis, {parse_address(url)}" if is_redis(url) else "sqlite"
