"""Sessions that outlive their connections, and the server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.mqtt import packets as p
from broker.mqtt import persistent as under_test
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from tests.mqtt.fakes import Bench, Client, publishes


def ids(packets: list[Any]) -> list[tuple[int, bytes, bool]]:
    """(packet id, payload, DUP) of the publishes among them."""
    return [(one.packet_id, one.payload, one.dup) for one in packets if isinstance(one, p.Publish)]


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(**self.settings)
        self.journal = self.bench.journal
        self.sender = self.bench.connect("sender", "v")
        self.client = self.back()[0]
        self.client.subscribe("a/#", qos=2)

    def back(self, **fields: Any) -> tuple[Client, list[Any]]:
        return self.bench.resume("keeper", clean=False, **fields)

    def publish(self, *messages: tuple[bytes, int]) -> None:
        for number, (payload, qos) in enumerate(messages, 1):
            self.sender.send(p.Publish("a/b", payload, qos, number if qos else 0), *([p.PubRel(number)] * (qos == 2)))


class Away(Case):
    def test_the_session_goes_on(self) -> None:
        self.client.lose()
        self.publish((b"0", 0), (b"1", 1), (b"2", 2))
        client, answer = self.back()
        self.assertEqual(answer[0], p.ConnAck(0, True))
        self.assertEqual(ids(answer), [(1, b"1", False), (2, b"2", False)])
        self.publish((b"0", 0), (b"3", 1))
        self.assertEqual(publishes(client.got()), [("a/b", b"0", 0), ("a/b", b"3", 1)])

    def test_3_1_knows_no_session_present(self) -> None:
        self.client.lose()
        self.assertEqual(self.back(version=p.MQTT_3_1)[1], [p.ConnAck(0, False)])

    def test_a_clean_one_ends_it(self) -> None:
        self.client.lose()
        self.publish((b"1", 1))
        self.assertEqual(self.bench.resume("keeper", clean=True)[1], [p.ConnAck(0, False)])
        self.assertEqual((self.journal.sessions, self.journal.queues), ({}, {}))
        self.assertEqual(self.bench.topics.subscriptions, 0)

    def test_what_was_not_acknowledged_comes_again(self) -> None:
        self.publish((b"1", 1), (b"2", 2), (b"3", 2), (b"4", 1))
        self.client.send(p.PubRec(2), p.PubAck(4))
        self.client.lose()
        client, answer = self.back()
        self.assertEqual(answer[0], p.ConnAck(0, True))
        self.assertIn(p.PubRel(2), answer)
        self.assertEqual(ids(answer), [(1, b"1", True), (3, b"3", True)])
        self.assertEqual(client.ask(p.PubAck(1), p.PubComp(2), p.PubRec(3)), [p.PubRel(3)])
        client.send(p.PubComp(3))
        self.assertEqual(self.journal.queues[1], {})
        client.lose()
        self.assertEqual(self.back()[1], [p.ConnAck(0, True)])

    def test_taken_over_with_its_state(self) -> None:
        self.publish((b"1", 1))
        newer, answer = self.back()
        self.assertEqual(self.client.closed, "takeover")
        self.assertEqual(ids(answer), [(1, b"1", True)])
        self.client.lose()
        self.publish((b"2", 1))
        self.assertEqual(ids(newer.got()), [(2, b"2", False)])

    def test_by_another_version(self) -> None:
        """What goes to clients of one version in the same bytes is no longer for this one."""
        self.publish((b"1", 1))
        for version in (p.MQTT_5, p.MQTT_3_1_1, p.MQTT_5):
            expiry = {props.SESSION_EXPIRY_INTERVAL: 60} if version == p.MQTT_5 else {}
            client = self.back(version=version, properties=expiry)[0]
            self.publish((b"x", 1), (b"0", 0))
            self.assertEqual(publishes(client.got()), [("a/b", b"x", 1), ("a/b", b"0", 0)])

    def test_not_somebody_elses(self) -> None:
        self.client.lose()
        self.assertEqual(self.bench.resume("keeper", "w", clean=False)[1], [p.ConnAck(0, False)])

    def test_qos_2_of_the_client_goes_on(self) -> None:
        other = self.bench.connect("other")
        other.subscribe("b", qos=2)
        self.client.send(p.Publish("b", b"once", 2, 7))
        self.client.lose()
        client, _ = self.back()
        self.assertEqual(client.ask(p.Publish("b", b"once", 2, 7, dup=True)), [p.PubRec(7)])
        self.assertEqual(client.ask(p.PubRel(7)), [p.PubComp(7)])
        self.assertEqual(len(publishes(other.got())), 1)
        self.assertEqual(self.journal.incoming[1], {})


class Expiry(Case):
    settings = {"max_session_expiry": 100}

    def test_3_1_1_after_the_limit(self) -> None:
        self.client.lose()
        self.bench.pass_time(99)
        self.assertEqual(len(self.journal.sessions), 1)
        self.bench.pass_time(2)
        self.assertEqual(self.journal.sessions, {})
        self.assertEqual(self.bench.topics.subscriptions, 0)

    def test_5_0_after_what_it_asked_for(self) -> None:
        five: dict[str, Any] = {"version": p.MQTT_5, "properties": {props.SESSION_EXPIRY_INTERVAL: 10}}
        client, _ = self.bench.resume("five", **five)
        client.lose()
        self.bench.clock.advance(9)
        client, answer = self.bench.resume("five", clean=False, **five)
        self.assertTrue(answer[0].session_present)
        client.send(p.Disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 20}))
        self.bench.clock.advance(19)
        client, answer = self.bench.resume("five", clean=False, **five)
        self.assertTrue(answer[0].session_present)
        client.send(p.Disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 0}))
        self.assertFalse(self.bench.resume("five", clean=False, **five)[1][0].session_present)

    def test_not_while_it_is_connected(self) -> None:
        self.client.lose()
        client, _ = self.back()
        self.bench.pass_time(150)
        self.assertEqual(publishes(client.ask(p.Publish("a/b", b""))), [("a/b", b"", 0)])


class Limits(Case):
    settings = {"max_queued_messages": 3, "max_inflight": 2, "max_sessions": 1}

    def test_the_queue(self) -> None:
        self.client.lose()
        self.publish(*[(b"%d" % one, 1) for one in range(5)])
        self.assertEqual(self.bench.stats.dropped, {"queue_full": 2})
        client, answer = self.back()
        self.assertEqual([payload for _, payload, _ in ids(answer)], [b"0", b"1"])
        self.assertEqual([payload for _, payload, _ in ids(client.ask(p.PubAck(2)))], [b"2"])

    def fail_to_publish(self) -> None:
        """One message to an absent, or present, session that cannot be kept."""
        self.journal.held = True
        sender = self.bench.connect("unlucky")
        sender.send(p.Publish("a/b", b"x", 1, 1))
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.assertEqual(sender.closed, "unavailable")
        self.journal.held = False

    def test_what_could_not_be_kept_does_not_fill_the_queue(self) -> None:
        session: Any = self.client.connection.session
        self.client.lose()
        for _ in range(9):
            self.fail_to_publish()
        self.publish(*[(b"%d" % one, 1) for one in range(3)])
        self.assertEqual(self.bench.stats.dropped, {})
        client, answer = self.back()
        got = [payload for _, payload, _ in ids(answer)]
        while acks := [p.PubAck(packet_id) for packet_id, _, _ in ids(answer)]:
            answer = client.ask(*acks)
            got += [payload for _, payload, _ in ids(answer)]
        self.assertEqual(got, [b"0", b"1", b"2"])
        self.back()
        self.assertEqual((session.owed, session.owed_bytes), (0, 0))

    def test_what_is_on_disk_is_read_whatever_could_not_be_kept(self) -> None:
        """A message that was settled before its commit failed is not taken off what is owed twice."""
        self.journal.held = True
        sender = self.bench.connect("unlucky")
        sender.send(p.Publish("a/b", b"x", 1, 1))
        (sent,) = ids(self.client.got())
        self.client.send(p.PubAck(sent[0]))
        self.client.lose()
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.journal.held = False
        self.publish((b"1", 1))
        _, answer = self.back()
        self.assertEqual([payload for _, payload, _ in ids(answer)], [b"1"])

    def test_sessions(self) -> None:
        self.assertEqual(self.bench.resume("another", clean=False)[1], [p.ConnAck(p.REFUSED_UNAVAILABLE)])
        wanted: dict[str, Any] = {"properties": {props.SESSION_EXPIRY_INTERVAL: 5}}
        _, answer = self.bench.resume("another", version=p.MQTT_5, **wanted)
        self.assertEqual(answer, [p.ConnAck(r.QUOTA_EXCEEDED)])


class Pages(Case):
    settings = {"max_inflight": 3}

    def test_in_order_whatever_comes_meanwhile(self) -> None:
        self.patch(under_test, "PAGE", 4)
        self.patch(under_test, "SPILL", 5)
        self.client.lose()
        self.publish(*[(b"%d" % one, 1) for one in range(10)])
        client, answer = self.back()
        heard = ids(answer)
        for number in range(10, 40):
            self.publish((b"%d" % number, 1))
            heard += ids(client.got())
        while len(heard) < 40:
            got = ids(client.ask(*(p.PubAck(one) for one, _, _ in heard[-3:])))
            self.assertNotEqual(got, [])
            heard += got
        self.assertEqual([payload for _, payload, _ in heard], [b"%d" % one for one in range(40)])
        client.ask(*(p.PubAck(one) for one, _, _ in heard[-3:]))
        self.assertEqual(self.journal.queues[1], {})


class BeforeTheCommit(Case):
    def test_nothing_is_acknowledged(self) -> None:
        self.journal.held = True
        sent: list[p.Packet] = [
            p.Publish("a/b", b"1", 1, 1),
            p.Publish("a/b", b"2", 2, 2),
            p.Publish("free", b"", 1, 3),
            p.PingReq(),
        ]
        self.assertEqual(self.sender.ask(*sent), [p.PingResp()])
        # QoS 1 may go out at once, QoS 2 may not.
        self.assertEqual(publishes(self.client.got()), [("a/b", b"1", 1)])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.sender.got(), [p.PubAck(1), p.PubRec(2), p.PubAck(3)])
        self.assertEqual(publishes(self.client.got()), [("a/b", b"2", 2)])
        # PUBREL waits as well.
        self.assertEqual(self.client.ask(p.PubRec(2)), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.client.got(), [p.PubRel(2)])

    def test_what_came_in_one_chunk_is_acknowledged_in_one(self) -> None:
        """With its own place before what comes behind it, and counted by the message."""
        self.sender.subscribe("free", qos=1)
        for topic in ("a/b", "a/longer", "free"):  # from now on it is known who gets them
            self.sender.send(p.Publish(topic, b""))
        self.sender.got()
        self.client.got()
        self.journal.held = True
        run = [p.Publish("a/b", b"%d" % number, 1, number) for number in range(1, 6)]
        others = [p.Publish("a/longer", b"6", 1, 6), p.Publish("free", b"7", 1, 7)]
        self.assertEqual(publishes(self.sender.ask(*run, *others)), [("free", b"7", 1)])
        self.assertEqual(ids(self.client.got()), [(number, b"%d" % number, False) for number in range(1, 7)])
        self.assertEqual(self.sender.ask(p.PingReq(), p.Unsubscribe(8, ["free"])), [p.PingResp(), p.UnsubAck(8)])
        acks = self.sender.connection._acks
        self.assertEqual((acks.count, acks.positions, acks.held), (7, 1, 7))
        self.sender.send(p.Publish("free", b"", 1, 9))
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.sender.got(), [p.PubAck(number) for number in (1, 2, 3, 4, 5, 6, 7, 9)])
        self.assertEqual((acks.count, acks.positions, acks.held), (0, 0, 0))

    def test_what_waits_for_the_window_is_not_sent_if_it_was_not_kept(self) -> None:
        """Its publisher sends it again: at QoS 2 it would come twice."""
        self.bench.connect("other")
        self.journal.held = True
        keeper: Any = self.client.connection.session
        keeper.window = 0
        self.sender.send(p.Publish("a/b", b"2", 2, 2))
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.assertEqual((self.client.closed, self.sender.closed), ("unavailable", "unavailable"))

    def test_an_id_that_was_released_is_free_when_pubcomp_says_so(self) -> None:
        """Else a crash now would leave the old message on disk under the id of the next one, which would be lost."""
        sender, _ = self.bench.resume("keeps", clean=False)
        sender.send(p.Publish("a/b", b"1", 2, 1))
        self.assertEqual(sender.got(), [p.PubRec(1)])
        self.journal.held = True
        sender.send(p.PubRel(1))
        sender.lose()
        sender, _ = self.bench.resume("keeps", clean=False)
        self.journal.commit()
        self.journal.held = True
        sender.send(p.PubRel(1))
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(sender.got()[-1:], [p.PubComp(1)])

    def test_ids_of_what_was_told_as_failed_are_looked_for_on_disk(self) -> None:
        """The answer of the storage was lost, and it had done it."""
        sender, _ = self.bench.resume("keeps", clean=False)
        session: Any = sender.connection.session
        self.journal.held = True
        sender.send(p.Publish("a/b", b"1", 2, 1))
        self.journal.fail(Unavailable("the connection was lost"))
        self.bench.flush()
        self.assertEqual((sender.closed, session.incoming), ("unavailable", set()))
        self.journal.held = False
        self.journal.incoming[session.number] = {1: None}
        sender, _ = self.bench.resume("keeps", clean=False)
        keeper: Any = self.client.connection.session
        owed = keeper.owed
        self.assertEqual(sender.ask(p.Publish("a/b", b"1", 2, 1, dup=True)), [p.PubRec(1)])
        self.assertEqual(keeper.owed, owed)

    def test_nor_when_it_failed(self) -> None:
        self.journal.held = True
        self.sender.send(p.Publish("a/b", b"1", 1, 1))
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.assertEqual((self.sender.got(), self.sender.closed), ([], "unavailable"))

    def test_a_session_that_was_not_kept_is_kept_before_it_is_owed_anything(self) -> None:
        self.journal.held = True
        keeper, _ = self.bench.resume("another", clean=False)
        keeper.send(p.Subscribe(1, [("b", 1)]))
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.assertEqual(keeper.closed, "unavailable")
        keeper.lose()
        self.journal.fail(Unavailable("the disk is still full"))
        self.assertEqual(list(self.journal.sessions), [1])
        self.assertEqual(self.sender.ask(p.Publish("b", b"owed", 1, 1)), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.sender.got(), [p.PubAck(1)])
        self.assertEqual([row.payload for row in self.journal.queues[2].values()], [b"owed"])

    def test_subscriptions(self) -> None:
        self.journal.held = True
        self.assertEqual(self.client.ask(p.Subscribe(7, [("b", 1)])), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.client.got(), [p.SubAck(7, b"\1")])

    def test_a_qos_2_message_of_a_lasting_session(self) -> None:
        self.journal.held = True
        self.assertEqual(self.client.ask(p.Publish("free", b"", 2, 9)), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.client.got(), [p.PubRec(9)])

    def test_what_was_not_kept_may_come_again(self) -> None:
        other = self.bench.connect("other")
        publish = p.Publish("free", b"", 2, 9, dup=True)
        self.journal.held = True
        for gone_before in (False, True):
            self.client.send(publish)
            if gone_before:
                self.client.lose()
            self.journal.fail(Unavailable("the disk is full"))
            if not gone_before:
                self.assertEqual(self.client.closed, "unavailable")
                self.client.lose()
            self.client = self.back()[0]
            self.journal.commit()
        other.subscribe("free", qos=2)
        self.client.send(publish)
        self.assertEqual(len(publishes(other.got())), 1)

    def test_a_duplicate_on_another_connection_waits_too(self) -> None:
        self.journal.held = True
        self.client.send(p.Publish("free", b"", 2, 9))
        client, _ = self.back()
        self.assertEqual(client.ask(p.Publish("free", b"", 2, 9, dup=True)), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(client.got(), [p.PubRec(9)])

    def test_retained_messages(self) -> None:
        self.journal.held = True
        self.assertEqual(self.sender.ask(p.Publish("free", b"kept", 1, 1, retain=True)), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.sender.got(), [p.PubAck(1)])

    def test_clean_sessions_wait_for_nothing(self) -> None:
        self.journal.held = True
        self.bench.connect("clean").subscribe("b", qos=2)
        self.assertEqual(
            self.sender.ask(p.Publish("b", b"", 1, 1), p.Publish("b", b"", 2, 2)), [p.PubAck(1), p.PubRec(2)]
        )


class Restart(Case):
    def test_what_was_committed_is_there(self) -> None:
        self.client.send(p.Publish("b", b"", 2, 9), p.Subscribe(2, [("c", 1)]))
        self.publish((b"1", 1), (b"2", 2), (b"3", 1))
        self.client.send(p.PubRec(2))
        self.sender.send(p.Publish("kept", b"k", 1, 1, retain=True))
        self.bench.restart()
        self.sender = self.bench.connect("sender", "v")
        self.publish((b"4", 1))
        client, answer = self.back()
        self.assertEqual(answer[0], p.ConnAck(0, True))
        self.assertEqual([(one, payload) for one, payload, _ in ids(answer)], [(1, b"1"), (3, b"3"), (4, b"4")])
        self.assertIn(p.PubRel(2), answer)
        self.assertEqual(client.ask(p.Publish("b", b"", 2, 9, dup=True)), [p.PubRec(9)])
        self.sender.send(p.Publish("c", b"5", 1, 1))
        self.assertEqual(publishes(client.got()), [("c", b"5", 1)])
        self.assertEqual(publishes(self.sender.subscribe("kept")), [("kept", b"k", 0)])

    def test_what_comes_before_its_state_is_read(self) -> None:
        """A page that was read before the client is welcome would be read, and sent, again."""
        self.client.lose()
        self.publish((b"1", 2), (b"2", 2))
        self.bench.restart()
        self.sender = self.bench.connect("sender", "v")
        state: Deferred[list[int]] = Deferred()
        self.patch(self.journal, "load_incoming", lambda number: state)
        client, answer = self.back()
        self.assertEqual(answer, [])
        self.publish((b"3", 2), (b"0", 0))
        self.assertEqual(client.got(), [])
        state.callback([])
        self.bench.flush()
        answer = client.got()
        self.assertEqual(answer[0], p.ConnAck(0, True))
        self.assertEqual([payload for _, payload, _ in ids(answer)], [b"1", b"2", b"3"])
        client.send(*[p.PubRec(number) for number in (1, 2, 3)])
        again = client.ask(*[p.PubComp(number) for number in (1, 2, 3)])
        self.assertEqual(ids(again), [])
        self.assertEqual(self.journal.queues[1], {})

    def test_rights_that_were_lost_meanwhile(self) -> None:
        self.client.lose()
        self.publish((b"1", 1))
        self.bench.restart()
        self.bench.identities.principal("u").hidden.add("a/b")
        client, answer = self.back()
        self.assertEqual(answer, [p.ConnAck(0, True)])
        self.assertEqual(self.journal.queues[1], {})
        self.bench.connect("sender", "v").send(p.Publish("a/b", b"2", 1, 1))
        self.assertEqual(client.got(), [])

    def test_properties_and_expiry(self) -> None:
        five: dict[str, Any] = {"version": p.MQTT_5, "properties": {props.SESSION_EXPIRY_INTERVAL: 1000}}
        client, _ = self.bench.resume("five", **five)
        client.ask(p.Subscribe(1, [("x", 1)], {props.SUBSCRIPTION_IDENTIFIER: 5}))
        client.lose()
        sender, _ = self.bench.resume("s5", version=p.MQTT_5)
        for number, seconds in enumerate((5, 50), 1):
            told: p.Properties = {props.CONTENT_TYPE: "t", props.MESSAGE_EXPIRY_INTERVAL: seconds}
            sender.send(p.Publish("x", b"%d" % number, 1, number, properties=told))
        self.bench.restart()
        self.bench.clock.advance(10)
        client, answer = self.bench.resume("five", clean=False, **five)
        (heard,) = [one for one in answer if isinstance(one, p.Publish)]
        expected: p.Properties = {
            props.SUBSCRIPTION_IDENTIFIER: [5],
            props.CONTENT_TYPE: "t",
            props.MESSAGE_EXPIRY_INTERVAL: 40,
        }
        self.assertEqual((heard.payload, heard.properties), (b"2", expected))
