"""The sentences that clients of 5.0 are told, and when they are not."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import BrokerError, Disabled, Unavailable
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.answers import LOGIN_SENTENCES, PUBLISH_SENTENCES, SUBSCRIBE_SENTENCES
from broker.mqtt.encode import encode
from tests.mqtt.fakes import Bench, Client


def sentence(packet: Any) -> str | None:
    properties: p.Properties = packet.properties or {}
    found = properties.get(props.REASON_STRING)
    assert found is None or isinstance(found, str)
    return found


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(**{"reason_strings": True, **self.settings})

    def client(self, name: str = "c", **properties: int) -> Client:
        given: p.Properties = {getattr(props, key): value for key, value in properties.items()}
        return self.bench.connect(name, version=p.MQTT_5, properties=given or None)


class Told(Case):
    settings = {"max_topic_levels": 3, "max_subscriptions": 2, "max_retained_messages": 1, "max_client_id_length": 9}

    def refused(self, connect: p.Connect) -> tuple[int, str | None]:
        (answer,) = self.bench.open(version=p.MQTT_5).ask(connect)
        assert isinstance(answer, p.ConnAck)
        return answer.code, sentence(answer)

    def test_connack(self) -> None:
        def connect(password: bytes = b"secret", name: str = "c", will: p.Will | None = None) -> p.Connect:
            return p.Connect(name, p.MQTT_5, user="u", password=password, will=will)

        for code, packet in (
            (r.BAD_USER_NAME_OR_PASSWORD, connect(b"wrong")),
            (r.CLIENT_IDENTIFIER_NOT_VALID, connect(name="0123456789")),
            (r.TOPIC_NAME_INVALID, connect(will=p.Will("a/b/c/d", b""))),
            (
                r.PAYLOAD_FORMAT_INVALID,
                connect(will=p.Will("a", b"\xff", 0, False, {props.PAYLOAD_FORMAT_INDICATOR: 1})),
            ),
        ):
            self.assertEqual(self.refused(packet), (code, LOGIN_SENTENCES[code]))
        errors: tuple[tuple[int, BrokerError], ...] = (
            (r.NOT_AUTHORIZED, Disabled("not for the client's eyes")),
            (r.SERVER_UNAVAILABLE, Unavailable("nor this")),
        )
        for code, error in errors:
            self.bench.identities.answer = fail(error)
            self.assertEqual(self.refused(connect()), (code, LOGIN_SENTENCES[code]))

    def test_suback_and_puback(self) -> None:
        client = self.client()
        principal = self.bench.identities.principal("u")
        principal.refused.add("refused")
        principal.forbidden.add("forbidden")
        (answer,) = client.ask(p.Subscribe(1, [("a", 0), ("refused", 0), ("a/b/c/d", 0)]))
        self.assertEqual(sentence(answer), SUBSCRIBE_SENTENCES[r.NOT_AUTHORIZED])
        (answer,) = client.ask(p.Subscribe(1, [("a/b/c/d", 0), ("b", 0)]))
        self.assertEqual(sentence(answer), SUBSCRIBE_SENTENCES[r.TOPIC_FILTER_INVALID])
        (answer,) = client.ask(p.Subscribe(1, [("c", 0)]))
        self.assertEqual(sentence(answer), SUBSCRIBE_SENTENCES[r.QUOTA_EXCEEDED])
        (answer,) = client.ask(p.Subscribe(1, [("a", 0)]))
        self.assertIsNone(sentence(answer))
        text: p.Properties = {props.PAYLOAD_FORMAT_INDICATOR: 1}
        for code, packet in (
            (r.NOT_AUTHORIZED, p.Publish("forbidden", b"", 1, 1)),
            (r.NOT_AUTHORIZED, p.Publish("forbidden", b"", 2, 2)),
            (r.PAYLOAD_FORMAT_INVALID, p.Publish("x", b"\xc3", 1, 3, properties=text)),
            (r.PAYLOAD_FORMAT_INVALID, p.Publish("x", b"\xc3", 2, 4, properties=text)),
        ):
            (answer,) = client.ask(packet)
            assert isinstance(answer, (p.PubAck, p.PubRec))
            self.assertEqual((answer.reason, sentence(answer)), (code, PUBLISH_SENTENCES[code]))
        client.send(p.Publish("kept", b"1", 1, 1, True))
        client.got()
        (answer,) = client.ask(p.Publish("kept/2", b"1", 1, 1, True))
        self.assertEqual(sentence(answer), PUBLISH_SENTENCES[r.QUOTA_EXCEEDED])
        (answer,) = client.ask(p.Publish("nobody", b"1", 1, 1))
        self.assertEqual((getattr(answer, "reason", 0), sentence(answer)), (r.NO_MATCHING_SUBSCRIBERS, None))

    def test_disconnect(self) -> None:
        client = self.client()
        self.client()
        (answer,) = client.got()
        self.assertEqual(answer, p.Disconnect(r.SESSION_TAKEN_OVER, {props.REASON_STRING: sentence(answer) or ""}))
        self.assertIn("took over", sentence(answer) or "")

    def test_protocol_errors_speak_for_themselves(self) -> None:
        for wrong, code in ((b"\xc1\x00", r.MALFORMED_PACKET), (p.Connect("c", p.MQTT_5), r.PROTOCOL_ERROR)):
            (answer,) = self.client().ask(wrong)
            self.assertEqual(answer, p.Disconnect(code))

    def test_not_in_3_1_1(self) -> None:
        client = self.bench.open()
        self.assertEqual(client.ask(p.Connect("c", user="u")), [p.ConnAck(p.REFUSED_CREDENTIALS)])

    def test_codes_that_their_packets_may_carry(self) -> None:
        for sentences, codes in (
            (LOGIN_SENTENCES, r.IN_CONNACK),
            (PUBLISH_SENTENCES, r.IN_PUBACK),
            (SUBSCRIBE_SENTENCES, r.IN_SUBACK),
        ):
            self.assertLessEqual(set(sentences), codes)


class NotTold(Case):
    def quiet(self, **properties: int) -> None:
        self.bench.identities.principal("u").refused.add("refused")
        client = self.client("c", **properties)
        (answer,) = client.ask(p.Subscribe(1, [("refused", 0)]))
        self.assertEqual(answer, p.SubAck(1, b"\x87"))
        client.connection.close("takeover")
        self.bench.flush()
        self.assertEqual(client.got(), [p.Disconnect(r.SESSION_TAKEN_OVER)])

    def test_who_does_not_want_to_know(self) -> None:
        """[MQTT-3.1.2-29]"""
        self.quiet(REQUEST_PROBLEM_INFORMATION=0)

    def test_switched_off(self) -> None:
        self.bench = Bench(reason_strings=False)
        self.quiet(REQUEST_PROBLEM_INFORMATION=1)

    def test_no_room(self) -> None:
        """[MQTT-3.9.2-1] [MQTT-3.14.2-3]: a sentence never makes a packet too large."""
        self.quiet(MAXIMUM_PACKET_SIZE=30)

    def test_room_to_the_byte(self) -> None:
        self.bench.identities.principal("u").refused.add("refused")
        whole = p.SubAck(1, b"\x87", {props.REASON_STRING: SUBSCRIBE_SENTENCES[r.NOT_AUTHORIZED]})
        size = len(encode(whole, p.MQTT_5))
        for largest, expected in ((size, whole), (size - 1, p.SubAck(1, b"\x87"))):
            client = self.client(MAXIMUM_PACKET_SIZE=largest)
            self.assertEqual(client.ask(p.Subscribe(1, [("refused", 0)])), [expected])

    def test_not_even_the_packet(self) -> None:
        """[MQTT-3.1.2-24] counts for CONNACK, too."""
        for largest, length in ((4, 0), (5, 5)):
            client = self.bench.open(version=p.MQTT_5)
            given: p.Properties = {props.MAXIMUM_PACKET_SIZE: largest}
            client.send(p.Connect("c", p.MQTT_5, user="u", password=b"wrong", properties=given))
            self.assertEqual(len(client.transport.value()), length)
            self.assertEqual(client.closed, "auth_failed")
