"""kill -9 of the broker and of its Redis, and a Redis that is away: `python -m tests.redis_storm --kills 50`.

The clients and what must hold are those of `tests.ledger`. Absences of Redis are shorter and longer than what the
broker waits for: so some are noticed by nobody, and in others clients are refused what is perhaps done all the same.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.kill_storm import LONGEST_LIFE, Storm
from tests.ledger import storm_arguments
from tests.redis_server import RedisServer

#: Seconds that the broker waits for Redis, and the longest absence.
DOUBT = 0.3
LONGEST_ABSENCE = 0.8


class RedisStorm(Storm):
    """A storm over a broker on Redis, which has a server of its own in ``folder``."""

    def __init__(self, folder: Path, seed: int, pairs: int = 1) -> None:
        self.redis = RedisServer(folder / "redis")
        self.redis.start()
        settings = {
            "storage.url": json.dumps(self.redis.url),
            "redis.doubt_timeout": str(DOUBT),
            "redis.reply_timeout": "0.5",
            "redis.retry_first": "0.02",
            "redis.retry_longest": "0.1",
        }
        super().__init__(folder, seed, pairs, settings)
        for client in self.clients:
            client.may_be_refused = True
        self.absences = 0

    def lose_redis(self) -> None:
        """Load until Redis is killed or stopped, load while it is away, and load when it is back."""
        chance = self._random
        self._load(chance.uniform(0.0, LONGEST_LIFE))
        stopped = chance.random() < 0.5
        if stopped:
            self.redis.suspend()
        else:
            self.redis.kill()
        self._load(chance.uniform(0.0, LONGEST_ABSENCE))
        if stopped:
            self.redis.resume()
        else:
            self.redis.start()
        self.absences += 1

    def _load(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()


def storm(folder: Path, kills: int, seed: int, pairs: int = 1) -> str:
    """So many kills, and as many absences; what was done. Raises AssertionError."""
    weather = RedisStorm(folder, seed, pairs)
    try:
        for _ in range(kills):
            weather.lose_redis()
            weather.live_and_die()
        weather.finish()
        return f"{weather.figures()}; {weather.absences} absences of Redis"
    except AssertionError as error:
        error.add_note(f"the seed was {seed}; so far {weather.figures()}")
        raise
    finally:
        weather.broker.kill()
        weather.redis.remove()


def main() -> int:
    arguments = storm_arguments("tests.redis_storm", (__doc__ or "").split("\n\n")[0], 30)
    with tempfile.TemporaryDirectory() as folder:
        print(storm(Path(folder), arguments.kills, arguments.seed, arguments.pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
