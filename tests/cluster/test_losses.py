"""Nothing that was acknowledged is lost between processes, whatever becomes of a commit or of a process meanwhile."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.mqtt import packets as p
from broker.mqtt.journal import SEEN
from broker.mqtt.moves import SPACE, key_text
from broker.storage.redis.lane import CHANGE
from tests.cluster.bed import until
from tests.cluster.mqtt_bed import Crowd, NodeBench
from tests.storage.redis.between import Between

KEY = ("u", "keeper")
KEPT: dict[str, Any] = {"clean": False}


class Case(TestCase):
    timeout = 90

    @inlineCallbacks
    def setUp(self) -> Any:  # type: ignore[override]  # trial waits for it
        self.crowd = Crowd(self)
        self.a = yield self.crowd.start("a")

    def between(self) -> Between:
        between = Between(self.crowd.nodes.server.port)
        self.addCleanup(lambda: Deferred.fromCoroutine(between.stop()))
        between.start()
        return between

    @inlineCallbacks
    def keeper(self, bench: NodeBench) -> Any:
        """A persistent session that wants ``a``."""
        client, _ = yield bench.came("keeper", **KEPT)
        client.send(p.Subscribe(1, [("a", 2)]))
        yield until(lambda: any(isinstance(one, p.SubAck) for one in client.box.packets), "SUBACK")
        return client

    @inlineCallbacks
    def lose_an_answer(self, between: Between, bench: NodeBench, begin: Any, done: Any) -> Any:
        """What ``begin()`` has written is done (``done()``), and told as failed: until `free_again` Redis is away."""
        failed: list[Any] = []
        bench.journal.watch(lambda upto, error: failed.append(error) if error is not None else None)
        yield until(lambda: bench.journal.committed == bench.journal.position, "what was before to be on disk")
        lane = bench.storage._write_lane
        send = lane._send

        def sending(jobs: Any) -> None:
            if any(job.kind == CHANGE for job in jobs):
                between.says = False  # from the first change on
            send(jobs)

        self.patch(lane, "_send", sending)
        begin()
        yield until(done, "Redis to have done it")
        between.takes = False
        between.cut()
        yield until(lambda: failed, "it to be told as failed")
        self.assertTrue(bench.journal.uncertain)
        self.patch(lane, "_send", send)

    @inlineCallbacks
    def free_again(self, between: Between, bench: NodeBench) -> Any:
        between.says = between.takes = True
        lanes = (bench.storage._write_lane, bench.storage._read_lane)

        def is_back() -> bool:
            connected = all(lane.connection.connected and lane.refusal() is None for lane in lanes)
            return connected and not bench.journal.uncertain

        yield until(is_back, "Redis to be back")

    def rows(self, key: str) -> int:
        """How many rows are in a queue (``q:<n>``), a box (``box:<n>``): Redis itself is asked."""
        reply = self.crowd.nodes.server.ask("ZCARD", f"{self.crowd.nodes.settings.prefix}:{key}")
        return int(reply[1:])

    def acknowledged(self, writer: Any, count: int) -> Any:
        return until(
            lambda: len([one for one in writer.box.packets if isinstance(one, p.PubAck)]) >= count, "all PUBACKs"
        )

    @inlineCallbacks
    def received(self, client: Any, count: int) -> Any:
        """The payloads of so many messages, once they are settled."""
        got: list[bytes] = []

        def work() -> bool:
            for one in list(client.box.packets):
                client.box.packets.remove(one)
                if isinstance(one, p.Publish):
                    got.append(one.payload)
                    client.send((p.PubAck if one.qos == 1 else p.PubRec)(one.packet_id))
                elif isinstance(one, p.PubRel):
                    client.send(p.PubComp(one.packet_id))
            return len(got) >= count and not client.connection.session.inflight

        yield until(work, f"{count} messages")
        return got


class FailedCommits(Case):
    """Told as failed, and done all the same."""

    @inlineCallbacks
    def test_rows_that_came_out_of_a_box_stay_in_the_queue(self) -> Any:
        between = self.between()
        b = yield self.crowd.start("b", between, doubt_timeout=0.05)
        client = yield self.keeper(b)
        number = client.connection.session.number
        writer, _ = yield self.a.came("writer", **KEPT)
        packets = [packet for n in range(1, 21) for packet in (p.Publish("a", b"%d" % n, 2, n), p.PubRel(n))]
        yield self.lose_an_answer(between, b, lambda: writer.send(*packets), lambda: self.rows(f"q:{number}"))
        yield self.free_again(between, b)
        b.server.tick()
        yield until(lambda: self.rows(f"q:{number}") == 20, "all to be in the queue")
        self.assertEqual(self.rows(f"box:{number}"), 0)
        client, connack = yield b.came("keeper", **KEPT)
        self.assertTrue(connack.session_present)
        got = yield self.received(client, 20)
        self.assertEqual(got, [b"%d" % n for n in range(1, 21)])

    @inlineCallbacks
    def publish_in_doubt(self, between: Between, b: NodeBench) -> Any:
        """QoS 2 from a client of ``b`` to a session of ``a``; the client has no answer."""
        client = yield self.keeper(self.a)
        writer, _ = yield b.came("writer", **KEPT)
        number = client.connection.session.number
        yield self.lose_an_answer(
            between,
            b,
            lambda: writer.send(p.Publish("a", b"x", 2, 7)),
            lambda: self.rows(f"box:{number}") or self.rows(f"q:{number}"),
        )
        yield until(lambda: writer.closed, "its end")
        self.assertNotIn(p.PubRec(7), writer.box.packets)
        self.a.server.elsewhere.boxes.look_at([number])  # as it does now and then
        return client

    @inlineCallbacks
    def test_who_repeats_a_message_there_is_known_by_its_packet_id(self) -> Any:
        between = self.between()
        b = yield self.crowd.start("b", between, doubt_timeout=0.05)
        client = yield self.publish_in_doubt(between, b)
        yield self.free_again(between, b)
        writer, connack = yield b.came("writer", **KEPT)
        self.assertTrue(connack.session_present)
        writer.send(p.Publish("a", b"x", 2, 7, dup=True), p.PubRel(7))
        yield until(lambda: p.PubComp(7) in writer.box.packets, "PUBCOMP")
        writer.send(p.Publish("a", b"y", 2, 7))
        self.assertEqual((yield self.received(client, 2)), [b"x", b"y"])

    @inlineCallbacks
    def test_a_session_stays_until_it_is_certain_what_it_has(self) -> Any:
        between = self.between()
        b = yield self.crowd.start("b", between, doubt_timeout=0.05)
        client = yield self.publish_in_doubt(between, b)
        refused = yield self.a.plane.ask(b.plane.node, "mqtt.release", key_text(("u", "writer")).encode()).addErrback(
            lambda failure: failure.trap(Unavailable)
        )
        self.assertIs(refused, Unavailable)
        yield self.free_again(between, b)
        writer, connack = yield self.a.came("writer", **KEPT)
        self.assertTrue(connack.session_present)
        writer.send(p.Publish("a", b"x", 2, 7, dup=True), p.PubRel(7))
        yield until(lambda: p.PubComp(7) in writer.box.packets, "PUBCOMP")
        self.assertEqual((yield self.received(client, 1)), [b"x"])

    @inlineCallbacks
    def test_a_group_gets_what_its_process_could_not_write_at_first(self) -> Any:
        between = self.between()
        b = yield self.crowd.start("b", between, doubt_timeout=0.05)
        member, _ = yield b.came("member", **KEPT)
        member.send(p.Subscribe(1, [("$share/g/a", 1)]))
        yield until(lambda: any(isinstance(one, p.SubAck) for one in member.box.packets), "SUBACK")
        session = member.connection.session
        member.lose()
        yield until(lambda: b.journal.committed == b.journal.position, "all to be on disk")
        writer, _ = yield self.a.came("writer")
        between.hears = False
        writer.send(p.Publish("a", b"1", 1, 1))
        yield until(lambda: session.owed, "it to be on its way to the disk")
        between.takes = False
        between.cut()
        yield until(lambda: b.server.elsewhere._to_read_again, "that to fail")
        between.hears = between.takes = True

        def there() -> bool:
            b.server.tick()
            return self.rows(f"q:{session.number}") == 1

        yield until(there, "the message")
        yield until(lambda: b.journal.committed == b.journal.position, "its entry to go")
        self.assertEqual((yield b.plane.read_stream("mq", b.plane.node, b"0")), [])


class Groups(Case):
    @inlineCallbacks
    def test_what_is_for_a_group_at_a_process_that_was_buried(self) -> Any:
        """Whoever sends it may not have heard of that yet. It comes back, and goes to whom there is."""
        b = yield self.crowd.start("b")
        away, _ = yield self.a.came("away", **KEPT)
        away.send(p.Subscribe(1, [("$share/g/a", 1)]))
        session = away.connection.session
        away.lose()
        member, _ = yield b.came("member")
        member.send(p.Subscribe(1, [("$share/g/a", 1), ("a", 1)]))
        yield until(lambda: any(isinstance(one, p.SubAck) for one in member.box.packets), "SUBACK")
        reader, _ = yield self.a.came("reader")
        reader.send(p.Subscribe(1, [("a", 1)]))
        b.plane._streams.clear()
        self.crowd.nodes.server.ask("DEL", f"{self.crowd.nodes.settings.prefix}:c:mq:{b.plane.node}")
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("a", b"1", 1, 1))
        yield self.acknowledged(writer, 1)
        yield until(lambda: session.owed == 1, "it to be the other member's")
        yield until(lambda: self.rows(f"q:{session.number}") == 1, "it to be on disk")
        self.assertEqual(reader.box.payloads(), [b"1"], "what was for no group does not come back")


class OneAtATime(Case):
    @inlineCallbacks
    def setUp(self) -> Any:  # type: ignore[override]  # trial waits for it
        yield super().setUp()
        self.b = yield self.crowd.start("b")

    @inlineCallbacks
    def away(self, bench: NodeBench) -> Any:
        """A session that is in no process's memory, with one message; its number."""
        client = yield self.keeper(bench)
        number = client.connection.session.number
        client.lose()
        writer, _ = yield bench.came("writer")
        writer.send(p.Publish("a", b"1", 2, 1))
        yield until(lambda: p.PubRec(1) in writer.box.packets, "PUBREC")
        yield bench.plane.ask  # the bed's nodes are all in one process
        return number

    @inlineCallbacks
    def test_two_connections_of_one_client_at_once(self) -> Any:
        yield self.away(self.a)
        coming = [self.b.came("keeper", **KEPT), self.b.came("keeper", **KEPT)]
        (first, _), (second, connack) = (yield coming[0]), (yield coming[1])
        self.assertEqual((first.closed, second.closed, connack.session_present), ("takeover", None, True))
        self.assertEqual((yield self.received(second, 1)), [b"1"])

    @inlineCallbacks
    def test_it_is_not_given_while_it_is_taken(self) -> Any:
        """Else both would have it: who asks comes again."""
        yield self.away(self.a)
        load, held = self.b.journal.load_these, list[Any]()

        def slowly(numbers: Any) -> Any:
            held.append(Deferred())
            return held[-1].addCallback(lambda _: load(numbers))

        self.b.journal.load_these = slowly
        coming = self.b.came("keeper", **KEPT)
        yield until(lambda: held, "it to be loaded")
        asked = self.a.plane.ask(self.b.plane.node, "mqtt.release", key_text(KEY).encode())
        refused = yield asked.addErrback(lambda failure: failure.trap(Unavailable))
        self.assertIs(refused, Unavailable)
        held[0].callback(None)
        client, connack = yield coming
        self.assertTrue(connack.session_present)
        self.assertEqual((yield self.received(client, 1)), [b"1"])

    @inlineCallbacks
    def test_who_was_fenced_while_it_was_loaded_has_not_got_it(self) -> Any:
        yield self.away(self.a)
        load, held = self.b.journal.load_these, list[Any]()

        def slowly(numbers: Any) -> Any:
            held.append(Deferred())
            return held[-1].addCallback(lambda _: load(numbers))

        self.b.journal.load_these = slowly
        coming = self.b.came("keeper", **KEPT)
        yield until(lambda: held, "it to be loaded")
        self.b.journal.load_these = load
        node = self.b.plane.node
        self.b.plane._fence()
        held[0].callback(None)
        client, connack = yield coming
        self.assertTrue(client.closed, connack)
        yield until(lambda: self.b.server.elsewhere._is_ready and self.b.plane.node != node, "it to have joined")
        del connack

    @inlineCallbacks
    def test_it_goes_while_more_is_published_all_the_time(self) -> Any:
        """What comes while it is written goes into its box, so there is an end to that."""
        client = yield self.keeper(self.a)
        session = client.connection.session
        writer, _ = yield self.a.came("writer")
        sent = 0

        def publish(upto: int = 0, error: Any = None) -> None:
            nonlocal sent
            if sent < 500 and not session.moved:
                sent += 1
                writer.send(p.Publish("a", b"%d" % sent, 1, sent))

        self.a.journal.watch(publish)
        publish()
        back, connack = yield self.b.came("keeper", **KEPT)
        self.assertTrue(connack.session_present)
        self.assertTrue(session.moved)
        yield self.acknowledged(writer, sent)
        self.assertEqual((yield self.received(back, sent)), [b"%d" % n for n in range(1, sent + 1)])

    @inlineCallbacks
    def test_a_client_that_comes_back_while_it_is_given(self) -> Any:
        client = yield self.keeper(self.a)
        self.a.journal.append((SEEN, client.connection.session.number, None))
        asked = self.b.plane.ask(self.a.plane.node, "mqtt.release", key_text(KEY).encode())
        yield until(lambda: client.closed, "it to be asked for")
        back, connack = yield self.a.came("keeper", **KEPT)
        outcome = yield asked.addErrback(lambda failure: failure.trap(Unavailable))
        if outcome is Unavailable:  # it was quicker than the commit
            self.assertTrue(connack.session_present)
        writer, _ = yield self.a.came("writer")
        writer.send(p.Publish("a", b"1", 2, 1))
        self.assertEqual((yield self.received(back, 1)), [b"1"])


