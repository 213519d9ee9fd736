"""Processes that were killed, or thought dead, come back: under their name, and not before they know what there is."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.mqtt import packets as p
from broker.mqtt.message import Message
from broker.storage.redis.storage import RedisStorage
from tests.cluster.bed import Nodes, until
from tests.cluster.mqtt_bed import Crowd
from tests.storage.contract import device, product
from tests.storage.redis.places import SERVER, make_storage


class NameTests(TestCase):
    """The first writes of a start come before it has joined, when the name still has the mark of who had it before."""

    timeout = 60

    def setUp(self) -> None:
        self.prefix = SERVER.prefix()

    def ask(self, *arguments: str) -> bytes:
        return SERVER.get().ask(*arguments)

    async def opened(self) -> RedisStorage:
        storage = make_storage(self.prefix)
        self.addCleanup(storage.close)
        await storage.open()
        return storage

    async def test_a_killed_process_starts_again_under_its_name(self) -> None:
        old = await self.opened()
        self.ask("HSET", f"{self.prefix}:writer:node-1", "fence", "node-1.1")  # as it joins
        await old.add_product(product())
        # It is gone, its time is over, and others have taken over what it had.
        self.ask("SET", f"{self.prefix}:c:dead:node-1.1", "1")
        self.ask("ZREM", f"{self.prefix}:nodes", "node-1")
        new = await self.opened()
        self.assertEqual(await new.add_devices([device()]), [None])
        # Should the old one still have something to say, it is no writer any more, whatever the mark.
        with self.assertRaises(Unavailable):
            await old.add_devices([device("d2")])
        self.assertIsNone(await new.get_device("d2"))

    async def test_one_that_was_taken_over_writes_nothing_until_it_has_joined_again(self) -> None:
        storage = await self.opened()
        self.ask("HSET", f"{self.prefix}:writer:node-1", "fence", "node-1.1")
        self.ask("SET", f"{self.prefix}:c:dead:node-1.1", "1")
        with self.assertRaisesRegex(Unavailable, "taken over"):
            await storage.add_product(product())
        self.assertEqual(await storage.list_products(), [])
        self.ask("HSET", f"{self.prefix}:writer:node-1", "fence", "node-1.2")
        await storage.add_product(product())


class Ear:
    """Somebody without a session."""

    plain = persistent = plain_5 = False
    detour = None

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def may_receive(self, topic: str) -> bool:
        return True

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> int:
        self.got.append(message.payload)
        return 0


class RejoinTests(TestCase):
    timeout = 60

    @inlineCallbacks
    def test_what_follows_is_tried_until_it_succeeds(self) -> Any:
        """Its storage may not be back yet: without that it would serve and know nothing of the others."""
        plane = yield Nodes(self).start("a")
        plane.bus.pause = lambda seconds: succeed(None)
        calls: list[str] = []

        def first() -> Deferred[None]:
            calls.append("first")
            return fail(Unavailable("not yet")) if len(calls) < 3 else succeed(None)

        plane.watch(joined=first)
        plane.watch(joined=lambda: calls.append("second"))
        node = plane.node
        plane._fence()
        yield until(lambda: "second" in calls, "all to be told")
        self.assertEqual(calls, ["first"] * 3 + ["second"])
        self.assertNotEqual(plane.node, node)

    @inlineCallbacks
    def test_not_of_a_life_that_is_over(self) -> Any:
        plane = yield Nodes(self).start("a")
        calls: list[str] = []
        waiting: list[Deferred[None]] = []

        def told() -> Deferred[None]:
            calls.append(plane.node)
            waiting.append(Deferred())
            return waiting[-1]

        plane.watch(joined=told)
        plane._fence()
        yield until(lambda: len(calls) == 1, "it to be told")
        plane._fence()
        yield until(lambda: len(calls) == 2, "it to be told of the next life")
        waiting[0].errback(Unavailable("too late"))
        waiting[1].callback(None)
        self.assertEqual(len(set(calls)), 2)
        self.assertEqual(calls[-1], plane.node)

    @inlineCallbacks
    def test_nobody_is_served_before(self) -> Any:
        crowd = Crowd(self)
        a = yield crowd.start("a")
        b = yield crowd.start("b")
        reader, _ = yield b.came("reader")
        reader.send(p.Subscribe(1, [("a", 1)]))
        yield until(lambda: any(isinstance(one, p.SubAck) for one in reader.box.packets), "SUBACK")
        load, refusing = a.journal.load_sessions, [True]
        asked: list[None] = []

        def load_sessions() -> Any:
            asked.append(None)
            return fail(Unavailable("the storage is not back yet")) if refusing else load()

        a.journal.load_sessions = load_sessions
        a.plane._fence()
        yield until(lambda: len(asked) > 1, "it to have tried again")
        refused, connack = yield a.came("writer")
        self.assertEqual((refused.closed, connack.code), ("unavailable", p.REFUSED_UNAVAILABLE))
        refusing.clear()
        yield until(lambda: a.server.elsewhere._is_ready, "it to serve")
        writer, connack = yield a.came("writer")
        self.assertEqual(connack.code, 0)
        writer.send(p.Publish("a", b"1", 1, 1))
        yield reader.box.wait(1)

    @inlineCallbacks
    def test_who_listens_without_a_session(self) -> Any:
        """Others know of it, also if it came while this process was nobody."""
        crowd = Crowd(self)
        a = yield crowd.start("a")
        b = yield crowd.start("b")
        writer, _ = yield b.came("writer")
        ear = Ear()
        for number in range(2):
            a.server.sessions.listen(ear, "t")
            yield until(lambda: a.server.elsewhere._is_ready, "it to serve")
            yield crowd.settle()
            payload = b"%d" % number
            writer.send(p.Publish("t", payload))
            yield until(partial(ear.got.__contains__, payload), "the message")
            a.server.sessions.ignore(ear, "t")
            a.plane._fence()
        self.assertEqual(ear.got, [b"0", b"1"])
