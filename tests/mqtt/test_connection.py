"""What a client that is logged in may send, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.mqtt import encode
from broker.mqtt import intake as under_test
from broker.mqtt import packets as p
from tests.mqtt.fakes import Bench, Client, publishes

Done = Callable[[Exception | None], None]


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}
    limits: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(self.limits, **self.settings)
        self.client = self.bench.connect("client")
        self.other = self.bench.connect("other", "v")
        self.principal = self.bench.identities.principal("u")

    def heard(self, client: Client | None = None) -> list[tuple[str, bytes, int]]:
        return publishes((client or self.other).got())


class KeepAlive(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(max_keep_alive=100.0)

    def test_one_and_a_half_times(self) -> None:
        client = self.bench.connect(keep_alive=10)
        self.bench.pass_time(14)
        self.assertIsNone(client.closed)
        self.assertEqual(client.ask(p.PingReq()), [p.PingResp()])
        self.bench.pass_time(14)
        self.assertIsNone(client.closed)
        self.bench.pass_time(2)
        self.assertEqual(client.closed, "idle")

    def test_none_and_one_that_is_too_long(self) -> None:
        for keep_alive in (0, 101, 65535):
            client = self.bench.connect(str(keep_alive), keep_alive=keep_alive)
            self.bench.pass_time(149)
            self.assertIsNone(client.closed)
            self.bench.pass_time(2)
            self.assertEqual(client.closed, "idle")

    def test_what_is_not_read_is_not_missed(self) -> None:
        client = self.bench.connect(keep_alive=10)
        done: list[Done] = []
        self.bench.identities.principal("u").takers["t"] = lambda payload, qos, properties, call: done.append(call)
        client.send(*(p.Publish("t", b"", 1, n) for n in range(1, 1002)))
        self.assertTrue(client.paused)
        self.bench.pass_time(20)
        self.assertIsNone(client.closed)
        for call in done:
            call(None)
        self.assertFalse(client.paused)
        self.bench.pass_time(14)
        self.assertIsNone(client.closed)
        self.bench.pass_time(20)
        self.assertEqual(client.closed, "idle")


class Goodbye(Case):
    def setUp(self) -> None:
        super().setUp()
        self.other.subscribe("will/#", qos=1)
        self.leaver = self.bench.connect("leaver", will=p.Will("will/leaver", b"gone", 1))

    def test_no_will_after_disconnect(self) -> None:
        self.assertEqual(self.leaver.ask(p.Disconnect(), p.PingReq()), [])
        self.assertEqual(self.leaver.closed, "client_closed")
        self.leaver.lose(True)
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.bench.stats.closed, {"client_closed": 1})

    def test_a_will_after_everything_else(self) -> None:
        ends: list[tuple[str, Callable[[], object]]] = [
            ("connection_lost", lambda: None),
            ("malformed", lambda: self.leaver.send(b"\xff\xff")),
            ("idle", lambda: self.bench.pass_time(200_000)),
            ("removed", lambda: self.principal.closers[-1]("removed")),
            ("slow_reader", lambda: self.leaver.connection.abort("slow_reader")),
        ]
        for number, (reason, end) in enumerate(ends):
            bench = self.bench
            self.other.lose()
            self.other = bench.connect("other", "v")
            self.other.subscribe("will/#", qos=1)
            self.leaver = bench.connect("leaver", will=p.Will("will/leaver", b"%d" % number, 1))
            self.heard()
            end()
            self.leaver.lose()
            if reason != "idle":  # which the watcher was as well
                self.assertEqual(self.heard(), [("will/leaver", b"%d" % number, 1)])
            self.assertEqual(self.leaver.connection.reason, reason)

    def test_a_will_without_the_right(self) -> None:
        self.principal.forbidden.add("will/leaver")
        self.leaver.lose()
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.bench.stats.dropped, {"not_allowed": 1})

    def test_a_will_that_somebody_takes_over(self) -> None:
        taken: list[tuple[bytes, int]] = []

        def take(payload: bytes, qos: int, properties: Any, done: Done) -> None:
            taken.append((payload, qos))
            done(Unavailable("nobody is left to be told"))

        self.principal.takers["will/leaver"] = take
        self.leaver.lose()
        self.assertEqual((taken, self.heard()), ([(b"gone", 1)], []))

    def test_everything_is_forgotten(self) -> None:
        for client in (self.client, self.other, self.leaver):
            client.subscribe("a", "b/#", "+/c")
            client.lose()
        self.assertEqual(self.bench.topics.subscriptions, 0)
        self.assertEqual(len(self.bench.server.sessions), 0)
        self.assertEqual(self.bench.server.connections, set())
        self.assertEqual(self.principal.closers, [])

    def test_shutdown(self) -> None:
        self.bench.server.shut_down()
        self.assertEqual(self.client.closed, "shutdown")
        self.assertIsNone(self.bench.server.buildProtocol(None))


class Publishing(Case):
    def setUp(self) -> None:
        super().setUp()
        self.other.subscribe("a/#", qos=1)

    def test_each_qos_and_its_answer(self) -> None:
        self.assertEqual(self.client.ask(p.Publish("a/0", b"zero")), [])
        self.assertEqual(self.client.ask(p.Publish("a/1", b"one", 1, 7)), [p.PubAck(7)])
        self.assertEqual(self.client.ask(p.Publish("a/2", b"two", 2, 8)), [p.PubRec(8)])
        self.assertEqual(self.client.ask(p.PubRel(8)), [p.PubComp(8)])
        # Twice each: the second time the short way.
        self.client.ask(p.Publish("a/0", b"zero"), p.Publish("a/1", b"one", 1, 9))
        self.assertEqual(
            self.heard(),
            [("a/0", b"zero", 0), ("a/1", b"one", 1), ("a/2", b"two", 1), ("a/0", b"zero", 0), ("a/1", b"one", 1)],
        )
        self.assertEqual(self.bench.stats.messages_out, 5)

    def test_retain_and_dup_are_not_passed_on(self) -> None:
        self.client.send(
            p.Publish("a", b"1", retain=True),
            p.Publish("a", b"2", 1, 1, True, True),
            p.Publish("a", b"3", 2, 2, True, True),
        )
        got = self.other.got()
        self.assertEqual(publishes(got), [("a", b"1", 0), ("a", b"2", 1), ("a", b"3", 1)])
        self.assertFalse(any(one.retain or one.dup for one in got if isinstance(one, p.Publish)))
        # But kept.
        self.assertEqual(self.client.subscribe("a/#"), [p.SubAck(1, b"\0"), p.Publish("a", b"3", retain=True)])

    def test_qos_2_once(self) -> None:
        first, again = p.Publish("a", b"1", 2, 5), p.Publish("a", b"1", 2, 5, dup=True)
        self.assertEqual(self.client.ask(first, again, again), [p.PubRec(5)] * 3)
        self.assertEqual(self.heard(), [("a", b"1", 1)])
        self.assertEqual(self.client.ask(p.PubRel(5), p.PubRel(5), p.PubRel(77)), [p.PubComp(5)] * 2 + [p.PubComp(77)])
        self.client.ask(p.Publish("a", b"2", 2, 5))
        self.assertEqual(self.heard(), [("a", b"2", 1)])

    def test_a_topic_without_the_right(self) -> None:
        self.principal.forbidden.add("a/x")
        self.assertEqual(
            self.client.ask(p.Publish("a/x", b""), p.Publish("a/x", b"", 1, 1), p.Publish("a/x", b"", 2, 2)),
            [p.PubAck(1), p.PubRec(2)],
        )
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.bench.stats.dropped, {"not_allowed": 3})
        self.assertIsNone(self.client.closed)

    def test_rights_are_asked_once_and_again_when_they_changed(self) -> None:
        for _ in range(3):
            self.client.send(p.Publish("a/x", b"", 1, 1), p.Publish("a/x", b""))
        self.assertEqual(self.principal.asked, ["a/x"])
        self.principal.forbidden.add("a/x")
        self.bench.topics.rights_changed()
        self.heard()
        self.client.send(p.Publish("a/x", b"", 1, 1), p.Publish("a/x", b""))
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.client.connection._routes, {})

    def test_a_subscription_counts_from_the_next_message_on(self) -> None:
        self.client.send(p.Publish("b", b"1"))
        self.other.subscribe("b")
        self.client.send(p.Publish("b", b"2"))
        self.other.subscribe("+", qos=1)
        self.client.send(p.Publish("b", b"3", 1, 1))
        self.other.ask(p.Unsubscribe(1, ["b", "+"]))
        self.client.send(p.Publish("b", b"4"))
        self.assertEqual(publishes(self.other.received), [("b", b"2", 0), ("b", b"3", 1)])

    def test_many_topics_are_not_all_remembered(self) -> None:
        self.patch(under_test, "MAX_ROUTES", 10)
        for number in range(95):
            self.client.send(p.Publish(f"a/{number}", b""))
        self.client.send(p.Publish("a/" + "x" * 200, b""))
        self.assertLessEqual(len(self.client.connection._routes), 10)
        self.assertEqual(len(self.heard()), 96)

    def test_topics_beyond_the_limits(self) -> None:
        for topic in ("abcdefghi", "a/b/c/d"):
            bench = Bench(max_topic_length=8, max_topic_levels=3)
            client = bench.connect()
            client.subscribe("#")
            sent: list[p.Packet] = [
                p.Publish("a", b""),
                p.Publish(topic, b"", 1, 1),
                p.Publish("a", b"after"),
                p.PingReq(),
            ]
            client.send(*sent)
            self.assertEqual(client.closed, "too_long")
            # What went before it in the same turn is not lost, what came behind it is not looked at.
            self.assertEqual(client.got(), [p.Publish("a", b"")])

    def test_what_is_against_the_rules(self) -> None:
        good = p.Publish("a/1", b"", 1, 1)
        for sent, reason in (
            (b"\x30\x03\0\1+", "malformed"),
            (b"\x30\x02\0\0", "malformed"),
            (b"\x30\x01\0", "malformed"),
            (b"\x30\x03\0\2a", "malformed"),
            (b"\x32\x03\0\1a", "malformed"),
            (b"\x32\x05\0\1a\0\0", "malformed"),
            (b"\x36\x05\0\1a\0\1", "malformed"),
            (b"\x38\x03\0\1a", "malformed"),
            (b"\x40\x02\0\0", "malformed"),
            (b"\x40\x03\0\1\0", "malformed"),
            (b"\x50\x02\0\0", "malformed"),
            (b"\x70\x02\0\0", "malformed"),
            (b"\x20\x02\0\0", "protocol_error"),
            (b"\xd0\x00", "protocol_error"),
            (b"\xf0\x00", "malformed"),
            (b"\x82\x02\0\1", "malformed"),
            (b"\x80\x06\0\1\0\1a\0", "malformed"),
            (b"\x30\xff\xff\xff\x7f", "too_long"),
            (b"\xc0\xff\xff\xff\xff", "malformed"),
        ):
            with self.subTest(sent=sent):
                client = self.bench.connect("bad")
                self.heard()
                self.assertEqual(client.ask(good, sent, good, p.PingReq()), [p.PubAck(1)])
                self.assertEqual(client.closed, reason)
                heard = self.other.got()
                self.assertEqual(publishes(heard), [("a/1", b"", 1)])
                self.other.send(*(p.PubAck(one.packet_id) for one in heard if isinstance(one, p.Publish)))
                client.lose()
        self.assertEqual(self.bench.stats.malformed, 19)

    def test_a_fault_in_what_may_be_done(self) -> None:
        self.principal.publisher = None  # type: ignore[method-assign, assignment] # the fault
        self.client.send(p.Publish("a", b""), p.Publish("a", b""))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.client.closed, "internal_error")


class FullTables(Case):
    settings = {"max_unreleased": 2}

    def test_qos_2_without_release(self) -> None:
        publish = [p.Publish("a", b"", 2, n) for n in (1, 2, 1, 3, 4)]
        self.assertEqual(self.client.ask(*publish), [p.PubRec(1), p.PubRec(2), p.PubRec(1)])
        self.assertEqual(self.client.closed, "flood")


class WhatWaitsForStorage(Case):
    settings = {"max_unacknowledged": 4, "max_unacknowledged_bytes": 100}

    def setUp(self) -> None:
        super().setUp()
        self.other.subscribe("free")
        self.taken: list[tuple[bytes, int]] = []
        self.done: list[Done] = []
        self.principal.takers["t"] = self.take

    def take(self, payload: bytes, qos: int, properties: Any, done: Done) -> None:
        self.taken.append((payload, qos))
        self.done.append(done)

    def test_at_once(self) -> None:
        self.principal.takers["t"] = lambda payload, qos, properties, done: done(None)
        sent = [p.Publish("t", b""), p.Publish("t", b"", 1, 1), p.Publish("t", b"", 2, 2)]
        self.assertEqual(self.client.ask(*sent), [p.PubAck(1), p.PubRec(2)])
        self.assertEqual(self.client.connection._acks.count, 0)

    def test_acknowledged_in_order(self) -> None:
        answer = self.client.ask(
            p.Publish("free", b"0", 1, 1),
            p.Publish("t", b"1", 1, 2),
            p.Publish("free", b"2", 1, 3),
            p.Publish("t", b"3"),
            p.Publish("free", b"4", 2, 4),
            p.PubRel(4),
            p.PingReq(),
        )
        self.assertEqual(answer, [p.PubAck(1), p.PingResp()])
        self.assertEqual(self.taken, [(b"1", 1), (b"3", 0)])
        # What needs no storage is not held up.
        self.assertEqual([payload for _, payload, _ in self.heard()], [b"0", b"2", b"4"])
        self.done[1](None)
        self.assertEqual(self.client.ask(), [])
        self.done[0](None)
        self.assertEqual(self.client.ask(), [p.PubAck(2), p.PubAck(3), p.PubRec(4), p.PubComp(4)])
        self.assertEqual(self.client.ask(p.Publish("free", b"", 1, 9)), [p.PubAck(9)])

    def test_qos_0_between(self) -> None:
        self.client.send(
            p.Publish("t", b""), p.Publish("t", b"", 1, 1), p.Publish("t", b""), p.Publish("free", b"", 1, 2)
        )
        self.done[1](None)
        self.assertEqual(self.client.ask(), [])
        self.done[0](Unavailable("at QoS 0 nobody has to know"))
        self.assertEqual(self.client.ask(), [p.PubAck(1)])
        self.done[2](None)
        self.assertEqual(self.client.ask(), [p.PubAck(2)])
        self.assertIsNone(self.client.closed)

    def test_not_kept(self) -> None:
        for qos in (1, 2):
            client = self.bench.connect("unlucky")
            self.done.clear()
            client.send(p.Publish("t", b"", qos, 1), p.Publish("free", b"", 1, 2))
            self.done[0](Unavailable("the disk is full"))
            self.assertEqual(client.ask(), [])
            self.assertEqual(client.closed, "unavailable")

    def test_not_kept_while_it_is_read(self) -> None:
        self.principal.takers["t"] = lambda payload, qos, properties, done: done(Unavailable("the disk is full"))
        answer = self.client.ask(p.Publish("free", b"", 1, 1), p.Publish("t", b"", 1, 2), p.Publish("free", b"", 1, 3))
        self.assertEqual(answer, [p.PubAck(1)])
        self.assertEqual(len(self.heard()), 1)
        self.assertEqual(self.client.closed, "unavailable")

    def test_a_duplicate_while_the_first_one_waits(self) -> None:
        self.assertEqual(self.client.ask(p.Publish("t", b"", 2, 1), p.Publish("t", b"", 2, 1, dup=True)), [])
        self.assertEqual(len(self.taken), 1)
        self.done[0](None)
        self.assertEqual(self.client.ask(), [p.PubRec(1), p.PubRec(1)])

    def test_kept_after_the_client_has_gone(self) -> None:
        self.client.send(p.Publish("t", b"", 1, 1), p.Publish("t", b"", 1, 2), p.Publish("t", b"", 1, 3))
        self.done[0](None)
        self.client.send(p.Disconnect())
        self.done[1](None)
        self.client.lose()
        self.done[2](Unavailable("too late"))
        self.assertEqual(self.client.got(), [p.PubAck(1)])
        self.assertEqual(self.bench.stats.closed, {"client_closed": 1})

    def test_too_many_wait_behind_one(self) -> None:
        """What needs no storage itself, but has to be acknowledged in its turn."""
        self.client.send(p.Publish("t", b"", 1, 1), *(p.Publish("free", b"", 1, n) for n in range(2, 6)))
        self.assertTrue(self.client.paused)
        self.done[0](None)
        self.assertFalse(self.client.paused)
        self.assertEqual(self.client.ask(), [p.PubAck(n) for n in range(1, 6)])

    def test_too_many_wait(self) -> None:
        self.client.send(*(p.Publish("t", b"", 1, n) for n in range(1, 5)))
        self.assertFalse(self.client.paused)
        self.client.send(p.Publish("t", b"", 1, 5))
        self.assertTrue(self.client.paused)
        for done in self.done[:2]:
            done(None)
        self.assertTrue(self.client.paused)
        self.done[2](None)
        self.assertFalse(self.client.paused)

    def test_too_many_bytes_wait(self) -> None:
        self.client.send(p.Publish("t", bytes(60), 1, 1), p.Publish("t", bytes(60)))
        self.assertTrue(self.client.paused)
        self.done[0](None)
        self.assertTrue(self.client.paused)
        self.done[1](None)
        self.assertFalse(self.client.paused)


class Subscribing(Case):
    settings = {"max_subscriptions": 3, "max_topic_length": 20, "max_topic_levels": 4}

    def test_codes(self) -> None:
        self.principal.refused.add("no")
        answer = self.client.ask(p.Subscribe(9, [("a", 0), ("no", 1), ("b/+", 1), ("#", 2)]))
        self.assertEqual(answer, [p.SubAck(9, b"\0\x80\1\2")])

    def test_limits(self) -> None:
        wanted = ["x" * 21, "a/b/c/d/e", "$share//a", "$share/g", "1", "2", "1", "3", "4", "3"]
        answer = self.client.ask(p.Subscribe(1, [(one, 0) for one in wanted]))
        self.assertEqual(answer, [p.SubAck(1, b"\x80\x80\x80\x80\0\0\0\0\x80\0")])
        self.client.ask(p.Unsubscribe(2, ["1"]))
        self.assertEqual(self.client.ask(p.Subscribe(1, [("4", 0)])), [p.SubAck(1, b"\0")])

    def test_unsubscribe(self) -> None:
        self.client.subscribe("a", "b/#")
        self.assertEqual(self.client.ask(p.Unsubscribe(3, ["a", "b/#", "never"])), [p.UnsubAck(3)])
        self.client.send(p.Publish("a", b""), p.Publish("b", b""))
        self.assertEqual(self.client.got(), [])
        self.assertEqual(self.bench.topics.subscriptions, 0)

    def test_one_copy_at_the_highest_qos(self) -> None:
        self.client.ask(p.Subscribe(1, [("a/#", 0), ("a/b", 1), ("+/b", 0)]))
        self.other.send(p.Publish("a/b", b"1", 1, 1), p.Publish("a/b", b"0"), p.Publish("a/c", b"2", 1, 2))
        self.assertEqual(self.heard(self.client), [("a/b", b"1", 1), ("a/b", b"0", 0), ("a/c", b"2", 0)])

    def test_a_new_qos_replaces_the_old_one(self) -> None:
        for qos in (0, 1, 0):
            self.client.subscribe("a", qos=qos)
            self.client.subscribe("+/b", qos=qos)
            self.other.send(p.Publish("a", b"", 1, 1), p.Publish("a/b", b"", 1, 2))
            self.assertEqual(self.heard(self.client), [("a", b"", qos), ("a/b", b"", qos)])
        self.assertEqual(self.bench.topics.subscriptions, 2)

    def test_wildcards_and_dollar_topics(self) -> None:
        self.client.subscribe("#", "+/x")
        self.other.subscribe("$own/x")
        self.other.send(p.Publish("$own/x", b""), p.Publish("own/x", b""), p.Publish("/", b""))
        self.assertEqual([topic for topic, _, _ in self.heard(self.client)], ["own/x", "/"])
        self.assertEqual([topic for topic, _, _ in self.heard()], ["$own/x"])

    def test_what_may_not_be_received_is_cut(self) -> None:
        self.client.subscribe("#")
        self.principal.hidden.add("a/secret")
        self.other.send(p.Publish("a/secret", b""), p.Publish("a/open", b""))
        self.assertEqual(self.heard(self.client), [("a/open", b"", 0)])
        self.principal.hidden = {"a/open"}
        self.bench.topics.rights_changed()
        self.other.send(p.Publish("a/secret", b""), p.Publish("a/open", b""))
        self.assertEqual(self.heard(self.client), [("a/secret", b"", 0)])


class Retained(Case):
    limits = {"max_outbox": 1000}

    def retained(self) -> list[str]:
        self.bench.flush()
        packets = self.client.got()
        self.assertTrue(all(one.retain and one.qos == 0 for one in packets if isinstance(one, p.Publish)))
        return [topic for topic, _, _ in publishes(packets)]

    def test_behind_the_suback_page_by_page(self) -> None:
        self.principal.pages = {
            "s/#": {None: ([("s/1", b"x"), ("s/2", b"x")], "2"), "2": ([], "4"), "4": ([("s/4", b"x")], None)},
            "s/3": {None: ([("s/3", b"x")], None)},
        }
        self.principal.hidden.add("s/2")
        answer = self.client.ask(p.Subscribe(1, [("s/#", 1), ("free", 0), ("s/3", 1)]))
        self.assertEqual(answer[0], p.SubAck(1, b"\1\0\1"))
        self.assertEqual([topic for topic, _, _ in publishes(answer)], ["s/1", "s/4", "s/3"])
        # Renewed: again [MQTT-3.8.4-3].
        self.client.send(p.Subscribe(2, [("s/3", 1)]))
        self.assertEqual(self.retained(), ["s/3"])

    def test_one_question_at_a_time(self) -> None:
        pages = [Deferred[Any]() for _ in range(3)]
        self.principal.pages = {"a": {None: pages[0]}, "b": {None: pages[1], "+": pages[2]}}
        asked = self.principal.questions
        for _ in range(5):
            self.client.send(p.Subscribe(1, [("a", 0), ("b", 0), ("b", 0)]))
        self.assertEqual(asked, [("a", None)])
        self.client.send(p.Unsubscribe(1, ["a"]))
        pages[0].callback(([("a", b"")], None))
        self.assertEqual(asked, [("a", None), ("b", None)])
        pages[1].callback(([("b", b"1")], "+"))
        self.assertEqual(asked[2:], [("b", "+")])
        self.assertEqual(self.retained(), ["b"])
        self.client.lose()
        pages[2].callback(([("b", b"2")], None))
        self.assertEqual(self.retained(), [])

    def test_not_faster_than_it_is_read(self) -> None:
        self.principal.pages = {"#": {None: ([("1", bytes(500))] * 3, "+"), "+": ([("2", b"")], None)}}
        self.client.jam()
        self.client.send(p.Subscribe(1, [("#", 0)]))
        self.assertEqual(self.client.connection.outbox.size, 5)
        self.client.unjam()
        self.assertEqual(self.retained(), ["1", "1", "1", "2"])

    def test_storage_cannot_answer(self) -> None:
        self.principal.pages["a"] = {None: Deferred()}
        self.client.subscribe("a")
        self.principal.pages["a"][None].errback(Failure(Unavailable("locked")))
        self.assertEqual(self.client.closed, "unavailable")

    def test_a_fault(self) -> None:
        self.principal.pages["a"] = {None: Deferred()}
        self.client.subscribe("a")
        self.principal.pages["a"][None].errback(Failure(ZeroDivisionError()))
        self.assertEqual(self.client.closed, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SlowPeers(Case):
    limits = {"max_outbox": 1000, "slow_reader_timeout": 60.0}
    settings = {"max_inflight": 3, "max_queued_messages": 4, "max_queued_bytes": 1000}

    def test_qos_0_is_dropped_and_counted(self) -> None:
        self.other.subscribe("a")
        self.other.jam()
        for number in range(30):
            self.client.send(p.Publish("a", b"%03d" % number + bytes(97)))
        self.client.send(*[p.Publish("a", bytes(100))] * 7)
        self.other.unjam()
        heard = [payload[:3] for _, payload, _ in self.heard()]
        self.assertEqual(heard, [b"%03d" % number for number in range(10)])
        self.assertEqual(self.bench.stats.dropped, {"slow_subscriber": 27})

    def test_the_window(self) -> None:
        self.other.subscribe("a", qos=1)
        for number in range(1, 7):
            self.client.send(p.Publish("a", b"%d" % number, 1, number))
        got = [one for one in self.other.got() if isinstance(one, p.Publish)]
        self.assertEqual([one.payload for one in got], [b"1", b"2", b"3"])
        second = self.other.ask(p.PubAck(got[1].packet_id), p.PubAck(99))
        self.assertEqual(publishes(second), [("a", b"4", 1)])
        ids = [one.packet_id for one in (*got, *second) if isinstance(one, p.Publish)]
        self.assertEqual(len(set(ids)), 4)
        rest = self.other.ask(*(p.PubAck(one) for one in ids))
        self.assertEqual(publishes(rest), [("a", b"5", 1), ("a", b"6", 1)])

    def test_the_queue_is_bounded(self) -> None:
        self.other.subscribe("a", qos=1)
        self.client.send(*(p.Publish("a", b"%d" % n, 1, n) for n in range(1, 10)))
        self.assertEqual(self.bench.stats.dropped, {"queue_full": 2})
        # Everybody else is served, and the publisher is told that we have it.
        self.assertEqual(len(self.client.got()), 9)
        self.other.got()
        rest = self.other.ask(*(p.PubAck(n) for n in (1, 2, 3)))
        rest += self.other.ask(*(p.PubAck(n) for n in (4, 5, 6)))
        self.assertEqual([payload for _, payload, _ in publishes(rest)], [b"4", b"5", b"6", b"7"])

    def test_the_queue_is_bounded_in_bytes(self) -> None:
        self.other.subscribe("a", qos=1)
        self.client.send(*(p.Publish("a", bytes(400), 1, n) for n in range(1, 7)))
        self.assertEqual(self.bench.stats.dropped, {"queue_full": 1})
        self.other.got()
        self.other.ask(p.PubAck(1), p.PubAck(2))
        self.client.send(p.Publish("a", bytes(400), 1, 7))
        self.assertEqual(self.bench.stats.dropped, {"queue_full": 1})

    def test_qos_1_waits_for_the_socket(self) -> None:
        self.other.subscribe("a", qos=1)
        self.other.jam()
        self.client.send(*(p.Publish("a", b"%d" % n + bytes(600), 1, n) for n in range(1, 4)))
        self.assertLess(self.other.connection.outbox.size, 1300)
        self.other.unjam()
        self.assertEqual([payload[:1] for _, payload, _ in self.heard()], [b"1", b"2", b"3"])

    def test_qos_1_behind_a_full_outbox_of_one_turn(self) -> None:
        # The outbox is over its limit, but the socket is not full: nobody would tell when there is room.
        self.other.subscribe("a", qos=1)
        self.client.send(*[p.Publish("a", bytes(600))] * 3, p.Publish("a", b"kept", 1, 1))
        self.assertEqual(self.heard()[-1], ("a", b"kept", 1))

    def test_it_does_not_read_its_acknowledgements(self) -> None:
        self.client.jam()
        for _ in range(250):
            self.client.send(p.Publish("a", b"", 1, 1))
        self.assertFalse(self.client.paused)
        self.client.send(p.Publish("a", b"", 1, 1))
        self.assertTrue(self.client.paused)
        self.client.unjam()
        self.assertFalse(self.client.paused)
        self.assertEqual(len(self.client.got()), 251)

    def test_it_is_not_paused_for_what_leaves_with_this_turn(self) -> None:
        self.client.send(*[p.Publish("a", b"", 1, 1)] * 400)
        self.assertFalse(self.client.paused)

    def test_it_reads_nothing_for_too_long(self) -> None:
        self.other.subscribe("a", qos=1)
        self.other.jam()
        self.client.send(p.Publish("a", b"", 1, 1))
        self.bench.pass_time(59)
        self.assertIsNone(self.other.closed)
        self.bench.pass_time(2)
        self.assertEqual(self.other.connection.reason, "slow_reader")
        self.assertEqual(self.bench.topics.subscriptions, 0)


class Rate(SynchronousTestCase):
    def test_the_chunk_is_taken_and_then_nothing_for_a_while(self) -> None:
        bench = Bench({"max_message_rate": 10, "message_burst": 10})
        client = bench.connect()
        client.subscribe("a")
        ping = encode.encode(p.PingReq())
        self.assertEqual(len(client.ask(ping * 28 + ping[:1])), 28)
        self.assertTrue(client.paused)
        bench.clock.advance(1.9)
        self.assertTrue(client.paused)
        bench.clock.advance(0.2)
        self.assertFalse(client.paused)
        self.assertEqual(client.ask(ping[1:]), [p.PingResp()])
        self.assertEqual(bench.stats.throttled, 1)

    def test_gone_meanwhile(self) -> None:
        bench = Bench({"max_message_rate": 10, "message_burst": 10})
        client = bench.connect()
        client.send(*[p.PingReq()] * 50, p.Disconnect())
        client.lose()
        self.assertEqual(bench.clock.getDelayedCalls(), [])


class WhatMayBeSet(SynchronousTestCase):
    def test_refused(self) -> None:
        for limits, settings, word in (
            ({"max_message_size": 128}, {}, "max_message_size"),
            ({"max_message_size": 2**28 + 5}, {}, "max_message_size"),
            ({}, {"anonymous_deny": ("a/#/b",)}, "anonymous_deny"),
            ({}, {"anonymous_deny": ("",)}, "anonymous_deny"),
        ):
            with self.assertRaises(ValueError) as caught:
                Bench(limits, **settings)
            self.assertIn(word, str(caught.exception))
