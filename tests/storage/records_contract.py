"""What every storage has to do with records (broker.storage.interface). Each implementation derives a test case."""

from __future__ import annotations

import random
import time
from itertools import pairwise

from twisted.internet.defer import gatherResults

from broker.model.errors import Conflict, Invalid, Unavailable
from broker.storage.interface import ANY, Change
from tests.storage.contract import StorageCase, product

#: In the order of their bytes, which is not that of UTF-16: the last one but one is above the surrogates.
KEYS = ("", "\0", "A", "Z", "a", "a\0", "a/", "a/1", "a/10", "a/2", "a0", "b", "\ud7ff", "\ue000", "\U0001f600")
MANY = 100_000
#: Seconds in which all of `MANY` have to be written, and read, on a machine that does other things, too.
PATIENCE = 20.0


class RecordsContract(StorageCase):
    """Derived classes give `make`."""

    async def put(self, table: str, *keys: str) -> None:
        await self.storage.write_records([Change(table, key, key.encode()) for key in keys])

    async def keys(self, table: str, prefix: str = "", limit: int = 1000, after: str | None = None) -> list[str]:
        rows = await self.storage.list_records(table, prefix, limit, after)
        for key, value in rows:
            self.assertEqual(value, key.encode())
        return [key for key, _ in rows]

    async def test_there_and_back(self) -> None:
        self.assertIsNone(await self.storage.get_record("t", "k"))
        for value in (b"", b"\0\xff", b"x" * 1_000_000):
            await self.storage.write_records([Change("t", "k", value)])
            self.assertEqual(await self.storage.get_record("t", "k"), value)
        await self.reopen()
        self.assertEqual(await self.storage.get_record("t", "k"), b"x" * 1_000_000)
        await self.storage.write_records([Change("t", "k", None), Change("t", "never", None)])
        self.assertIsNone(await self.storage.get_record("t", "k"))
        await self.storage.write_records([])

    async def test_tables_do_not_meet(self) -> None:
        await self.put("one", "a", "b")
        await self.put("on", "e", "ea")
        await self.storage.write_records([Change("one", "a", None)])
        self.assertEqual(await self.keys("one"), ["b"])
        self.assertEqual(await self.keys("on"), ["e", "ea"])
        self.assertEqual(await self.keys("o"), [])

    async def test_keys_are_in_the_order_of_their_bytes(self) -> None:
        mixed = list(KEYS)
        random.Random(4).shuffle(mixed)
        await self.put("t", *mixed)
        self.assertEqual(await self.keys("t"), list(KEYS))
        for key in KEYS:
            self.assertEqual(await self.storage.get_record("t", key), key.encode(), repr(key))

    async def test_prefixes(self) -> None:
        await self.put("t", *KEYS, "\U0010ffff", "\U0010ffff\U0010ffffx", "\ud7ffx")
        for prefix in (*KEYS, "a/1", "x", "\U0010ffff", "\U0010ffff\U0010ffff", "a\U0010ffff"):
            wanted = sorted(
                key for key in {*KEYS, "\U0010ffff", "\U0010ffff\U0010ffffx", "\ud7ffx"} if key.startswith(prefix)
            )
            self.assertEqual(await self.keys("t", prefix), wanted, repr(prefix))

    async def test_pages(self) -> None:
        await self.put("t", *KEYS)
        for prefix in ("", "a", "a/"):
            wanted = [key for key in KEYS if key.startswith(prefix)]
            for limit in (1, 2, 3, 100):
                found: list[str] = []
                after = None
                while page := await self.keys("t", prefix, limit, after):
                    self.assertLessEqual(len(page), limit)
                    found += page
                    after = page[-1]
                self.assertEqual(found, wanted, (prefix, limit))
        # From a place that is no key, before the prefix, and behind it.
        self.assertEqual(await self.keys("t", "a/", 1, "a/0"), ["a/1"])
        self.assertEqual(await self.keys("t", "a/", 9, "A"), ["a/", "a/1", "a/10", "a/2"])
        self.assertEqual(await self.keys("t", "a/", 9, "b"), [])

    async def test_expectations(self) -> None:
        await self.storage.write_records([Change("t", "k", b"1", None)])
        for wrong in (None, b"", b"2"):
            await self.refused(Conflict, self.storage.write_records([Change("t", "k", b"9", wrong)]))
            await self.refused(Conflict, self.storage.write_records([Change("t", "k", None, wrong)]))
        self.assertEqual(await self.storage.get_record("t", "k"), b"1")
        await self.storage.write_records([Change("t", "k", b"2", b"1"), Change("t", "k", b"3", b"2")])
        self.assertEqual(await self.storage.get_record("t", "k"), b"3")
        await self.storage.write_records([Change("t", "k", None, b"3"), Change("t", "k", b"4", None)])
        await self.storage.write_records([Change("t", "k", None, b"4"), Change("t", "other", None, None)])
        self.assertIsNone(await self.storage.get_record("t", "k"))
        await self.refused(Conflict, self.storage.write_records([Change("t", "k", None, b"4")]))

    async def test_all_or_nothing(self) -> None:
        await self.put("t", "a", "b")
        changes = [
            Change("t", "new", b"n"),
            Change("t", "a", None),
            Change("t", "b", b"changed", ANY),
            Change("u", "x", b"x", None),
            Change("t", "b", b"again", b"not that"),
            Change("t", "c", b"c"),
        ]
        await self.refused(Conflict, self.storage.write_records(changes))
        self.assertEqual((await self.keys("t"), await self.keys("u")), (["a", "b"], []))
        del changes[4]
        await self.storage.write_records(changes)
        self.assertEqual([key for key, _ in await self.storage.list_records("t")], ["b", "c", "new"])

    async def test_a_refused_write_leaves_its_neighbours(self) -> None:
        answers = [
            self.storage.write_records([Change("t", "a", b"1", None)]),
            self.storage.write_records([Change("t", "b", b"1"), Change("t", "a", b"2", None)]),
            self.storage.add_product(product()),
            self.storage.write_records([Change("t", "a", b"3", b"1")]),
        ]
        await answers[0]
        await self.refused(Conflict, answers[1])
        await gatherResults(answers[2:])
        self.assertEqual(await self.storage.list_records("t"), [("a", b"3")])
        self.assertEqual(len(await self.storage.list_products()), 1)

    async def test_of_many_who_expect_the_same_one_wins(self) -> None:
        answers = [self.storage.write_records([Change("t", "lease", b"%d" % n, None)]) for n in range(20)]
        await answers[0]
        for answer in answers[1:]:
            await self.refused(Conflict, answer)
        self.assertEqual(await self.storage.get_record("t", "lease"), b"0")

    async def test_a_look_up_sees_what_was_asked_for_before(self) -> None:
        writing = self.storage.write_records([Change("t", "k", b"1")])
        looking = self.storage.get_record("t", "k")
        removing = self.storage.write_records([Change("t", "k", None)])
        again = self.storage.get_record("t", "k")
        self.assertEqual(await gatherResults([writing, looking, removing, again]), [None, b"1", None, None])

    async def test_what_is_not_text(self) -> None:
        await self.refused(Invalid, self.storage.write_records([Change("t", "a", b""), Change("t", "\ud800", b"")]))
        await self.refused(Invalid, self.storage.get_record("t", "\udfff"))
        await self.refused(Invalid, self.storage.list_records("t", "\udfff"))
        self.assertEqual(await self.keys("t"), [])

    async def test_closed(self) -> None:
        await self.storage.close()
        await self.refused(Unavailable, self.storage.write_records([Change("t", "k", b"")]))
        await self.refused(Unavailable, self.storage.get_record("t", "k"))
        await self.refused(Unavailable, self.storage.list_records("t"))

    async def test_many(self) -> None:
        """Written in batches out of order, scanned in order in pages, and one page from the middle."""
        order = list(range(MANY))
        random.Random(7).shuffle(order)
        began = time.monotonic()
        batches = [
            self.storage.write_records([Change("t", f"{n:08}", b"%d" % n) for n in order[start : start + 2000]])
            for start in range(0, MANY, 2000)
        ]
        await gatherResults(batches)
        self.assertLess(time.monotonic() - began, PATIENCE)
        began = time.monotonic()
        count, after = 0, ""
        while page := await self.storage.list_records("t", "", 1000, after):
            for (one, _), (two, _) in pairwise(page):
                self.assertLess(one, two)
            self.assertLess(after, page[0][0])
            after = page[-1][0]
            count += len(page)
        self.assertEqual(count, MANY)
        self.assertLess(time.monotonic() - began, PATIENCE)
        self.assertEqual((await self.storage.list_records("t", "0005", 2, "00050001"))[1][1], b"50003")
