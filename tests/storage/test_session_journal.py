"""The session journal on SQLite: the contract, what a batch becomes, full disks, and any order of ops."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import Unavailable
from broker.model.sessions import (
    ACK,
    DROP,
    FORGET,
    IN,
    NEW_WORK,
    OUT,
    PUT,
    REC,
    RETAIN,
    SEEN,
    SESSION,
    SUB,
    UNSUB,
    UNWILL,
    WILL,
    Op,
    WillRecord,
)
from broker.mqtt.journal import MemoryJournal
from broker.storage import session_journal, session_sql
from broker.storage.schema import MIGRATIONS, migrate
from broker.storage.session_batch import SEQ_BITS, Slots, merge, runs
from broker.storage.sqlite import SqliteStorage
from tests.storage import session_contract
from tests.storage.contract import product
from tests.storage.session_contract import put, record, row

reactor: Any = reactor_module


class MemoryContract(session_contract.SessionJournalContract):
    memory: MemoryJournal | None = None

    def start(self) -> Any:
        old, self.memory = self.memory, MemoryJournal()
        self.journal = self.memory
        if old is not None:
            for name in ("sessions", "subscriptions", "wills", "queues", "incoming", "retained"):
                setattr(self.memory, name, getattr(old, name))
        return succeed(None)

    def stop(self) -> Any:
        return succeed(None)


class SqliteContract(session_contract.SessionJournalContract):
    def start(self) -> Any:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "broker.sqlite"
        self.storage = SqliteStorage(self.path, reactor, time.time, busy_timeout=0.02)
        self.journal = self.storage.sessions
        return self.storage.open()

    def stop(self) -> Any:
        return self.storage.close()


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.slots = Slots()
        self.slots.load([(1, 0), (2, 3)])

    def test_runs(self) -> None:
        for rows, expected in (
            ([5], [(5, 5)]),
            ([3, 1, 2], [(1, 3)]),
            ([9, 1, 2, 4, 9, 8], [(1, 2), (4, 4), (8, 9)]),
        ):
            self.assertEqual(list(runs(rows)), expected)

    def test_what_is_settled_at_once_is_never_written(self) -> None:
        ops = [put(1, row(n)) for n in range(1, 6)]
        batch = merge([*ops, *((ACK, 1, n) for n in range(1, 6))], self.slots)
        self.assertTrue(batch.empty)
        self.assertEqual(batch.spared, 5)

    def test_slots_are_used_again(self) -> None:
        slots = self.slots
        self.assertEqual((slots.make(3), slots.make(4), slots.make(5)), (2 << 39, 1 << 39, 4 << 39))
        slots.keep()
        self.assertEqual(slots.drop(3), 2 << SEQ_BITS)
        self.assertEqual(slots.make(6), 5 << SEQ_BITS)
        slots.keep()
        self.assertEqual(slots.make(7), 2 << SEQ_BITS)

    def test_a_batch_that_failed_leaves_the_slots(self) -> None:
        slots = self.slots
        before = dict(slots.bases)
        made = slots.make(8)
        slots.drop(1)
        slots.make(9)
        slots.drop(9)
        slots.undo()
        self.assertEqual(slots.bases, before)
        self.assertIn(made, {slots.make(10), slots.make(11)})

    def test_an_unknown_kind(self) -> None:
        self.assertRaises(ValueError, merge, [("what", 1)], self.slots)


KINDS = st.one_of(
    st.tuples(st.just(PUT), st.integers(1, 4)),
    st.tuples(st.just(PUT), st.integers(1, 4)),
    st.tuples(st.sampled_from([ACK, REC]), st.integers(1, 4), st.integers(1, 12)),
    st.tuples(st.sampled_from([ACK, REC]), st.integers(1, 4), st.integers(1, 12)),
    st.tuples(st.sampled_from([IN, OUT]), st.integers(1, 4), st.integers(1, 3)),
    st.tuples(st.just(DROP), st.integers(1, 4)),
    st.tuples(st.just(SESSION), st.integers(1, 4)),
    st.tuples(st.just(SEEN), st.integers(1, 4), st.sampled_from([None, 1.5, 2.5])),
    st.tuples(st.just(SUB), st.integers(1, 4), st.sampled_from(["a", "b"]), st.integers(0, 2)),
    st.tuples(st.just(UNSUB), st.integers(1, 4), st.sampled_from(["a", "b"])),
    st.tuples(st.sampled_from([WILL, UNWILL]), st.integers(1, 3)),
    st.tuples(st.sampled_from([RETAIN, FORGET]), st.sampled_from(["a", "b"])),
)
STEPS = st.lists(st.tuples(st.lists(KINDS, max_size=12), st.booleans()), max_size=12)


def real_op(kind: Op, names: dict[int, int], seqs: dict[int, int]) -> list[Op]:
    """An op as the server would make it: sessions have new numbers and messages new seqs."""
    word, name = kind[0], kind[1]
    if word in (RETAIN, FORGET):
        return [(RETAIN, name, b"p", 1, b"", None) if word == RETAIN else kind]
    if word in (WILL, UNWILL):
        seqs[1] += 1
        return [(WILL, WillRecord(name, "o", "c", "t", b"%d" % seqs[1], 1, False, b"", 0)) if word == WILL else kind]
    number = names[name]
    if word == PUT:
        seqs[name] += 1
        return [put(number, row(seqs[name], qos=2, payload=b"%d" % seqs[name]))]
    if word == SESSION:
        return [(SESSION, record(number, owner=f"o{seqs[name]}"))]
    if word == DROP:
        names[name], seqs[name] = max(names.values()) + 1, 0
    return [(word, number, *kind[2:])]


class AnyOrderTests(SynchronousTestCase):
    """Whatever is appended, in whatever batches, of which some fail: the disk has what the memory journal has."""

    @settings(max_examples=400, deadline=None)
    @given(STEPS)
    def test_like_the_memory_journal(self, steps: list[tuple[list[Op], bool]]) -> None:
        memory, slots = MemoryJournal(), Slots()
        memory.held = True
        db = sqlite3.connect(":memory:", isolation_level=None)
        try:
            migrate(db)
            names, seqs = {n: n for n in range(1, 5)}, dict.fromkeys(range(1, 5), 0)
            again: list[Op] = []
            for kinds, fails in steps:
                ops = []
                for kind in kinds:
                    ops += real_op(kind, names, seqs)
                for op in ops:
                    memory.append(op)
                batch = merge([*again, *ops], slots)
                db.execute("BEGIN")
                session_sql.write(db, batch)
                if fails:
                    db.execute("ROLLBACK")
                    slots.undo()
                    again = session_journal._left([*again, *ops])
                    memory.fail(OSError())
                else:
                    db.execute("COMMIT")
                    slots.keep()
                    again = []
                    memory.commit()
                self.same(db, memory, max(names.values()))
        finally:
            db.close()

    def same(self, db: sqlite3.Connection, memory: MemoryJournal, numbers: int) -> None:
        result = self.successResultOf
        self.assertEqual(session_sql.load_sessions(db), result(memory.load_sessions()))
        self.assertEqual(session_sql.load_wills(db), result(memory.load_wills()))
        self.assertEqual(session_sql.load_retained(db, "", 9), result(memory.load_retained("", 9)))
        for number in range(1, numbers + 1):
            self.assertEqual(session_sql.load_queue(db, number, 0, 99), result(memory.load_queue(number, 0, 99)))
            self.assertEqual(session_sql.load_incoming(db, number), sorted(memory.incoming.get(number, {})))


class JournalCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        return Deferred.fromCoroutine(self.begin())

    async def begin(self) -> None:
        self.path = Path(self.mktemp()) / "broker.sqlite"
        self.storage = SqliteStorage(self.path, reactor, time.time, busy_timeout=0.02)
        self.addCleanup(self.storage.close)
        await self.storage.open()
        self.journal = self.storage.sessions
        self.told: list[tuple[int, str]] = []
        self.waiting: Deferred[None] | None = None
        self.journal.watch(self.watcher)
        await self.do((SESSION, record(1)))
        del self.told[:]

    def watcher(self, upto: int, error: Exception | None) -> None:
        self.told.append((upto, "" if error is None else str(error)))
        if self.waiting is not None and upto == self.journal.position:
            waiting, self.waiting = self.waiting, None
            reactor.callLater(0, waiting.callback, None)

    async def do(self, *ops: Op) -> None:
        for op in ops:
            self.journal.append(op)
        self.waiting = Deferred()
        await self.waiting

    async def seqs(self, session: int = 1) -> list[int]:
        return [one.seq for one in await self.journal.load_queue(session, 0, 10_000)]

    async def turn(self) -> None:
        over: Deferred[None] = Deferred()
        reactor.callLater(0, over.callback, None)
        await over

    async def hold(self) -> threading.Event:
        """Keep the write lane busy until the event is set."""
        may_go_on = threading.Event()
        self.addCleanup(may_go_on.set)
        began: Deferred[None] = Deferred()

        def wait(_: sqlite3.Connection) -> None:
            reactor.callFromThread(began.callback, None)
            may_go_on.wait(30)

        self.holding = self.storage._write_lane.ask(wait)
        await began
        return may_go_on


class BatchingTests(JournalCase):
    async def test_a_turn_is_a_batch(self) -> None:
        before = self.journal.batches
        await self.do(*(put(1, row(n)) for n in range(1, 301)))
        self.assertEqual((self.journal.batches, self.told), (before + 1, [(301, "")]))

    async def test_what_gathers_is_the_next_batch(self) -> None:
        may_go_on = await self.hold()
        self.journal.append(put(1, row(1)))
        await self.turn()
        for n in range(2, 100):
            self.journal.append(put(1, row(n)))
            self.journal.append((ACK, 1, n))
        self.journal.append((ACK, 1, 1))
        self.assertEqual(self.journal.committed, 1)
        may_go_on.set()
        self.waiting = Deferred()
        await self.waiting
        self.assertEqual([upto for upto, _ in self.told], [2, self.journal.position])
        self.assertEqual((self.journal.spared, await self.seqs()), (98, []))

    async def test_a_batch_that_nothing_is_left_of_needs_no_disk(self) -> None:
        commits = self.storage.counters()["commits_total"]
        await self.do(put(1, row(1)), (ACK, 1, 1), put(9, row(1)))
        self.assertEqual(self.told, [(4, "")])
        self.assertEqual(self.storage.counters()["commits_total"], commits)

    async def test_a_large_burst_is_several_batches_of_whole_turns(self) -> None:
        self.patch(session_journal, "MAX_OPS", 100)
        may_go_on = await self.hold()
        seq = 0
        for _ in range(7):
            for _ in range(60):
                seq += 1
                self.journal.append(put(1, row(seq)))
                self.assertEqual(self.journal.position, 1 + seq)
            await self.turn()
        may_go_on.set()
        self.waiting = Deferred()
        await self.waiting
        self.assertEqual([upto for upto, _ in self.told], [61, 181, 301, 421])
        self.assertEqual(await self.seqs(), list(range(1, seq + 1)))

    async def test_a_turn_is_never_divided(self) -> None:
        self.patch(session_journal, "MAX_OPS", 100)
        await self.do(*(put(1, row(n)) for n in range(1, 351)))
        self.assertEqual(self.told, [(351, "")])

    async def test_random_orders_of_acknowledgement(self) -> None:
        chance = random.Random(3)
        left: set[int] = set()
        seq = 0
        for _ in range(30):
            ops: list[Op] = []
            for _ in range(40):
                if left and chance.random() < 0.5:
                    gone = chance.choice(sorted(left)[:10])
                    left.discard(gone)
                    ops.append((ACK, 1, gone))
                else:
                    seq += 1
                    left.add(seq)
                    ops.append(put(1, row(seq)))
            await self.do(*ops)
            self.assertEqual(await self.seqs(), sorted(left))

    async def test_a_slot_of_somebody_else_is_not_read(self) -> None:
        await self.do(put(1, row(1)))
        await self.do((DROP, 1))
        await self.do((SESSION, record(2)))
        await self.do(put(2, row(1)))
        self.assertEqual(self.journal._slots.bases, {2: 0})
        self.assertEqual((await self.seqs(1), await self.seqs(2)), ([], [1]))

    async def test_close_writes_what_waits(self) -> None:
        for n in range(1, 51):
            self.journal.append(put(1, row(n)))
        await self.storage.close()
        self.assertEqual(self.told, [(51, "")])
        again = SqliteStorage(self.path, reactor, time.time)
        self.addCleanup(again.close)
        await again.open()
        self.assertEqual(len(await again.sessions.load_queue(1, 0, 100)), 50)

    async def test_closed(self) -> None:
        await self.storage.close()
        await self.do(put(1, row(1)))
        self.assertEqual(self.told, [(2, "the storage is closed")])
        with self.assertRaises(Unavailable):
            await self.journal.load_queue(1, 0, 10)

    async def test_a_watcher_that_raises_harms_nobody(self) -> None:
        def faulty(upto: int, error: Exception | None) -> None:
            raise RuntimeError("faulty watcher")

        self.journal._watchers.insert(0, faulty)
        await self.do(put(1, row(1)))
        await self.do(put(1, row(2)))
        self.assertEqual([upto for upto, _ in self.told], [2, 3])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    async def test_an_op_that_is_none(self) -> None:
        await self.do(put(1, row(1)), ("what", 1))
        await self.do(put(1, row(2)))
        self.assertEqual([bool(error) for _, error in self.told], [True, False])
        self.assertEqual((await self.seqs(), len(self.flushLoggedErrors(ValueError))), ([2], 1))


class FullTests(JournalCase):
    async def limit_pages(self, more: int | None) -> None:
        def limit(db: sqlite3.Connection) -> None:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count={1 << 30 if more is None else pages + more}")

        await self.storage._write_lane.ask(limit)

    async def test_full(self) -> None:
        await self.do(
            put(1, row(1, qos=2)), put(1, row(2)), put(1, row(3)), (IN, 1, 7), (RETAIN, "a", b"1", 1, b"", None)
        )
        del self.told[:]
        await self.limit_pages(0)
        big = put(1, row(4, payload=b"x" * 100_000))
        await self.do(
            (RETAIN, "a", b"2", 1, b"", None), (SESSION, record(2)), put(2, row(1)), (ACK, 1, 2), (REC, 1, 1), big
        )
        await self.do((OUT, 1, 7), (IN, 1, 8), (SEEN, 1, 5.0), put(1, row(5, payload=b"y" * 100_000)))
        full = "the disk, or the database, is full"
        self.assertEqual(self.told, [(12, full), (16, full)])
        # Nothing half done ...
        self.assertEqual(await self.seqs(), [1, 2, 3])
        self.assertEqual(list(await self.journal.load_incoming(1)), [7])
        self.assertEqual([one.record.number for one in await self.journal.load_sessions()], [1])
        # ... and when there is room again, what nobody would repeat is done, and new work is not.
        await self.limit_pages(None)
        await self.do(put(1, row(6)), put(2, row(2)))
        self.assertEqual(self.told[2:], [(18, "")])
        self.assertEqual((await self.seqs(), await self.seqs(2)), ([1, 3, 6], []))
        (first, *_) = await self.journal.load_queue(1, 0, 1)
        self.assertTrue(first.released)
        self.assertEqual(list(await self.journal.load_incoming(1)), [])
        self.assertEqual((await self.journal.load_sessions())[0].record.disconnected_at, 5.0)
        self.assertEqual([one.payload for one in await self.journal.load_retained("", 9)], [b"1"])

    async def test_its_neighbours_in_the_transaction_stay(self) -> None:
        await self.limit_pages(0)
        may_go_on = await self.hold()
        self.journal.append(put(1, row(1, payload=b"x" * 100_000)))
        await self.turn()
        adding = self.storage.add_product(product())
        may_go_on.set()
        await adding
        self.assertEqual([bool(error) for _, error in self.told], [True])
        self.assertEqual(await self.storage.get_product("p1"), product())

    async def test_locked(self) -> None:
        await self.do(put(1, row(1)))
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        await self.do((ACK, 1, 1), put(1, row(2)))
        self.assertIn("locked", self.told[-1][1])
        other.execute("ROLLBACK")
        await self.storage.close()
        again = SqliteStorage(self.path, reactor, time.time)
        self.addCleanup(again.close)
        await again.open()
        self.assertEqual(list(await again.sessions.load_queue(1, 0, 9)), [])

    def test_what_is_tried_again_does_not_pile_up(self) -> None:
        ops: list[Op] = []
        for n in range(100):
            ops = session_journal._left([*ops, (SEEN, 1, float(n)), (FORGET, "a"), (ACK, 1, 5), (IN, 1, n)])
        self.assertEqual(sorted(ops), [(ACK, 1, 5), (FORGET, "a"), (SEEN, 1, 99.0)])
        self.assertFalse({op[0] for op in ops} & NEW_WORK)


class MigrationTests(TestCase):
    timeout = 60

    async def test_a_database_from_before_there_were_sessions(self) -> None:
        path = Path(self.mktemp())
        path.touch(0o600)
        db = sqlite3.connect(path, isolation_level=None)
        migrate(db, MIGRATIONS[:1])
        db.execute("INSERT INTO products VALUES ('k', 'toy', 'n', '[]', '[]', 1.0)")
        db.close()
        storage = SqliteStorage(path, reactor, time.time)
        self.addCleanup(storage.close)
        await storage.open()
        self.assertEqual(list(await storage.sessions.load_sessions()), [])
        self.assertEqual([one.key for one in await storage.list_products()], ["k"])
