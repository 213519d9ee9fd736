"""Messages between processes: their bytes, what the publishing side makes of a chunk, who gets them on the other."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.arrivals import Arrivals
from broker.mqtt.boxes import Boxes
from broker.mqtt.journal import TAKEN
from broker.mqtt.message import Message, options
from broker.mqtt.packets import Properties
from broker.mqtt.parcels import Run, for_group, is_for_group, messages, open_for_group, opened, pack
from broker.mqtt.remote import HIGH, LOW, SURE, Outgoing, RemoteNode, RemoteSession
from tests.mqtt.fakes import Bench, Client, publishes

LONG = b"x" * 300


def run(qos: int, *payloads: bytes, topic: bytes = b"a/b") -> bytes:
    ids = [number + 9 if qos else 0 for number in range(len(payloads))]
    return b"".join(encode.publish(topic, payload, qos, one) for payload, one in zip(payloads, ids, strict=True))


def fields(message: Message) -> tuple[Any, ...]:
    return message.name, message.payload, message.qos, message.retain, message.shared, message.expires_at


class Bytes(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        for message in (
            *(Message(b"a/b", payload, qos) for qos in (0, 1, 2) for payload in (b"", b"x", LONG)),
            Message("ü".encode(), b"x", 1, True),
            Message(b"a", b"x", 2, False, props.shared_bytes({props.CONTENT_TYPE: "t"})),
            Message(b"a", b"", 0, False, b"", 7.5),
        ):
            [found] = messages(pack(message))
            self.assertEqual(fields(found), fields(message))
            self.assertFalse(is_for_group(pack(message)))
            body = for_group("g", "a/#", 2, pack(message))
            self.assertTrue(is_for_group(body))
            self.assertEqual(open_for_group(body), ("g", "a/#", 2, pack(message)))

    def test_a_plain_one_is_its_packet(self) -> None:
        self.assertEqual(pack(Message(b"a/b", b"x", 0)), encode.publish(b"a/b", b"x"))
        self.assertIsInstance(opened(pack(Message(b"a/b", b"x", 1))), Run)
        self.assertIsInstance(opened(pack(Message(b"a/b", b"x", 1, True))), Message)

    def test_many_in_one_piece(self) -> None:
        for qos in (0, 1, 2):
            for payloads in ((b"1",), (b"1", b"2", b"3"), (LONG, LONG[::-1])):
                found = messages(run(qos, *payloads))
                self.assertEqual([fields(one)[:3] for one in found], [(b"a/b", one, qos) for one in payloads])

    def test_what_is_none_of_them(self) -> None:
        whole = run(1, b"1", b"2")
        bad = [
            b"",
            b"\x96",
            b"\x96\x01",
            b"\x32",
            b"\x32\x80\x80\x80\x80\x80",
            b"\x32\x00",
            whole[:-1],
            whole + b"\x32",
        ]
        for body in bad:
            self.assertRaises(ValueError, messages, body)
        self.assertRaises(ValueError, open_for_group, b"\x94\x01")


class Sends(SynchronousTestCase):
    """Subscribers of other processes on the publishing side."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.cast: list[tuple[str, bytes, str]] = []
        self.out = Outgoing(self.bench.journal, lambda *cast: self.cast.append(cast))
        self.sent: list[tuple[str, bytes]] = []
        self.bench.journal.on_send = lambda stream, body: self.sent.append((stream, body))
        self.writer = self.client("writer")

    def client(self, name: str, version: int = p.MQTT_3_1_1) -> Client:
        client = Client(self.bench, self.bench.server.buildProtocol(None), version)  # type: ignore[arg-type]
        client.send(p.Connect(name, version=version, user="u", password=b"secret")).got()
        return client

    def want(self, wanted: int, node: str = "b.1") -> None:
        self.bench.topics.subscribe("a/b", RemoteNode(node, self.out), wanted)

    def test_a_chunk_of_one_topic_is_one_piece(self) -> None:
        self.want(LOW | HIGH | SURE)
        chunk = run(1, b"1", b"2", b"3")
        self.assertEqual(self.writer.ask(run(1, b"0")), [p.PubAck(9)])
        self.assertEqual(self.writer.ask(chunk), [p.PubAck(9), p.PubAck(10), p.PubAck(11)])
        self.assertEqual([stream for stream, _ in self.sent], ["mq:b.1"] * 2)
        self.assertEqual(self.sent[1][1], chunk)
        self.assertEqual([one.payload for one in messages(self.sent[0][1])], [b"0"])
        self.writer.send(run(0, b"1", b"2"))
        self.assertEqual(self.cast, [("mqtt", run(0, b"1", b"2"), "b.1")])

    def test_what_a_process_wants(self) -> None:
        for number, (wanted, expected) in enumerate(
            ((LOW, (1, 0)), (LOW | HIGH, (3, 0)), (LOW | HIGH | SURE, (1, 2)), (0, (0, 0)))
        ):
            self.sent, self.cast = [], []
            topic = f"t/{number}"
            node = RemoteNode("b.1", self.out)
            self.bench.topics.subscribe(topic, node, wanted)
            for qos in (0, 1, 2):
                self.writer.send(encode.publish(topic.encode(), b"x", qos, qos)).send(p.PubRel(2))
            self.assertEqual((len(self.cast), len(self.sent)), expected, wanted)

    def test_the_acknowledgement_waits_for_the_disk(self) -> None:
        self.want(SURE)
        self.bench.journal.held = True
        self.assertEqual(self.writer.ask(run(1, b"1", b"2")), [])
        self.bench.journal.commit()
        self.bench.flush()
        self.assertEqual(self.writer.got(), [p.PubAck(9), p.PubAck(10)])

    def test_properties_and_retain_go_along(self) -> None:
        self.want(LOW | HIGH | SURE)
        writer = self.client("new", p.MQTT_5)
        given: Properties = {props.CONTENT_TYPE: "text", props.MESSAGE_EXPIRY_INTERVAL: 60}
        writer.send(p.Publish("a/b", b"x", 1, 7, properties=given), p.Publish("a/b", b"y", 0, retain=True))
        [sent] = messages(self.sent[0][1])
        [cast] = messages(self.cast[0][1])
        self.assertEqual((sent.payload, sent.expires_at), (b"x", self.bench.clock.seconds() + 60))
        self.assertEqual(sent.shared, props.shared_bytes(given))
        self.assertEqual((cast.payload, cast.retain), (b"y", True))

    def test_a_persistent_session_has_its_box(self) -> None:
        session = RemoteSession(5, ("u", "c"), self.out)
        self.bench.topics.subscribe("a/b", session, options(1))
        self.bench.journal.sessions[5] = None  # type: ignore[assignment]  # it is there
        self.writer.send(run(0, b"0"), run(1, b"1", b"2"))
        bodies = [body for box in self.bench.journal.boxes.values() for body in box.values()]
        self.assertEqual(bodies, [run(1, b"1", b"2")])
        self.assertEqual((list(self.out.news), self.cast, self.sent), ([5], [], []))


