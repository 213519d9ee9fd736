"""Two brokers of one name, a Redis that will not do, and what lanes and journal do beside the contract."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from broker.model.records import DeviceQuery
from broker.model.sessions import ACK, DROP, FORGET, IN, OUT, PUT, REC, RETAIN, SEEN, SESSION, SUB, UNSUB, UNWILL, WILL
from broker.mqtt.journal import MemoryJournal
from broker.storage.redis import questions
from broker.storage.redis import storage as storage_module
from broker.storage.redis import writer as writer_module
from broker.storage.redis.fitness import check_fitness
from broker.storage.redis.replies import Unfit
from tests.mosquitto import free_port
from tests.storage.contract import command, device, live, message, product
from tests.storage.redis.places import SERVER
from tests.storage.redis.trouble import TroubleCase
from tests.storage.session_contract import put, record, row
from tests.storage.test_session_journal import real_op

reactor: Any = reactor_module


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
        self.patch(writer_module, "LEASE", 1.5)
        self.patch(writer_module, "_pid_space", lambda: "")
        await self.opened()
        why = await self.unavailable(self.make(connect_timeout=0.5).open())
        self.assertIn("another broker named 'node-1'", why)
        await self.opened(connect_timeout=30.0)

    async def test_a_name_that_is_renewed_stays_taken(self) -> None:
        self.patch(writer_module, "LEASE", 0.4)
        self.patch(storage_module, "RENEW_EVERY", 0.05)
        self.patch(writer_module, "_pid_space", lambda: "")
        await self.opened()
        await self.unavailable(self.make(connect_timeout=0.8).open())

    async def test_devices_of_a_node_that_is_gone(self) -> None:
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
        why = await self.unavailable(
            self.make(self.server({"cluster-enabled": "yes", "cluster-port": str(free_port())}).url).open()
        )
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
        self.patch(questions, "LOOKED_AT", 5)
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

    async def test_any_order_of_ops(self) -> None:
        """Whatever is appended, in whatever batches: Redis has what the memory journal has."""
        chance = random.Random(8)
        storage, memory = await self.opened(), MemoryJournal()
        journal = storage.sessions
        names, seqs = {n: n for n in range(1, 5)}, dict.fromkeys(range(1, 5), 0)
        for _ in range(60):
            for _ in range(chance.randrange(12)):
                for op in real_op(chance.choice(KINDS)(chance), names, seqs):
                    memory.append(op)
                    journal.append(op)
            await self.until(lambda: journal.committed == journal.position)
            await self.same(journal, memory, max(names.values()))

    async def same(self, journal: Any, memory: MemoryJournal, numbers: int) -> None:
        self.assertEqual(list(await journal.load_sessions()), await memory.load_sessions())
        self.assertEqual(list(await journal.load_wills()), await memory.load_wills())
        self.assertEqual(list(await journal.load_retained("", 9)), await memory.load_retained("", 9))
        for number in range(1, numbers + 1):
            self.assertEqual(list(await journal.load_queue(number, 0, 99)), await memory.load_queue(number, 0, 99))
            self.assertEqual(list(await journal.load_incoming(number)), sorted(memory.incoming.get(number, {})))


#: What `tests.storage.test_session_journal` makes real ops of.
KINDS: tuple[Callable[[random.Random], Any], ...] = (
    lambda chance: (PUT, chance.randint(1, 4)),
    lambda chance: (PUT, chance.randint(1, 4)),
    lambda chance: (chance.choice((ACK, REC)), chance.randint(1, 4), chance.randint(1, 12)),
    lambda chance: (chance.choice((ACK, REC)), chance.randint(1, 4), chance.randint(1, 12)),
    lambda chance: (chance.choice((IN, OUT)), chance.randint(1, 4), chance.randint(1, 3)),
    lambda chance: (DROP, chance.randint(1, 4)),
    lambda chance: (SESSION, chance.randint(1, 4)),
    lambda chance: (SEEN, chance.randint(1, 4), chance.choice((None, 1.5, 2.5))),
    lambda chance: (SUB, chance.randint(1, 4), chance.choice("ab"), chance.randint(0, 2)),
    lambda chance: (UNSUB, chance.randint(1, 4), chance.choice("ab")),
    lambda chance: (chance.choice((WILL, UNWILL)), chance.randint(1, 3)),
    lambda chance: (chance.choice((RETAIN, FORGET)), chance.choice("ab")),
)
