"""What members of shared subscriptions leave when their sessions end, and what rights that are lost take with them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.model.sessions import DROP, SESSION
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.session import Session
from tests.mqtt.fakes import Bench, Client, publishes

SHARED = "$share/g/a/#"
LASTING: p.Properties = {props.SESSION_EXPIRY_INTERVAL: 60}


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(**self.settings)
        self.journal = self.bench.journal
        self.sender = self.bench.connect("sender", "v")

    def member(self, name: str, *filters: str, qos: int = 2, **fields: Any) -> Client:
        client = self.bench.connect(name, **fields)
        client.subscribe(*(filters or (SHARED,)), qos=qos)
        return client

    def publish(self, *messages: tuple[bytes, int]) -> None:
        for number, (payload, qos) in enumerate(messages, 1):
            self.sender.send(p.Publish("a/b", payload, qos, number if qos else 0), *([p.PubRel(number)] * (qos == 2)))

    def session(self, client: Client) -> Session:
        session = client.connection.session
        assert session is not None
        return session

    def heard(self, client: Client) -> list[bytes]:
        return [payload for _, payload, _ in publishes(client.got())]


class CleanSessions(Case):
    settings = {"max_inflight": 2}

    def test_what_was_not_acknowledged(self) -> None:
        one = self.member("one")
        self.publish((b"1", 1), (b"2", 1), (b"3", 1), (b"4", 2), (b"0", 0))
        self.assertEqual(self.heard(one), [b"1", b"2", b"0"])
        one.send(p.PubAck(1))
        self.assertEqual(self.heard(one), [b"3"])
        other = self.member("other")
        one.lose()
        # Its window takes two, and the third one waits there.
        self.assertEqual(publishes(other.got()), [("a/b", b"2", 1), ("a/b", b"3", 1)])
        other.send(p.PubAck(1))
        self.assertEqual(publishes(other.got()), [("a/b", b"4", 2)])

    def test_what_was_sent_at_qos_2_is_nobody_elses(self) -> None:
        one, other = self.member("one"), self.member("other")
        self.publish((b"1", 2), (b"2", 2))
        self.assertEqual((self.heard(one), self.heard(other)), ([b"1"], [b"2"]))
        one.send(p.PubRec(1))
        one.lose()
        self.assertEqual(self.heard(other), [])

    def test_what_was_its_own_is_nobody_elses(self) -> None:
        one = self.member("one", SHARED, "a/b", qos=1)
        self.publish((b"1", 1))
        self.assertEqual(self.heard(one), [b"1", b"1"])
        other = self.member("other")
        one.lose()
        self.assertEqual(self.heard(other), [b"1"])

    def test_ids_are_used_again(self) -> None:
        one = self.member("one", SHARED, "x", qos=1)
        self.publish((b"1", 1))
        one.send(p.PubAck(1))
        self.session(one).next_id = 1
        self.sender.send(p.Publish("x", b"x", 1, 1))
        other = self.member("other")
        one.lose()
        self.assertEqual(self.heard(other), [])

    def test_nobody_is_left(self) -> None:
        one = self.member("one")
        self.publish((b"1", 1))
        one.lose()
        self.assertEqual(len(self.bench.server.sessions.groups), 0)
        self.assertEqual(self.heard(self.member("other")), [])

    def test_the_others_rights_options_and_expiry(self) -> None:
        one = self.member("one")
        other = self.bench.connect("other", "w", version=p.MQTT_5)
        other.ask(p.Subscribe(1, [(SHARED, 0)], {props.SUBSCRIPTION_IDENTIFIER: 7}))
        self.bench.identities.principal("w").hidden.add("a/secret")
        sender = self.bench.connect("five", version=p.MQTT_5)
        for number, topic in enumerate(("a/secret", "a/b", "a/secret", "a/late"), 1):
            self.session(one).window = 9
            group = self.bench.server.sessions.groups.get("g", "a/#")
            assert group is not None
            group.position = 0
            expiry: p.Properties | None = {props.MESSAGE_EXPIRY_INTERVAL: 5} if topic == "a/late" else None
            sender.send(p.Publish(topic, b"", 1, number, properties=expiry))
        self.assertEqual(len(self.heard(one)), 4)
        self.bench.clock.advance(6)
        one.lose()
        got = [(x.topic, x.qos, x.properties) for x in other.got() if isinstance(x, p.Publish)]
        identifier = {props.SUBSCRIPTION_IDENTIFIER: [7]}
        self.assertEqual(got[0], ("a/b", 0, identifier))
        self.assertNotIn("a/secret", [topic for topic, _, _ in got])


class LastingSessions(Case):
    settings = {"max_inflight": 2}

    def keeper(self, *filters: str) -> Client:
        return self.member("keeper", *filters, version=p.MQTT_5, properties=LASTING)

    def test_kept_as_long_as_it_lasts(self) -> None:
        keeper = self.keeper()
        self.publish((b"1", 1), (b"2", 2))
        keeper.lose()
        other = self.member("other")
        self.bench.pass_time(50)
        self.assertEqual(self.heard(other), [])
        again, answer = self.bench.resume("keeper", clean=False, version=p.MQTT_5, properties=LASTING)
        self.assertEqual([payload for _, payload, _ in publishes(answer)], [b"1", b"2"])
        self.assertIsNone(again.closed)

    def test_it_expires(self) -> None:
        keeper = self.keeper()
        self.publish((b"1", 1), (b"2", 2), (b"3", 1), (b"4", 2))
        self.assertEqual(self.heard(keeper), [b"1", b"2"])
        keeper.lose()
        other = self.member("other")
        self.bench.pass_time(61)
        self.assertEqual(self.heard(other), [b"1", b"3"])
        other.send(p.PubAck(1), p.PubAck(2))
        self.assertEqual(self.heard(other), [b"4"])
        self.assertEqual((self.journal.sessions, self.journal.queues), ({}, {}))

    def test_a_clean_start_ends_it(self) -> None:
        keeper = self.keeper()
        self.publish((b"1", 1))
        keeper.lose()
        other = self.member("other")
        self.bench.connect("keeper", version=p.MQTT_5)
        self.assertEqual(self.heard(other), [b"1"])
        self.assertEqual(self.journal.sessions, {})

    def test_to_another_that_lasts(self) -> None:
        keeper = self.keeper()
        self.publish((b"1", 1), (b"2", 1))
        self.member("heir", version=p.MQTT_5, properties=LASTING).lose()
        keeper.send(p.Disconnect(0, {props.SESSION_EXPIRY_INTERVAL: 0}))
        self.assertEqual([len(rows) for rows in self.journal.queues.values()], [2])
        _, answer = self.bench.resume("heir", clean=False, version=p.MQTT_5, properties=LASTING)
        self.assertEqual([payload for _, payload, _ in publishes(answer)], [b"1", b"2"])

    def test_more_than_a_page(self) -> None:
        self.keeper().lose()
        for number in range(450):
            self.publish((b"%d" % number, 1))
        self.member("heir", version=p.MQTT_5, properties=LASTING).lose()
        self.bench.connect("keeper", version=p.MQTT_5)
        (rows,) = self.journal.queues.values()
        self.assertEqual([row.payload for _, row in sorted(rows.items())], [b"%d" % n for n in range(450)])

    def test_its_own_stay_its_own(self) -> None:
        keeper = self.keeper(SHARED, "a/b")
        self.publish((b"1", 1))
        self.assertEqual(self.heard(keeper), [b"1", b"1"])
        other = self.member("other")
        self.bench.connect("keeper", version=p.MQTT_5)
        self.assertEqual(self.heard(other), [])

    def test_after_a_restart(self) -> None:
        """What may have been sent at QoS 2 before, within the window, is not passed on."""
        keeper = self.keeper()
        self.member("heir", version=p.MQTT_5, properties=LASTING).lose()
        self.publish((b"1", 1), (b"2", 2), (b"3", 1), (b"4", 2))
        keeper.got()
        self.bench.restart()
        self.sender = self.bench.connect("sender", "v")
        self.bench.connect("keeper", version=p.MQTT_5)
        heir, answer = self.bench.resume("heir", clean=False, version=p.MQTT_5, properties=LASTING)
        self.assertEqual([payload for _, payload, _ in publishes(answer)], [b"1", b"3"])
        heir.send(p.PubAck(1), p.PubAck(2))
        self.assertEqual(self.heard(heir), [b"4"])

    def test_what_is_not_on_disk_yet(self) -> None:
        keeper = self.keeper()
        other = self.member("other", "unrelated")
        self.journal.held = True
        self.publish((b"1", 1))
        keeper.lose()
        other.subscribe(SHARED, qos=1)
        self.bench.pass_time(61)
        self.assertEqual(self.heard(other), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(self.heard(other), [b"1"])
        self.journal.commit()
        self.assertEqual(self.journal.sessions, {})

    def test_storage_fails(self) -> None:
        keeper = self.keeper()
        self.publish((b"1", 1))
        keeper.lose()
        other = self.member("other")
        self.patch(self.journal, "load_queue", lambda *_: fail(Unavailable("locked")))
        self.bench.pass_time(61)
        self.assertEqual((self.heard(other), self.journal.sessions), ([], {}))
        self.patch(self.journal, "load_queue", lambda *_: fail(ZeroDivisionError()))
        keeper = self.keeper()
        other.lose()
        self.publish((b"1", 1))
        self.member("other")
        self.bench.connect("keeper", version=p.MQTT_5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.journal.sessions, {})

    def test_a_crash_before_it_was_dropped(self) -> None:
        """Two sessions of one client on disk: the older one has ended."""
        self.keeper().lose()
        self.publish((b"1", 1))
        self.member("heir", version=p.MQTT_5, properties=LASTING).lose()
        append = self.journal.append
        self.patch(self.journal, "append", lambda op: append(op) if op[0] not in (DROP, "ack") else None)
        self.patch(self.journal, "load_queue", lambda *_: fail(Unavailable("locked")))
        self.bench.connect("keeper", version=p.MQTT_5, properties=LASTING)
        self.assertEqual(len(self.journal.sessions), 3)
        del self.journal.append, self.journal.load_queue
        self.bench.restart()
        self.assertEqual((len(self.journal.sessions), self.bench.server.sessions.persistent), (2, 2))
        _, answer = self.bench.resume("heir", clean=False, version=p.MQTT_5, properties=LASTING)
        self.assertEqual([payload for _, payload, _ in publishes(answer)], [b"1"])
        _, answer = self.bench.resume("keeper", clean=False, version=p.MQTT_5, properties=LASTING)
        self.assertEqual([one.session_present for one in answer], [True])


class LostRights(Case):
    settings = {"max_inflight": 1}

    def lose(self, topic: str) -> None:
        self.bench.identities.principal("u").hidden.add(topic)
        self.bench.topics.rights_changed()
        self.bench.clock.advance(0)
        self.bench.flush()

    def served(self, client: Client) -> list[str]:
        topics = []
        while got := [one for one in client.got() if isinstance(one, p.Publish)]:
            topics += [one.topic for one in got]
            client.send(*(p.PubAck(one.packet_id) for one in got))
        return topics

    def test_what_waits_in_memory_goes(self) -> None:
        five = {"version": p.MQTT_5}
        variants: tuple[dict[str, Any], ...] = ({}, five, {"clean": False}, {**five, "properties": LASTING})
        for fields in variants:
            self.bench.identities.principal("u").hidden.clear()
            self.bench.topics.rights_changed(lost=False)
            client = self.bench.resume("c", **fields)[0]
            client.subscribe("a/#", qos=1)
            client.got()
            for number, topic in enumerate(("a/1", "a/2", "a/" + "long" * 60, "a/3", "a/2"), 1):
                self.sender.send(p.Publish(topic, b"x" * number * 50, 1, number))
            before = self.bench.stats.dropped.get("not_allowed", 0)
            self.lose("a/2")
            self.assertEqual(self.bench.stats.dropped["not_allowed"], before + 2)
            self.assertEqual(self.served(client), ["a/1", "a/" + "long" * 60, "a/3"])
            self.assertEqual(self.session(client)._queued_bytes, 0)
            self.bench.resume("c", clean=True)
            self.assertEqual((self.journal.sessions, self.journal.queues), ({}, {}))

    def test_of_a_group(self) -> None:
        one = self.member("one", qos=1)
        self.publish((b"1", 1), (b"2", 1))
        self.assertEqual(self.heard(one), [b"1"])
        self.lose("a/b")
        self.publish((b"3", 1))
        self.assertEqual(self.served(one), [])
        one.send(p.PubAck(1))
        self.assertEqual(self.served(one), [])

    def test_many_changes_are_looked_at_once(self) -> None:
        looks: list[int] = []
        self.patch(self.bench.server, "_recheck", lambda: looks.append(1))
        for _ in range(100):
            self.bench.topics.rights_changed()
        self.bench.topics.rights_changed(lost=False)
        self.bench.clock.advance(0)
        self.assertEqual(looks, [1])


class OneByOne(Case):
    def test_a_subscription_is_one_op(self) -> None:
        """However many there are: a thousand one by one are a thousand rows, and not half a million."""
        client = self.bench.resume("keeper", clean=False)[0]
        ops: list[Any] = []
        append = self.journal.append

        def noted(op: Any) -> None:
            ops.append(op)
            append(op)

        self.patch(self.journal, "append", noted)
        for number in range(1_000):
            client.send(p.Subscribe(1, [(f"a/{number}", 1)]))
        self.assertEqual(len(ops), 1_000)
        client.send(p.Subscribe(1, [("a/7", 1), ("a/8", 2)]))  # one is as it was
        client.send(p.Unsubscribe(1, ["a/9", "none"]))
        self.assertEqual(len(ops), 1_002)
        self.assertNotIn(SESSION, [op[0] for op in ops])
        self.bench.restart()
        session = self.bench.server.sessions.get(("u", "keeper"))
        assert session is not None
        self.assertEqual(len(session.subscriptions), 999)
        self.assertEqual([session.subscriptions[f"a/{n}"].qos for n in (7, 8)], [1, 2])

    def test_all_of_them_again_after_a_commit_that_failed(self) -> None:
        client = self.bench.resume("keeper", clean=False)[0]
        client.subscribe("a", "b", qos=1)
        self.journal.held = True
        client.send(p.Subscribe(1, [("c", 1)]))
        self.journal.fail(Unavailable("the disk is full"))
        self.bench.flush()
        self.assertEqual(client.closed, "unavailable")
        self.assertEqual(self.journal.subscriptions, {1: {"a": 1, "b": 1}})
        self.journal.held = False
        self.journal.subscriptions.clear()
        self.bench.pass_time(1)
        self.journal.commit()
        self.assertEqual(self.journal.subscriptions, {1: {"a": 1, "b": 1, "c": 1}})
