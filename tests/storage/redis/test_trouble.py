"""What is particular to Redis as a storage: losses at every moment, a full one, two brokers, unfit servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.model.records import DeviceQuery
from broker.model.sessions import ACK, IN, PUT, SESSION
from broker.storage.interface import Change
from broker.storage.redis import storage as storage_module
from broker.storage.redis import writer as writer_module
from broker.storage.redis.fitness import check_fitness
from broker.storage.redis.replies import Lost, Unfit
from broker.storage.redis.storage import RedisStorage
from tests.redis_server import RedisServer
from tests.storage.contract import command, device, live, message, product
from tests.storage.redis.between import Between
from tests.storage.redis.places import SERVER, make_storage
from tests.storage.session_contract import put, record, row

reactor: Any = reactor_module


class TroubleCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.prefix = SERVER.prefix()

    def make(self, url: str = "", node: str = "node-1", **settings: Any) -> RedisStorage:
        storage = make_storage(self.prefix, url, node, **settings)
        self.addCleanup(storage.close)
        return storage

    async def opened(self, url: str = "", node: str = "node-1", **settings: Any) -> RedisStorage:
        storage = self.make(url, node, **settings)
        await storage.open()
        return storage

    def server(self, settings: dict[str, str] | None = None) -> RedisServer:
        server = RedisServer(Path(self.mktemp()), settings)
        self.addCleanup(server.remove)
        server.start()
        return server

    def between(self) -> Between:
        between = Between(SERVER.get().port)
        self.addCleanup(lambda: Deferred.fromCoroutine(between.stop()))
        between.start()
        return between

    async def unavailable(self, answer: Any, kind: type[Unavailable] = Unavailable) -> str:
        with self.assertRaises(kind) as caught:
            await answer
        self.assertNotIn("\n", caught.exception.message)
        return str(caught.exception.message)

    async def id_of(self, looking: Any) -> str:
        found = await looking
        assert found is not None
        return str(found.id)

    async def until(self, condition: Any) -> None:
        """Look every few milliseconds; the test's own time-out bounds it."""
        while not condition():
            await deferLater(reactor, 0.005)

    def journal(self, storage: RedisStorage, change: str, command: Any) -> Deferred[Exception | None]:
        done: Deferred[Exception | None] = Deferred()
        getattr(storage, change)(command, done.callback)
        return done

    def ask(self, *arguments: str) -> bytes:
        """Redis itself, past the broker."""
        return SERVER.get().ask(*arguments)

    async def there(self, key: str) -> None:
        await self.until(lambda: self.ask("EXISTS", f"{self.prefix}:{key}") == b":1\r\n")


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
        self.assertEqual(await storage.health(), "")

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

    async def test_messages_of_sessions(self) -> None:
        between = self.between()
        storage = await self.opened(between.url, doubt_timeout=0.05)
        journal = storage.sessions
        told: list[Any] = []
        journal.watch(lambda upto, error: told.append((upto, error)))

        async def do(*ops: Any) -> None:
            for op in ops:
                journal.append(op)
            await self.until(lambda: journal.committed == journal.position)

        await do((SESSION, record(1)), put(1, row(1)), put(1, row(2)))
        between.says = False
        for op in (put(1, row(3)), (IN, 1, 7), (ACK, 1, 1)):
            journal.append(op)

        async def failed() -> None:
            await self.until(lambda: told and told[-1][1] is not None)

        await self.fail_late(between, storage, "in:1", failed)
        await do(put(1, row(4)))
        self.assertEqual([one.seq for one in await journal.load_queue(1, 0, 9)], [2, 4])
        self.assertEqual(await journal.load_incoming(1), [])


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


