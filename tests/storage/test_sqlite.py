"""SQLite as a storage: the contract, and what is particular to files, threads, locks and full disks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import Unavailable
from broker.model.records import DeviceQuery
from broker.storage import registry_sql
from broker.storage import sqlite as sqlite_module
from broker.storage.interface import Change
from broker.storage.registry_sql import devices_page
from broker.storage.schema import migrate
from broker.storage.sqlite import SqliteStorage
from broker.storage.writer import MAX_CULPRITS
from tests.storage import contract
from tests.storage.contract import application, command, device, live, message, product


class SqliteContract(contract.StorageContract):
    def make(self) -> SqliteStorage:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "deep" / "broker.sqlite"
        return SqliteStorage(self.path, reactor, time.time)


class SqliteCase(TestCase):
    timeout = 60

    def make(self, path: Path | None = None, **settings: Any) -> SqliteStorage:
        storage = SqliteStorage(path or self.path, reactor, time.time, **{"busy_timeout": 0.02, **settings})
        self.addCleanup(storage.close)
        return storage

    def setUp(self) -> Any:
        self.path = Path(self.mktemp()) / "broker.sqlite"
        self.storage = self.make()
        return self.storage.open()

    async def unavailable(self, answer: Any) -> str:
        with self.assertRaises(Unavailable) as caught:
            await answer
        return str(caught.exception.message)


class FileTests(SqliteCase):
    async def test_modes(self) -> None:
        await self.storage.add_product(product())
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        names = sorted(os.listdir(self.path.parent))
        self.assertEqual(names, [f"broker.sqlite{end}" for end in ("", "-shm", "-wal", ".lock")])
        for name in names:
            self.assertEqual(stat.S_IMODE((self.path.parent / name).stat().st_mode), 0o600, name)

    async def test_modes_are_mended(self) -> None:
        await self.storage.close()
        self.path.chmod(0o644)
        await self.make().open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_close_leaves_one_whole_file(self) -> None:
        await self.storage.add_product(product())
        await self.storage.close()
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["broker.sqlite", "broker.sqlite.lock"])

    async def test_no_thread_is_left(self) -> None:
        def threads() -> int:
            return sum(thread.name.startswith("storage") for thread in threading.enumerate())

        self.assertEqual(threads(), 2)
        await self.storage.close()
        self.assertEqual(threads(), 0)

    async def test_durable_settings(self) -> None:
        def settings(db: sqlite3.Connection) -> list[Any]:
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

        self.assertEqual(await self.storage._write_lane.ask(settings), ["wal", 2])

    async def test_the_reader_cannot_write(self) -> None:
        asked = self.storage._read_lane.ask(lambda db: db.execute("DELETE FROM devices"))
        self.assertIn("read-only", await self.unavailable(asked))

    async def test_a_second_broker_is_refused(self) -> None:
        why = await self.unavailable(self.make().open())
        self.assertIn(f"another broker (process {os.getpid()})", why)
        self.assertNotIn("\n", why)
        await self.storage.add_product(product())
        await self.storage.close()
        await self.make().open()

    async def test_a_place_that_cannot_be_used(self) -> None:
        blocked = self.path.parent / "file"
        blocked.write_text("")
        for path in (blocked / "broker.sqlite", self.path.parent):
            why = await self.unavailable(self.make(path).open())
            self.assertIn("cannot use the database", why)

    async def test_a_file_that_is_no_database(self) -> None:
        path = self.path.parent / "text"
        path.write_bytes(b"not a database " * 1000)
        why = await self.unavailable(self.make(path).open())
        self.assertIn("is not a SQLite database", why)
        self.assertEqual(path.read_bytes(), b"not a database " * 1000)

    async def test_a_failed_open_can_be_tried_again(self) -> None:
        other = self.make()
        await self.unavailable(other.open())
        await other.close()
        await self.storage.close()
        again = self.make()
        await again.open()
        self.assertEqual(await again.health(), "")


class VisibilityTests(SqliteCase):
    async def test_a_look_up_sees_writes_that_are_not_answered(self) -> None:
        adding = self.storage.add_devices([device()])
        found = await self.storage.get_device("d1")
        self.assertIsNotNone(found)
        self.assertTrue(adding.called)

    async def test_a_list_sees_writes_that_were_answered(self) -> None:
        for n in range(50):
            await self.storage.add_devices([device(f"d{n:02}")])
            page, _ = await self.storage.list_devices(DeviceQuery(), 100, None)
            self.assertEqual(len(page), n + 1)

    async def test_a_long_list_does_not_hold_up_commits(self) -> None:
        reading, may_end = threading.Event(), threading.Event()

        def long(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT count(*) FROM products UNION ALL SELECT 1")
            first: int = rows.fetchone()[0]
            reading.set()
            may_end.wait(30)
            return first

        self.addCleanup(may_end.set)
        listing = self.storage._read_lane.ask(long)
        await self.storage._write_lane.ask(lambda _: reading.wait(30))
        await self.storage.add_product(product())
        self.assertFalse(listing.called)
        may_end.set()
        self.assertEqual(await listing, 0)

    async def test_group_commit(self) -> None:
        before = self.storage.counters()["commits_total"]
        await gatherResults([self.storage.add_devices([device(f"d{n}")]) for n in range(500)])
        self.assertLess(self.storage.counters()["commits_total"] - before, 50)


class TroubleTests(SqliteCase):
    """Full, locked, damaged: refused with a sentence, nothing half done, and well again afterwards."""

    async def limit_pages(self, more: int | None) -> None:
        def limit(db: sqlite3.Connection) -> None:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count={1 << 30 if more is None else pages + more}")

        await self.storage._write_lane.ask(limit)

    async def test_full(self) -> None:
        await self.storage.add_devices([device()])
        await self.limit_pages(0)
        big = [device(f"e{n}", attributes={"x": "x" * 1000}) for n in range(100)]
        small = self.storage.save_info("d1", {"small": 1})
        why = await self.unavailable(self.storage.add_devices(big))
        self.assertEqual(why, "the disk, or the database, is full")
        await small
        self.assertEqual(await self.storage.health(), why)
        page, _ = await self.storage.list_devices(DeviceQuery(), 10, None)
        self.assertEqual([(one.id, one.info) for one in page], [("d1", {"small": 1})])
        await self.limit_pages(None)
        self.assertEqual(await self.storage.health(), "")
        self.assertEqual(await self.storage.add_devices(big), [None] * 100)

    async def test_full_for_records(self) -> None:
        await self.storage.write_records([Change("t", "old", b"old")])
        await self.limit_pages(0)
        big = [Change("t", f"k{n}", b"x" * 1000) for n in range(100)]
        waiting = self.storage.write_records([Change("t", "old", b"new", b"old")])
        why = await self.unavailable(self.storage.write_records(big))
        self.assertEqual(why, "the disk, or the database, is full")
        await waiting
        self.assertEqual(await self.storage.list_records("t"), [("old", b"new")])
        await self.limit_pages(None)
        await self.storage.write_records(big)
        self.assertEqual(len(await self.storage.list_records("t")), 101)

    async def test_health_writes_only_when_in_doubt(self) -> None:
        await self.storage.add_product(product())
        commits = self.storage.counters()["commits_total"]
        self.assertEqual(await self.storage.health(), "")
        self.assertEqual(self.storage.counters()["commits_total"], commits)
        self.patch(sqlite_module, "PROVEN_FOR", 0.0)
        self.assertEqual(await self.storage.health(), "")
        self.assertEqual(self.storage.counters()["commits_total"], commits + 1)

    async def test_locked(self) -> None:
        await self.storage.add_devices([device()])
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        adding = self.storage.add_product(product())
        looking = self.storage.get_product("p1")
        kept: list[Any] = []
        self.storage.add_command(command(), kept.append)
        why = await self.unavailable(adding)
        self.assertEqual(why, "the database is locked by another program")
        self.assertIsNone(await looking)
        self.assertIsNone(await self.storage.get_command("c1"))
        self.assertEqual([str(error) for error in kept], [why])
        self.assertEqual(await self.storage.health(), why)
        self.assertIsNotNone(await self.storage.get_device("d1"))
        self.assertGreater(self.storage.counters()["failed_commits_total"], 0)
        other.execute("ROLLBACK")
        await self.storage.add_product(product())
        self.assertEqual(await self.storage.health(), "")

    async def test_a_commit_that_fails_keeps_nothing(self) -> None:
        """What was looked up in between must not show what was not kept. A deferred foreign key fails at COMMIT."""

        def doom(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO child VALUES (1)")

        def prepare(db: sqlite3.Connection) -> None:
            db.execute("PRAGMA foreign_keys=1")
            db.execute("CREATE TABLE child (n REFERENCES devices (n) DEFERRABLE INITIALLY DEFERRED)")

        await self.storage._write_lane.ask(prepare)
        may_begin = threading.Event()
        holding = self.storage._write_lane.ask(lambda _: may_begin.wait(30))
        answers = [
            self.storage.add_product(product("p1")),
            self.storage._write_lane.ask(doom, writes=True),
            self.storage.add_product(product("p2")),
        ]
        look = self.storage.get_product("p1")
        may_begin.set()
        await holding
        for answer in answers:
            self.assertIn("FOREIGN KEY", await self.unavailable(answer))
        self.assertIsNone(await look)
        self.assertEqual(await self.storage.list_products(), [])
        await self.storage.add_product(product("p1"))

    async def test_one_that_takes_the_transaction_with_it_leaves_the_others(self) -> None:
        def lose_it(db: sqlite3.Connection) -> None:
            db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

        async def together(culprits: int) -> list[Any]:
            may_begin = threading.Event()
            holding = self.storage._write_lane.ask(lambda _: may_begin.wait(30))
            answers = []
            for n in range(culprits):
                answers.append(self.storage._write_lane.ask(lose_it, writes=True))
                answers.append(self.storage.add_product(product(f"{culprits}-{n}")))
            may_begin.set()
            await holding
            return [result for _, result in await DeferredList(answers, consumeErrors=True)]

        for culprits in (1, MAX_CULPRITS):
            results = await together(culprits)
            self.assertEqual([result.type for result in results[::2]], [Unavailable] * culprits)
            self.assertEqual(results[1::2], [None] * culprits)
        results = await together(MAX_CULPRITS + 1)
        self.assertEqual([result.type for result in results], [Unavailable] * len(results))
        self.assertEqual(len(await self.storage.list_products()), 1 + MAX_CULPRITS)

    async def test_damaged(self) -> None:
        await self.storage.add_devices([device(f"d{n}") for n in range(2000)])
        await self.storage.close()
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (size - 8192))
        storage = self.make()
        try:
            await storage.open()
        except Unavailable as error:
            self.assertIn("damaged", error.message)
            return
        self.assertIn("damaged", await self.unavailable(storage.add_devices([device("new")])))
        self.assertIn("damaged", await self.unavailable(storage.get_device("d1500")))

    async def test_too_much_waiting(self) -> None:
        await self.storage.close()
        storage = self.make(max_pending=3)
        await storage.open()
        may_go_on = threading.Event()
        self.addCleanup(may_go_on.set)
        holding = storage._write_lane.ask(lambda _: may_go_on.wait(30))
        waiting = [storage.add_product(product(f"p{n}")) for n in range(2)]
        why = await self.unavailable(storage.add_product(product("p9")))
        self.assertEqual(why, "3 operations wait for the storage already")
        kept: list[Any] = []
        storage.save_command(command(), kept.append)
        self.assertIsInstance(kept[0], Unavailable)
        may_go_on.set()
        await holding
        await gatherResults(waiting)
        await storage.add_product(product("p9"))
        self.assertEqual(len(await storage.list_products()), 3)

    async def test_a_fault_of_ours_is_logged_and_contained(self) -> None:
        def fault(_: sqlite3.Connection) -> None:
            raise ZeroDivisionError

        one = self.storage.add_product(product("p1"))
        bad = self.storage._write_lane.ask(fault, writes=True)
        two = self.storage.add_product(product("p2"))
        await self.unavailable(bad)
        await gatherResults([one, two])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_an_answer_that_raises_harms_nobody(self) -> None:
        def raising(error: Exception | None) -> None:
            raise ZeroDivisionError

        self.storage.add_command(command(), raising)
        await self.storage.add_product(product())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_a_caller_who_gave_up(self) -> None:
        adding = self.storage.add_product(product())
        adding.addErrback(lambda _: None)
        adding.cancel()
        await self.storage.add_product(product("p2"))
        self.assertEqual(len(await self.storage.list_products()), 2)


class QueryTests(SynchronousTestCase):
    """Every page comes from an index, in order: no scan of devices, no sorting."""

    def setUp(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.db.close)
        migrate(self.db)

    def plan(self, statement: str, values: tuple[Any, ...]) -> str:
        return "\n".join(row[3] for row in self.db.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    def test_pages_of_devices(self) -> None:
        for query in (
            DeviceQuery(),
            DeviceQuery(protocol="toy"),
            DeviceQuery(product="p"),
            DeviceQuery(online=True),
            DeviceQuery(application="a"),
            DeviceQuery(protocol="toy", online=False),
            DeviceQuery(protocol="toy", product="p", online=True),
            DeviceQuery(application="a", online=True, protocol="toy"),
            DeviceQuery(parent="g"),
            DeviceQuery(online=False, changed_since=5.0),
        ):
            plan = self.plan(*devices_page(query, 10, "x"))
            self.assertNotIn("SCAN", plan, query)
            self.assertNotIn("TEMP B-TREE", plan, query)

    def test_a_search_ends_after_so_many_devices(self) -> None:
        self.patch(registry_sql, "MAX_SEARCHED", 10)
        registry_sql.add_devices(self.db, [device(f"d{n:02}", name="odd" if n % 20 == 15 else "") for n in range(40)])
        found, cursors, cursor = [], 0, None
        while True:
            page, cursor = registry_sql.list_devices(self.db, DeviceQuery(q="odd"), 5, cursor)
            found += [one.id for one in page]
            if cursor is None:
                break
            cursors += 1
        self.assertEqual((found, cursors), (["d15", "d35"], 3))


class SizeTests(SqliteCase):
    async def test_opening_with_many_devices_costs_no_scan(self) -> None:
        """Only those that a crash left online are touched at the start, and they are found by an index."""

        def plan(db: sqlite3.Connection) -> str:
            rows = db.execute("EXPLAIN QUERY PLAN UPDATE devices SET online = 0 WHERE online = 1")
            return "\n".join(row[3] for row in rows)

        self.assertIn("SEARCH devices USING", await self.storage._write_lane.ask(plan))

    async def test_presence_that_stays_touches_no_index(self) -> None:
        await self.storage.add_devices([device()])
        await self.storage.add_application(application())
        await self.storage.save_live([live()])
        statements: list[str] = []
        await self.storage._write_lane.ask(lambda db: db.set_trace_callback(statements.append))
        await self.storage.save_live([live(last_seen=99.0)])
        await self.storage.add_messages([message()])
        await self.storage._write_lane.ask(lambda db: db.set_trace_callback(None))
        updates = [statement for statement in statements if statement.startswith("UPDATE devices")]
        self.assertEqual(updates, ["UPDATE devices SET last_seen = 99.0 WHERE n = 1"])
