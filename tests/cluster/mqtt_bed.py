"""MQTT servers of several processes in one: each with a node and a storage of its own over a real Redis."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

from broker.cluster.redis import RedisBackplane
from broker.mqtt import packets as p
from broker.mqtt.server import MqttListener
from broker.routing.outbox import Turn
from broker.storage.redis.address import parse_address
from broker.storage.redis.storage import RedisStorage
from tests.cluster.bed import Nodes, until
from tests.mqtt.fakes import Bench, Client, publishes


class NodeBench(Bench):
    """One process. `start` it."""

    def __init__(self, plane: RedisBackplane, storage: RedisStorage, **settings: Any) -> None:
        self.plane = plane
        self.storage = storage
        self.sent: list[str] = []
        storage.sessions.node = lambda: plane.node
        plane.quiesce = storage.abandon
        super().__init__(**settings)

    def _new_server(self) -> MqttListener:
        self.journal = self.storage.sessions  # type: ignore[assignment]
        self.clock = reactor  # type: ignore[assignment]
        return MqttListener(
            self.settings,
            self.topics,
            [],
            self.last,
            Turn(self.pending.append),
            reactor,
            time.time,
            time.monotonic,
            self.journal,
            self.plane,
        )

    @inlineCallbacks
    def start(self) -> Any:
        yield self.storage.open()
        yield self.plane.start()
        out: Any = self.server.elsewhere and self.server.elsewhere.out
        send = out.send

        def noted(stream: str, body: bytes) -> int:
            self.sent.append(stream)
            return int(send(stream, body))

        out.send = noted
        yield Deferred.fromCoroutine(self.server.prepare())

    @inlineCallbacks
    def came(self, client_id: str = "c", user: str = "u", **fields: Any) -> Any:
        """A client that is logged in, and its CONNACK."""
        client = self.open(version=fields.get("version", p.MQTT_3_1_1))
        client.send(p.Connect(client_id, user=user, password=b"secret", **fields))
        box = Inbox(client)
        yield until(lambda: box.packets or client.closed, f"a CONNACK for {client_id}")
        client.box = box  # type: ignore[attr-defined]
        return client, (box.packets.pop(0) if box.packets else None)


class Inbox:
    """All that a client is sent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._packets: list[Any] = []

    @property
    def packets(self) -> list[Any]:
        self._client.bench.flush()
        self._packets += self._client.got()
        return self._packets

    def published(self) -> list[tuple[str, bytes, int]]:
        return publishes(self.packets)

    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.published()]

    def wait(self, count: int) -> Any:
        return until(lambda: len(self.published()) >= count, f"{count} messages, not {self._packets}")


class Crowd:
    """Some processes; ``case`` is a trial TestCase."""

    def __init__(self, case: Any, **settings: Any) -> None:
        self.nodes = Nodes(case)
        self.settings = settings
        self.benches: list[NodeBench] = []
        case.addCleanup(self.stop)

    @inlineCallbacks
    def stop(self) -> Any:
        for bench in self.benches:
            if bench.plane.node:
                bench.server.stopping = True
            yield bench.storage.close()

    @inlineCallbacks
    def start(self, name: str, between: Any = None, **redis: Any) -> Any:
        """``between``: a `Between` on its storage's way to Redis; ``redis``: other settings of its storage."""
        plane = self.nodes.build(name)
        clock: Any = reactor
        address = plane._commands.address if between is None else parse_address(between.url)
        settings = msgspec.structs.replace(self.nodes.settings, **redis)
        storage = RedisStorage(address, settings, clock, time.time, node=name, allow_volatile=True)
        bench = NodeBench(plane, storage, **self.settings)
        self.benches.append(bench)
        yield bench.start()
        return bench

    @inlineCallbacks
    def settle(self) -> Any:
        """Until all know of all that was said."""
        for number, bench in enumerate(self.benches):
            if not bench.plane.node:
                continue
            heard: set[str] = set()
            for other in self.benches:
                other.plane.hear(f"settled-{number}", partial(_note, heard, other.plane))
            bench.plane.tell(f"settled-{number}", b"")
            living = {other.plane.node for other in self.benches if other.plane.node}
            yield until(partial(heard.issuperset, living), "all to have heard")


def _note(heard: set[str], plane: RedisBackplane, node: str, body: bytes) -> None:
    heard.add(plane.node)