class Order(Case):
    @inlineCallbacks
    def test_what_is_published_there_comes_behind_what_lies_in_the_box(self) -> Any:
        """[MQTT-4.6.0-6]: of one publisher, whose earlier messages went into the box before the session came."""
        client = yield self.keeper(self.a)
        b = yield self.crowd.start("b")
        writer, _ = yield b.came("writer")
        elsewhere = self.a.server.elsewhere
        elsewhere.boxes.look_at = lambda numbers: None  # what comes into the box stays there
        writer.send(*(p.Publish("a", b"%d" % n, 1, n) for n in range(1, 11)))
        yield self.acknowledged(writer, 10)
        self.assertTrue(self.rows(f"box:{client.connection.session.number}"))
        back, _ = yield b.came("keeper", **KEPT)
        writer.send(*(p.Publish("a", b"%d" % n, 1 + n % 2, n) for n in range(11, 21)))
        got = yield self.received(back, 20)
        self.assertEqual(got, [b"%d" % n for n in range(1, 21)])
        yield until(lambda: back.connection.session.detour is None, "the short way to be open again")
        before = len(b.sent)
        writer.send(p.Publish("a", b"21", 1, 21))
        self.assertEqual((yield self.received(back, 1)), [b"21"])
        self.assertEqual(len(b.sent), before)

    @inlineCallbacks
    def test_a_publisher_that_moves_to_where_the_session_is(self) -> Any:
        client = yield self.keeper(self.a)
        b = yield self.crowd.start("b")
        number = client.connection.session.number
        boxes = self.a.server.elsewhere.boxes
        look_at, boxes.look_at = boxes.look_at, lambda numbers: None  # no news
        writer, _ = yield b.came("writer", **KEPT)
        writer.send(*(p.Publish("a", b"%d" % n, 1, n) for n in range(1, 6)))
        yield self.acknowledged(writer, 5)
        self.assertTrue(self.rows(f"box:{number}"))
        boxes.look_at = look_at
        writer, _ = yield self.a.came("writer", **KEPT)
        writer.send(*(p.Publish("a", b"%d" % n, 1, n) for n in range(6, 11)))
        self.assertEqual((yield self.received(client, 10)), [b"%d" % n for n in range(1, 11)])