class NameTests(TroubleCase):
    async def test_a_second_broker_of_the_same_name(self) -> None:
        await self.opened()
        why = await self.unavailable(self.make().open())
        self.assertIn("another broker named 'node-1' uses it (process ", why)
        await self.opened(node="node-2")

    async def test_the_name_is_free_again(self) -> None:
        first = await self.opened()
        await first.close()
        await self.opened()

    async def test_one_that_is_dead_for_certain(self) -> None:
        first = await self.opened()
        self.patch(os, "kill", self.nobody)
        second = await self.opened()
        await second.add_product(product())
        # It was not dead, and finds out with its next change.
        why = await self.unavailable(first.add_product(product("p2")))
        self.assertEqual(why, "another broker named 'node-1' has taken over this storage")
        self.assertEqual(await first.health(), why)
        self.assertEqual([one.key for one in await second.list_products()], ["p1"])
        self.assertIn(why, await self.unavailable(first.get_product("p1")))

    def nobody(self, pid: int, number: int) -> None:
        raise ProcessLookupError

    async def test_one_of_another_machine_whose_time_is_over(self) -> None:
        self.patch(writer_module, "LEASE", 0.3)
        self.patch(writer_module, "_pid_space", lambda: "")
        await self.opened()
        why = await self.unavailable(self.make(connect_timeout=0.1).open())
        self.assertIn("another broker named 'node-1'", why)
        await self.opened(connect_timeout=10.0)

    async def test_a_name_that_is_renewed_stays_taken(self) -> None:
        self.patch(writer_module, "LEASE", 0.4)
        self.patch(storage_module, "RENEW_EVERY", 0.05)
        self.patch(writer_module, "_pid_space", lambda: "")
        await self.opened()
        await self.unavailable(self.make(connect_timeout=0.8).open())

    async def test_devices_of_a_node_that_is_gone(self) -> None:
        self.patch(writer_module, "LEASE", 0.3)
        first = await self.opened(node="node-1")
        await first.add_devices([device("d1"), device("d2"), device("d3")])
        await first.save_live([live("d1"), live("d2")])
        second = await self.opened(node="node-2")
        await second.save_live([live("d2", presence_at=60.0), live("d3")])
        # The node that a device has left has the last word about it no more.
        await first.save_live([live("d2", online=False, reason="lost", presence_at=55.0)])
        moved = await second.get_device("d2")
        assert moved is not None and moved.online
        await first.close()
        await second.mark_offline()
        found = {one.id: one.online for one in (await second.list_devices(DeviceQuery(), 9, None))[0]}
        self.assertEqual(found, {"d1": False, "d2": False, "d3": False})

    async def test_all_is_gone(self) -> None:
        server = self.server()
        storage = await self.opened(server.url)
        await storage.add_product(product())
        server.ask("FLUSHALL")
        self.assertIn("has lost the data", await self.unavailable(storage.add_product(product("p2"))))
        await storage.close()
        server.ask("FLUSHALL")

    async def test_another_database_after_a_loss(self) -> None:
        server = self.server()
        storage = await self.opened(server.url)
        server.ask("FLUSHALL")
        server.kill()
        await deferToThread(server.start)
        await self.until(lambda: "restart the broker" in storage._writing.trouble)
        self.assertIn("lost the data of this broker", await storage.health())


class FitnessTests(TroubleCase):
    async def refused(self, settings: dict[str, str], why: str) -> None:
        server = self.server(settings)
        line = await self.unavailable(self.make(server.url).open())
        self.assertIn(why, line)
        storage = await self.opened(server.url, allow_volatile=True)
        await storage.add_product(product())
        await storage.close()

    async def test_evicting(self) -> None:
        policy = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
        await self.refused(policy, "throws keys away when it is full (maxmemory-policy allkeys-lru)")

    async def test_not_evicting(self) -> None:
        await self.opened(self.server({"maxmemory": "100mb"}).url)

    async def test_keeping_nothing(self) -> None:
        await self.refused({"appendonly": "no"}, "does not keep what it has answered (appendonly no)")

    async def test_a_replica(self) -> None:
        replica = self.server({"replicaof": f"127.0.0.1 {SERVER.get().port}"})
        why = await self.unavailable(self.make(replica.url, connect_timeout=0.5).open())
        self.assertIn("is a replica", why)

    async def test_a_cluster(self) -> None:
        why = await self.unavailable(self.make(self.server({"cluster-enabled": "yes"}).url).open())
        self.assertIn("Redis Cluster", why)

    async def test_a_user_without_the_rights(self) -> None:
        server = self.server({"user": "little on >word ~* +ping +client +select +script +info"})
        why = await self.unavailable(self.make(f"redis://little:word@127.0.0.1:{server.port}").open())
        self.assertIn("lacks a right", why)

    async def test_the_rights_of_the_documents(self) -> None:
        """What docs/redis.md says is enough."""
        server = self.server({"user": f"broker on >word ~{self.prefix}:* &{self.prefix}:* +@all -@dangerous +info"})
        storage = await self.opened(f"redis://broker:word@127.0.0.1:{server.port}")
        await storage.add_devices([device()])
        await storage.connection.call("PUBLISH", f"{self.prefix}:changes", "x")
        self.assertEqual(await storage.health(), "")

    async def test_versions(self) -> None:
        for version, fits in (("6.2.14", False), ("7.0.0", True), ("10.1.0", True), ("?", False)):

            def call(*arguments: Any, version: str = version) -> Deferred[Any]:
                answer: Deferred[Any] = Deferred()
                info = f"# Server\r\nredis_version:{version}\r\nrole:master\r\naof_enabled:1\r\n".encode()
                answer.callback(info if arguments == ("INFO",) else [b"appendfsync", b"always"])
                return answer

            if fits:
                self.assertEqual(await check_fitness(call, False), "")
            else:
                self.assertIn("is the oldest that will do", await self.unavailable(check_fitness(call, False), Unfit))

    async def test_another_schema(self) -> None:
        storage = await self.opened()
        await storage.close()
        self.ask("HSET", f"{self.prefix}:schema", "version", "99")
        why = await self.unavailable(self.make().open())
        self.assertIn("another version of the broker (schema 99, not 1)", why)


