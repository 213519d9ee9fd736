"""How cost grows: the same messages with a hundred, ten thousand and a hundred thousand things beside them.

One broker grows from size to size, so that neighbouring figures are of one process on one machine. Where descriptors
end (idle connections), the largest size that there is room for is measured, and what is beyond is no figure but
arithmetic: see docs/scaling.md.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.children import BenchmarkError, Broker
from benchmarks.lorawan import MOTES, LoraUplinks, register
from benchmarks.pairs import STALL, AcknowledgedPair, Load, Pairs, open_client, read_exactly
from benchmarks.redis import BrokerOnRedis
from benchmarks.round_trips import Requests
from benchmarks.uplinks import Uplinks
from broker.mqtt import encode
from broker.mqtt import packets as p

SIZES: Final = (100, 10_000, 100_000)
QUICK: Final = (100, 10_000)
#: Runs of a load at each size, of which the least counts.
RUNS: Final = 3
#: Devices of one import.
SLICE: Final = 2_000
#: Descriptors that a process needs besides those of its load.
SPARE: Final = 300
#: Connections that set sessions up at the same time.
AT_ONCE: Final = 200

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Growth:
    """One thing that there may be many of. ``make`` gets the broker; its `grow` is called with each size in turn."""

    name: str
    title: str
    make: Callable[[Any], Any]
    broker: Callable[[], Broker] = Broker
    smallest: int = 0
    largest: Callable[[], int] | None = None


def cost(broker: Broker, run: Callable[[int], Load], messages: int) -> float:
    """The least of some runs: server CPU microseconds a message."""
    found = []
    for _ in range(RUNS):
        before = broker.cpu()
        done = run(messages)
        found.append((broker.cpu() - before) / done.messages * 1e6)
    return min(found)


def restarted(broker: Broker) -> float:
    """Seconds from the start of the process until it takes work."""
    broker.kill()
    began = time.perf_counter()
    broker.start_again()
    return time.perf_counter() - began


class Registry:
    """NovaCloud devices in the registry."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        broker.add_device()
        restarted(broker)
        self._empty = broker.resident()
        self._count = 0

    def grow(self, size: int) -> Figures:
        broker = self._broker
        began = time.perf_counter()
        for first in range(self._count, size, SLICE):
            broker.register(
                {"protocol": "novacloud", "product": "bench", "name": f"Device {number}"}
                for number in range(first, min(first + SLICE, size))
            )
        imported = (time.perf_counter() - began) / (size - self._count) * 1e6
        self._count = size
        start = restarted(broker)
        memory = (broker.resident() - self._empty) / size
        figures = {"an import, us by the clock": imported, "start, s": start, "memory a device, KB": memory}
        for what, work, messages in (
            ("NovaCloud data -> MQTT, 32 in flight, us", Uplinks(broker, 32), 10_000),
            ("GET a device, us", Requests(broker, "/api/v1/devices/{id}"), 1_000),
            ("GET a page of 100 devices, us", Requests(broker, "/api/v1/devices?limit=100", admin=True), 50),
        ):
            figures[what] = cost(broker, work.run, messages)
            work.close()
        return figures


class Subscriptions:
    """Subscriptions of clients that are connected, a thousand each, to topics on which nothing comes."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pairs = Pairs(broker, 10, 0, 1)
        self._pairs.run(1_000)
        self._open: list[Any] = []
        self._count = 0
        self._empty = broker.resident()

    def grow(self, size: int) -> Figures:
        while self._count < size:
            some = range(self._count, min(self._count + 1_000, size))
            filters = [(f"bench/quiet/{number // 100}/{number}", 0) for number in some]
            client = open_client(self._broker, f"quiet{self._count}")
            for first in range(0, len(filters), 100):
                part = filters[first : first + 100]
                client.sendall(encode.encode(p.Subscribe(1, part)))
                # a SUBACK: head of 2 bytes (of 3 from 128 bytes on), packet id, a code for each filter
                read_exactly(client, 4 + len(part))
            self._open.append(client)
            self._count = some.stop
        return {
            "MQTT publish, QoS 0, one in flight, us": cost(self._broker, self._pairs.run, 10_000),
            "memory a subscription, KB": (self._broker.resident() - self._empty) / size,
        }


class Sessions:
    """Sessions on disk whose clients are away, with a subscription each."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        restarted(broker)
        self._empty = broker.resident()
        self._count = 0

    def grow(self, size: int) -> Figures:
        began = time.perf_counter()
        leave_sessions(self._broker, self._count, size)
        made = (time.perf_counter() - began) / (size - self._count) * 1e6
        self._count = size
        start = restarted(self._broker)
        memory = (self._broker.resident() - self._empty) / size

        def pair(server: Any, number: int, window: int, lasting: bool) -> AcknowledgedPair:
            return AcknowledgedPair(server, size + number, window, lasting)  # sessions that are new at each size

        pairs = Pairs(self._broker, 10, 1, 32, lasting=True, kind=pair)
        figure = cost(self._broker, pairs.run, 10_000)
        pairs.close()
        return {
            "a session made, us by the clock": made,
            "start, s": start,
            "memory a session, KB": memory,
            "MQTT publish, QoS 1, on disk first, 32 in flight, us": figure,
        }


