"""`python -m benchmarks.cluster`: what several processes on one Redis cost and carry.

::

    across        a publisher on one process, its subscriber on the other: CPU of both processes a message
    alongside     pairs that meet on their own process: messages a second of one process, and of two at a time
    directory     entries that one node has taken, and what renewing its lease costs with them; a look-up, a take

Redis is a process of its own and counted apart. It runs without a disk here, as its disk is not what is asked about.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from benchmarks.children import Broker, Child, free_port
from benchmarks.pairs import AcknowledgedPair, Pair, Pairs

#: Microseconds of CPU a message across processes at 32 in flight; how much more two processes carry than one.
ACROSS: Final = 15.0
ALONGSIDE: Final = 1.7
ENTRIES: Final = 100_000


class Redis(Child):
    """A Redis that keeps nothing."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        binary = shutil.which("redis-server")
        if binary is None:
            raise SystemExit("redis-server is missing: sh tools/environment.sh test")
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.start([binary, *options, "--dir", tempfile.mkdtemp(prefix="broker-bench-redis-")], self.port)


def broker_on(redis: Redis, name: str, first: Broker | None = None) -> Broker:
    settings = {
        "broker.name": json.dumps(name),
        "cluster.enabled": "true",
        "storage.url": json.dumps(f"redis://127.0.0.1:{redis.port}/0"),
        "storage.allow_volatile": "true",
    }
    broker = Broker(more=settings, own_user=first is None)
    if first is not None:
        broker.password = first.password
    return broker


def _between(kind: type[Pair], reader: Broker, server: Any, number: int, window: int, lasting: bool) -> Pair:
    return kind(server, number, window, lasting, reader)


def across(redis: Redis, a: Broker, b: Broker, messages: int) -> bool:
    """What a message from one process to the other costs both of them."""
    good = True
    for kind, name in ((Pair, "QoS 0"), (AcknowledgedPair, "QoS 1")):
        pairs = Pairs(a, 1, kind.qos, 32, kind=partial(_between, kind, b))
        time.sleep(0.5)  # until the other process knows of the subscription
        best = None
        for _ in range(3):
            before = (a.cpu(), b.cpu(), redis.cpu())
            load = pairs.run(messages)
            spent = [now - then for now, then in zip((a.cpu(), b.cpu(), redis.cpu()), before, strict=True)]
            figures = [1e6 * one / load.messages for one in spent]
            if best is None or sum(figures[:2]) < sum(best[0][:2]):
                best = (figures, load.messages / load.seconds)
        pairs.close()
        assert best is not None
        (writer, reader, other), rate = best
        verdict = "kept" if writer + reader <= ACROSS else "missed"
        good = good and verdict == "kept"
        print(
            f"across, {name}, 32 in flight: {writer + reader:.1f} us a message ({writer:.1f} + {reader:.1f};"
            f" Redis {other:.1f}), {rate:,.0f}/s: {verdict}"
        )
    return good


def alongside(a: Broker, b: Broker, messages: int) -> bool:
    """How much more two processes carry than one. The loads are processes of their own."""
    rates, costs = [], []
    for brokers in ([a], [a, b]):
        before = [one.cpu() for one in brokers]
        rates.append(sum(_loads(brokers, messages)))
        # 1.1: a run begins with a tenth of it
        costs.append([(one.cpu() - then) / messages / 1.1 for one, then in zip(brokers, before, strict=True)])
    carried = [sum(1 / cost for cost in each) for each in costs]
    times = carried[1] / carried[0]
    verdict = "kept" if times >= ALONGSIDE else "missed"
    print(
        f"alongside, QoS 1: one process {carried[0]:,.0f} messages a second of its CPU, two {carried[1]:,.0f}:"
        f" {times:.2f} times: {verdict}; on the clock {rates[0]:,.0f}/s and {rates[1]:,.0f}/s, loads on the same cores"
    )
    return verdict == "kept"