class Arrives(SynchronousTestCase):
    """Subscribers on the other side."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.arrivals = Arrivals(self.bench.topics, self.bench.server.sessions.groups)

    def reader(self, name: str, qos: int, version: int = p.MQTT_3_1_1, clean: bool = True, **given: Any) -> Client:
        client = Client(self.bench, self.bench.server.buildProtocol(None), version)  # type: ignore[arg-type]
        client.send(p.Connect(name, clean=clean, version=version, user="u", password=b"secret"))
        client.send(p.Subscribe(1, [("a/b", qos)], **given)).got()
        return client

    def take(self, body: bytes) -> None:
        self.arrivals.take(body)
        self.bench.flush()

    def test_runs(self) -> None:
        readers = [self.reader(f"{qos}-{version}", qos, version) for version in (4, 5) for qos in (0, 1, 2)]
        for qos in (0, 1, 2):
            for payloads in ((b"1",), (b"1", b"2", b"3")):
                self.take(run(qos, *payloads))
                for reader, granted in zip(readers, (0, 1, 2) * 2, strict=True):
                    got = reader.got()
                    self.assertEqual(
                        publishes(got), [("a/b", payload, min(qos, granted)) for payload in payloads], (qos, granted)
                    )
                    ids = [one.packet_id for one in got if isinstance(one, p.Publish) and one.qos]
                    self.assertEqual(len(set(ids)), len(ids))

    def test_one_with_an_identifier(self) -> None:
        reader = self.reader("c", 1, p.MQTT_5, properties={props.SUBSCRIPTION_IDENTIFIER: 3})
        self.take(run(1, b"1", b"2"))
        got: list[Any] = reader.got()
        self.assertEqual([one.payload for one in got], [b"1", b"2"])
        self.assertTrue(all(one.properties for one in got))

    def test_what_is_in_a_box_is_not_given_twice(self) -> None:
        kept = [self.reader("k1", 1, clean=False), self.reader("k0", 0, clean=False)]
        self.take(run(1, b"1", b"2"))
        self.assertEqual([len(publishes(one.got())) for one in kept], [0, 2])

    def test_nobody(self) -> None:
        self.take(run(1, b"1", topic=b"nobody"))
        self.take(for_group("g", "a/#", 1, run(1, b"1")))

    def test_a_run_out_of_a_box_is_kept_and_taken_in_one_batch(self) -> None:
        reader = self.reader("k", 2, clean=False)
        session: Any = reader.connection.session
        journal = self.bench.journal
        boxes = Boxes(journal, self.bench.topics, Outgoing(journal, lambda *_: None))
        boxes.sessions[session.number] = session
        name = f"box:{session.number}"
        bodies = [run(1, b"1", b"2"), run(2, b"3"), pack(Message(b"a/b", b"4", 1, True))]
        journal.boxes[name] = {b"%d" % number: body for number, body in enumerate(bodies)}
        journal.held = True
        boxes.look_at([session.number])
        taken = [op for op in journal._batch if op[0] == TAKEN]
        self.assertEqual(len(taken), 3)
        journal.commit()
        self.bench.flush()
        self.assertEqual(
            publishes(reader.got()), [("a/b", b"1", 1), ("a/b", b"2", 1), ("a/b", b"3", 2), ("a/b", b"4", 1)]
        )
        self.assertEqual((len(journal.queues[session.number]), journal.boxes[name]), (4, {}))
