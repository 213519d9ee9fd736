"""What MQTT 5.0 adds, as a client of the server sees it. Statements are those of 5.0."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unauthenticated, Unavailable
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from tests.mqtt.fakes import Bench, Client, publishes

WIDE = {"max_message_size": 268_435_460}


class Case(SynchronousTestCase):
    limits: dict[str, Any] = WIDE
    settings: dict[str, Any] = {"receive_maximum": 20, "topic_alias_maximum": 10, "server_keep_alive": 60}

    def setUp(self) -> None:
        self.bench = Bench(self.limits, **self.settings)
        self.principal = self.bench.identities.principal("u")

    def client(self, name: str = "c", user: str = "u", **fields: Any) -> Client:
        client, answer = self.bench.resume(name, user, version=p.MQTT_5, **{"keep_alive": 60, **fields})
        self.assertEqual(answer[0].code, 0)
        return client

    def ask(self, *packets: p.Packet | bytes, **fields: Any) -> tuple[list[p.Packet], str | None]:
        client = self.client("asking", **fields)
        return client.ask(*packets), client.closed


class Connecting(Case):
    def connack(self, **fields: Any) -> bytes:
        client = self.bench.open(version=p.MQTT_5)
        client.send(p.Connect("c", p.MQTT_5, user="u", password=b"secret", **fields))
        return bytes(client.transport.value())

    def test_says_what_has_to_be_known_and_no_more(self) -> None:
        self.assertEqual(self.connack(keep_alive=60).hex(), "20090000062200" + "0a210014")
        self.assertEqual(self.connack(keep_alive=61).hex(), "200c00000922000a13003c210014")
        self.assertEqual(self.connack(keep_alive=0).hex(), "200c00000922000a13003c210014")

    def test_a_malformed_connect_may_get_no_answer(self) -> None:
        """[MQTT-3.1.4-1]: CONNACK is a MAY."""
        head = "00044d5154540502000a00"
        for body, code in (("0002ff70", 0x85), ("0001700001", 0x81), ("0001", 0x81)):
            wire = bytes.fromhex(f"10{(len(head) + len(body)) // 2:02x}{head}{body}")
            for sparing in (False, True):
                bench = Bench(malformed_connect_unanswered=sparing)
                client = bench.open(version=p.MQTT_5)
                client.send(wire)
                self.assertEqual(client.closed, "malformed")
                unanswered = sparing and body != "0001"
                self.assertEqual(bytes(client.transport.value()).hex(), "" if unanswered else f"200300{code:02x}00")

    def test_our_limits(self) -> None:
        bench = Bench({"max_message_size": 1000}, max_session_expiry=100)
        _, (answer,) = bench.resume(version=p.MQTT_5, properties={props.SESSION_EXPIRY_INTERVAL: 101})
        expected = {
            props.SESSION_EXPIRY_INTERVAL: 100,
            props.TOPIC_ALIAS_MAXIMUM: 16,
            props.RECEIVE_MAXIMUM: 256,
            props.MAXIMUM_PACKET_SIZE: 1000,
        }
        self.assertEqual(answer.properties, expected)

    def test_a_client_id_is_given(self) -> None:
        client, (answer,) = self.bench.resume("", version=p.MQTT_5, keep_alive=5)
        given = answer.properties[props.ASSIGNED_CLIENT_IDENTIFIER]
        self.assertEqual(client.connection.identity, f"u ({given})")

    def test_refusals(self) -> None:
        method: p.Properties = {props.AUTHENTICATION_METHOD: "SCRAM"}
        self.assertEqual(self.connack(properties=method).hex(), "2003008c00")
        for error, code in ((Unauthenticated("no"), "86"), (Unavailable("no"), "88")):
            self.bench.identities.answer = fail(error)
            self.assertEqual(self.connack().hex(), f"200300{code}00")

    def test_a_client_that_takes_not_even_this(self) -> None:
        client, answer = self.bench.resume(version=p.MQTT_5, properties={props.MAXIMUM_PACKET_SIZE: 10}, keep_alive=5)
        self.assertEqual((answer, client.closed), ([], "too_long"))

    def test_the_keep_alive_that_was_told_counts(self) -> None:
        client = self.client(keep_alive=0)
        self.bench.pass_time(89)
        self.assertIsNone(client.closed)
        self.bench.pass_time(3)
        self.assertEqual(client.got(), [p.Disconnect(r.KEEP_ALIVE_TIMEOUT)])

    def test_goodbyes(self) -> None:
        older = self.client()
        newer = self.client()
        self.assertEqual(older.got(), [p.Disconnect(r.SESSION_TAKEN_OVER)])
        self.principal.closers[-1]("removed")
        self.bench.flush()
        self.assertEqual(newer.got(), [p.Disconnect(r.ADMINISTRATIVE_ACTION)])
        last = self.client()
        self.bench.server.shut_down()
        self.bench.flush()
        self.assertEqual(last.got(), [p.Disconnect(r.SERVER_SHUTTING_DOWN)])


class Violations(Case):
    def test_answered_with_a_code(self) -> None:
        alias: p.Properties = {props.TOPIC_ALIAS: 11}
        unknown: p.Properties = {props.TOPIC_ALIAS: 3}
        later: p.Properties = {props.SESSION_EXPIRY_INTERVAL: 5}
        auth: p.Properties = {props.AUTHENTICATION_METHOD: "x"}
        for sent, code in (
            (p.Publish("a", b"", properties=alias), r.TOPIC_ALIAS_INVALID),
            (p.Publish("", b"", properties=unknown), r.PROTOCOL_ERROR),
            (p.Disconnect(0, later), r.PROTOCOL_ERROR),
            (p.Auth(r.RE_AUTHENTICATE, auth), r.PROTOCOL_ERROR),
            (b"\x36\x06\0\1a\0\1\0", r.MALFORMED_PACKET),
        ):
            with self.subTest(sent=sent):
                answer, closed = self.ask(sent, p.PingReq())
                self.assertEqual(answer, [p.Disconnect(code)])
                self.assertIn(closed, ("protocol_error", "malformed"))

    def test_acknowledgements_that_do_not_fit(self) -> None:
        for qos, wrong in ((1, p.PubRec(1)), (2, p.PubAck(1)), (2, p.PubComp(1))):
            client = self.client("wrong")
            client.subscribe("a", qos=qos)
            client.ask(p.Publish("a", b"", qos, 1))
            self.assertEqual(client.ask(wrong, p.PingReq()), [p.Disconnect(r.PROTOCOL_ERROR)])
            client.lose()

    def test_unsolicited_ones(self) -> None:
        sent = (p.PubRec(9), p.PubRel(8), p.PubAck(7), p.PubComp(6))
        self.assertEqual(self.ask(*sent), ([p.PubRel(9), p.PubComp(8)], None))

    def test_more_than_the_receive_maximum(self) -> None:
        answer, closed = self.ask(*(p.Publish("a", b"", 2, one) for one in range(1, 22)))
        self.assertEqual(answer[-1], p.Disconnect(r.RECEIVE_MAXIMUM_EXCEEDED))
        self.assertEqual((len(answer), closed), (21, "flood"))


class Publishing(Case):
    def test_answers(self) -> None:
        self.principal.forbidden.add("no")
        client = self.client()
        sent = [p.Publish("a", b"", 1, 16), p.Publish("a", b"", 2, 17), p.Publish("no", b"", 1, 18)]
        client.send(*sent, p.Publish("no", b"", 2, 19))
        self.assertEqual(client.transport.value().hex(), "4003001010" + "50020011" + "4003001287" + "5003001387")
        client.transport.clear()
        client.subscribe("a")
        self.assertEqual(client.ask(p.Publish("a", b"", 1, 1))[1:], [p.PubAck(1)])
        self.assertEqual(client.connection._session.incoming, {17})  # type: ignore[union-attr]

    def test_properties_are_passed_on(self) -> None:
        new, old = self.client("new"), self.bench.connect("old")
        for client in (new, old):
            client.subscribe("a")
        told: p.Properties = {
            props.PAYLOAD_FORMAT_INDICATOR: 1,
            props.MESSAGE_EXPIRY_INTERVAL: 60,
            props.CONTENT_TYPE: "text/plain",
            props.RESPONSE_TOPIC: "answers",
            props.CORRELATION_DATA: b"7",
            props.USER_PROPERTY: [("b", "1"), ("a", "2")],
        }
        self.client("sender").send(p.Publish("a", b"x", properties={**told, props.TOPIC_ALIAS: 1}))
        self.assertEqual(new.got(), [p.Publish("a", b"x", properties=told)])
        self.assertEqual(old.got(), [p.Publish("a", b"x")])

    def test_aliases_of_the_client(self) -> None:
        client = self.client()
        client.subscribe("#")
        set_it: p.Properties = {props.TOPIC_ALIAS: 10}
        heard = client.ask(
            p.Publish("a", b"1", properties=set_it),
            p.Publish("", b"2", properties=set_it),
            p.Publish("b", b"3", properties=set_it),
            p.Publish("", b"4", properties=set_it),
        )
        self.assertEqual([topic for topic, _, _ in publishes(heard)], ["a", "a", "b", "b"])

    def test_aliases_of_our_own(self) -> None:
        client = self.client(properties={props.TOPIC_ALIAS_MAXIMUM: 1})
        client.subscribe("#")
        heard = client.ask(p.Publish("topic/a", b""), p.Publish("topic/b", b""), p.Publish("topic/a", b""))
        self.assertEqual(
            heard,
            [
                p.Publish("topic/a", b"", properties={props.TOPIC_ALIAS: 1}),
                p.Publish("topic/b", b""),
                p.Publish("", b"", properties={props.TOPIC_ALIAS: 1}),
            ],
        )

    def test_what_is_too_large_for_a_client(self) -> None:
        client = self.client(properties={props.MAXIMUM_PACKET_SIZE: 50})
        client.subscribe("a", qos=1)
        sender = self.client("sender")
        sender.send(p.Publish("a", bytes(100)), p.Publish("a", bytes(100), 1, 1), p.Publish("a", b"fits", 1, 2))
        self.assertEqual(publishes(client.got()), [("a", b"fits", 1)])
        self.assertEqual(self.bench.stats.dropped, {"too_large": 2})

    def test_the_clients_receive_maximum(self) -> None:
        client = self.client(properties={props.RECEIVE_MAXIMUM: 2})
        client.subscribe("a", qos=2)
        sender = self.client("sender")
        sender.send(*(p.Publish("a", b"%d" % one, 2, one) for one in range(1, 5)))
        self.assertEqual([one.payload for one in client.got() if isinstance(one, p.Publish)], [b"1", b"2"])
        self.assertEqual(client.ask(p.PubRec(1)), [p.PubRel(1)])
        self.assertEqual(publishes(client.ask(p.PubComp(1))), [("a", b"3", 2)])
        # A refusal ends it too, and nothing is said to it.
        self.assertEqual(publishes(client.ask(p.PubRec(2, r.UNSPECIFIED_ERROR))), [("a", b"4", 2)])

    def test_what_waits_grows_old(self) -> None:
        client = self.client(properties={props.RECEIVE_MAXIMUM: 1}, keep_alive=60)
        client.subscribe("a", qos=1)
        for number, seconds in enumerate((100, 5, 100), 1):
            old: p.Properties = {props.MESSAGE_EXPIRY_INTERVAL: seconds, props.USER_PROPERTY: [("k", "v")]}
            self.client("sender").send(p.Publish("a", b"%d" % number, 1, number, properties=old))
        client.got()
        self.bench.clock.advance(10)
        (second,) = client.ask(p.PubAck(1))
        assert isinstance(second, p.Publish)
        self.assertEqual(
            (second.payload, props.number(second.properties, props.MESSAGE_EXPIRY_INTERVAL, 0)), (b"3", 90)
        )
        self.assertEqual(self.bench.stats.dropped, {"expired": 1})


class Subscribing(Case):
    def test_codes(self) -> None:
        self.principal.refused.add("no")
        client = self.client()
        wanted = [("a", 2), ("no", 0), ("x" * 5000, 0), ("$share/g/a", 1)]
        self.assertEqual(client.ask(p.Subscribe(1, wanted)), [p.SubAck(1, b"\x02\x87\x8f\x01")])
        self.assertEqual(client.ask(p.Unsubscribe(2, ["a", "never", "$share/g/a"])), [p.UnsubAck(2, b"\x00\x11\x00")])
        self.assertEqual(self.bench.topics.subscriptions, 0)

    def test_no_local(self) -> None:
        client, other = self.client(), self.client("other")
        for one in (client, other):
            one.ask(p.Subscribe(1, [("a", 0x04)]))
        client.send(p.Publish("a", b"mine"))
        self.assertEqual((publishes(client.got()), publishes(other.got())), ([], [("a", b"mine", 0)]))
        client.ask(p.Subscribe(1, [("+", 1)]))
        self.assertEqual(publishes(client.ask(p.Publish("a", b"mine"))), [("a", b"mine", 0)])

    def test_one_copy_with_all_identifiers(self) -> None:
        client = self.client()
        for number, (topic_filter, qos) in enumerate((("a/b", 0), ("a/+", 2), ("#", 1)), 1):
            client.ask(p.Subscribe(1, [(topic_filter, qos)], {props.SUBSCRIPTION_IDENTIFIER: number}))
        (answer, heard) = client.ask(p.Publish("a/b", b"", 2, 1))
        self.assertEqual(answer, p.PubRec(1))  # its answer first, then its own copy
        assert isinstance(heard, p.Publish) and heard.properties
        self.assertEqual(heard.qos, 2)
        identifiers: Any = heard.properties[props.SUBSCRIPTION_IDENTIFIER]
        self.assertEqual(sorted(identifiers), [1, 2, 3])

    def test_an_identifier_in_a_publish_of_the_client(self) -> None:
        """[MQTT-3.3.4-6]: a protocol error, or nothing that a receiver hears of."""
        sent = p.Publish("a", b"", 1, 1, properties={props.USER_PROPERTY: [("k", "v")]})
        wire = encode.encode(sent, p.MQTT_5)
        at = wire.index(b"\x26")
        wire = (
            wire[:1] + bytes((wire[1] + 2,)) + wire[2 : at - 1] + bytes((wire[at - 1] + 2,)) + b"\x0b\x07" + wire[at:]
        )
        self.assertEqual(self.ask(wire), ([p.Disconnect(r.PROTOCOL_ERROR)], "malformed"))
        self.bench = Bench(refuse_published_identifiers=False)
        client = self.client()
        client.ask(p.Subscribe(1, [("a", 0)]))
        answers = client.ask(wire)
        self.assertEqual({type(one) for one in answers}, {p.PubAck, p.Publish})
        heard = next(one for one in answers if isinstance(one, p.Publish))
        self.assertEqual(heard.properties, {props.USER_PROPERTY: [("k", "v")]})

    def test_retain_as_published_and_handling(self) -> None:
        client = self.client()
        client.send(p.Publish("a", b"kept", 1, 1, retain=True))
        client.got()

        def kept(options: int) -> list[tuple[bytes, bool]]:
            answer = client.ask(p.Subscribe(1, [("a", options)]))
            return [(one.payload, one.retain) for one in answer if isinstance(one, p.Publish)]

        self.assertEqual(kept(0x20), [])
        self.assertEqual(kept(0x10), [])
        self.assertEqual(kept(0x00), [(b"kept", True)])
        client.ask(p.Unsubscribe(1, ["a"]))
        self.assertEqual(kept(0x10), [(b"kept", True)])
        self.assertEqual(kept(0x18), [])
        heard = client.ask(p.Publish("a", b"live", retain=True))
        self.assertEqual([one.retain for one in heard if isinstance(one, p.Publish)], [True])
        kept(0x20)
        heard = client.ask(p.Publish("a", b"", retain=True))
        self.assertEqual([one.retain for one in heard if isinstance(one, p.Publish)], [False])
        self.assertEqual(kept(0x00), [])

    def test_shared(self) -> None:
        members = [self.client(str(number)) for number in range(2)]
        for member in members:
            member.ask(p.Subscribe(1, [("$share/g/a/#", 1)]))
        sender = self.client("sender")
        sender.send(*(p.Publish("a/b", b"", 1, one) for one in range(1, 11)))
        self.assertEqual([len(publishes(member.got())) for member in members], [5, 5])
        members[0].send(*(p.PubAck(one) for one in range(1, 6)))
        members[0].lose()
        sender.send(*(p.Publish("a/b", b"", 1, one) for one in range(1, 5)))
        self.assertEqual(len(publishes(members[1].got())), 4)

    def test_sys_figures(self) -> None:
        client = self.client()
        answer = client.ask(p.Subscribe(1, [("$SYS/broker/uptime", 0)]))
        self.assertEqual(publishes(answer)[0][1], b"0 seconds")
        self.bench.pass_time(15)
        self.assertEqual(publishes(client.got())[-1][0], "$SYS/broker/uptime")


class Wills(Case):
    def setUp(self) -> None:
        super().setUp()
        self.watcher = self.client("watcher", keep_alive=0)
        self.watcher.subscribe("will", qos=2)

    def leaver(self, delay: int, expiry: int, **fields: Any) -> Client:
        will_properties: p.Properties = {props.WILL_DELAY_INTERVAL: delay, props.CONTENT_TYPE: "t"}
        return self.client(
            "leaver",
            will=p.Will("will", b"gone", 2, False, will_properties),
            properties={props.SESSION_EXPIRY_INTERVAL: expiry},
            **fields,
        )

    def heard(self) -> list[bytes]:
        self.bench.flush()
        return [payload for _, payload, _ in publishes(self.watcher.got())]

    def test_after_its_delay(self) -> None:
        self.leaver(5, 100).lose()
        self.assertEqual(self.heard(), [])
        self.bench.pass_time(4)
        self.assertEqual(self.heard(), [])
        self.bench.pass_time(2)
        self.assertEqual(self.heard(), [b"gone"])

    def test_not_later_than_the_session(self) -> None:
        self.leaver(50, 3).lose()
        self.bench.pass_time(4)
        self.assertEqual(self.heard(), [b"gone"])
        self.leaver(50, 0).lose()
        self.assertEqual(self.heard(), [b"gone"])

    def test_not_if_the_client_is_back(self) -> None:
        self.leaver(5, 100).lose()
        self.leaver(5, 100, clean=False)
        self.bench.pass_time(10)
        self.assertEqual(self.heard(), [])

    def test_at_once_for_a_clean_start(self) -> None:
        self.leaver(5, 100).lose()
        self.leaver(5, 100)
        self.assertEqual(self.heard(), [b"gone"])

    def test_goodbye_with_and_without(self) -> None:
        for reason, expected in ((r.SUCCESS, []), (r.DISCONNECT_WITH_WILL, [b"gone"])):
            leaver = self.leaver(0, 0)
            leaver.send(p.Disconnect(reason))
            leaver.lose()
            self.assertEqual(self.heard(), expected)


class AsItCame(Case):
    """The short way from 5.0 to 5.0."""

    def test_runs_of_like_packets(self) -> None:
        receivers = [self.client(str(qos)) for qos in (0, 1, 2)]
        for qos, client in enumerate(receivers):
            client.subscribe("t", qos=qos)
        sender = self.client("sender")
        sender.ask(p.Publish("t", b"first"))
        for client in receivers:
            client.got()
        wire = b"".join(encode.encode(p.Publish("t", b"%03d" % one), p.MQTT_5) for one in range(50))
        sender.send(wire[:100])
        sender.send(wire[100:])
        for client in receivers:
            self.assertEqual(publishes(client.got()), [("t", b"%03d" % one, 0) for one in range(50)])
        answers = sender.ask(*(p.Publish("t", b"%d" % one, 1, one) for one in range(1, 6)), p.Publish("t", b"6", 2, 6))
        self.assertEqual(answers, [*(p.PubAck(one) for one in range(1, 6)), p.PubRec(6)])
        for qos, client in enumerate(receivers):
            expected = [("t", b"%d" % one, min(qos, 1)) for one in range(1, 6)]
            self.assertEqual(publishes(client.got()), [*expected, ("t", b"6", qos)])

    def test_back_to_the_long_way_when_somebody_else_subscribes(self) -> None:
        new, sender = self.client("new"), self.client("sender")
        new.subscribe("t", qos=1)
        for number in range(1, 3):
            sender.send(p.Publish("t", b"a"), p.Publish("t", b"b", 1, number))
        old = self.bench.connect("old")
        old.subscribe("t", qos=1)
        small = self.client("small", properties={props.MAXIMUM_PACKET_SIZE: 20})
        small.ask(p.Subscribe(1, [("t", 1)], {props.SUBSCRIPTION_IDENTIFIER: 3}))
        new.got()
        sender.send(p.Publish("t", b"c"), p.Publish("t", b"d", 1, 9))
        for client in (new, old, small):
            self.assertEqual(publishes(client.got()), [("t", b"c", 0), ("t", b"d", 1)])

    def test_with_an_expiry_it_can_grow_old(self) -> None:
        new, sender = self.client("new", properties={props.RECEIVE_MAXIMUM: 1}), self.client("sender")
        new.subscribe("t", qos=1)
        soon: p.Properties = {props.MESSAGE_EXPIRY_INTERVAL: 5}
        sender.send(p.Publish("t", b"1", 1, 1), p.Publish("t", b"2", 1, 2, properties=soon))
        new.got()
        self.bench.clock.advance(6)
        self.assertEqual(new.ask(p.PubAck(1)), [])


class OldAndNew(Case):
    def test_every_qos_both_ways(self) -> None:
        old, new = self.bench.connect("old"), self.client("new")
        for client in (old, new):
            client.subscribe("#", qos=2)
        for sender in (old, new):
            for qos in (0, 1, 2):
                sender.send(p.Publish("t", b"%d" % qos, qos, 10 + qos if qos else 0), p.Publish("t", b"again"))
            for client in (old, new):
                expected = [("t", one, qos) for q in (0, 1, 2) for one, qos in ((b"%d" % q, q), (b"again", 0))]
                self.assertEqual(publishes(client.got()), expected)
            sender.send(p.PubRel(12))
        self.assertEqual(encode.encode(p.PingReq(), p.MQTT_5), b"\xc0\0")
