"""`python -m broker.storage copy`: between SQLite and Redis and back, interrupted and resumed, refused, verified."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import BrokerError, Conflict, Unavailable
from broker.model.records import DeviceQuery
from broker.storage.copying.redis_side import RedisSide, RedisTarget
from broker.storage.copying.shown import Bar
from broker.storage.copying.sqlite_side import SqliteSide, SqliteTarget
from broker.storage.copying.tables import TABLES
from broker.storage.copying.work import Outcome, copy
from broker.storage.redis.address import parse_address
from broker.storage.redis.settings import RedisTable
from broker.storage.sqlite import SqliteStorage
from tests.real import PATIENCE
from tests.redis_server import SharedServer
from tests.storage.contract import everything
from tests.storage.filling import fill
from tests.storage.redis.places import QUICK, make_storage
from tests.storage.test_kill import ROOT

reactor: Any = reactor_module
SERVER = SharedServer()


class Told:
    """Hears of the progress; ``at`` is called with what it is about."""

    def __init__(self, at: Callable[[str], None] = lambda what: None) -> None:
        self.heard: dict[str, tuple[int, int]] = {}
        self._at = at

    def progress(self, what: str, done: int, total: int) -> None:
        self.heard[what] = done, total
        self._at(what)


class CopyingCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.prefix = SERVER.prefix()
        self.path = Path(self.mktemp()) / "one.sqlite"
        self.back = self.path.with_name("back.sqlite")

    def redis(self, kind: Any) -> Any:
        table = RedisTable(prefix=self.prefix, **QUICK)
        return kind(parse_address(SERVER.get().url), table, reactor, False)

    def sqlite(self, path: Path | None = None) -> SqliteStorage:
        return SqliteStorage(path or self.path, reactor, time.time)

    async def filled(self, storage: Any, devices: int = 120) -> None:
        await storage.open()
        await fill(storage, devices)
        await storage.close()

    async def copied(self, source: Any, target: Any, told: Told | None = None, **how: bool) -> Outcome:
        resume, force = how.get("resume", False), how.get("force", False)
        return await copy(source, target, told or Told(), resume=resume, force=force)

    async def refused(self, kind: type[BrokerError], answer: Any) -> str:
        with self.assertRaises(kind) as caught:
            await answer
        self.assertNotIn("\n", caught.exception.message)
        return str(caught.exception.message)


class ThereAndBackTests(CopyingCase):
    async def test_sqlite_to_redis_and_back(self) -> None:
        await self.filled(self.sqlite())
        told = Told()
        there = await self.copied(SqliteSide(self.path), self.redis(RedisTarget), told)
        self.assertEqual(set(there.tables), set(TABLES))
        self.assertTrue(all(digest.rows for digest in there.tables.values()), there)
        self.assertEqual({done for done, total in told.heard.values() if done != total}, set())
        back = await self.copied(self.redis(RedisSide), SqliteTarget(self.back))
        self.assertEqual(back.tables, there.tables)
        self.assertEqual(sorted(one.name for one in self.back.parent.glob("*.copying*")), [])
        await self.same_to_the_broker(self.sqlite(), make_storage(self.prefix, SERVER.get().url))
        await self.same_to_the_broker(self.sqlite(), self.sqlite(self.back))

    async def same_to_the_broker(self, one: Any, two: Any) -> None:
        """What matters is what a broker reads of it."""
        await one.open()
        await two.open()
        try:
            for look in self.looks():
                self.assertEqual(await look(one), await look(two))
        finally:
            await one.close()
            await two.close()

    def looks(self) -> list[Callable[[Any], Any]]:
        async def commands(storage: Any) -> Any:
            return [everything(one) for one in await storage.open_commands()]

        async def devices(storage: Any) -> Any:
            page, _ = await storage.list_devices(DeviceQuery(), 500, None)
            # When it is opened those that a crash left online are put off-line, each at its own moment.
            return [(one, one.presence_at if one.presence_reason != "restart" else None) for one in map(plain, page)]

        async def of_devices(storage: Any) -> Any:
            found = []
            for n in range(120):
                id = f"d{n:05}"
                found.append(await storage.list_messages(id, None, None, None, 100, None))
                found.append(await storage.get_values(id))
                found.append([one.id for one in (await storage.list_commands(id, 100, None))[0]])
                found.append(await storage.applications_of(id))
            return found

        async def queues(storage: Any) -> Any:
            sessions = await storage.sessions.load_sessions()
            numbers = [one.record.number for one in sessions]
            rows = [list(await storage.sessions.load_queue(number, 0, 100)) for number in numbers]
            return sessions, rows, [list(await storage.sessions.load_incoming(number)) for number in numbers]

        def plain(record: Any) -> Any:
            record.presence_at = None if record.presence_reason == "restart" else record.presence_at
            return record

        async def others(storage: Any) -> Any:
            journal = storage.sessions
            return [
                await storage.list_products(),
                await storage.list_applications(),
                await storage.list_records("lora"),
                list(await journal.load_retained("", 1_000)),
                list(await journal.load_wills()),
            ]

        return [devices, of_devices, commands, queues, others]

    async def test_what_a_broker_on_redis_wrote(self) -> None:
        await self.filled(make_storage(self.prefix, SERVER.get().url))
        there = await self.copied(self.redis(RedisSide), SqliteTarget(self.back))
        self.prefix = SERVER.prefix()
        back = await self.copied(SqliteSide(self.back), self.redis(RedisTarget))
        self.assertEqual(back.tables, there.tables)

    async def test_work_goes_on_where_it_was(self) -> None:
        """New numbers do not meet the old ones."""
        await self.filled(self.sqlite())
        await self.copied(SqliteSide(self.path), self.redis(RedisTarget))
        storage = make_storage(self.prefix, SERVER.get().url)
        await storage.open()
        self.addCleanup(storage.close)
        before = len(await storage.open_commands())
        await fill_more(storage)
        found = [one.id for one in await storage.open_commands()]
        self.assertEqual((len(found), found[-1]), (before + 1, "new"))

    async def test_nothing_at_all(self) -> None:
        storage = self.sqlite()
        await storage.open()
        await storage.close()
        outcome = await self.copied(SqliteSide(self.path), self.redis(RedisTarget))
        self.assertEqual(outcome.rows, 0)


async def fill_more(storage: Any) -> None:
    from broker.model.messages import Command

    done: Deferred[Exception | None] = Deferred()
    storage.add_command(Command("new", "d00001", "toy", {}, "admin", 1.0, 2.0), done.callback)
    assert await done is None


class RefusalTests(CopyingCase):
    async def test_a_target_that_is_not_empty(self) -> None:
        await self.filled(self.sqlite(), 20)
        source = SqliteSide(self.path)
        await self.copied(source, self.redis(RedisTarget))
        self.assertIn("not empty", await self.refused(Conflict, self.copied(source, self.redis(RedisTarget))))
        await self.copied(source, self.redis(RedisTarget), force=True)
        await self.copied(self.redis(RedisSide), SqliteTarget(self.back))
        self.assertIn("--force", await self.refused(Conflict, self.copied(source, SqliteTarget(self.back))))
        why = await self.refused(Conflict, self.copied(source, SqliteTarget(self.back), resume=True))
        self.assertIn("there is a database", why)
        await self.copied(source, SqliteTarget(self.back), force=True)

    async def test_a_broker_is_there(self) -> None:
        await self.filled(self.sqlite(), 20)
        running = self.sqlite()
        await running.open()
        why = await self.refused(Unavailable, self.copied(SqliteSide(self.path), self.redis(RedisTarget)))
        self.assertIn("another broker", why)
        await running.close()
        other = make_storage(self.prefix, SERVER.get().url)
        await other.open()
        self.addCleanup(other.close)
        for answer in (
            self.copied(SqliteSide(self.path), self.redis(RedisTarget), force=True),
            self.copied(self.redis(RedisSide), SqliteTarget(self.back)),
        ):
            self.assertIn("the broker 'node-1' uses it (process", await self.refused(Unavailable, answer))

    async def test_a_broker_comes(self) -> None:
        """It is refused while its storage is copied, from or into."""
        side = self.redis(RedisSide)
        await side.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(side.close()))
        storage = make_storage(self.prefix, SERVER.get().url, connect_timeout=0.2)
        self.assertIn("it is being copied", await self.refused(Unavailable, storage.open()))
        await side.close()
        target = SqliteTarget(self.back)
        await target.open()
        self.assertIn("another broker", await self.refused(Unavailable, self.sqlite(self.back).open()))
        await target.close()
        for place in (make_storage(self.prefix, SERVER.get().url), self.sqlite(self.back)):
            await place.open()
            await place.close()

    async def test_the_same_or_none(self) -> None:
        self.assertIn(
            "there is no database",
            await self.refused(Unavailable, self.copied(SqliteSide(self.path), self.redis(RedisTarget))),
        )

    async def test_a_copy_that_differs(self) -> None:
        await self.filled(self.sqlite(), 20)

        def at(what: str) -> None:
            if what == "products, verified":
                SERVER.get().ask("HDEL", f"{self.prefix}:r:lora", "7/ключ\0" + "0")

        why = await self.refused(Unavailable, self.copied(SqliteSide(self.path), self.redis(RedisTarget), Told(at)))
        self.assertIn("records: the copy differs from the source (40 rows there, 40 here)", why)
        why = await self.refused(Unavailable, make_storage(self.prefix, SERVER.get().url).open())
        self.assertIn("a copy into it was interrupted", why)


class InterruptedTests(CopyingCase):
    """An exception in the middle is what a kill is to the target: what was written stays."""

    def stops_at(self, table: str) -> Told:
        def at(what: str) -> None:
            if what == table:
                raise Unavailable("interrupted")

        return Told(at)

    async def test_every_table(self) -> None:
        await self.filled(self.sqlite(), 60)
        await self.copied(SqliteSide(self.path), self.redis(RedisTarget))
        for number, (table, _) in enumerate(TABLES.items()):
            for target, source in (
                (lambda: SqliteTarget(self.back), lambda: self.redis(RedisSide)),
                (lambda: self.redis(RedisTarget), lambda: SqliteSide(self.path)),
            ):
                how = {"force": True} if number or isinstance(target(), RedisTarget) else {}
                await self.refused(Unavailable, self.copied(source(), target(), self.stops_at(table), **how))
                why = await self.refused(Conflict, self.copied(source(), target()))
                self.assertTrue("--resume" in why or "--force" in why, why)
                await self.copied(source(), target(), resume=True)

    async def test_another_source(self) -> None:
        await self.filled(self.sqlite(), 10)
        await self.refused(
            Unavailable, self.copied(SqliteSide(self.path), self.redis(RedisTarget), self.stops_at("sessions"))
        )
        other = self.path.with_name("other.sqlite")
        await self.filled(self.sqlite(other), 10)
        why = await self.refused(Conflict, self.copied(SqliteSide(other), self.redis(RedisTarget), resume=True))
        self.assertIn("is a copy of something else", why)


class Copier(ProcessProtocol):
    """The command as a process of its own; killed when it has said ``word``."""

    def __init__(self, word: bytes) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._word = word
        self._output = b""

    def errReceived(self, data: bytes) -> None:
        self._output += data
        if self._word in self._output:
            assert self.transport is not None
            self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        if isinstance(reason.value, ProcessTerminated) and reason.value.signal == 9:
            self.ended.callback(self._output)
        else:
            self.ended.errback(AssertionError(f"not killed: {self._output.decode()}"))


class CommandTests(CopyingCase):
    """The real command."""

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "BROKER__REDIS__PREFIX": self.prefix}

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "broker.storage", "copy", *arguments]

    def run_command(self, *arguments: str) -> Deferred[Any]:
        return deferToThread(
            subprocess.run,
            self.line(*arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    async def test_killed_and_resumed(self) -> None:
        await self.filled(self.sqlite(), 2_000)
        source, target = f"sqlite:{self.path.absolute()}", SERVER.get().url
        for word, how in ((b"bindings", ()), (b"commands", ("--resume",)), (b"products, verified", ("--resume",))):
            copier = Copier(word)
            reactor.spawnProcess(copier, sys.executable, self.line(source, target, *how), env=self.environment())
            await copier.ended
        done = await self.run_command(source, target, "--resume")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rows copied to redis: 127.0.0.1", done.stdout)
        self.assertIn("verified in", done.stdout)

    async def test_lines_for_what_is_wrong(self) -> None:
        for arguments, why in (
            (("mysql:", "sqlite:x"), "broker: a storage is sqlite:PATH"),
            (("sqlite:x", "redis://:hush@h/x"), "broker: the URL of a Redis must have the number of a database"),
            (("sqlite:/none/x", f"sqlite:{self.back}"), "broker: there is no database /none/x"),
            (("sqlite:x", "sqlite:y", "--config", "/none.toml"), "broker: /none.toml: cannot be read: No such file"),
        ):
            done = await self.run_command(*arguments)
            self.assertEqual((done.returncode, done.stdout), (1, ""), arguments)
            self.assertTrue(done.stderr.startswith(why), done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)
            self.assertNotIn("hush", done.stderr)


class BarTests(SynchronousTestCase):
    def test_lines(self) -> None:
        out = StringIO()
        bar = Bar(out)
        for done in (0, 500, 1_000):
            bar.progress("devices", done, 1_000)
        bar.progress("empty", 0, 0)
        bar.end()
        bar.end()
        self.assertEqual(out.getvalue(), f"{'devices':<24} 1,000 of 1,000\n{'empty':<24} 0 of 0\n")

    def test_a_terminal(self) -> None:
        out = StringIO()
        out.isatty = lambda: True  # type: ignore[method-assign]
        bar = Bar(out)
        bar.progress("devices", 7, 10)
        bar.progress("empty", 0, 0)
        bar.end()
        self.assertIn("devices", out.getvalue())
        self.assertIn("7/10", out.getvalue())
        self.assertIn("1/1", out.getvalue())

    def test_quiet(self) -> None:
        out = StringIO()
        bar = Bar(out, quiet=True)
        bar.progress("devices", 1, 1)
        bar.end()
        self.assertEqual(out.getvalue(), "")
