"""Every limit of the MQTT listener that is not one of a log-in or a queue: what is kept, and what a breach gets."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.connection import PING_WINDOW
from tests.mqtt.fakes import Bench, Client, publishes

PING = p.PingReq()
VERSIONS = (p.MQTT_3_1, p.MQTT_3_1_1, p.MQTT_5)


class Case(SynchronousTestCase):
    def ended(self, client: Client, reason: str, code: int) -> None:
        """Closed with this reason; a client of 5.0 is told the code."""
        said = client.got()
        self.assertEqual(client.closed, reason)
        self.assertEqual(said[-1:], [p.Disconnect(code)] if client.version == p.MQTT_5 else said[-1:])
        if client.version != p.MQTT_5:
            self.assertNotIn(p.Disconnect(), said)


class Pings(Case):
    def test_too_many(self) -> None:
        for version in VERSIONS:
            bench = Bench(max_pings=5)
            client = bench.connect(version=version)
            self.assertEqual(client.ask(*[PING] * 5), [p.PingResp()] * 5)
            bench.clock.advance(PING_WINDOW)
            self.assertEqual(client.ask(*[PING] * 5), [p.PingResp()] * 5)
            bench.clock.advance(PING_WINDOW - 0.1)
            client.send(PING, PING)
            self.ended(client, "flood", r.MESSAGE_RATE_TOO_HIGH)
            self.assertEqual(bench.stats.messages_in, 12)

    def test_no_limit(self) -> None:
        client = Bench(max_pings=0).connect()
        self.assertEqual(len(client.ask(*[PING] * 5_000)), 5_000)

    def test_one_that_behaves(self) -> None:
        bench = Bench(max_pings=5)
        client = bench.connect(keep_alive=10)
        for _ in range(100):
            bench.clock.advance(5)
            self.assertEqual(client.ask(PING), [p.PingResp()])


class Topics(Case):
    settings: dict[str, Any] = {"max_topic_length": 10, "max_topic_levels": 3}

    def test_publish(self) -> None:
        for version in VERSIONS:
            bench = Bench(**self.settings)
            for topic in ("a" * 10, "a/b/c", "//"):
                client = bench.connect(version=version)
                client.send(p.Publish(topic, b"", 1, 1))
                self.assertIsNone(client.closed)
            for topic in ("a" * 11, "ä" * 6, "a/b/c/d", "///"):
                client = bench.connect(version=version)
                client.send(p.Publish(topic, b"", 1, 1))
                self.ended(client, "too_long", r.TOPIC_NAME_INVALID)

    def test_subscribe(self) -> None:
        for version, code in ((p.MQTT_3_1_1, 0x80), (p.MQTT_5, r.TOPIC_FILTER_INVALID)):
            client = Bench(**self.settings).connect(version=version)
            filters = [("a" * 10, 0), ("a" * 11, 0), ("+/+/#", 0), ("+/+/+/#", 0)]
            self.assertEqual(client.ask(p.Subscribe(1, filters)), [p.SubAck(1, bytes((0, code, 0, code)))])
            self.assertIsNone(client.closed)


class Retained(Case):
    def test_their_number_and_bytes(self) -> None:
        limits: tuple[dict[str, Any], ...] = ({"max_retained_messages": 2}, {"max_retained_bytes": 2 * 6})
        for settings in limits:
            bench = Bench(**settings)
            for client, code in ((bench.connect(), 0), (bench.connect("5", version=p.MQTT_5), r.QUOTA_EXCEEDED)):
                client.subscribe("k/#", qos=1)
                for topic in ("k/1", "k/2"):
                    client.send(p.Publish(topic, b"new", 1, 1, True))
                client.got()
                acknowledged = [
                    one for one in client.ask(p.Publish("k/3", b"new", 1, 9, True)) if isinstance(one, p.PubAck)
                ]
                self.assertEqual([one.reason for one in acknowledged], [code])
                self.assertIsNone(client.closed)
            self.assertEqual(bench.stats.dropped, {"retained_full": 2})
            self.assertEqual(sorted(bench.journal.retained), ["k/1", "k/2"])
            # What is there can be replaced, and one that goes makes room.
            client.send(p.Publish("k/1", b"old", 1, 1, True), p.Publish("k/2", b"", 1, 2, True))
            client.send(p.Publish("k/3", b"new", 1, 3, True))
            self.assertEqual(sorted(bench.journal.retained), ["k/1", "k/3"])

    def test_at_qos_0_they_wait_for_the_disk_in_bounds(self) -> None:
        """Nobody waits for an answer, but whoever goes on faster than the disk is read no further."""
        for version in VERSIONS:
            bench = Bench(max_unacknowledged=4)
            client = bench.connect(version=version)
            bench.journal.held = True
            for number in range(4):
                client.send(p.Publish(f"k/{number}", b"x", 0, retain=True))
                self.assertFalse(client.paused)
            client.send(p.Publish("k/5", b"x", 0, retain=True))
            self.assertTrue(client.paused)
            bench.journal.commit()
            bench.flush()
            self.assertFalse(client.paused)
            self.assertEqual((client.got(), client.closed, len(bench.journal.retained)), ([], None, 5))

    def test_their_bytes_count(self) -> None:
        bench = Bench(max_unacknowledged_bytes=100)
        client = bench.connect()
        bench.journal.held = True
        client.send(p.Publish("k", b"x" * 100, 0, retain=True))
        self.assertFalse(client.paused)
        client.send(p.Publish("k", b"x", 0, retain=True))
        self.assertTrue(client.paused)

    def test_answers_behind_them_keep_their_turn(self) -> None:
        bench = Bench()
        client = bench.connect()
        bench.journal.held = True
        client.send(p.Publish("k", b"x", 0, retain=True), p.Publish("other", b"x", 1, 7))
        self.assertEqual(client.got(), [])
        bench.journal.commit()
        bench.flush()
        self.assertEqual(client.got(), [p.PubAck(7)])


class Aliases(Case):
    def test_those_of_our_making(self) -> None:
        """As many as the setting and the client allow; the others' topics are sent whole."""
        for ours, theirs, expected in ((2, 9, [1, 2, None]), (9, 1, [1, None, None]), (0, 9, [None] * 3)):
            bench = Bench(max_topic_aliases=ours)
            given: p.Properties = {props.TOPIC_ALIAS_MAXIMUM: theirs}
            client = bench.connect(version=p.MQTT_5, properties=given)
            client.subscribe("topic/#")
            for _ in range(2):
                client.send(*(p.Publish(f"topic/{number}", b"") for number in range(3)))
            got: list[Any] = [one for one in client.got() if isinstance(one, p.Publish)]
            self.assertEqual([(one.properties or {}).get(props.TOPIC_ALIAS) for one in got], expected * 2)
            topics = [f"topic/{number}" for number in range(3)]
            again = ["" if alias else topic for alias, topic in zip(expected, topics, strict=True)]
            self.assertEqual([one.topic for one in got], topics + again)