class LaneTests(TroubleCase):
    async def test_group_commit(self) -> None:
        storage = await self.opened()
        before = storage.counters()["commits_total"]
        await gatherResults([storage.add_devices([device(f"d{n}")]) for n in range(2_000)])
        self.assertLess(storage.counters()["commits_total"] - before, 20)

    async def test_too_much_waiting(self) -> None:
        storage = await self.opened(max_pending=3)
        waiting = [storage.add_product(product(f"p{n}")) for n in range(3)]
        why = await self.unavailable(storage.add_product(product("p9")))
        self.assertEqual(why, "3 operations wait for the storage already")
        await gatherResults(waiting)
        await storage.add_product(product("p9"))

    async def test_a_fault_of_ours_is_logged_and_contained(self) -> None:
        storage = await self.opened()
        one = storage.add_product(product("p1"))
        bad = storage._write_lane.ask("no_such_operation", kind="change")
        two = storage.add_product(product("p2"))
        self.assertIn("a fault of the broker", await self.unavailable(bad))
        await gatherResults([one, two])

    async def test_an_answer_that_raises_harms_nobody(self) -> None:
        def raising(error: Exception | None) -> None:
            raise ZeroDivisionError

        storage = await self.opened()
        storage.add_command(command(), raising)
        await storage.add_product(product())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_a_caller_who_gave_up(self) -> None:
        storage = await self.opened()
        adding = storage.add_product(product())
        adding.addErrback(lambda _: None)
        adding.cancel()
        await storage.add_product(product("p2"))
        self.assertEqual(len(await storage.list_products()), 2)

    async def test_health_writes_only_when_in_doubt(self) -> None:
        storage = await self.opened()
        batches = storage.counters()["commits_total"]
        self.assertEqual(await storage.health(), "")
        self.assertEqual(storage.counters()["commits_total"], batches)
        self.patch(storage_module, "PROVEN_FOR", 0.0)
        self.assertEqual(await storage.health(), "")
        self.assertEqual(storage.counters()["commits_total"], batches + 1)

    async def test_a_search_ends_after_so_many_devices(self) -> None:
        self.patch(storage_module, "LOOKED_AT", 5)
        self.patch(storage_module, "MAX_SEARCHED", 10)
        storage = await self.opened()
        await storage.add_devices([device(f"d{n:02}", name="odd" if n % 20 == 15 else "") for n in range(40)])
        found, cursors, cursor = [], 0, None
        while True:
            page, cursor = await storage.list_devices(DeviceQuery(q="odd"), 5, cursor)
            found += [one.id for one in page]
            if cursor is None:
                break
            cursors += 1
        self.assertEqual((found, cursors), (["d15", "d35"], 4))

    async def test_a_device_takes_its_keys_with_it(self) -> None:
        storage = await self.opened()
        before = self.ask("KEYS", f"{self.prefix}:*")
        await storage.add_devices([device(dev_eui="E", attributes={"parent": "g", "tags": ["a", "b"]})])
        await storage.save_live([live(values={"t": (1, 1.0)})])
        await storage.add_messages([message()])
        await self.journal(storage, "add_command", command())
        await storage.delete_device("d1")
        left = set(self.ask("KEYS", f"{self.prefix}:*").split()) - set(before.split())
        names = {one.decode().removeprefix(f"{self.prefix}:") for one in left if one.startswith(self.prefix.encode())}
        self.assertEqual(names, {"n:command", "n:message", "protocols"})


class JournalTests(TroubleCase):
    async def test_a_session_that_another_process_ended(self) -> None:
        """What its last owner still says of it makes nothing of it."""
        one, two = await self.opened(), await self.opened(node="node-2")
        one.sessions.append((SESSION, record(1)))
        one.sessions.append(put(1, row(1)))
        await self.until(lambda: one.sessions.committed == 2)
        two.sessions.adopt(1)
        two.sessions.append(("drop", 1))
        await self.until(lambda: two.sessions.committed == 1)
        one.sessions.append((PUT, 1, 2, 1, None, "t", b"p", b"", False))
        await self.until(lambda: one.sessions.committed == 3)
        self.assertEqual(await two.sessions.load_sessions(), [])
        self.assertEqual(self.ask("EXISTS", f"{self.prefix}:q:1"), b":0\r\n")

    async def test_a_long_queue_is_summed_up_in_steps(self) -> None:
        storage = await self.opened()
        journal = storage.sessions
        journal.append((SESSION, record(1)))
        rows = [row(n, payload=b"x" * (n % 7)) for n in range(1, 5_001)]
        for one in rows:
            journal.append(put(1, one))
        await self.until(lambda: journal.committed == journal.position)
        (loaded,) = await journal.load_sessions()
        expected = (5_001, 5_000, sum(one.size for one in rows))
        self.assertEqual((loaded.next_seq, loaded.queued, loaded.size), expected)
