"""Redis goes away at every moment, or is full: what is done, what is refused, and what is taken back."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from broker.model.errors import Unavailable
from broker.model.records import DeviceQuery
from broker.model.sessions import ACK, IN, SEND, SESSION, TAKEN
from broker.storage.interface import Change
from broker.storage.redis.replies import Lost
from broker.storage.redis.storage import RedisStorage
from tests.redis_server import RedisServer
from tests.storage.contract import command, device, product
from tests.storage.redis.between import Between
from tests.storage.redis.trouble import TroubleCase
from tests.storage.session_contract import put, record, row

reactor: Any = reactor_module


class LossTests(TroubleCase):
    async def test_done_and_the_answer_was_lost(self) -> None:
        """It is answered as done, once, with what Redis had answered."""
        between = self.between()
        storage = await self.opened(between.url)
        between.says = False
        adding = storage.add_devices([device("d1"), device("d1"), device("d2", product="none")])
        looking = storage.get_device("d1")
        await self.there("d:d1")
        between.says = True
        between.cut()
        self.assertEqual(await adding, [None, "there is a device 'd1' already", "there is no product 'none'"])
        self.assertEqual(await self.id_of(looking), "d1")
        # The connection for lists was cut as well.
        while await storage.health():
            await deferLater(reactor, 0.01)

    async def test_plain_answers_that_were_lost(self) -> None:
        between = self.between()
        storage = await self.opened(between.url)
        between.says = False
        answers = [storage.add_product(product("p1")), storage.write_records([Change("t", "k", b"v", None)])]
        await self.there("products")
        between.says = True
        between.cut()
        self.assertEqual(await gatherResults(answers), [None, None])

    async def test_not_done(self) -> None:
        """It is sent again, and done once."""
        between = self.between()
        storage = await self.opened(between.url)
        between.hears = False
        adding = storage.add_product(product())
        refused = self.journal(storage, "add_command", command("c1", "nobody"))
        await self.until(lambda: any(pair.held for pair in between.pairs))
        between.hears = True
        between.cut()
        await adding
        self.assertEqual(str(await refused), "there is no device 'nobody'")

    async def test_what_comes_out_of_a_dead_connection_is_not_done(self) -> None:
        between = self.between()
        storage = await self.opened(between.url)
        between.hears = False
        first = storage.write_records([Change("t", "k", b"1")])
        await self.until(lambda: any(pair.held for pair in between.pairs))
        between.hears = True
        between.cut()
        await first
        await storage.write_records([Change("t", "k", b"2", b"1")])
        between.release()
        # What was released is read by now: this goes the same way.
        other = await self.opened(node="node-2")
        self.assertEqual(await other.get_record("t", "k"), b"2")

    async def test_changes_in_a_row_over_many_losses(self) -> None:
        between = self.between()
        storage = await self.opened(between.url)
        for n in range(30):
            waiting = [storage.write_records([Change("t", f"{n}-{m}", b"v", None)]) for m in range(20)]
            if n % 3 == 0:
                between.cut()
            elif n % 3 == 1:
                waiting.append(deferLater(reactor, 0.0005 * n, between.cut))
            # With nothing expected to be there, one that was done twice would be a Conflict.
            await gatherResults(waiting)
        self.assertEqual(len(await storage.list_records("t")), 600)

    async def test_a_long_loss(self) -> None:
        """Refused at once, look-ups as well, until Redis is back."""
        server = self.server()
        storage = await self.opened(server.url, doubt_timeout=0.1)
        await storage.add_devices([device()])
        server.kill()
        adding = storage.add_product(product())
        looking, listing = storage.get_device("d1"), storage.list_devices(DeviceQuery(), 1, None)
        for answer in (adding, looking, listing):
            await self.unavailable(answer)
        self.assertIn("no connection to Redis", await self.unavailable(storage.get_device("d1")))
        self.assertIn("no connection to Redis", await storage.health())
        self.assertIsInstance(await self.journal(storage, "save_command", command()), Unavailable)
        told: list[Any] = []
        storage.sessions.watch(lambda upto, error: told.append((upto, type(error))))
        storage.sessions.append((SESSION, record(1)))
        await self.until(lambda: told)
        self.assertEqual(told, [(1, Unavailable)])
        await deferToThread(server.start)
        while await storage.health():
            await deferLater(reactor, 0.01)
        await storage.add_product(product())
        self.assertEqual(await self.id_of(storage.get_device("d1")), "d1")

    async def test_health_says_so_at_once(self) -> None:
        server = self.server()
        storage = await self.opened(server.url, doubt_timeout=30.0)
        server.kill()
        await self.until(lambda: not storage._writing.connected)
        self.assertIn("no connection to Redis", await storage.health())
        await deferToThread(server.start)

    async def test_half_open(self) -> None:
        server = self.server()
        storage = await self.opened(server.url, reply_timeout=0.2, doubt_timeout=0.1)
        server.suspend()
        why = await self.unavailable(storage.add_product(product()), Lost)
        self.assertIn("may have been made or not", why)
        server.resume()
        while await storage.health():
            await deferLater(reactor, 0.01)

    async def test_closing_while_redis_is_away(self) -> None:
        server = self.server()
        storage = await self.opened(server.url, doubt_timeout=0.1)
        server.suspend()
        adding = storage.add_product(product())
        storage.sessions.append((SESSION, record(1)))
        closing = storage.close()
        server.kill()
        await self.unavailable(adding)
        await closing
        self.assertEqual(await storage.health(), "the storage is closed")


class UndoTests(TroubleCase):
    """Callers were told that it failed; Redis had done it. What somebody may repeat is taken back."""

    async def fail_late(self, between: Between, storage: RedisStorage, key: str, failed: Any) -> None:
        await self.there(key)
        between.takes = False
        between.cut()
        await failed()
        between.takes = between.says = True
        while await storage.health():
            await deferLater(reactor, 0.01)

    async def test_commands(self) -> None:
        between = self.between()
        storage = await self.opened(between.url, doubt_timeout=0.05)
        await storage.add_devices([device()])
        between.says = False
        adding = self.journal(storage, "add_command", command())

        async def failed() -> None:
            self.assertIsInstance(await adding, Lost)

        await self.fail_late(between, storage, "c:c1", failed)
        self.assertIsNone(await storage.get_command("c1"))
        self.assertEqual(await storage.open_commands(), [])
        self.assertIsNone(await self.journal(storage, "add_command", command()))


class SessionLossTests(TroubleCase):
    """A batch of sessions that was told as failed and done all the same: what Redis has counts, and stays."""

    async def test_nothing_is_taken_back(self) -> None:
        between = self.between()
        storage = await self.opened(between.url, doubt_timeout=0.05)
        journal = storage.sessions
        told: list[Any] = []
        journal.watch(lambda upto, error: told.append((upto, error)))

        async def do(*ops: Any) -> None:
            for op in ops:
                journal.append(op)
            await self.until(lambda: journal.committed == journal.position)

        await do((SESSION, record(1)), put(1, row(1)), put(1, row(2)), (SEND, "box:1", b"body"))
        ((entry, _),) = await journal.load_box(1, b"", 9)
        between.says = False
        # Row 3 is what lay in the box: taken back, it would be nowhere.
        for op in (put(1, row(3)), (TAKEN, "box:1", entry), (IN, 1, 7), (ACK, 1, 1), (SEND, "box:1", b"next")):
            journal.append(op)
        await self.there("in:1")
        self.assertFalse(journal.uncertain)
        between.takes = False
        between.cut()
        await self.until(lambda: told and told[-1][1] is not None)
        self.assertTrue(journal.uncertain)
        given_up = storage.abandon()
        self.assertFalse(given_up.called, "what is uncertain may yet be done")
        between.takes = between.says = True
        while await storage.health():
            await deferLater(reactor, 0.01)
        await given_up
        self.assertFalse(journal.uncertain)
        await do(put(1, row(4)))
        self.assertEqual([one.seq for one in await journal.load_queue(1, 0, 9)], [2, 3, 4])
        self.assertEqual(await journal.load_incoming(1), [7])
        self.assertEqual([bodies for _, bodies in await journal.load_box(1, b"", 9)], [[b"next"]])

    async def test_what_was_given_up_is_told_as_failed(self) -> None:
        """Others have taken over: whoever waits for it must not take it for kept."""
        storage = await self.opened()
        journal = storage.sessions
        told: list[tuple[int, Exception | None]] = []
        journal.watch(lambda upto, error: told.append((upto, error)))
        journal.append((SESSION, record(1)))
        await self.until(lambda: journal.committed == 1)
        for n in (1, 2):
            journal.append(put(1, row(n)))
        journal.abandon()
        journal.append(put(1, row(3)))
        await self.until(lambda: journal.committed == journal.position)
        self.assertEqual([upto for upto, error in told if error is not None], [3])
        self.assertEqual([one.seq for one in await journal.load_queue(1, 0, 9)], [3])

    async def test_who_is_dead_for_the_others_reads_no_further(self) -> None:
        """It would deliver what is behind that which they have moved on, and before it."""
        storage = await self.opened()
        journal = storage.sessions
        journal.node = lambda: "node-1.7"
        fenced: list[None] = []
        storage.when_fenced(lambda: fenced.append(None))
        for op in ((SESSION, record(1)), put(1, row(1)), (SEND, "box:1", b"body")):
            journal.append(op)
        await self.until(lambda: journal.committed == journal.position)
        self.assertEqual(len(await journal.load_box(1, b"", 9)), len(await journal.load_queue(1, 0, 9)))
        self.ask("HSET", f"{self.prefix}:writer:node-1", "fence", "node-1.7")
        self.ask("SET", f"{self.prefix}:c:dead:node-1.7", "1")
        for read in (journal.load_box(1, b"", 9), journal.load_queue(1, 0, 9)):
            self.assertIn("taken over", await self.unavailable(read))
        self.assertEqual(fenced, [])
        self.assertIn("taken over", await self.unavailable(storage.add_product(product())))
        self.assertEqual(fenced, [None])

    async def test_a_look_goes_behind_what_is_uncertain(self) -> None:
        """What the dead connection still holds may reach Redis until the new one has claimed the name."""
        between = self.between()
        storage = await self.opened(between.url, doubt_timeout=0.05)
        journal = storage.sessions
        journal.append((SESSION, record(1)))
        await self.until(lambda: journal.committed == journal.position)
        between.hears = False
        journal.append(put(1, row(1)))
        await self.until(lambda: any(pair.held for pair in between.pairs))
        between.takes = False
        between.cut()
        await self.until(lambda: journal.uncertain)
        between.release()
        between.takes = between.hears = True
        seen: list[int] | None = None
        while seen is None:
            try:
                seen = [one.seq for one in await journal.load_queue(1, 0, 9)]
            except Unavailable:
                await deferLater(reactor, 0.005)
        self.assertFalse(journal.uncertain)
        self.assertEqual(seen, [one.seq for one in await journal.load_queue(1, 0, 9)])


class FullTests(TroubleCase):
    def full(self, is_full: bool, server: RedisServer) -> None:
        server.ask("CONFIG", "SET", "maxmemory", "100kb" if is_full else "0")

    async def test_full(self) -> None:
        server = self.server()
        storage = await self.opened(server.url)
        await storage.add_devices([device("d1"), device("d2")])
        self.full(True, server)
        adding = storage.add_devices([device("d3")])
        looking = storage.get_device("d1")
        deleting = storage.delete_device("d2")
        self.assertEqual(await self.unavailable(adding), "Redis has no memory left (maxmemory is reached)")
        self.assertEqual(await self.id_of(looking), "d1")
        await deleting
        self.assertEqual(await storage.health(), "Redis has no memory left (maxmemory is reached)")
        page, _ = await storage.list_devices(DeviceQuery(), 9, None)
        self.assertEqual([one.id for one in page], ["d1"])
        self.full(False, server)
        self.assertEqual(await storage.health(), "")
        self.assertEqual(await storage.add_devices([device("d3")]), [None])

    async def test_sessions_give_back_room(self) -> None:
        server = self.server()
        storage = await self.opened(server.url)
        journal = storage.sessions
        told: list[str] = []
        journal.watch(lambda upto, error: told.append("" if error is None else str(error)))
        for op in ((SESSION, record(1)), *(put(1, row(n)) for n in range(1, 6))):
            journal.append(op)
        await self.until(lambda: journal.committed == journal.position)
        self.full(True, server)
        for op in ((ACK, 1, 1), put(1, row(6)), (ACK, 1, 2)):
            journal.append(op)
        await self.until(lambda: len(told) == 2)
        self.assertEqual(told, ["", "Redis has no memory left (maxmemory is reached)"])
        # Nothing more is appended, and still what nobody would repeat is done.
        while [one.seq for one in await journal.load_queue(1, 0, 9)] != [3, 4, 5]:
            await deferLater(reactor, 0.005)
        self.assertEqual(len(told), 2)

    async def test_a_command_may_end(self) -> None:
        server = self.server()
        storage = await self.opened(server.url)
        await storage.add_devices([device()])
        kept = command()
        self.assertIsNone(await self.journal(storage, "add_command", kept))
        self.full(True, server)
        self.assertIsInstance(await self.journal(storage, "add_command", command("c2")), Unavailable)
        kept.status = "succeeded"
        self.assertIsNone(await self.journal(storage, "save_command", kept))
        self.assertEqual(await storage.open_commands(), [])
