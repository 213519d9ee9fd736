"""MQTT across processes: messages at each QoS, retained ones, groups, wills, sessions that move, processes that die."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.cluster.bed import pause, until
from tests.cluster.mqtt_bed import Crowd


class Case(TestCase):
    timeout = 90

    @inlineCallbacks
    def setUp(self) -> Any:  # type: ignore[override]  # trial waits for it
        self.crowd = Crowd(self)
        self.a = yield self.crowd.start("a")
        self.b = yield self.crowd.start("b")


class Messages(Case):
    @inlineCallbacks
    def test_each_qos_and_where_nobody_wants_it(self) -> Any:
        reader, _ = yield self.b.came("reader")
        reader.send(p.Subscribe(1, [("a/+", 2)]))
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer")
        sent = self.a.plane.bus.counts.sent
        writer.send(p.Publish("x/y", b"nobody", 1, 7))
        self.assertEqual((self.a.plane.bus.counts.sent, self.a.sent), (sent, []))
        for qos in (0, 1, 2):
            writer.send(p.Publish("a/b", b"%d" % qos, qos, qos), *([p.PubRel(2)] * (qos == 2)))
        yield reader.box.wait(3)
        self.assertEqual(sorted(reader.box.published()), [("a/b", b"%d" % qos, qos) for qos in (0, 1, 2)])
        self.assertIn(p.PubComp(2), writer.box.packets)
        reader.send(p.Unsubscribe(2, ["a/+"]))
        yield self.crowd.settle()
        before = len(self.a.sent)
        writer.send(p.Publish("a/b", b"late", 1, 9))
        self.assertEqual(len(self.a.sent), before)

    @inlineCallbacks
    def test_a_session_that_is_away(self) -> Any:
        keeper, _ = yield self.b.came("keeper", clean=False)
        keeper.send(p.Subscribe(1, [("a/#", 2)]))
        yield self.crowd.settle()
        keeper.lose()
        writer, _ = yield self.a.came("writer")
        for number in range(1, 301):
            writer.send(p.Publish("a/b", b"%d" % number, 1 + number % 2, number), p.PubRel(number))
        session = self.b.server.sessions.get(("u", "keeper"))
        yield until(lambda: session.owed == 300, "all to be owed")
        yield until(lambda: self.b.journal.committed == self.b.journal.position, "all to be on disk")
        self.assertEqual((yield self.b.journal.load_box(session.number, b"", 10)), [])
        self.assertEqual((yield self.b.journal.load_boxes()), [])
        keeper, connack = yield self.b.came("keeper", clean=False)
        self.assertTrue(connack.session_present)

    @inlineCallbacks
    def test_versions_and_properties(self) -> Any:
        reader, _ = yield self.b.came("reader", version=p.MQTT_5)
        reader.send(p.Subscribe(1, [("a", 1)], {props.SUBSCRIPTION_IDENTIFIER: 5}))
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer", version=p.MQTT_5)
        properties: Any = {props.CONTENT_TYPE: "text", props.MESSAGE_EXPIRY_INTERVAL: 60}
        writer.send(p.Publish("a", b"x", 1, 1, properties=dict(properties)))
        yield reader.box.wait(1)
        got: Any = next(one for one in reader.box.packets if isinstance(one, p.Publish))
        self.assertEqual(got.properties[props.CONTENT_TYPE], "text")
        self.assertEqual(got.properties[props.SUBSCRIPTION_IDENTIFIER], [5])
        self.assertIn(got.properties[props.MESSAGE_EXPIRY_INTERVAL], (59, 60))

    @inlineCallbacks
    def test_retained(self) -> Any:
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("r/1", b"one", 1, 1, retain=True), p.Publish("r/2", b"two", 0, retain=True))
        yield until(lambda: len(self.b.server.retained) == 2, "both")
        reader, _ = yield self.b.came("reader")
        reader.send(p.Subscribe(1, [("r/#", 1)]))
        yield reader.box.wait(2)
        self.assertEqual(sorted(reader.box.published()), [("r/1", b"one", 1), ("r/2", b"two", 0)])
        writer.send(p.Publish("r/1", b"", 1, 2, retain=True))
        yield until(lambda: len(self.b.server.retained) == 1, "it to go")

    @inlineCallbacks
    def test_retained_of_both_at_once_is_one_for_all(self) -> Any:
        writers = []
        for bench in (self.a, self.b):
            writers.append((yield bench.came("writer-" + bench.plane.node))[0])
        for number in range(50):
            for which, writer in enumerate(writers):
                writer.send(p.Publish("r", b"%d-%d" % (which, number), 0, retain=True))
        yield self.crowd.settle()
        kept = [bench.server.retained.get("r", 0).payload for bench in (self.a, self.b)]
        self.assertEqual(kept[0], kept[1])

    @inlineCallbacks
    def test_who_comes_later_knows(self) -> Any:
        reader, _ = yield self.b.came("reader")
        reader.send(p.Subscribe(1, [("a/b", 1), ("$share/g/s", 1)]))
        keeper, _ = yield self.b.came("keeper", clean=False)
        keeper.send(p.Subscribe(1, [("k", 1)]))
        late = yield self.crowd.start("c")
        writer, _ = yield late.came("writer")
        for number, topic in enumerate(("a/b", "s", "k"), 1):
            writer.send(p.Publish(topic, b"x", 1, number))
        yield reader.box.wait(2)
        yield keeper.box.wait(1)


class Groups(Case):
    @inlineCallbacks
    def test_each_message_goes_to_one(self) -> Any:
        members = []
        for bench, name in ((self.a, "1"), (self.b, "2"), (self.b, "3")):
            member, _ = yield bench.came(name)
            member.send(p.Subscribe(1, [("$share/g/a/+", 1)]))
            members.append(member)
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer")
        for number in range(1, 61):
            writer.send(p.Publish("a/b", b"%d" % number, number % 2, number * (number % 2)))
        got: Counter[bytes] = Counter()

        def all_there() -> bool:
            got.clear()
            for member in members:
                packets = [one for one in member.box.packets if isinstance(one, p.Publish)]
                for one in packets:
                    if one.qos and one.packet_id not in member.__dict__.setdefault("acked", set()):
                        member.acked.add(one.packet_id)
                        member.send(p.PubAck(one.packet_id))
                got.update(one.payload for one in packets)
            return len(got) >= 60

        yield until(all_there, "all")
        self.assertEqual(set(got.values()), {1})
        counts = [len(member.box.published()) for member in members]
        self.assertTrue(all(count >= 10 for count in counts), counts)

    @inlineCallbacks
    def test_a_member_that_is_away_only_gets_what_nobody_else_can(self) -> Any:
        away, _ = yield self.b.came("away", clean=False)
        away.send(p.Subscribe(1, [("$share/g/a", 1)]))
        away.lose()
        here, _ = yield self.a.came("here")
        here.send(p.Subscribe(1, [("$share/g/a", 1)]))
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("a", b"1", 1, 1))
        yield here.box.wait(1)
        here.send(p.PubAck(1), p.Disconnect())
        writer.send(p.Publish("a", b"2", 1, 2))
        yield until(lambda: self.b.server.sessions.get(("u", "away")).owed == 1, "the second")


class Moves(Case):
    @inlineCallbacks
    def test_a_session_goes_where_its_client_goes(self) -> Any:
        first, _ = yield self.a.came("keeper", clean=False)
        first.send(p.Subscribe(1, [("a/#", 2)]))
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("a/1", b"1", 1, 1), p.Publish("a/2", b"2", 2, 2), p.PubRel(2))
        second, connack = yield self.b.came("keeper", clean=False)
        self.assertEqual(first.closed, "takeover")
        self.assertTrue(connack.session_present)
        self.assertIsNone(self.a.server.sessions.get(("u", "keeper")))
        yield second.box.wait(2)
        writer.send(p.Publish("a/3", b"3", 1, 3))
        other, _ = yield self.b.came("writer-2")
        other.send(p.Publish("a/4", b"4", 1, 1))
        yield second.box.wait(4)
        self.assertEqual(Counter(second.box.payloads()), Counter((b"1", b"2", b"3", b"4")))
        third, connack = yield self.a.came("keeper", clean=True)
        self.assertEqual((second.closed, connack.session_present), ("takeover", False))
        yield self.a.server.kept(self.a.journal.position)  # that the old one is gone is no promise of the CONNACK
        self.assertEqual((yield self.a.journal.load_sessions()), [])
        self.assertEqual(third.box.payloads(), [])

    @inlineCallbacks
    def test_a_clean_one_ends(self) -> Any:
        first, _ = yield self.a.came("c")
        first.send(p.Subscribe(1, [("a", 0)]))
        _, connack = yield self.b.came("c")
        self.assertEqual((first.closed, connack.session_present), ("takeover", False))
        self.assertEqual(len(self.a.server.sessions), 0)

    @inlineCallbacks
    def test_nothing_is_lost_and_nothing_twice_while_it_moves(self) -> Any:
        """Somebody publishes at QoS 2 all the time; the session is here and there."""
        client, _ = yield self.a.came("keeper", clean=False)
        client.send(p.Subscribe(1, [("a", 2)]))
        yield self.crowd.settle()
        writers = []
        for bench in (self.a, self.b):
            writers.append((yield bench.came("writer-" + bench.plane.node))[0])
        got: list[bytes] = []
        released: set[int] = set()
        sent = 0

        def work(now: Any) -> bool:
            for one in list(now.box.packets):
                now.box.packets.remove(one)
                if isinstance(one, p.Publish):
                    if one.packet_id not in released:
                        released.add(one.packet_id)
                        got.append(one.payload)
                    now.send(p.PubRec(one.packet_id))
                elif isinstance(one, p.PubRel):
                    released.discard(one.packet_id)
                    now.send(p.PubComp(one.packet_id))
            return len(got) >= sent

        for turn in range(6):
            for number in range(20):
                for which, writer in enumerate(writers):
                    packet_id = turn * 20 + number + 1
                    writer.send(p.Publish("a", b"%d-%d" % (which, packet_id), 2, packet_id), p.PubRel(packet_id))
                    sent += 1
                work(client)
            yield pause(0.02)
            client, connack = yield (self.b if turn % 2 == 0 else self.a).came("keeper", clean=False)
            self.assertTrue(connack.session_present)
        yield until(lambda: work(client), "all messages")
        yield pause(0.1)
        work(client)
        self.assertEqual(len(got), sent)
        self.assertEqual(len(set(got)), sent)

    @inlineCallbacks
    def test_the_will_of_one_that_moves(self) -> Any:
        reader, _ = yield self.b.came("reader")
        reader.send(p.Subscribe(1, [("will/#", 1)]))
        yield self.crowd.settle()
        will = p.Will("will/old", b"gone", 1, False)
        first, _ = yield self.a.came("c", clean=False, will=will)
        yield self.b.came("c", clean=False)
        first.lose()
        yield reader.box.wait(1)
        delayed = p.Will("will/late", b"gone", 1, False, {props.WILL_DELAY_INTERVAL: 60})
        fields: dict[str, Any] = {"version": p.MQTT_5, "properties": {props.SESSION_EXPIRY_INTERVAL: 100}}
        first, _ = yield self.a.came("d", clean=False, will=delayed, **fields)
        yield self.b.came("d", clean=False, **fields)
        first.lose()
        yield self.crowd.settle()
        self.assertEqual(reader.box.published(), [("will/old", b"gone", 1)])
        yield until(lambda: self.a.journal.committed == self.a.journal.position, "all to be on disk")
        self.assertEqual((yield self.a.journal.load_wills()), [])


class Deaths(Case):
    @inlineCallbacks
    def die(self, bench: Any) -> Any:
        """As by kill -9: no word of it."""
        plane = bench.plane
        plane._renewing.stop()
        plane._running = False
        node, plane.node = plane.node, ""
        for connection in (plane._commands, plane._reader, plane._subscriber):
            yield connection.close()
        plane.bus.close()
        yield bench.storage._reading.close()
        yield bench.storage._writing.close()
        return node

    @inlineCallbacks
    def test_another_takes_up_its_sessions_and_wills(self) -> Any:
        keeper, _ = yield self.a.came("keeper", clean=False, will=p.Will("will", b"dead", 1, False))
        keeper.send(p.Subscribe(1, [("a", 1)]))
        reader, _ = yield self.b.came("reader")
        reader.send(p.Subscribe(1, [("will", 1)]))
        yield self.crowd.settle()
        self.b.server.settings = self.b.server.settings.__class__(will_grace=0.5)
        writer, _ = yield self.b.came("writer")
        yield self.die(self.a)
        writer.send(p.Publish("a", b"1", 1, 1))
        yield until(lambda: self.b.server.sessions.get(("u", "keeper")) is not None, "the session to be taken up")
        writer.send(p.Publish("a", b"2", 1, 2))

        def told() -> bool:
            self.b.server.tick()
            return bool(reader.box.published())

        yield until(told, "the will")
        back, connack = yield self.b.came("keeper", clean=False)
        self.assertTrue(connack.session_present)
        yield back.box.wait(2)
        self.assertEqual(sorted(back.box.payloads()), [b"1", b"2"])

    @inlineCallbacks
    def test_its_clients_need_not_wait_for_the_heir(self) -> Any:
        keeper, _ = yield self.a.came("keeper", clean=False)
        keeper.send(p.Subscribe(1, [("a", 1)]))
        yield self.crowd.settle()
        yield self.die(self.a)
        _, connack = yield self.b.came("keeper", clean=False)
        self.assertTrue(connack.session_present)

    @inlineCallbacks
    def test_what_was_on_its_way_to_its_group_goes_to_another(self) -> Any:
        member, _ = yield self.a.came("member")
        member.send(p.Subscribe(1, [("$share/g/a", 1)]))
        yield self.crowd.settle()
        yield self.die(self.a)
        writer, _ = yield self.b.came("writer")
        writer.send(p.Publish("a", b"1", 1, 1))
        self.assertEqual(len(self.b.sent), 1)
        other, _ = yield self.b.came("other")
        other.send(p.Subscribe(1, [("$share/g/a", 1)]))
        yield other.box.wait(1)

    @inlineCallbacks
    def test_one_that_was_stopped_drops_all(self) -> Any:
        keeper, _ = yield self.a.came("keeper", clean=False)
        keeper.send(p.Subscribe(1, [("a", 1)]))
        idle, _ = yield self.a.came("idle")
        yield self.crowd.settle()
        plane = self.a.plane
        plane._renewing.stop()
        yield until(lambda: self.b.server.sessions.get(("u", "keeper")) is not None, "the session to be taken up")
        yield plane._guarded_renew()
        plane._renewing.start(0.5)
        self.assertEqual((keeper.closed, idle.closed), ("unavailable", "unavailable"))
        self.assertEqual(len(self.a.server.sessions), 0)
        yield until(lambda: self.a.server.elsewhere._is_ready, "it to be back")
        yield self.crowd.settle()
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("a", b"1", 1, 1))
        yield until(lambda: self.b.server.sessions.get(("u", "keeper")).owed == 1, "the message")
        back, connack = yield self.a.came("keeper", clean=False)
        self.assertTrue(connack.session_present)
        yield back.box.wait(1)
