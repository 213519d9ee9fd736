"""The processes, their Redis, and what goes wrong with them.

::

    clients ──> node-1 ──wire──┐
    clients ──> node-2 ──wire──┼──> Redis (AOF, always)
    clients ──> node-3 ──wire──┘

Every fault heals before the next one begins, except those that are made of two. Everything blocks: it has a thread.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.faults.calls import NO_ANSWER, TOKEN, fetch, figure
from tests.faults.wire import Wire
from tests.mosquitto import free_port
from tests.real import RealBroker, eventually
from tests.redis_server import RedisServer

CLOCK = Path(__file__).parent / "clock"
#: Seconds that an absence of Redis or of the wire to it takes at most, and how far a clock jumps.
LONGEST_ABSENCE = 3.0
LONGEST_JUMP = 40.0
#: Bytes that fit on a full disk.
ROOM = 4_000
DISK_PATIENCE = 5.0
#: Leases after which a process that was stopped has certainly been taken over from.
FENCED_AFTER = 1.5
#: Seconds besides a lease in which it has to know that.
SLACK = 5.0
FENCED = "broker_cluster_fenced_total"
FAULTS = (
    "calm",
    "kill",
    "stop",
    "Redis restart",
    "Redis kill",
    "cut",
    "dead wire",
    "Redis full",
    "disk full",
    "clock",
    "kill without Redis",
    "stop and kill",
)


class Weather:
    """``processes`` brokers on one Redis in ``folder``; ``lease`` in seconds. ``say`` hears a line for each fault."""

    def __init__(self, folder: Path, random: Random, processes: int, lease: float, say: Callable[[str], None]) -> None:
        self._random = random
        self._say = say
        self._lease = lease
        self.redis = RedisServer(folder / "redis")
        self.redis.start()
        self.wires = [Wire(self.redis.port) for _ in range(processes)]
        self.brokers = [
            self._process(folder / f"node-{number + 1}", f"node-{number + 1}", wire)
            for number, wire in enumerate(self.wires)
        ]
        #: Those that cannot act now, by their process ids.
        self.frozen: set[int] = set()
        self.counts: Counter[str] = Counter()
        strikes: tuple[Callable[[], None], ...] = (
            self._calm,
            self._kill,
            self._stop,
            self._restart_redis,
            self._kill_redis,
            self._cut,
            self._dead_wire,
            self._full,
            self._disk_full,
            self._jump,
            self._kill_without_redis,
            self._stop_and_kill,
        )
        self.kinds = dict(zip(FAULTS, strikes, strict=True))
        #: Seconds from the waking of a process that was stopped for too long until it knew.
        self.fenced: list[float] = []

    def _process(self, folder: Path, name: str, wire: Wire) -> RealBroker:
        folder.mkdir(parents=True)
        clock = folder / "clock"
        clock.write_text("0")
        broker = RealBroker(
            folder,
            {
                "broker.name": json.dumps(name),
                "broker.admin_token": json.dumps(TOKEN),
                "storage.url": json.dumps(wire.url),
                "redis.prefix": '"storm"',
                "redis.doubt_timeout": "0.5",
                "redis.reply_timeout": "1",
                "redis.retry_first": "0.05",
                "redis.retry_longest": "0.3",
                "cluster.enabled": "true",
                "cluster.lease": str(self._lease),
                "history.enabled": "false",
                # A packet forwarder knows the port of its process by heart.
                "listeners.lorawan.bind": f'["udp:{free_port()}:interface=127.0.0.1"]',
            },
        )
        broker.environment = {"TEST_CLOCK": str(clock), "PYTHONPATH": str(CLOCK)}
        return broker

    def start(self) -> None:
        starting = [threading.Thread(target=broker.start) for broker in self.brokers]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert all(broker.ports for broker in self.brokers), [broker.output[-5:] for broker in self.brokers]

    def end(self) -> None:
        for broker in self.brokers:
            broker.kill()
            (broker.folder / "output").write_text("\n".join(broker.output))
        for wire in self.wires:
            wire.close()
        self.redis.remove()

    def strike(self, kind: str) -> None:
        """One fault, and its end."""
        self.counts[kind] += 1
        self.kinds[kind]()

    def tell(self, what: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')} {what}")

    # -- the faults ------------------------------------------------------------------------------------------------

    def _any(self) -> RealBroker:
        return self._random.choice(self.brokers)

    def _pause(self, longest: float = LONGEST_ABSENCE) -> float:
        seconds = self._random.uniform(0.0, longest)
        time.sleep(seconds)
        return seconds

    def _calm(self) -> None:
        self.tell(f"nothing for {self._pause():.1f} s")

    def _kill(self) -> None:
        broker = self._any()
        self.tell(f"kill -9 {broker.folder.name}")
        self._fell(broker)
        self._pause(1.5 * self._lease)
        broker.start()

    def _fell(self, broker: RealBroker) -> None:
        broker.ports = {}
        broker.kill()

    def _stop(self) -> None:
        broker = self._any()
        # Shorter than a lease, and twice as long: 20 s with the usual one.
        seconds = (self._random.uniform(0.3, 1.0) if self._random.random() < 0.4 else 2.0) * self._lease
        self.tell(f"SIGSTOP {broker.folder.name} for {seconds:.1f} s")
        before = self._times_fenced(broker) if self._is_joined(broker) else None
        self._freeze(broker)
        time.sleep(seconds)
        self._thaw(broker)
        if seconds >= FENCED_AFTER * self._lease and before is not None:
            self._watch_fencing(broker, before)

    def _times_fenced(self, broker: RealBroker) -> float | None:
        """How often it found that others had taken over from it; None if it does not say."""
        try:
            return figure(broker, FENCED)
        except NO_ANSWER:
            return None

    @staticmethod
    def _is_joined(broker: RealBroker) -> bool:
        """Whether it is one of the processes, as far as it knows."""
        try:
            return fetch(broker, "GET", "/readyz")[0] == 200
        except NO_ANSWER:
            return False

    def _watch_fencing(self, broker: RealBroker, before: float) -> None:
        """It has to find out within a lease: until then it thinks that sessions are its own which others have."""
        woke = time.monotonic()
        patience = self._lease + SLACK
        eventually(
            lambda: (self._times_fenced(broker) or before) > before,
            f"{broker.folder.name} knows that it was taken over from",
            patience,
        )
        self.fenced.append(time.monotonic() - woke)

    def fenced_text(self) -> str:
        if not self.fenced:
            return "no process was stopped for longer than its lease"
        return (
            f"{len(self.fenced)} times a process was stopped for longer than its lease, and knew that others had "
            f"taken over {max(self.fenced):.2f} s after its waking at most (lease: {self._lease:g} s)"
        )

    def _freeze(self, broker: RealBroker) -> None:
        self.frozen.add(broker.pid)
        os.kill(broker.pid, signal.SIGSTOP)

    def _thaw(self, broker: RealBroker) -> None:
        os.kill(broker.pid, signal.SIGCONT)
        self.frozen.discard(broker.pid)

    def _restart_redis(self) -> None:
        self.redis.stop()
        self.tell(f"Redis restarted after {self._pause():.1f} s")
        self.redis.start()

    def _kill_redis(self) -> None:
        self.redis.kill()
        self.tell(f"Redis kill -9, for {self._pause():.1f} s")
        self.redis.start()

    def _cut(self) -> None:
        wire = self._random.choice(self.wires)
        self.tell(f"the connections of node-{self.wires.index(wire) + 1} to Redis cut within what they carry")
        wire.cut()

    def _dead_wire(self) -> None:
        number = self._random.randrange(len(self.wires))
        seconds = self._random.uniform(0.2, 2.0) * self._lease
        self.tell(f"nothing between node-{number + 1} and Redis for {seconds:.1f} s")
        pid = self.brokers[number].pid
        self.frozen.add(pid)
        self.wires[number].fall_dead()
        time.sleep(seconds)
        self.wires[number].revive()
        self.frozen.discard(pid)

    def _full(self) -> None:
        """Redis takes no more writes, and says so."""
        assert self.redis.ask("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
        self.tell(f"Redis refused all writes for {self._pause():.1f} s")
        assert self.redis.ask("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"

    def _disk_full(self) -> None:
        """No more fits into Redis's file: with AOF always it ends in the middle of a write."""
        size = max(one.stat().st_size for one in self.redis.folder.glob("appendonlydir/*.incr.aof"))
        resource.prlimit(self.redis.pid, resource.RLIMIT_FSIZE, (size + ROOM, resource.RLIM_INFINITY))
        self.tell(f"Redis's disk full {ROOM} bytes from now")
        eventually(self.redis.ended, "Redis gives up with a full disk", DISK_PATIENCE + LONGEST_ABSENCE)
        self._pause()
        self.redis.kill()
        self.redis.start()

    def _jump(self) -> None:
        broker = self._any()
        seconds = self._random.uniform(-LONGEST_JUMP, LONGEST_JUMP)
        self.tell(f"the clock of {broker.folder.name} is {seconds:+.1f} s off for some seconds")
        clock = broker.folder / "clock"
        clock.write_text(str(seconds))
        self._pause()
        clock.write_text("0")

    def _kill_without_redis(self) -> None:
        broker = self._any()
        self.tell(f"Redis kill -9, and then {broker.folder.name}")
        self.redis.kill()
        self._pause(1.0)
        self._fell(broker)
        self._pause(1.0)
        self.redis.start()
        broker.start()

    def _stop_and_kill(self) -> None:
        stopped, killed = self._random.sample(self.brokers, 2)
        self.tell(f"SIGSTOP {stopped.folder.name}, and kill -9 {killed.folder.name}")
        self._freeze(stopped)
        self._pause(1.0)
        self._fell(killed)
        time.sleep(self._random.uniform(0.5, 1.5) * self._lease)
        self._thaw(stopped)
        killed.start()
