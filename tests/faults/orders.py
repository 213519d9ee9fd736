"""Commands to NovaCloud devices that move between processes, ordered through the HTTP API of any of them.

An order counts when it was answered 202: from then on its command has to end as it is stated: carried out and
answered, sent and timed out, or expired before it was sent. A device must not get it twice.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.real import RealBroker

TOKEN = "admin"
#: Seconds: for the device's first answer; that a command may wait for long, and shortly; for an answer of the API.
TIMEOUT = 4
LONG = 3600
SHORT = 2
API_PATIENCE = 3.0
#: Seconds: that a device waits to be let in, between two attempts, and that it stays on average: shorter than what the
#: guide calls a sign of life, so that a process that is stopped keeps nobody.
SILENCE = 3.0
STAY = 3.0
AGAIN = 0.1
#: What an API that takes no work now may answer, to what is allowed.
REFUSALS = frozenset({429, 500, 503})


def call_api(broker: RealBroker, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and decoded answer. Raises OSError or HTTPException when there is none."""
    port = broker.ports.get("http")
    if port is None:
        raise ConnectionRefusedError("the process is down")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=API_PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


class Device:
    """A NovaCloud device: it answers what it is told, is away now and then, and comes back anywhere."""

    def __init__(self, id: str, key: str, brokers: list[RealBroker], random: Random) -> None:
        self.id = id
        self._key = key
        self._brokers = brokers
        self._random = random
        self.socket: socket.socket | None = None
        self.online = False
        #: Not to be away any more.
        self.staying = False
        #: command id -> how often it came; the ids of those that were answered
        self.received: Counter[str] = Counter()
        self.answered: set[str] = set()
        self._rest = b""
        self._heard = self._again = self._leaves = 0.0
        self._due: list[tuple[float, str]] = []

    def look(self, now: float) -> None:
        """Connect if there is no connection, leave if it is time, answer what is due."""
        if self.socket is None:
            if now >= self._again:
                self._connect(now)
        elif not self.online and now - self._heard > SILENCE:
            self.drop()
        elif self.online and now >= self._leaves and not self.staying:
            self.drop(self._random.uniform(0.0, 2.0))
        elif self.online:
            for due, command in list(self._due):
                if now >= due and self.socket is not None:
                    self._due.remove((due, command))
                    answer = {"type": "command_response", "command_id": command, "status": "success", "payload": {}}
                    self.answered.add(command)
                    self._say(answer)

    def drop(self, away: float = 0.0) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket, self.online, self._due = None, False, []
        self._again = time.monotonic() + away

    def _connect(self, now: float) -> None:
        self._again, self._heard, self._rest = now + AGAIN, now, b""
        port = self._random.choice(self._brokers).ports.get("novacloud")
        try:
            if port is not None:
                self.socket = socket.create_connection(("127.0.0.1", port), API_PATIENCE)
        except OSError:
            return  # it is down; another time
        self._say({"type": "auth", "payload": {"device_id": self.id, "device_key": self._key}})

    def _say(self, message: dict[str, Any]) -> None:
        try:
            if self.socket is not None:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.drop()

    def readable(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._got(json.loads(line))

    def _got(self, message: dict[str, Any]) -> None:
        if message["type"] == "auth_response":
            if message["payload"]["status"] != "success":
                self.drop()
                return
            self.online = True
            self._leaves = self._heard + self._random.expovariate(1 / STAY)
        elif message["type"] == "command":
            self.received[message["command_id"]] += 1
            self._due.append((self._heard + self._random.choice((0.0, 0.2)), message["command_id"]))


@dataclass(frozen=True, slots=True)
class Order:
    """A command that was taken."""

    id: str
    device: Device
    expires: int
    taken_by: str
    at: float


class Orders:
    """Orders commands in threads of its own, one after the other in each, until `stop`."""

    def __init__(self, devices: list[Device], brokers: list[RealBroker], seed: int, threads: int = 2) -> None:
        self._devices = devices
        self._brokers = brokers
        self.taken: list[Order] = []
        self.refused: Counter[int] = Counter()
        self.unanswered = 0
        #: Answers that are none of those that are allowed.
        self.odd: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(Random(seed + one),)) for one in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Harmless twice."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, random: Random) -> None:
        while not self._stopping.wait(random.uniform(0.0, 0.1)):
            device, broker = random.choice(self._devices), random.choice(self._brokers)
            expires = LONG if random.random() < 0.8 else SHORT
            body = {"payload": {"power": "on"}, "timeout": TIMEOUT, "expires": expires}
            try:
                status, answer = call_api(broker, "POST", f"/devices/{device.id}/commands", body)
            except (OSError, http.client.HTTPException):
                self.unanswered += 1  # perhaps taken, perhaps not: nothing was promised
                continue
            if status == 202:
                name = json.loads(broker.settings["broker.name"])
                self.taken.append(Order(answer["id"], device, expires, name, time.time()))
            elif status in REFUSALS:
                self.refused[status] += 1
            else:
                self.odd.append(f"{status}: {answer}")

    # -- the account -----------------------------------------------------------------------------------------------

    def account(self, broker: RealBroker, known: dict[str, str]) -> list[Order]:
        """Ask about those that are not in ``known`` (command id -> final state) yet; those that are still open."""
        still: list[Order] = []
        for order in self.taken:
            if order.id in known:
                continue
            status, answer = call_api(broker, "GET", f"/commands/{order.id}")
            if status == 404:
                known[order.id] = "lost"
            elif status == 200 and answer["status"] not in ("queued", "sent", "pending"):
                known[order.id] = answer["status"]
            else:
                still.append(order)
        return still

    def faults(self, known: dict[str, str]) -> list[str]:
        """What is not as it is stated, a line for each. Not those of which the end is not known."""
        found = [f"the API answered {odd}" for odd in self.odd]
        for order in self.taken:
            copies = order.device.received[order.id]
            state = known.get(order.id, "open")
            right = {
                "succeeded": order.id in order.device.answered,
                "timed_out": True,
                "expired": not copies and order.expires == SHORT,
            }.get(state, False)
            if (state != "open" and not right) or copies > 1:
                found.append(
                    f"command {order.id} of {order.device.id}, taken by {order.taken_by} at {order.at:.3f}, "
                    f"expires {order.expires}: {state}, came {copies} times"
                )
        return found
