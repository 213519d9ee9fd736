"""`python -m benchmarks.cluster`: what several processes on one Redis cost and carry.

::

    across        a publisher on one process, its subscriber on the other: CPU of both processes a message
    alongside     pairs that meet on their own process: messages a second of one process, and of two at a time
    directory     entries that one node has taken, and what renewing its lease costs with them; a look-up, a take

Redis is a process of its own and counted apart. It runs without a disk here, as its disk is not what is asked about.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from benchmarks.children import Broker
from benchmarks.exactly import ExactlyPair
from benchmarks.pairs import AcknowledgedPair, Pair, Pairs
from benchmarks.processes import ACROSS, TwoProcesses, pairs
from benchmarks.redis import Redis

#: What crosses, and whether the target is meant for it.
ROWS: Final = (
    ("QoS 0, 32 in flight", pairs(Pair), True),
    ("QoS 1, 32 in flight", pairs(AcknowledgedPair), True),
    ("QoS 2, 32 in flight", pairs(ExactlyPair), False),
    ("QoS 1, 32 in flight, to a kept session", pairs(AcknowledgedPair, lasting=True), False),
    ("QoS 1, 100 pairs, one in flight", pairs(AcknowledgedPair, 1, 100), False),
)
#: How often one process and two are measured in turn; how much more two carry.
ROUNDS: Final = 4
ALONGSIDE: Final = 1.7
ENTRIES: Final = 100_000
#: The lease here, in seconds, and in a broker; renewals of one lease, and how many are waited for.
LEASE: Final = 1.0
DEFAULT_LEASE: Final = 10.0
RENEWALS_OF_A_LEASE: Final = 4
RENEWALS: Final = 12


def across(two: TwoProcesses, messages: int) -> bool:
    """What a message from one process to the other costs both of them."""
    good = True
    a, b = two.brokers
    for name, load_of, counts in ROWS:
        work = load_of(two)
        best = None
        for _ in range(3):
            before = (a.cpu(), b.cpu(), two.storage_cpu())
            done = work.run(messages)
            spent = [now - then for now, then in zip((a.cpu(), b.cpu(), two.storage_cpu()), before, strict=True)]
            figures = [1e6 * one / done.messages for one in spent]
            if best is None or sum(figures[:2]) < sum(best[0][:2]):
                best = (figures, done.messages / done.seconds)
        work.close()
        assert best is not None
        (writer, reader, other), rate = best
        kept = writer + reader <= ACROSS
        good = good and (kept or not counts)
        print(
            f"across, {name}: {writer + reader:.1f} us a message ({writer:.1f} + {reader:.1f};"
            f" Redis {other:.1f}), {rate:,.0f}/s: {'kept' if kept else 'missed' if counts else 'no target'}"
        )
    return good


def alongside(both: list[Broker], messages: int) -> bool:
    """How much more two processes carry than one, in turns, each at its best. The loads are processes of their own."""
    rates, carried = [0.0, 0.0], [0.0, 0.0]
    for _ in range(ROUNDS):
        for number, brokers in enumerate((both[:1], both)):
            before = [one.cpu() for one in brokers]
            rates[number] = max(rates[number], sum(_loads(brokers, messages)))
            # 1.1: a run begins with a tenth of it
            costs = [(one.cpu() - then) / messages / 1.1 for one, then in zip(brokers, before, strict=True)]
            carried[number] = max(carried[number], sum(1 / cost for cost in costs))
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
    plane = RedisBackplane(address, RedisTable(), reactor, "bench", LEASE, later, time.time, time.monotonic)
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
    ask(lambda: renewed(reactor, plane, renewals + RENEWALS))
    renewed_in = time.perf_counter() - wall
    # As often as the default lease has it.
    often = RENEWALS_OF_A_LEASE / DEFAULT_LEASE
    share = (time.process_time() - cpu) / RENEWALS * often
    redis_share = (redis.cpu() - redis_cpu) / RENEWALS * often
    verdict = "kept" if share < 0.05 else "missed"
    print(
        f"directory: {RENEWALS} renewals in {renewed_in:.1f} s; at a lease of {DEFAULT_LEASE:g} s"
        f" {100 * share:.2f} % of a core with all else that the process does"
        f" (Redis {100 * redis_share:.2f} %): {verdict}"
    )
    ask(plane.stop)
    return verdict == "kept"


def renewed(reactor: Any, plane: Any, goal: int) -> Any:
    """Fires when the lease was renewed so often."""
    from twisted.internet.defer import Deferred

    done: Deferred[None] = Deferred()

    def look() -> None:
        if plane.renewals >= goal:
            done.callback(None)
        else:
            reactor.callLater(0.1, look)

    look()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=200_000, help="of one run (default: %(default)s)")
    parser.add_argument("--load", nargs=3, metavar=("PORT", "PASSWORD", "MESSAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        port, password, messages = options.load
        load(int(port), password, int(messages))
        return 0
    with TwoProcesses() as two:
        good = across(two, options.messages)
        good = alongside(two.brokers, options.messages) and good
        good = directory(two.redis) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