class Known(Case):
    @inlineCallbacks
    def test_suback_comes_when_all_know_of_it(self) -> Any:
        b = yield self.crowd.start("b")
        heard: list[str] = []
        b.plane.hear("mqtt.sub", lambda node, body: heard.append("sub"))
        for number in range(5):
            client, _ = yield self.a.came(f"c{number}", **KEPT)
            client.send(p.Subscribe(1, [(f"x/{number}", 1)]))
            yield until(lambda: any(isinstance(one, p.SubAck) for one in client.box.packets), "SUBACK")  # noqa: B023
            self.assertEqual(len(heard), number + 1)
            writer, _ = yield b.came(f"w{number}", version=p.MQTT_5)
            writer.send(p.Publish(f"x/{number}", b"1", 1, 1))
            yield until(lambda: any(isinstance(one, p.PubAck) for one in writer.box.packets), "PUBACK")  # noqa: B023
            self.assertEqual([one.reason for one in writer.box.packets if isinstance(one, p.PubAck)], [0])
            yield client.box.wait(1)
        self.assertEqual(self.a.server.elsewhere.heard.behind, 0)

    @inlineCallbacks
    def test_it_does_not_wait_for_one_that_is_silent_for_long(self) -> Any:
        b = yield self.crowd.start("b")
        heard = b.server.elsewhere.heard
        heard._answer = lambda: None
        heard._owed["nobody"] = 1  # as if an answer were due already: none is sent
        self.patch_patience(0.2)
        client, _ = yield self.a.came("c")
        for number in range(3):
            client.send(p.Subscribe(number + 1, [(f"x/{number}", 1)]))
            count = number + 1
            yield until(lambda: len([one for one in client.box.packets if isinstance(one, p.SubAck)]) == count, "it")  # noqa: B023
        self.assertEqual(self.a.server.elsewhere.heard._silent, {b.plane.node})
        self.assertEqual(self.a.server.elsewhere.heard.behind, 1)

    def patch_patience(self, seconds: float) -> None:
        import broker.mqtt.heard as module

        self.patch(module, "PATIENCE", seconds)


class Refusals(Case):
    @inlineCallbacks
    def test_a_session_that_is_given_while_redis_refuses_keeps_its_number(self) -> Any:
        client = yield self.keeper(self.a)
        number = client.connection.session.number
        b = yield self.crowd.start("b")
        leave, refusing = self.a.plane._directory._run, True

        def run(script: Any, *arguments: Any) -> Any:
            if refusing and arguments and arguments[0] == SPACE and len(arguments) == 3 and arguments[2]:
                return Deferred.fromCoroutine(_refuse())
            return leave(script, *arguments)

        self.a.plane._directory._run = run
        writer, _ = yield self.a.came("writer")
        coming = b.came("keeper", **KEPT)
        yield until(lambda: self.a.server.sessions.get(KEY) is None, "it to be given")
        refusing = False
        client, connack = yield coming
        self.assertTrue(connack.session_present)
        self.assertEqual(client.connection.session.number, number)
        writer.send(p.Publish("a", b"1", 2, 1))
        self.assertEqual((yield self.received(client, 1)), [b"1"])


async def _refuse() -> None:
    raise Unavailable("OOM")