class Text(Case):
    INDICATED: p.Properties = {props.PAYLOAD_FORMAT_INDICATOR: 1}

    def test_what_is_no_text(self) -> None:
        bench = Bench()
        client = bench.connect(version=p.MQTT_5)
        client.subscribe("t", qos=2)
        for wrong in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"ok" + b"\x80"):
            for qos, kind in ((1, p.PubAck), (2, p.PubRec)):
                answer = client.ask(p.Publish("t", wrong, qos, 1, True, properties=self.INDICATED))
                self.assertEqual(answer, [kind(1, r.PAYLOAD_FORMAT_INVALID)])
        self.assertEqual(bench.journal.retained, {})
        client.send(p.Publish("t", b"\xff", properties=self.INDICATED))
        self.ended(client, "protocol_error", r.PAYLOAD_FORMAT_INVALID)

    def test_what_is(self) -> None:
        client = Bench().connect(version=p.MQTT_5)
        client.subscribe("t")
        for payload in (b"", "温度 \0".encode()):
            (got,) = client.ask(p.Publish("t", payload, properties=self.INDICATED))
            assert isinstance(got, p.Publish)
            self.assertEqual((got.payload, got.properties), (payload, self.INDICATED))
        (got,) = client.ask(p.Publish("t", b"\xff", properties={props.PAYLOAD_FORMAT_INDICATOR: 0}))
        assert isinstance(got, p.Publish)
        self.assertEqual(got.properties, {props.PAYLOAD_FORMAT_INDICATOR: 0})

    def test_not_looked_at(self) -> None:
        client = Bench(payload_format_validation=False).connect(version=p.MQTT_5)
        client.subscribe("t")
        answer = client.ask(p.Publish("t", b"\xff", properties=self.INDICATED))
        self.assertEqual(publishes(answer), [("t", b"\xff", 0)])

    def test_a_will(self) -> None:
        for validated, code in ((True, r.PAYLOAD_FORMAT_INVALID), (False, 0)):
            client = Bench(payload_format_validation=validated).open(version=p.MQTT_5)
            will = p.Will("t", b"\xff", 0, False, self.INDICATED)
            (answer,) = client.ask(p.Connect("c", p.MQTT_5, user="u", password=b"secret", will=will))
            self.assertEqual(getattr(answer, "code", None), code)
