"""Records: SQLite against their contract, and the typed view of them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import Conflict, Invalid, Unavailable
from broker.storage import records as records_module
from broker.storage.records import Change, Records
from broker.storage.records_sql import end_of, records_page
from broker.storage.schema import migrate
from broker.storage.sqlite import SqliteStorage
from tests.storage import records_contract


class SqliteRecordsContract(records_contract.RecordsContract):
    def make(self) -> SqliteStorage:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "broker.sqlite"
        return SqliteStorage(self.path, reactor, time.time)


class Plain(msgspec.Struct):
    number: int
    raw: bytes = b""
    nested: dict[str, Any] = {}


class Grown(msgspec.Struct):
    number: int
    color: str = "red"


class Other(msgspec.Struct):
    needed: str


class RecordsTests(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.storage = SqliteStorage(Path(self.mktemp()), reactor, time.time)
        self.addCleanup(self.storage.close)
        self.records = Records(self.storage, "t", Plain)
        return self.storage.open()

    async def test_there_and_back(self) -> None:
        whole = Plain(7, b"\0\xff", {"list": [1, 2.5, None], "温": True})
        await self.records.put("k", whole)
        self.assertEqual(await self.records.get("k"), whole)
        self.assertIsNone(await self.records.get("other"))
        await self.records.remove("k")
        self.assertIsNone(await self.records.get("k"))
        self.assertIsNone(await self.records.look("k"))

    async def test_add(self) -> None:
        await self.records.add("k", Plain(1))
        with self.assertRaises(Conflict):
            await self.records.add("k", Plain(2))
        self.assertEqual(await self.records.get("k"), Plain(1))

    async def test_what_cannot_be_kept(self) -> None:
        deep: dict[str, Any] = {}
        for _ in range(5000):
            deep = {"d": deep}
        for nested in ({"n": 1 << 64}, {"o": object()}, {"s": "\ud800"}, deep):
            for answer in (self.records.put("k", Plain(1, b"", nested)), self.records.add("k", Plain(1, b"", nested))):
                with self.assertRaises(Invalid):
                    await answer
        self.assertEqual(await self.records.all(), [])

    async def test_pages_and_all(self) -> None:
        self.patch(records_module, "SLICE", 3)
        for count in (0, 2, 3, 7):
            await self.storage.write_records([self.records.change(f"a{n}", Plain(n)) for n in range(count)])
            wanted = [(f"a{n}", Plain(n)) for n in range(count)]
            self.assertEqual(await self.records.all(), wanted)
            self.assertEqual(await self.records.page("a", 2, "a0"), wanted[1:3])
        self.assertEqual(await self.records.all("b"), [])

    async def test_several_tables_at_once(self) -> None:
        others = Records(self.storage, "u", Other)
        await self.storage.write_records([self.records.change("k", Plain(1)), others.change("k", Other("x"))])
        with self.assertRaises(Conflict):
            await self.storage.write_records([self.records.change("k", None), others.change("k", Other("y"), None)])
        self.assertEqual((await self.records.get("k"), await others.get("k")), (Plain(1), Other("x")))

    async def test_expecting_what_was_looked_at_after_a_field_was_added(self) -> None:
        await self.records.put("k", Plain(1))
        grown = Records(self.storage, "t", Grown)
        found = await grown.look("k")
        assert found is not None
        value, raw = found
        self.assertEqual(value, Grown(1, "red"))
        value.color = "blue"
        await self.storage.write_records([grown.change("k", value, raw)])
        self.assertEqual(await grown.get("k"), Grown(1, "blue"))
        self.assertEqual(await self.records.get("k"), Plain(1))
        with self.assertRaises(Conflict):
            await self.storage.write_records([grown.change("k", None, raw)])

    async def test_what_cannot_be_read(self) -> None:
        for raw in (b"", b"\xc1", b"\x80", b"\x91" * 5000):
            await self.storage.write_records([Change("t", "bad\n", raw)])
            for answer in (self.records.get("bad\n"), self.records.look("bad\n"), self.records.all()):
                with self.assertRaises(Unavailable) as caught:
                    await answer
                self.assertIn("the record 'bad\\n' of t cannot be read", caught.exception.message)


class SqlTests(SynchronousTestCase):
    def test_a_page_is_read_from_the_index_alone(self) -> None:
        db = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(db.close)
        migrate(db)
        for prefix in ("", "a"):
            for after in (None, "a", "b"):
                statement, values = records_page("t", prefix, 10, after)
                plan = "\n".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values))
                self.assertIn("SEARCH records USING PRIMARY KEY (tbl=?", plan)
                self.assertNotIn("TEMP B-TREE", plan)
                if prefix or after:
                    self.assertIn("key>", plan)

    def test_the_end_of_a_prefix(self) -> None:
        for prefix, end in (
            ("", None),
            ("a", "b"),
            ("a/", "a0"),
            ("\ud7ff", "\ue000"),
            ("a\U0010ffff", "b"),
            ("\U0010ffff\U0010ffff", None),
        ):
            self.assertEqual(end_of(prefix), end, repr(prefix))
