"""kill -9 of the real broker at random moments under load: `python -m tests.kill_storm --kills 100`.

The clients and what must hold are those of `tests.ledger`: nothing acknowledged is missing, nothing comes out of its
order, nothing twice at QoS 2, and at the end the broker owes nobody anything. Besides the kills, a client now and then
drops its connection by itself.
"""

from __future__ import annotations

import selectors
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import cast

from broker.mqtt import packets as p
from tests.ledger import USER, Client, Ledger, storm_arguments
from tests.real import RealBroker, eventually

#: Seconds between a start and the kill after it, at most.
LONGEST_LIFE = 0.5


class Storm:
    """The broker in ``folder`` and its clients. ``pairs`` of each QoS and version; ``settings`` of the broker."""

    def __init__(self, folder: Path, seed: int, pairs: int = 1, settings: Mapping[str, str] | None = None) -> None:
        self._random = Random(seed)
        self.broker = RealBroker(folder, {"history.enabled": "false", **(settings or {})})
        self.broker.start()
        secret = self.broker.made("/applications", {"id": USER, "kind": "mqtt"})["secret"]
        self.ledger = Ledger(secret, pairs)
        self.clients = self.ledger.clients
        #: Seconds that the starts took.
        self.starts: list[float] = []
        #: Kills after which something had to be sent again.
        self.hits = 0

    # -- the clients' side -----------------------------------------------------------------------------------------

    def turn(self, publishing: bool = True) -> None:
        """Everybody reads and sends once, and comes back if it has no connection."""
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                if client.socket is not None or client.connect(self.broker.ports["mqtt"]):
                    assert client.socket is not None
                    selector.register(client.socket, selectors.EVENT_READ, client)
            for key, _ in selector.select(0.01):
                cast(Client, key.data).readable()
        if publishing:
            self.ledger.work()

    def live_and_die(self) -> None:
        """Load until the broker is killed at some moment, and a new start."""
        life = self._random.uniform(0.0, LONGEST_LIFE)
        dropped = self._random.uniform(0.0, 2 * LONGEST_LIFE)
        ending = threading.Timer(life, self.broker.kill)
        began = time.monotonic()
        before = self.ledger.resent
        ending.start()
        while ending.is_alive():
            self.turn()
            if time.monotonic() - began > dropped:
                dropped = float("inf")
                self._random.choice(self.clients).drop()
        while any(client.socket is not None for client in self.clients):  # what the broker said before it died
            for client in self.clients:
                client.readable()
        self.hits += self.ledger.resent > before
        began = time.monotonic()
        self.broker.start()
        self.starts.append(time.monotonic() - began)

    def finish(self) -> None:
        """Wait until all is delivered; then a last start, after which nothing is owed. Raises AssertionError."""
        try:
            eventually(self._delivered, "everything is delivered")
        finally:
            self.ledger.check()  # it says what is missing
        assert self.broker.stop() == 0
        for client in self.clients:
            client.drop()
        self.broker.start()
        for client in self.clients:
            client.pongs = 0
        eventually(self._welcomed, "everybody is back")
        for client in self.clients:
            client.send(p.PingReq())
        eventually(self._answered, "everybody is answered")
        self.ledger.check()
        assert self.broker.stop() == 0
        output = "\n".join(self.broker.output)
        assert "Traceback" not in output and "Unhandled" not in output, output[-3000:]
        for client in self.clients:
            client.drop()

    def _delivered(self) -> bool:
        self.turn(publishing=False)
        return self.ledger.delivered()

    def _welcomed(self) -> bool:
        self.turn(publishing=False)
        return all(client.welcome for client in self.clients)

    def _answered(self) -> bool:
        self.turn(publishing=False)
        return all(client.pongs for client in self.clients)

    def figures(self) -> str:
        return (
            f"{self.ledger.figures()}, {self.hits} of {len(self.starts)} lives began with some; "
            f"starts up to {max(self.starts, default=0.0):.2f} s"
        )


def storm(folder: Path, kills: int, seed: int, pairs: int = 1) -> str:
    """So many kills; what was done. Raises AssertionError."""
    weather = Storm(folder, seed, pairs)
    try:
        for _ in range(kills):
            weather.live_and_die()
        weather.finish()
        return weather.figures()
    except AssertionError as error:
        error.add_note(f"the seed was {seed}; so far {weather.figures()}")
        raise
    finally:
        weather.broker.kill()


def main() -> int:
    arguments = storm_arguments("tests.kill_storm", (__doc__ or "").split("\n\n")[0], 100)
    with tempfile.TemporaryDirectory() as folder:
        print(storm(Path(folder), arguments.kills, arguments.seed, arguments.pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
