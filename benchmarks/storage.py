"""What a storage costs: `python -m benchmarks.storage [--redis [URL]] [folder]`. CPU is that of this process.

The folder decides which disk is measured (default: a temporary one). Every write is durable when it is answered. With
``--redis`` it is a Redis: without a URL one that is started here, with AOF always, in the folder; its own CPU is shown
beside. With a URL everything under the prefix ``benchmark`` is left there.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, gatherResults

from broker.devices.novacloud.identity import DeviceRules
from broker.model.messages import Command, DeviceRef, Uplink
from broker.model.records import DeviceQuery, DeviceRecord, LiveState, StoredMessage
from broker.model.sessions import ACK, PUT, SESSION, SessionRecord
from broker.routing.live import LiveDevices
from broker.routing.router import Router
from broker.settings.tables import HistoryTable
from broker.storage.files import FileStore
from broker.storage.recorder import Recorder
from broker.storage.records import Records
from broker.storage.redis.address import parse_address
from broker.storage.redis.settings import RedisTable
from broker.storage.redis.storage import RedisStorage
from broker.storage.registry import Registry
from broker.storage.sqlite import SqliteStorage
from tests.redis_server import RedisServer

T = TypeVar("T")
Storage: TypeAlias = SqliteStorage | RedisStorage
#: A storage by a name, the same one for the same name; not open.
Make: TypeAlias = Callable[[str], Storage]
reactor: Any = reactor_module
DEVICES = 100_000
IMPORTED = 10_000
MESSAGES = 50_000
BATCH = 2_000


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def say(what: str, count: int, watch: Stopwatch, extra: str = "") -> None:
    wall, cpu = watch.read()
    print(
        f"{what:<46} {wall:7.3f} s  {count / wall:10,.0f}/s  {cpu / count * 1e6:7.1f} us cpu each  {extra}", flush=True
    )


def command(number: str) -> Command:
    now = time.time()
    return Command(number, "d0", "toy", {"fan": 1, "mode": "auto"}, "admin", now, now + 3600)


async def group_commit(storage: Storage, in_flight: int) -> None:
    """A closed loop: so many commands are always waiting for their commit."""
    total = 2_000 if in_flight == 1 else 20_000
    left, done, delays = total, 0, []
    ended: Deferred[None] = Deferred()
    commits = storage.counters()["commits_total"]

    def submit() -> None:
        nonlocal left
        if not left:
            return
        left -= 1
        began = time.perf_counter()

        def kept(error: Exception | None) -> None:
            nonlocal done
            if error is not None:
                raise error
            delays.append(time.perf_counter() - began)
            done += 1
            if done == total:
                ended.callback(None)
            submit()

        storage.add_command(command(f"{in_flight}-{left}"), kept)

    watch = Stopwatch()
    for _ in range(in_flight):
        submit()
    await ended
    delays.sort()
    commits = storage.counters()["commits_total"] - commits
    p50, p99 = delays[total // 2] * 1e3, delays[total * 99 // 100] * 1e3
    say(
        f"commands stored, {in_flight} in flight",
        total,
        watch,
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, {total / commits:.0f} a commit",
    )


async def history(storage: Storage) -> None:
    for spread in (10, 10_000):
        messages = [
            StoredMessage(
                device=f"d{n * 7 % spread}",
                protocol="toy",
                kind="data",
                at=1e9 + n,
                payload={"temperature": 21.5, "humidity": 40, "door": "open", "n": n},
            )
            for n in range(MESSAGES)
        ]
        watch = Stopwatch()
        for start in range(0, MESSAGES, BATCH):
            await storage.add_messages(messages[start : start + BATCH])
        say(f"history, batches of {BATCH:,}, {spread:,} devices", MESSAGES, watch)
    watch = Stopwatch()
    states = [
        LiveState(
            device=f"d{n}",
            online=True,
            reason="connected",
            presence_at=1.0,
            last_seen=2.0,
            values={"temperature": (21.5, 1.0), "humidity": (40, 1.0), "door": ("open", 1.0)},
            unmapped={},
        )
        for n in range(10_000)
    ]
    for word in ("new", "again"):
        watch = Stopwatch()
        for start in range(0, len(states), 500):
            await storage.save_live(states[start : start + 500])
        say(f"live states with 3 values, {word}", len(states), watch)


async def recorder(storage: Storage) -> None:
    """What the path of a message pays, and what its writing costs afterwards."""
    router = Router(print)
    devices = LiveDevices(router, time.time)
    writer = Recorder(storage, router, devices, reactor, time.time, HistoryTable())
    writer.start()
    refs = [DeviceRef("toy", f"d{n}") for n in range(1000)]
    uplinks = [Uplink(refs[n % 1000], "data", {"t": 21.5, "n": n}, 2e9 + n) for n in range(MESSAGES)]
    watch = Stopwatch()
    for message in uplinks:
        router.uplink(message)
    say("recorder, on the path of a message", MESSAGES, watch)
    watch = Stopwatch()
    await writer.stop()
    say("recorder, written", MESSAGES, watch)


class Counters(msgspec.Struct):
    """What a LoRaWAN device changes with every uplink, about."""

    address: str
    up: int
    down: int
    network_key: bytes
    application_key: bytes
    rate: dict[str, int]


async def records(storage: Storage) -> None:
    table = Records(storage, "bench", Counters)
    chance = random.Random(1)
    keys = [f"{chance.getrandbits(64):016X}" for _ in range(20_000)]
    value = Counters("00112233", 70_000, 12, bytes(range(16)), bytes(range(16)), {"dr": 5, "power": 2})
    await storage.write_records([table.change(key, value) for key in keys])
    for size in (BATCH, 100, 1):
        watch = Stopwatch()
        for _ in range(10):
            some = chance.sample(keys, BATCH)
            await gatherResults(
                [
                    storage.write_records([table.change(key, value) for key in some[start : start + size]])
                    for start in range(0, BATCH, size)
                ]
            )
        say(f"records, {BATCH:,} of 20,000, {size:,} a call", 10 * BATCH, watch)
    watch = Stopwatch()
    await table.all()
    say("records, all read", len(keys), watch)


async def files(storage: Storage, folder: Path) -> None:
    store = FileStore(storage, folder, reactor, time.time, reserve=0)
    await store.open()
    chunk = os.urandom(65_536)
    watch = Stopwatch()
    writer = store.create("bench", "large")
    for _ in range(1_600):
        writer.write(chunk)
        while writer.paused:
            await writer.drained()
    await writer.finish()
    say("a file of 100 MiB, a MiB", 100, watch)
    watch = Stopwatch()
    for n in range(200):
        writer = store.create("bench", f"small-{n}")
        writer.write(chunk)
        await writer.finish()
    say("files of 64 KiB, one after another", 200, watch)
    await store.close()


async def registry(storage: Storage) -> None:
    rules = Registry(storage, time.time, {"novacloud": DeviceRules()})
    lines: list[dict[str, Any] | Exception] = [
        {"protocol": "novacloud", "name": f"Device {n}"} for n in range(IMPORTED)
    ]
    watch = Stopwatch()
    result = await rules.add_devices(lines)
    say("import of devices, secrets made", result.created, watch)
    for in_flight in (1, 100):
        pairs = result.secrets[: 1_000 if in_flight == 1 else 10_000]
        watch = Stopwatch()
        for start in range(0, len(pairs), in_flight):
            some = pairs[start : start + in_flight]
            await gatherResults([rules.login_device("novacloud", id, secret) for id, secret in some])
        say(f"logins of devices, {in_flight} at once", len(pairs), watch)


async def many(make: Make) -> None:
    """A hundred thousand devices, all left online by a crash: open, page, prune."""
    storage = make("many")
    await storage.open()
    records = [DeviceRecord(id=f"m{n:06}", protocol="toy", online=True, name=f"Device {n}") for n in range(DEVICES)]
    watch = Stopwatch()
    for start in range(0, DEVICES, 1000):
        await storage.add_devices(records[start : start + 1000])
    say("devices added by storage alone", DEVICES, watch)
    await storage.close()
    for word in ("all left online", "all offline"):
        storage = make("many")
        watch = Stopwatch()
        await storage.open()
        say(f"open with {DEVICES:,} devices, {word}", 1, watch)
        if word == "all offline":
            await pages(storage)
        await storage.close()


async def pages(storage: Storage) -> None:
    async def timed(what: str, ask: Callable[[], Deferred[T]]) -> T:
        watch = Stopwatch()
        answer = await ask()
        say(what, 1, watch)
        return answer

    wishes = {"plain": DeviceQuery(), "protocol and online": DeviceQuery(protocol="toy", online=False)}
    for word, query in wishes.items():
        await timed(f"a page of 100 devices, {word}", partial(storage.list_devices, query, 100, "m090000"))
    await timed(
        "a search that finds nothing (one page of it)",
        lambda: storage.list_devices(DeviceQuery(q="nowhere"), 100, None),
    )
    messages = [
        StoredMessage(device=f"m{n % 1000:06}", protocol="toy", kind="data", at=float(n), payload=b"x" * 50)
        for n in range(100_000)
    ]
    for start in range(0, len(messages), BATCH):
        await storage.add_messages(messages[start : start + BATCH])
    pruned = await timed("prune: half by age", lambda: storage.prune(50_000.0, 10_000))
    print(f"{'':<46} {pruned:,} messages went")
    await timed("prune: nothing to do", lambda: storage.prune(50_000.0, 10_000))


async def sessions(storage: Storage) -> None:
    """Messages owed to 100 sessions, and settled a moment later: what QoS 1 costs storage."""
    journal = storage.sessions
    safe = Safe(journal)
    for number in range(1, 101):
        journal.append((SESSION, SessionRecord(number, "o", f"c{number}", 4, None)))
    for together in (1, 100, 2_000):
        total = 2_000 if together == 1 else 60_000
        watch = Stopwatch()
        for start in range(0, total, together):
            for n in range(start, start + together):
                number, seq = n % 100 + 1, together * 1_000_000 + n
                journal.append((PUT, number, seq, 1, None, "devices/some/up/data", b"x" * 100, b"", False))
            await safe.wait()
            for n in range(start, start + together):
                journal.append((ACK, n % 100 + 1, together * 1_000_000 + n))
            await safe.wait()
        say(f"messages kept and settled, {together:,} at once", total, watch)


class Safe:
    """Tells when all that was appended is safe."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self._waiting: Deferred[None] | None = None
        journal.watch(self._told)

    def wait(self) -> Deferred[None]:
        self._waiting = Deferred()
        return self._waiting

    def _told(self, upto: int, error: Exception | None) -> None:
        if error is not None:
            raise error
        waiting = self._waiting
        if waiting is not None and upto == self._journal.position:
            self._waiting = None
            reactor.callLater(0, waiting.callback, None)


