"""MQTT clients that know several broker processes and go to any of them: what they do, and what they must not see.

The sessions, what is sent again and what is counted are those of `tests.ledger`. A client here asks for signs of
life, as a process that is stopped keeps its connections; it drops its connection by itself, sometimes in the middle of
a packet; and it takes its own session over while its old connection is still there, as a client does that has changed
networks: the old connection (`Ghost`) has to be closed by the broker.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from random import Random

from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.ledger import Client
from tests.real import RealBroker

#: Seconds: between two signs of life, without one until a client goes elsewhere, and from CONNECT to CONNACK.
PING_EVERY = 0.5
SILENCE = 2.5
WELCOME = 4.0
#: Seconds between two attempts.
AGAIN = 0.05


class Ghost:
    """A connection that its client has left for another, without closing it."""

    def __init__(self, name: str, left: socket.socket, broker: RealBroker) -> None:
        self.name = name
        left.setblocking(False)
        self.socket = left
        self.broker = broker
        #: Seconds that it has lived since its client was welcome elsewhere: while its process could act, and in all.
        self.lived = self.lived_in_all = 0.0
        self.welcomed = False
        #: A life of its process; another life has no such connection.
        self.pid = broker.pid

    def closed(self) -> bool:
        """Whether the broker has ended it. What it still sends is of no interest, as its client is elsewhere."""
        try:
            while data := self.socket.recv(1 << 16):
                assert data
        except BlockingIOError:
            return False
        except OSError:
            pass  # reset: closed all the same
        self.socket.close()
        return True


class Roaming:
    """``client`` with a connection to one of ``brokers``, chosen at random each time."""

    def __init__(self, client: Client, brokers: list[RealBroker], random: Random) -> None:
        self.client = client
        client.may_be_refused = True
        self.place: RealBroker | None = None
        self.ghosts: list[Ghost] = []
        self.moves = 0
        #: What the longest of them lived, likewise.
        self.longest = self.longest_of_all = 0.0
        self._brokers = brokers
        self._random = random
        self._since = self._heard = self._asked = 0.0
        self._pongs = 0
        self._again = 0.0

    def name_of_place(self) -> str:
        """The process that it is connected to, or was last."""
        return "" if self.place is None else str(json.loads(self.place.settings["broker.name"]))

    def look(self) -> None:
        """Connect if there is no connection; ask for a sign of life; leave what has given none."""
        client, now = self.client, time.monotonic()
        if client.socket is None:
            if now >= self._again:
                self._connect(now)
        elif not client.welcome:
            if now - self._since > WELCOME:
                client.drop()
        else:
            for ghost in self.ghosts:
                ghost.welcomed = True
            if client.pongs != self._pongs or not self._heard:
                self._pongs, self._heard = client.pongs, now
            if now - self._heard > SILENCE:
                client.drop()
            elif now - self._asked > PING_EVERY:
                self._asked = now
                client.send(p.PingReq())

    def _connect(self, now: float) -> None:
        self.place = self._random.choice(self._brokers)
        self._again = now + AGAIN
        self._since, self._heard = now, 0.0
        port = self.place.ports.get("mqtt")
        if port is not None and self.client.connect(port):
            self.moves += 1

    def drop_within(self) -> None:
        """Lose the connection in the middle of a packet that the broker has not wholly got."""
        client = self.client
        if client.socket is None or not client.welcome:
            return
        # A packet of no consequence: half of it must not be taken for a message.
        whole = encode(p.Publish("half/of/it", b"x" * 400, 1, 65_000), client.version)
        try:
            client.socket.sendall(whole[: self._random.randrange(1, len(whole))])
        except OSError:
            pass  # lost already, which is as good
        client.drop()

    def take_over(self) -> None:
        """Come again over a new connection and leave the old one open."""
        client = self.client
        if client.socket is None or not client.welcome or self.place is None or not self.place.ports:
            return
        self.ghosts.append(Ghost(client.name, client.socket, self.place))
        client.socket, client.welcome = None, False
        self._again = 0.0

    def exorcise(self, elapsed: float, frozen: Callable[[Ghost], bool], longest: float) -> None:
        """Raises AssertionError if an old connection goes on while its client is welcome elsewhere."""
        for ghost in list(self.ghosts):
            if ghost.closed():
                self.ghosts.remove(ghost)
                continue
            if not ghost.welcomed:
                continue
            ghost.lived_in_all += elapsed
            self.longest_of_all = max(self.longest_of_all, ghost.lived_in_all)
            if frozen(ghost):
                continue
            ghost.lived += elapsed
            self.longest = max(self.longest, ghost.lived)
            assert ghost.lived < longest, (
                f"{ghost.name} is welcome elsewhere, and {ghost.lived:.1f} s later its old connection to "
                f"{ghost.broker.settings['broker.name']} is not closed: two have its session"
            )
