"""Schema versions: from nothing, step by step, never backwards, never half."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import Unavailable
from broker.model.sessions import SessionRecord
from broker.mqtt.message import options, options_of
from broker.storage.interface import Change
from broker.storage.schema import APPLICATION_ID, MIGRATIONS, migrate
from broker.storage.session_sql import load_sessions, slots
from broker.storage.sqlite import SqliteStorage
from tests.storage.contract import product

SECOND = ("ALTER TABLE products ADD COLUMN color TEXT NOT NULL DEFAULT 'red'",)
BROKEN = ("CREATE TABLE half (n)", "CREATE TABLE half (n)")


def schema(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


class MigrationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.db.close)

    def refused(self) -> str:
        before = schema(self.db)
        error = self.assertRaises(Unavailable, migrate, self.db)
        self.assertEqual(schema(self.db), before)
        return str(error.message)

    def test_from_nothing(self) -> None:
        migrate(self.db)
        self.assertEqual(version(self.db), len(MIGRATIONS))
        self.assertEqual(self.db.execute("PRAGMA application_id").fetchone()[0], APPLICATION_ID)

    def test_twice_changes_nothing(self) -> None:
        migrate(self.db)
        before = schema(self.db)
        migrate(self.db)
        self.assertEqual(schema(self.db), before)

    def test_one_step_keeps_what_is_there(self) -> None:
        migrate(self.db, MIGRATIONS[:1])
        self.db.execute("INSERT INTO products VALUES ('k', 'toy', 'n', '[]', '[]', 1.0)")
        migrate(self.db, (*MIGRATIONS[:1], SECOND))
        self.assertEqual(version(self.db), 2)
        row = self.db.execute("SELECT * FROM products").fetchone()
        self.assertEqual(row, ("k", "toy", "n", "[]", "[]", 1.0, "red"))

    def test_subscriptions_become_rows(self) -> None:
        migrate(self.db, MIGRATIONS[:2])
        given = b'{"a/+": [2, 0, 0, 0], "b \xc3\xa4": [1, 1, 1, 268435455], "c": [0, 0, 1, 5]}'
        fields = "(number, slot, owner, client_id, version, expiry, subscriptions, will, disconnected_at)"
        for row in ((7, 3, "o", "c", 5, None, given, b"", 1.5), (9, 0, "p", "d", 4, 60, b"{}", b"", None)):
            self.db.execute(f"INSERT INTO sessions {fields} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        migrate(self.db)
        first, second = load_sessions(self.db)
        self.assertEqual(first.record, SessionRecord(7, "o", "c", 5, None, 1.5))
        granted = {one: options_of(number) for one, number in first.subscriptions.items()}
        expected = {
            "a/+": options(2, False, False, 0),
            "b ä": options(1, True, True, 268435455),
            "c": options(0, False, True, 5),
        }
        self.assertEqual(granted, expected)
        self.assertEqual((second.record, second.subscriptions), (SessionRecord(9, "p", "d", 4, 60), {}))
        self.assertEqual(dict(slots(self.db)), {7: 3, 9: 0})

    def test_from_the_version_before_records(self) -> None:
        migrate(self.db, MIGRATIONS[:2])
        self.db.execute("INSERT INTO retained VALUES ('a', x'01', 1, x'', NULL)")
        migrate(self.db)
        self.assertEqual(version(self.db), len(MIGRATIONS))
        self.db.execute("INSERT INTO records VALUES ('t', 'k', x'02')")
        self.assertEqual(self.db.execute("SELECT topic FROM retained").fetchall(), [("a",)])

    def test_step_by_step_is_the_same_as_at_once(self) -> None:
        steps = (*MIGRATIONS, SECOND)
        for count in range(1, len(steps) + 1):
            migrate(self.db, steps[:count])
        other = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(other.close)
        migrate(other, steps)
        self.assertEqual(schema(self.db), schema(other))

    def test_a_broken_step_leaves_the_version_before(self) -> None:
        migrate(self.db)
        before = schema(self.db)
        self.assertRaises(sqlite3.OperationalError, migrate, self.db, (*MIGRATIONS, SECOND, BROKEN))
        self.assertEqual(version(self.db), len(MIGRATIONS) + 1)
        self.assertNotEqual(schema(self.db), before)
        self.assertNotIn("half", str(schema(self.db)))
        self.assertFalse(self.db.in_transaction)

    def test_newer(self) -> None:
        migrate(self.db)
        self.db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        self.assertIn("newer broker (schema version", self.refused())

    def test_somebody_elses(self) -> None:
        self.db.execute("CREATE TABLE theirs (n)")
        self.assertIn("not one of the broker", self.refused())

    def test_somebody_elses_version(self) -> None:
        self.db.execute("PRAGMA user_version = 7")
        self.assertIn("not one of the broker", self.refused())


class OpeningTests(TestCase):
    timeout = 60

    async def test_an_older_database_is_brought_up_to_date(self) -> None:
        path = Path(self.mktemp())
        db = sqlite3.connect(path, isolation_level=None)
        migrate(db, MIGRATIONS[:2])
        db.execute("INSERT INTO products VALUES ('k', 'toy', 'n', '[]', '[]', 1.0)")
        db.close()
        storage = SqliteStorage(path, reactor, time.time)
        self.addCleanup(storage.close)
        await storage.open()
        await storage.write_records([Change("t", "k", b"v")])
        self.assertEqual(await storage.get_record("t", "k"), b"v")
        self.assertEqual([one.key for one in await storage.list_products()], ["k"])

    async def test_a_newer_database_is_refused_and_left_alone(self) -> None:
        path = Path(self.mktemp())
        storage = SqliteStorage(path, reactor, time.time)
        await storage.open()
        await storage.add_product(product())
        await storage.close()
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 5}")
        db.close()
        with self.assertRaises(Unavailable) as caught:
            await SqliteStorage(path, reactor, time.time).open()
        self.assertIn(str(path), caught.exception.message)
        self.assertIn(f"newer broker (schema version {len(MIGRATIONS) + 5}", caught.exception.message)
        self.assertNotIn("\n", caught.exception.message)
        db = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(db.close)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.close()
        again = SqliteStorage(path, reactor, time.time)
        self.addCleanup(again.close)
        await again.open()
        self.assertEqual(await again.list_products(), [product()])
