"""What every journal of MQTT sessions has to do (broker.mqtt.journal). Each implementation derives a test case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from broker.model.sessions import (
    ACK,
    DROP,
    FORGET,
    IN,
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
    LoadedSession,
    Op,
    QueueRow,
    RetainedRow,
    SessionRecord,
    WillRecord,
)
from broker.mqtt.journal import SessionJournal

reactor: Any = reactor_module


def record(number: int, **fields: Any) -> SessionRecord:
    return SessionRecord(
        **{
            "number": number,
            "owner": "größe",
            "client_id": f"c{number}",
            "version": 4,
            "expiry": None,
            **fields,
        }
    )


def row(seq: int, **fields: Any) -> QueueRow:
    plain = {
        "qos": 1,
        "expires_at": None,
        "topic": "a/温度",
        "payload": b"\x00\xff",
        "properties": b"",
        "retain": False,
    }
    return QueueRow(**{"seq": seq, **plain, **fields})


def put(session: int, row: QueueRow) -> Op:
    return PUT, session, row.seq, row.qos, row.expires_at, row.topic, row.payload, row.properties, row.retain


class SessionJournalContract(TestCase):
    """Derived classes give `start` (also: stop and start again, with what is on disk) and `stop`."""

    timeout = 60
    journal: SessionJournal

    def start(self) -> Any:
        raise NotImplementedError

    def stop(self) -> Any:
        raise NotImplementedError

    def setUp(self) -> Any:
        self.told: list[tuple[int, Exception | None]] = []
        return Deferred.fromCoroutine(self.begin())

    async def begin(self) -> None:
        await self.start()
        self.waiting: list[tuple[int, Deferred[None]]] = []
        self.journal.watch(self.watcher)

    def tearDown(self) -> Any:
        return self.stop()

    async def reopen(self) -> None:
        await self.stop()
        await self.begin()

    def watcher(self, upto: int, error: Exception | None) -> None:
        self.told.append((upto, error))
        while self.waiting and self.waiting[0][0] <= upto:
            # In a turn of its own: every watcher has been told by then.
            reactor.callLater(0, self.waiting.pop(0)[1].callback, None)

    async def do(self, *ops: Op) -> None:
        """Append the ops and wait for them."""
        for op in ops:
            self.journal.append(op)
        await self.safe()

    async def safe(self) -> None:
        if self.journal.committed < self.journal.position:
            waiting: Deferred[None] = Deferred()
            self.waiting.append((self.journal.position, waiting))
            await waiting
        self.assertEqual([error for _, error in self.told if error], [])

    async def rows(self, session: int, limit: int = 1000) -> Sequence[QueueRow]:
        return list(await self.journal.load_queue(session, 0, limit))

    async def loaded(self) -> list[LoadedSession]:
        return list(await self.journal.load_sessions())

    async def seqs(self, session: int) -> list[int]:
        return [row.seq for row in await self.rows(session)]

    async def retained(self) -> list[str]:
        return [row.topic for row in await self.journal.load_retained("", 100)]

    # positions

    async def test_positions(self) -> None:
        self.assertEqual((self.journal.position, self.journal.committed), (0, 0))
        await self.do((SESSION, record(1)))
        self.assertEqual((self.journal.position, self.journal.committed), (1, 1))
        for seq in range(1, 51):
            self.journal.append(put(1, row(seq)))
            self.assertEqual(self.journal.position, 1 + seq)
        await self.safe()
        self.assertEqual(self.journal.committed, 51)
        positions = [upto for upto, _ in self.told]
        self.assertEqual(positions, sorted(set(positions)))
        self.assertEqual(positions[-1], 51)

    async def test_every_watcher_is_told(self) -> None:
        other: list[tuple[int, Exception | None]] = []
        self.journal.watch(lambda upto, error: other.append((upto, error)))
        await self.do((SESSION, record(1)), put(1, row(1)))
        await self.do((ACK, 1, 1))
        self.assertEqual(other, self.told)

    async def test_a_watcher_may_append(self) -> None:
        left = [put(1, row(seq)) for seq in range(5, 0, -1)]

        over: Deferred[None] = Deferred()

        def more(upto: int, error: Exception | None) -> None:
            if left:
                self.journal.append(left.pop())
            elif not over.called:
                over.callback(None)

        self.journal.watch(more)
        self.journal.append((SESSION, record(1)))
        self.journal.append((SEEN, 1, None))
        await over
        self.assertEqual(await self.seqs(1), [1, 2, 3, 4, 5])

    # sessions

    async def test_sessions_come_back_whole(self) -> None:
        records = [
            record(7, expiry=5, disconnected_at=1.25, version=5),
            record(1, expiry=0xFFFFFFFF),
            record(9),
        ]
        await self.do(*((SESSION, one) for one in records))
        await self.reopen()
        found = await self.loaded()
        self.assertEqual([one.record for one in found], sorted(records, key=lambda one: one.number))
        self.assertEqual({(one.next_seq, one.queued, one.size) for one in found}, {(1, 0, 0)})

    async def test_a_session_is_replaced_and_keeps_its_rows(self) -> None:
        await self.do((SESSION, record(1)), put(1, row(1)), (IN, 1, 5))
        changed = record(1, expiry=3, version=5)
        await self.do((SESSION, changed))
        self.assertEqual([one.record for one in await self.loaded()], [changed])
        self.assertEqual((await self.seqs(1), list(await self.journal.load_incoming(1))), ([1], [5]))

    async def test_seen(self) -> None:
        await self.do((SESSION, record(1)), (SEEN, 1, 5.5), (SESSION, record(2)), (SEEN, 3, 1.0))
        await self.do((SEEN, 2, 7.5), (SEEN, 2, None), (SEEN, 2, 8.5), (SESSION, record(4, disconnected_at=2.0)))
        await self.do((SEEN, 4, 3.0), (SESSION, record(4, disconnected_at=4.0)))
        await self.reopen()
        self.assertEqual([one.record.disconnected_at for one in await self.loaded()], [5.5, 8.5, 4.0])
        await self.do((SEEN, 1, None))
        self.assertEqual((await self.loaded())[0].record.disconnected_at, None)

    async def test_drop_takes_everything_with_it(self) -> None:
        await self.do((SESSION, record(1)), (SESSION, record(2)))
        for session in (1, 2):
            await self.do(put(session, row(1)), (IN, session, 9), put(session, row(2)))
        await self.do(put(1, row(3)), (IN, 1, 10), (DROP, 1), put(1, row(4)), (IN, 1, 11), (SEEN, 1, 1.0))
        await self.do((SESSION, record(3)), (DROP, 1), (DROP, 17))
        self.assertEqual([one.record.number for one in await self.loaded()], [2, 3])
        self.assertEqual([await self.seqs(n) for n in (1, 2, 3)], [[], [1, 2], []])
        self.assertEqual([list(await self.journal.load_incoming(n)) for n in (1, 2, 3)], [[], [9], []])
        await self.reopen()
        self.assertEqual([await self.seqs(n) for n in (1, 2, 3)], [[], [1, 2], []])

    async def test_one_that_came_and_went_at_once(self) -> None:
        await self.do((SESSION, record(1)), put(1, row(1)), (DROP, 1), (SESSION, record(2)), put(2, row(1)))
        self.assertEqual([one.record.number for one in await self.loaded()], [2])
        self.assertEqual((await self.seqs(1), await self.seqs(2)), ([], [1]))

    async def subscriptions(self) -> dict[int, dict[str, int]]:
        return {one.record.number: dict(one.subscriptions) for one in await self.loaded()}

    async def test_subscriptions(self) -> None:
        await self.do((SESSION, record(1)), (SESSION, record(2)), (SUB, 1, "a/+", 2), (SUB, 2, "größe/#", 1 << 31))
        await self.do((SUB, 1, "b", 0), (SUB, 1, "a/+", 17), (UNSUB, 2, "a/+"), (SUB, 3, "none", 1), (SUB, 1, "c", 1))
        await self.do((SESSION, record(1, expiry=5)), (UNSUB, 1, "c"), (SUB, 2, "d", 1), (UNSUB, 2, "d"))
        expected = {1: {"a/+": 17, "b": 0}, 2: {"größe/#": 1 << 31}}
        self.assertEqual(await self.subscriptions(), expected)
        await self.reopen()
        self.assertEqual(await self.subscriptions(), expected)
        await self.do((DROP, 1), (SUB, 1, "late", 1), (SESSION, record(4)), (SUB, 4, "b", 2))
        self.assertEqual(await self.subscriptions(), {2: {"größe/#": 1 << 31}, 4: {"b": 2}})

    # wills

    async def test_wills(self) -> None:
        def will(number: int, **fields: Any) -> WillRecord:
            plain = {"topic": "t/温度", "payload": b"\x00", "qos": 1, "retain": True, "properties": b"", "delay": 0}
            return WillRecord(**{"number": number, "owner": "o", "client_id": "c", **plain, **fields})

        wills = [will(7, properties=b"\x26", delay=5), will(2, qos=2, retain=False), will(9, payload=b"")]
        await self.do(*((WILL, one) for one in wills), (UNWILL, 12))
        await self.reopen()
        self.assertEqual(await self.journal.load_wills(), [wills[1], wills[0], wills[2]])
        waits = will(7, properties=b"\x26", delay=5, lost_at=1.5)
        await self.do((WILL, waits), (UNWILL, 2), (WILL, will(10)), (UNWILL, 10), (UNWILL, 9), (WILL, will(9)))
        self.assertEqual(await self.journal.load_wills(), [waits, will(9)])

    # messages

    async def test_rows_come_back_whole(self) -> None:
        rows = [
            row(1, qos=2, expires_at=5.5, retain=True, properties=b"\x01\x02"),
            row(2, payload=b"", topic="/"),
            row(3, payload=b"x" * 100_000, properties=b"y" * 70_000, topic="t" * 65_535),
            row(9, qos=1, retain=True),
        ]
        await self.do((SESSION, record(1)), *(put(1, one) for one in rows))
        self.assertEqual(await self.rows(1), rows)
        await self.reopen()
        self.assertEqual(await self.rows(1), rows)
        (found,) = await self.loaded()
        self.assertEqual((found.next_seq, found.queued, found.size), (10, 4, sum(one.size for one in rows)))

    async def test_pages(self) -> None:
        await self.do((SESSION, record(1)), (SESSION, record(2)), (SESSION, record(3)))
        for seq in range(1, 11):
            await self.do(put(1, row(seq)), put(2, row(seq * 100)), put(3, row(seq)))
        for limit in (1, 3, 10, 11):
            found: list[int] = []
            while page := await self.journal.load_queue(2, found[-1] if found else 0, limit):
                self.assertLessEqual(len(page), limit)
                found += [one.seq for one in page]
            self.assertEqual(found, [seq * 100 for seq in range(1, 11)])
        self.assertEqual([one.seq for one in await self.journal.load_queue(1, 8, 10)], [9, 10])

    async def test_acknowledged(self) -> None:
        await self.do((SESSION, record(1)), (SESSION, record(2)))
        await self.do(*(put(n, row(seq)) for seq in range(1, 21) for n in (1, 2)))
        gone = [3, 1, 2, 7, 20, 18, 19, 10]
        await self.do(*((ACK, 1, seq) for seq in gone), (ACK, 1, 50), (ACK, 9, 4))
        left = [seq for seq in range(1, 21) if seq not in gone]
        self.assertEqual((await self.seqs(1), await self.seqs(2)), (left, list(range(1, 21))))
        await self.do(put(1, row(21)), (ACK, 1, 21), put(1, row(22)), put(1, row(23)), (ACK, 1, 22))
        self.assertEqual(await self.seqs(1), [*left, 23])
        await self.reopen()
        self.assertEqual(await self.seqs(1), [*left, 23])

    async def test_released(self) -> None:
        first, second, third = (row(n, qos=2, expires_at=9.0, retain=n == 2) for n in (1, 2, 3))
        await self.do((SESSION, record(1)), put(1, first), put(1, second))
        await self.do((REC, 1, 2), put(1, third), (REC, 1, 3), (REC, 1, 17), (REC, 2, 1))
        bare: dict[str, Any] = {"topic": "", "payload": b"", "properties": b"", "released": True}
        released = [replace(one, **bare) for one in (second, third)]
        await self.reopen()
        self.assertEqual(await self.rows(1), [first, *released])
        (found,) = await self.loaded()
        self.assertEqual((found.next_seq, found.queued, found.size), (4, 3, first.size))
        await self.do((ACK, 1, 3), (REC, 1, 1), (ACK, 1, 1))
        self.assertEqual(await self.rows(1), released[:1])

    async def test_without_a_session_nothing_is_kept(self) -> None:
        await self.do(put(1, row(1)), (IN, 1, 1), (ACK, 1, 1), (REC, 1, 1), (OUT, 1, 1), (SEEN, 1, 1.0))
        await self.do((SESSION, record(1)))
        self.assertEqual((await self.rows(1), list(await self.journal.load_incoming(1))), ([], []))
        self.assertEqual((await self.rows(2), list(await self.journal.load_incoming(2))), ([], []))

    async def test_incoming(self) -> None:
        await self.do((SESSION, record(1)), (SESSION, record(2)))
        await self.do((IN, 1, 65535), (IN, 1, 1), (IN, 2, 1), (IN, 1, 300), (IN, 1, 7))
        await self.do((OUT, 1, 300), (OUT, 1, 5), (OUT, 1, 7), (IN, 1, 7), (IN, 1, 8), (OUT, 1, 8))
        await self.reopen()
        self.assertEqual(sorted(await self.journal.load_incoming(1)), [1, 7, 65535])
        self.assertEqual(list(await self.journal.load_incoming(2)), [1])

    # retained messages

    async def test_retained_messages_come_back_whole(self) -> None:
        rows = [
            RetainedRow("/", b"", 0, b"", None),
            RetainedRow("a", b"\x00\xff", 2, b"\x01\x02", 5.5),
            RetainedRow("温度/x", b"x" * 100_000, 1, b"", None),
        ]
        await self.do(*((RETAIN, r.topic, r.payload, r.qos, r.properties, r.expires_at) for r in rows))
        await self.reopen()
        self.assertEqual(list(await self.journal.load_retained("", 10)), rows)

    async def test_the_last_retained_message_counts(self) -> None:
        def retain(topic: str, payload: bytes) -> Op:
            return RETAIN, topic, payload, 1, b"", None

        await self.do(retain("a", b"1"), retain("b", b"1"), retain("c", b"1"), (FORGET, "d"))
        await self.do(retain("a", b"2"), (FORGET, "b"), retain("b", b"3"), retain("c", b"2"), (FORGET, "c"))
        found = await self.journal.load_retained("", 10)
        self.assertEqual([(one.topic, one.payload) for one in found], [("a", b"2"), ("b", b"3")])

    async def test_pages_of_retained_messages(self) -> None:
        topics = sorted(["a", "a/b", "a/", "b", "B", "ü", "温", "\U0001f600", "～"])
        await self.do(*((RETAIN, topic, b"", 0, b"", None) for topic in reversed(topics)))
        for limit in (1, 2, 9, 10):
            found: list[str] = []
            while page := await self.journal.load_retained(found[-1] if found else "", limit):
                self.assertLessEqual(len(page), limit)
                found += [one.topic for one in page]
            self.assertEqual(found, topics)