async def everything(folder: Path, make: Make) -> None:
    storage = make("one")
    await storage.open()
    await storage.add_devices([DeviceRecord(id=f"d{n}", protocol="toy") for n in range(10_000)])
    for in_flight in (1, 10, 100, 1000):
        await group_commit(storage, in_flight)
    await sessions(storage)
    await history(storage)
    await recorder(storage)
    await registry(storage)
    await records(storage)
    await files(storage, folder / "files")
    await storage.close()
    await many(make)


def on_sqlite(folder: Path) -> Make:
    return lambda name: SqliteStorage(folder / f"{name}.sqlite", reactor, time.time)


def on_redis(url: str) -> Make:
    def make(name: str) -> RedisStorage:
        return RedisStorage(parse_address(url), RedisTable(prefix=f"benchmark-{name}"), reactor, time.time)

    return make


def measure(folder: Path, make: Make) -> None:
    running = Deferred.fromCoroutine(everything(folder, make))
    failed: list[Any] = []
    running.addErrback(failed.append)
    running.addBoth(lambda _: reactor.stop())
    reactor.run()
    for failure in failed:
        failure.raiseException()


def cpu_of(pid: int) -> float:
    """Seconds of CPU that another process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", nargs="?", help="on the disk that is measured")
    parser.add_argument("--redis", nargs="?", const="own", metavar="URL", help="measure a Redis")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.redis is None:
            print(f"SQLite in {folder.parent}", flush=True)
            measure(folder, on_sqlite(folder))
        elif arguments.redis != "own":
            print(f"Redis at {parse_address(arguments.redis)}", flush=True)
            measure(folder, on_redis(arguments.redis))
        else:
            server = RedisServer(folder / "redis")
            server.start()
            print(f"Redis, AOF always, in {folder.parent}", flush=True)
            try:
                measure(folder, on_redis(server.url))
                print(f"Redis itself: {cpu_of(server.pid):.1f} s of CPU in all", flush=True)
            finally:
                server.remove()


if __name__ == "__main__":
    main()
