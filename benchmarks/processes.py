"""Two broker processes on one Redis: what a message costs that crosses from one to the other, beside one process.

The publishers are at the one, their subscribers at the other, and the figure is the CPU of both. The peer is one
process with the same Redis and the same load, so the ratio is what crossing costs. Redis writes no disk here: with one,
batches would be larger and a message cheaper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from benchmarks.children import Broker, Child
from benchmarks.exactly import ExactlyPair
from benchmarks.pairs import AcknowledgedPair, Pair, Pairs
from benchmarks.redis import Redis
from benchmarks.shape import Shape, Target

#: Microseconds of CPU of both processes a message at 32 in flight (issue 10).
ACROSS: Final = 15.0


def broker_on(
    redis: Redis, name: str, first: Broker | None = None, cluster: bool = True, kind: type[Broker] = Broker
) -> Broker:
    """A process of its own. The ``first`` one's user is known to the others."""
    settings = {
        "broker.name": json.dumps(name),
        "cluster.enabled": json.dumps(cluster),
        "storage.url": json.dumps(f"redis://127.0.0.1:{redis.port}/0"),
        "storage.allow_volatile": "true",
    }
    broker = kind(more=settings, own_user=first is None)
    if first is not None:
        broker.password = first.password
    return broker


class OneProcess(Child):
    """All clients at one broker, which has no others."""

    name = "1 process"
    speaks = "processes"
    CLUSTER = False
    KIND: type[Broker] = Broker

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis(keeps=False)
        self.brokers: list[Broker] = []
        try:
            self.brokers.append(broker_on(self.redis, "a", cluster=self.CLUSTER, kind=self.KIND))
            self.grow()
        except BaseException:
            self.stop()
            raise
        self.mqtt_port = self.brokers[0].mqtt_port
        self.password = self.brokers[0].password

    def grow(self) -> None:
        """Start what else belongs to it."""

    @property
    def reader(self) -> Broker:
        """Where subscribers connect."""
        return self.brokers[-1]

    def cpu(self) -> float:
        return sum(broker.cpu() for broker in self.brokers)

    def storage_cpu(self) -> float:
        return self.redis.cpu()

    def stop(self) -> None:
        for broker in self.brokers:
            broker.stop()
        self.redis.stop()
        super().stop()


class TwoProcesses(OneProcess):
    """Publishers at one broker, subscribers at another."""

    name = "broker"
    speaks = ""
    storage = "redis"
    CLUSTER = True

    def __init__(self, *, history: bool = False, reactor: str = "", more: Mapping[str, str] | None = None) -> None:
        super().__init__()

    def grow(self) -> None:
        self.brokers.append(broker_on(self.redis, "b", self.brokers[0], kind=self.KIND))


def _pair(kind: type[Pair], reader: Broker, server: Any, number: int, window: int, lasting: bool) -> Pair:
    return kind(server, number, window, lasting, reader)


def pairs(kind: type[Pair], window: int = 32, count: int = 1, lasting: bool = False) -> Callable[[Any], Pairs]:
    """Publishers at the server, their subscribers at its ``reader``."""
    return lambda server: Pairs(server, count, kind.qos, window, lasting, partial(_pair, kind, server.reader))


def _across(kind: type[Pair], messages: int) -> Shape:
    return Shape(
        name=f"across-qos{kind.qos}",
        protocol="MQTT",
        title=f"to another process, QoS {kind.qos}, 32 in flight",
        make=pairs(kind),
        messages=messages,
        targets=(Target(ACROSS, 10),) if kind.qos < 2 else (),  # at QoS 2 one process alone costs as much
        peers="processes",
        storages=("processes",),
    )


PROCESSES: Final = (
    _across(Pair, 100_000),
    _across(AcknowledgedPair, 60_000),
    _across(ExactlyPair, 20_000),
    Shape(
        name="across-lasting",
        protocol="MQTT",
        title="the same to kept sessions, QoS 1",
        make=pairs(AcknowledgedPair, lasting=True),
        messages=40_000,
        peers="processes",
        storages=("processes",),
    ),
    Shape(
        name="across-single",
        protocol="MQTT",
        title="to another process, 100 pairs, QoS 1, single",
        make=pairs(AcknowledgedPair, 1, 100),
        messages=20_000,
        peers="processes",
        storages=("processes",),
    ),
)