def _loads(brokers: list[Broker], messages: int) -> list[float]:
    def run(broker: Broker) -> float:
        arguments = [sys.executable, "-m", "benchmarks.cluster", "--load", str(broker.mqtt_port), broker.password]
        out = subprocess.run([*arguments, str(messages)], capture_output=True, text=True, check=True, timeout=300)
        return float(out.stdout)

    with ThreadPoolExecutor(len(brokers)) as pool:
        return list(pool.map(run, brokers))


class Place:
    """A broker as a load sees it."""

    name = "broker"
    user = "bench"

    def __init__(self, port: int, password: str) -> None:
        self.mqtt_port = port
        self.password = password


def load(port: int, password: str, messages: int) -> None:
    def pair(server: Any, number: int, window: int, lasting: bool) -> Pair:
        return AcknowledgedPair(server, 100 * port + number, window)  # clients and topics of this load alone

    pairs = Pairs(Place(port, password), 20, 1, 32, kind=pair)
    pairs.run(messages // 10)
    done = pairs.run(messages)
    print(done.messages / done.seconds)


def directory(redis: Redis) -> bool:
    """In this process: the reactor runs in a thread of its own."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.threads import blockingCallFromThread

    from broker.cluster.redis import RedisBackplane
    from broker.storage.redis.address import parse_address
    from broker.storage.redis.settings import RedisTable

    reactor: Any = installed
    threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()

    def ask(call: Any) -> Any:
        return blockingCallFromThread(reactor, call)

    def later(call: Any) -> Any:
        return reactor.callLater(0, call)

    address = parse_address(f"redis://127.0.0.1:{redis.port}/0")
    plane = RedisBackplane(address, RedisTable(), reactor, "bench", 10.0, later, time.time, time.monotonic)
    ask(plane.start)
    began = time.process_time(), time.perf_counter(), redis.cpu()

    def take(first: int) -> Deferred[Any]:
        numbers = range(first, first + 1000)
        return gatherResults([plane.take("bench", f"user\0client-{number}", "1") for number in numbers])

    for first in range(0, ENTRIES, 1000):
        ask(lambda first=first: take(first))
    spent = time.process_time() - began[0], time.perf_counter() - began[1], redis.cpu() - began[2]
    each = 1e6 / ENTRIES
    print(f"directory: {ENTRIES:,} taken, {spent[0] * each:.1f} us of CPU each (Redis {spent[2] * each:.1f})")
    singles = []
    for number in range(300):
        start = time.perf_counter()
        ask(lambda number=number: plane.find("bench", f"user\0client-{number * 300}"))
        singles.append(time.perf_counter() - start)
    print(f"directory: a look-up by itself {1e6 * sorted(singles)[150]:.0f} us, all in all")
    cpu, renewals, wall, redis_cpu = time.process_time(), plane.renewals, time.perf_counter(), redis.cpu()
    time.sleep(20)
    renewed = plane.renewals - renewals
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    redis_share = (redis.cpu() - redis_cpu) / (time.perf_counter() - wall)
    verdict = "kept" if share < 0.05 else "missed"
    print(
        f"directory: {renewed} renewals in 20 s, {100 * share:.2f} % of a core with all else that the process does"
        f" (Redis {100 * redis_share:.2f} %): {verdict}"
    )
    ask(plane.stop)
    return verdict == "kept"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=200_000, help="of one run (default: %(default)s)")
    parser.add_argument("--load", nargs=3, metavar=("PORT", "PASSWORD", "MESSAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        port, password, messages = options.load
        load(int(port), password, int(messages))
        return 0
    with ExitStack() as stack:
        redis = Redis()
        stack.callback(redis.stop)
        a = broker_on(redis, "a")
        stack.callback(a.stop)
        b = broker_on(redis, "b", a)
        stack.callback(b.stop)
        good = across(redis, a, b, options.messages)
        good = alongside(a, b, options.messages) and good
        good = directory(redis) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
