"""MQTT servers of several processes in one: each with a node of its own over a real Redis, all over one journal."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

from broker.cluster.redis import RedisBackplane
from broker.cluster.wire import envelope
from broker.mqtt import packets as p
from broker.mqtt.interest import decode, encode
from broker.mqtt.journal import MemoryJournal
from broker.mqtt.server import MqttListener
from broker.routing.outbox import Turn
from tests.cluster.bed import Nodes, until
from tests.mqtt.fakes import Bench, Client, publishes

SHARED = ("sessions", "subscriptions", "wills", "queues", "incoming", "retained", "boxes")


class SharedMemoryJournal(MemoryJournal):
    """The journal of one process over what ``other`` keeps; what goes to other processes goes over Redis."""

    def __init__(self, plane: RedisBackplane, other: SharedMemoryJournal | None) -> None:
        super().__init__()
        self.plane = plane
        for name in SHARED if other is not None else ():
            setattr(self, name, getattr(other, name))
        self.on_send = self._to_redis
        self.sent = 0

    def _send(self, stream: str, body: bytes) -> None:
        if stream.startswith("box:") and int(stream[4:]) in self.sessions:
            self.boxes.setdefault(stream, {})[b"%020d" % time.monotonic_ns()] = body
        elif not stream.startswith("box:"):
            self.on_send(stream, body)

    def _to_redis(self, stream: str, body: bytes) -> None:
        self.sent += 1
        plane = self.plane
        data = envelope(plane.node, 0, [tuple(decode(body))]) if stream == "log" else encode([body])
        key = plane._prefix + stream
        plane._commands.call("XADD", key, *(() if stream == "log" else ("NOMKSTREAM",)), "*", "e", data)


class NodeBench(Bench):
    """One process. `start` it."""

    def __init__(self, plane: RedisBackplane, other: NodeBench | None, **settings: Any) -> None:
        self.plane = plane
        self._journal = SharedMemoryJournal(plane, None if other is None else other.journal)  # type: ignore[arg-type]
        super().__init__(**settings)

    def _new_server(self) -> MqttListener:
        self.journal = self._journal
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
        yield self.plane.start()
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

    @inlineCallbacks
    def start(self, name: str) -> Any:
        bench = NodeBench(self.nodes.build(name), self.benches[0] if self.benches else None, **self.settings)
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
                other.plane.hear(f"settled-{number}", lambda node, body, other=other: heard.add(other.plane.node))
            bench.plane.tell(f"settled-{number}", b"")
            living = {other.plane.node for other in self.benches if other.plane.node}
            yield until(lambda heard=heard, living=living: heard >= living, "all to have heard")
