"""Running a shape against its servers, and what comes out of it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from benchmarks.children import Aedes, Amqtt, BenchmarkError, Broker, Child, Mosquitto, Nats, NotInstalled
from benchmarks.gizwits import PublishServer
from benchmarks.pairs import Load
from benchmarks.processes import OneProcess, TwoProcesses
from benchmarks.redis import BrokerOnRedis
from benchmarks.shape import Shape, Storage, Work
from benchmarks.tls import MosquittoTls, OpensslServer

Peer = (
    type[Mosquitto]
    | type[Nats]
    | type[Aedes]
    | type[Amqtt]
    | type[OpensslServer]
    | type[PublishServer]
    | type[OneProcess]
)
PEERS: tuple[Peer, ...] = (Mosquitto, Nats, Aedes, Amqtt, OpensslServer, MosquittoTls, PublishServer, OneProcess)
#: History is written up to a second later (DESIGN §10): that work is the messages' too.
SETTLE = 1.5


@runtime_checkable
class Prepared(Protocol):
    """Work that has to be set up before each run, which is not measured."""

    def prepare(self, messages: int) -> None: ...


@dataclass(slots=True)
class Result:
    """One server's figures for one shape, a figure a repetition, in the shape's unit."""

    shape: Shape
    server: str
    #: Where it keeps what it has to; empty for peers.
    storage: str = ""
    figures: list[float] = field(default_factory=list)
    #: CPU of a storage that is a process of its own.
    stored: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def best(self) -> float:
        return min(self.figures)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def is_ours(self) -> bool:
        return bool(self.storage)

    def percentile(self, share: float) -> float | None:
        """In milliseconds, of all repetitions together."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3 if ordered else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.shape.name,
            "protocol": self.shape.protocol,
            "title": self.shape.title,
            "server": self.server,
            "storage": self.storage or None,
            "unit": self.shape.unit,
            "min": self.best,
            "median": self.median,
            "figures": self.figures,
            "storage_us": min(self.stored) if any(self.stored) else None,
            "messages_per_second": max(self.rates),
            "client_us": min(self.client),
            "p50_ms": self.percentile(0.5),
            "p99_ms": self.percentile(0.99),
            "lost": self.lost,
            "longest_ms": self.percentile(1.0),
        }


#: What is measured for each storage.
OURS: Mapping[type[Child], str] = {Broker: "sqlite", BrokerOnRedis: "redis", TwoProcesses: "redis"}
KINDS: Mapping[Storage, type[Broker] | type[TwoProcesses]] = {
    "sqlite": Broker,
    "redis": BrokerOnRedis,
    "processes": TwoProcesses,
}


class Entrant:
    """One server with its load and its figures."""

    def __init__(self, shape: Shape, server: Child) -> None:
        self.server = server
        self.result = Result(shape, server.name, OURS.get(type(server), ""))
        self._shape = shape
        self._work: Work | None = None

    def warm_up(self, messages: int) -> None:
        """Set up the load and pass some of it. Raises BenchmarkError."""
        self._work = self._shape.make(self.server)
        count = scaled(messages, self.server) // 4 or 1
        if isinstance(self._work, Prepared):
            self._work.prepare(count)
        self._work.run(count)

    def repeat(self, messages: int) -> None:
        """One repetition. Raises BenchmarkError."""
        assert self._work is not None
        repeat(self._shape, self.server, self._work, scaled(messages, self.server), self.result)

    def close(self) -> None:
        if self._work is not None:
            self._work.close()
        self.server.stop()


class Peers:
    """The peers that are here. What is not is said once."""

    def __init__(self, wanted: Sequence[str], say: Callable[[str], None]) -> None:
        self._kinds = [kind for kind in PEERS if kind.name in wanted]
        self._say = say
        self._missing: set[str] = set()

    def enter(self, shape: Shape, entrants: list[Entrant]) -> None:
        """Add a fresh process of each."""
        for kind in [kind for kind in self._kinds if kind.speaks == shape.peers]:
            try:
                entrants.append(Entrant(shape, kind()))
            except NotInstalled as error:
                self._kinds.remove(kind)
                self.missing(kind.name, error)
            except BenchmarkError as error:
                self._say(f"({kind.name} is not measured: {error})")

    def missing(self, name: str, error: NotInstalled) -> None:
        """Something is not installed. Said once."""
        if name not in self._missing:
            self._missing.add(name)
            self._say(f"({name} is not measured, it is not installed: {error})")

    def drop(self, entrant: Entrant, error: Exception) -> None:
        """A peer did not do its work."""
        self._say(f"({entrant.server.name} is left out: {error})")


def measure(
    shape: Shape, peers: Peers, repetitions: int, share: float, reactor: str, told: Callable[[str], object] = str
) -> list[Result]:
    """All servers in turn within each repetition, so that a slow moment of the machine hits all of them.

    The first results are ours, one for each storage. ``told``: what is being done. Raises BenchmarkError when our
    broker fails; a peer that does is left out.
    """
    # Seconds of the whole stand against a target for the whole: that is never a part.
    messages = shape.messages if shape.unit == "s" else max(1, int(shape.messages * share))
    repetitions = min(repetitions, shape.most or repetitions)
    steps: list[tuple[str, Callable[[Entrant], None]]] = [("warm-up", lambda entrant: entrant.warm_up(messages))]
    steps += [
        (f"repetition {number + 1} of {repetitions}", lambda entrant: entrant.repeat(messages))
        for number in range(repetitions)
    ]
    entrants: list[Entrant] = []
    failed: list[Entrant] = []
    try:
        for storage in shape.storages:
            try:
                kind = KINDS[storage]
                entrants.append(Entrant(shape, kind(history=shape.history, reactor=reactor, more=shape.settings)))
            except NotInstalled as error:
                peers.missing(storage, error)
        if shape.peers:
            peers.enter(shape, entrants)
        for word, step in steps:
            for entrant in [one for one in entrants if one not in failed]:
                told(f"{shape.name}: {entrant.result.storage or entrant.server.name}, {word}")
                try:
                    step(entrant)
                except (BenchmarkError, OSError) as error:
                    if entrant.result.is_ours:
                        raise BenchmarkError(f"{shape.name}: {error}") from error
                    peers.drop(entrant, error)
                    failed.append(entrant)
        return [entrant.result for entrant in entrants if entrant not in failed]
    finally:
        for entrant in entrants:
            entrant.close()


def scaled(messages: int, server: Child) -> int:
    return max(1, int(messages * server.share))


def repeat(shape: Shape, server: Child, work: Work, messages: int, result: Result) -> None:
    """One repetition."""
    if isinstance(work, Prepared):
        work.prepare(messages)
    gc.collect()
    gc.disable()
    try:
        memory = server.resident() if shape.unit == "KB" else 0.0
        stored = server.storage_cpu()
        client, cpu = time.process_time(), server.cpu()
        load = work.run(messages)
        client = time.process_time() - client
        if shape.history:
            time.sleep(SETTLE)
        result.figures.append(figure(shape, server, load, server.cpu() - cpu, memory))
        result.stored.append((server.storage_cpu() - stored) / load.messages * 1e6)
    finally:
        gc.enable()
    result.rates.append(load.messages / load.seconds)
    result.client.append(client / load.messages * 1e6)
    result.latencies += load.latencies
    result.lost += load.lost


def figure(shape: Shape, server: Child, load: Load, cpu: float, memory: float) -> float:
    match shape.unit:
        case "us":
            return cpu / load.messages * 1e6
        case "s":
            return load.seconds
        case "KB":
            return (server.resident() - memory) / load.messages