def leave_sessions(broker: Broker, first: int, end: int) -> None:
    """Connect, subscribe and go, many at a time, for each number. Raises BenchmarkError."""
    numbers = iter(range(first, end))
    poll = select.epoll()
    open_now: dict[int, tuple[Any, int, bytes]] = {}

    def begin() -> None:
        number = next(numbers, None)
        if number is not None:
            sock = socket.create_connection(("127.0.0.1", broker.mqtt_port), STALL)
            hello = p.Connect(f"away{number}", clean=False, user=broker.user, password=broker.password.encode())
            wish = p.Subscribe(1, [(f"bench/away/{number}", 1)])
            sock.sendall(encode.encode(hello) + encode.encode(wish))
            open_now[sock.fileno()] = (sock, number, b"")
            poll.register(sock, select.EPOLLIN)

    for _ in range(AT_ONCE):
        begin()
    while open_now:
        events = poll.poll(STALL)
        if not events:
            raise BenchmarkError(f"stuck: {len(open_now)} sessions are not made")
        for descriptor, _ in events:
            sock, number, held = open_now[descriptor]
            data = sock.recv(64)
            held += data
            if not data or not b"\x20\x02\0\0\x90\x03\0\1\1".startswith(held):
                raise BenchmarkError(f"session {number} was refused: {held.hex(' ')}")
            if len(held) < 9:
                open_now[descriptor] = (sock, number, held)
                continue
            poll.unregister(sock)
            del open_now[descriptor]
            sock.sendall(b"\xe0\0")
            sock.close()
            begin()
    poll.close()


class Connections:
    """MQTT connections that are logged in and do nothing."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pairs = Pairs(broker, 10, 0, 1)
        self._pairs.run(1_000)
        self._open: list[Any] = []
        self._empty = broker.resident()

    def grow(self, size: int) -> Figures:
        while len(self._open) < size:
            self._open.append(open_client(self._broker, f"idle{len(self._open)}"))
        figure = cost(self._broker, self._pairs.run, 10_000)
        memory = (self._broker.resident() - self._empty) / size
        began, cpu = time.perf_counter(), self._broker.cpu()
        time.sleep(3.0)  # what it does when nothing comes is the figure
        idle = (self._broker.cpu() - cpu) / (time.perf_counter() - began) * 100
        return {
            "MQTT publish, QoS 0, one in flight, us": figure,
            "memory a connection, KB": memory,
            "CPU when nothing comes, % of a core": idle,
        }


def most_connections() -> int:
    """How many this process and the broker have descriptors for."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE


class Motes:
    """LoRaWAN motes, of which five hundred speak."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        restarted(broker)
        self._empty = broker.resident()
        self._count = self._sent = 0

    def grow(self, size: int) -> Figures:
        register(self._broker, size, self._count)
        self._count = size
        start = restarted(self._broker)
        memory = self._broker.resident()
        work = LoraUplinks(self._broker, rate=1_000.0, sent=self._sent)
        figure = cost(self._broker, work.run, 1_000)
        self._sent += RUNS * 1_000
        work.close()
        return {
            "start, s": start,
            "LoRaWAN uplink by 3 gateways -> MQTT, us": figure,
            "memory a mote, KB": (memory - self._empty) / size,
            "memory of the process, MB": memory / 1024,
        }


GROWTHS: Final = (
    Growth("growth-registry", "devices in the registry, SQLite", Registry),
    Growth("growth-registry-redis", "devices in the registry, Redis", Registry, BrokerOnRedis),
    Growth("growth-subscriptions", "subscriptions", Subscriptions),
    Growth("growth-sessions", "sessions on disk, clients away", Sessions),
    Growth("growth-connections", "idle connections", Connections, largest=most_connections),
    Growth("growth-motes", "LoRaWAN motes", Motes, smallest=MOTES),
)


def measure_growth(growth: Growth, quick: bool, told: Callable[[str], None]) -> dict[int, Figures]:
    """size -> what was measured. Raises BenchmarkError, NotInstalled."""
    most = growth.largest() if growth.largest is not None else SIZES[-1]
    sizes = dict.fromkeys(max(min(size, most), growth.smallest) for size in (QUICK if quick else SIZES))
    found: dict[int, Figures] = {}
    with growth.broker() as broker:
        subject = growth.make(broker)
        for size in sizes:
            told(f"{growth.name}: {size:,}")
            found[size] = subject.grow(size)
    return found


def growth_lines(growth: Growth, found: dict[int, Figures]) -> Iterable[str]:
    """A head and a line for each figure; the last column is the largest size's to the smallest's."""
    sizes = list(found)
    yield f"{growth.title:<58}" + "".join(f"{size:>11,}" for size in sizes) + f"{'grows':>9}"
    for what in found[sizes[0]]:
        values = [found[size][what] for size in sizes]
        digits = 0 if values[-1] >= 1000 else 2
        ratio = f"{values[-1] / values[0]:.2f} x" if values[0] > 0 else ""
        yield f"  {what:<56}" + "".join(f"{value:>11,.{digits}f}" for value in values) + f"{ratio:>9}"


def growth_json(growth: Growth, found: dict[int, Figures]) -> dict[str, Any]:
    return {"name": growth.name, "title": growth.title, "sizes": json.loads(json.dumps(found))}
