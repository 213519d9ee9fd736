"""Our broker on a Redis of its own, which keeps everything on disk before it answers (AOF always), as brokers want it.

The figures are those of the broker's process; what Redis itself has used stands beside.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from benchmarks.children import Broker, Child, NotInstalled, free_port


class Redis(Child):
    """A Redis on a port of loopback and a folder of its own. ``keeps``: whether on disk, before it answers."""

    name = "redis"
    speaks = "redis"

    def __init__(self, keeps: bool = True) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise NotInstalled("apt install redis-server")
        super().__init__()
        self.port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        if keeps:
            options += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        self.start([binary, *options], self.port)


class BrokerOnRedis(Broker):
    """`Broker` with ``storage.url`` set. Raises NotInstalled where there is no Redis."""

    storage = "redis"

    def __init__(
        self, *, history: bool = False, reactor: str = "", more: Mapping[str, str] | None = None, own_user: bool = True
    ) -> None:
        self.redis = Redis()
        url = json.dumps(f"redis://127.0.0.1:{self.redis.port}/0")
        try:
            settings = {"storage.url": url, **(more or {})}
            super().__init__(history=history, reactor=reactor, more=settings, own_user=own_user)
        except BaseException:
            self.redis.stop()
            raise

    def storage_cpu(self) -> float:
        return self.redis.cpu()

    def stop(self) -> None:
        super().stop()
        self.redis.stop()
