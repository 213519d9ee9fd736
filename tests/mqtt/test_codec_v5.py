"""MQTT 5.0 codec: every packet there and back, whole, in pieces, cut short; the parts that a fan-out is made of."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import encode as e
from broker.mqtt import encode5 as e5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.codec import Decoder, publish_run, split_publish
from broker.mqtt.packets import ProtocolError
from tests.mqtt.samples import outcome
from tests.mqtt.samples5 import CONNECT_5, LIMIT, SAMPLES, connected, fresh, quick_outcome, unconnected

# Longer forms that mean the same; what `encode` writes is shorter.
SAME: tuple[tuple[str, p.Packet], ...] = (
    ("40 03 0001 00", p.PubAck(1)),
    ("40 04 0001 00 00", p.PubAck(1)),
    ("50 04 0001 80 00", p.PubRec(1, 0x80)),
    ("62 04 0001 92 00", p.PubRel(1, 0x92)),
    ("70 04 0001 00 00", p.PubComp(1)),
    ("e0 01 00", p.Disconnect()),
    ("e0 02 82 00", p.Disconnect(0x82)),
)


class EveryPacketTests(SynchronousTestCase):
    def test_the_samples_have_every_type(self) -> None:
        self.assertEqual({wire[0] >> 4 for _, wire, _ in SAMPLES}, set(range(1, 16)))

    def test_whole(self) -> None:
        for role, wire, packet in SAMPLES:
            with self.subTest(wire=wire[:40].hex(), role=role):
                self.assertEqual(outcome(fresh(role, packet), [wire]), ([packet], None))
                if role == "server":
                    self.assertEqual(quick_outcome(fresh(role, packet), [wire]), ([packet], None))

    def test_encoded(self) -> None:
        for _, wire, packet in SAMPLES:
            with self.subTest(wire=wire[:40].hex()):
                self.assertEqual(e.encode(packet, p.MQTT_5).hex(" "), wire.hex(" "))

    def test_longer_forms(self) -> None:
        for text, packet in SAME:
            with self.subTest(wire=text):
                self.assertEqual(outcome(connected(), [bytes.fromhex(text)]), ([packet], None))

    def test_cut_at_every_byte(self) -> None:
        for role, wire, packet in SAMPLES:
            for cut in range(len(wire)):
                with self.subTest(wire=wire[:40].hex(), role=role, cut=cut):
                    decoder = fresh(role, packet)
                    self.assertEqual(outcome(decoder, [wire[:cut]]), ([], None))
                    self.assertEqual(outcome(decoder, [wire[cut:]]), ([packet], None))
                    self.assertEqual(decoder.held, 0)

    def test_a_body_that_says_it_is_shorter_is_refused_or_another_packet(self) -> None:
        for role, wire, packet in SAMPLES:
            if not 2 < len(wire) < 128:
                continue
            for length in range(wire[1]):
                short = wire[:1] + bytes((length,)) + wire[2 : 2 + length]
                with self.subTest(wire=short.hex(), role=role):
                    packets, reason = outcome(fresh(role, packet), [short])
                    self.assertEqual(len(packets), 0 if reason else 1)
                    self.assertNotIn(packet, packets)

    def test_every_byte_flipped(self) -> None:
        for role, wire, packet in SAMPLES:
            for at in range(2, len(wire) if len(wire) < 128 else 0):
                for bit in range(8):
                    damaged = wire[:at] + bytes((wire[at] ^ 1 << bit,)) + wire[at + 1 :]
                    packets, reason = outcome(fresh(role, packet), [damaged])
                    self.assertTrue(reason in p.REASONS if reason else len(packets) == 1, (role, damaged.hex()))
                    self.assertNotEqual(packets, [packet])

    def test_many_in_one_chunk(self) -> None:
        packets = [s for s in SAMPLES if s[0] == "server" and not isinstance(s[2], p.Connect)]
        wire = CONNECT_5 + b"".join(s[1] for s in packets)
        whole = outcome(unconnected(), [wire])
        self.assertEqual(whole, ([p.Connect("p", 5, True, 10), *(s[2] for s in packets)], None))
        for size in (1, 2, 3, 7, 100):
            pieces = [wire[n : n + size] for n in range(0, len(wire), size)]
            self.assertEqual(outcome(unconnected(), pieces), whole)

    def test_a_server_that_does_not_speak_it(self) -> None:
        decoder = Decoder(LIMIT)
        self.assertEqual(outcome(decoder, [CONNECT_5]), ([], "protocol_level"))

    def test_one_that_speaks_it_speaks_the_others(self) -> None:
        decoder = unconnected()
        connect = p.Connect("c", 4)
        self.assertEqual(outcome(decoder, [e.encode(connect)]), ([connect], None))
        self.assertEqual(decoder.version, 4)
        self.assertEqual(outcome(decoder, [b"\xf0\x00"]), ([], "packet_type"))


class PartsTests(SynchronousTestCase):
    def test_a_fan_out_made_of_parts(self) -> None:
        received: p.Properties = {
            props.TOPIC_ALIAS: 3,
            props.USER_PROPERTY: [("k", "v"), ("k", "w")],
            props.CONTENT_TYPE: "c",
        }
        shared = props.shared_bytes(received)
        kept = props.forwarded(received)
        self.assertEqual(kept, {props.USER_PROPERTY: [("k", "v"), ("k", "w")], props.CONTENT_TYPE: "c"})
        for alias, identifiers in ((0, ()), (7, ()), (0, (1, 300)), (65535, (268435455,))):
            tail = props.publish_property_bytes(alias, identifiers, shared) + b"payload"
            for topic in (b"a/b", b"") if alias else (b"a/b",):
                packet = e5.publish_head(topic, len(tail), 1) + e.packet_id_bytes(9) + tail
                expected = dict(kept or {})
                if alias:
                    expected[props.TOPIC_ALIAS] = alias
                if identifiers:
                    expected[props.SUBSCRIPTION_IDENTIFIER] = list(identifiers)
                publish = p.Publish(topic.decode(), b"payload", 1, 9, properties=expected)
                self.assertEqual(outcome(fresh("client"), [packet]), ([publish], None))

    def test_received_properties(self) -> None:
        for text, properties, shared in (
            ("00", None, ""),
            ("03 23 0005", {props.TOPIC_ALIAS: 5}, ""),
            ("02 01 01", {props.PAYLOAD_FORMAT_INDICATOR: 1}, "01 01"),
            ("05 01 01 23 0005", {props.PAYLOAD_FORMAT_INDICATOR: 1, props.TOPIC_ALIAS: 5}, "01 01"),
            ("83 01 09 0080" + "78" * 128, {props.CORRELATION_DATA: b"x" * 128}, "09 0080" + "78" * 128),
        ):
            raw = bytes.fromhex(text)
            found = props.received_properties(b"??" + raw + b"payload", 2, 2 + len(raw) + 7)
            self.assertEqual(found, (properties, bytes.fromhex(shared), 2 + len(raw)))

    def test_nothing_in_the_block(self) -> None:
        self.assertEqual(props.shared_bytes(None), b"")
        self.assertEqual(props.shared_bytes({props.TOPIC_ALIAS: 1}), b"")
        self.assertEqual(props.publish_property_bytes(0, (), b""), b"\x00")
        self.assertEqual(props.encode_properties(None, p.PUBLISH), b"\x00")
        self.assertEqual(props.encode_properties({}, p.PUBLISH), b"\x00")
        self.assertEqual(e5.publish(b"t", b"x").hex(), "30050001740078")

    def test_skip_properties(self) -> None:
        data = b"??" + b"\x00" + b"rest"
        self.assertEqual(props.skip_properties(data, 2, len(data)), 3)
        data = b"\x05\x02\x00\x00\x00\x01rest"
        self.assertEqual(props.skip_properties(data, 0, len(data)), 6)
        data = b"\x80\x01" + b"x" * 128
        self.assertEqual(props.skip_properties(data, 0, len(data)), 130)
        for bad, reason in (
            (b"", "truncated"),
            (b"\x01", "truncated"),
            (b"\x80", "truncated"),
            (b"\x80\x00", "variable_integer"),
            (b"\x80\x80\x80\x80\x01", "variable_integer"),
        ):
            # It stays inside its packet, whatever follows in the chunk.
            error = self.assertRaises(ProtocolError, props.skip_properties, bad + b"\x00" * 4, 0, len(bad))
            self.assertEqual(error.reason, reason)

    def test_a_run_of_packets_without_properties(self) -> None:
        one = e5.publish(b"a/b", b"1234")
        data = one + e5.publish(b"a/b", b"4321") + e5.publish(b"a/b", b"abcd")
        rest = split_publish(data, data[0], 2, len(one))[2]
        self.assertEqual(data[rest], 0)
        other = e5.publish(b"a/b", b"xy", block=b"\x02\x01\x01")
        self.assertEqual(len(other), len(one))
        self.assertEqual(publish_run(data + other, 0, rest + 1, len(one)), len(data))

    def test_the_shortcuts(self) -> None:
        reason: p.Properties = {props.REASON_STRING: "n"}
        for wire, packet in (
            (e5.puback(1, 0x10), p.PubAck(1, 0x10)),
            (e5.pubrec(1, 0x97, reason), p.PubRec(1, 0x97, reason)),
            (e5.pubrel(1, 0x92), p.PubRel(1, 0x92)),
            (e5.pubcomp(1), p.PubComp(1)),
            (e5.suback(1, b"\x02", reason), p.SubAck(1, b"\x02", reason)),
            (e5.unsuback(1, b"\x11"), p.UnsubAck(1, b"\x11")),
            (e5.connack(0x8C, False, reason), p.ConnAck(0x8C, False, reason)),
            (e5.disconnect(0x8B), p.Disconnect(0x8B)),
        ):
            self.assertEqual(outcome(fresh("client"), [wire]), ([packet], None))

    def test_typed_access(self) -> None:
        given: p.Properties = {
            props.RECEIVE_MAXIMUM: 20,
            props.AUTHENTICATION_METHOD: "m",
            props.CORRELATION_DATA: b"d",
            props.USER_PROPERTY: [("a", "b")],
        }
        self.assertEqual(props.number(given, props.RECEIVE_MAXIMUM, 65535), 20)
        self.assertEqual(props.number(given, props.TOPIC_ALIAS, 0), 0)
        self.assertEqual(props.number(None, props.RECEIVE_MAXIMUM, 65535), 65535)
        self.assertEqual(props.text(given, props.AUTHENTICATION_METHOD), "m")
        self.assertIsNone(props.text(None, props.AUTHENTICATION_METHOD))
        self.assertEqual(props.binary(given, props.CORRELATION_DATA), b"d")
        self.assertIsNone(props.binary({}, props.CORRELATION_DATA))
        self.assertEqual(props.user_properties(given), [("a", "b")])
        self.assertEqual(props.user_properties(None), [])

    def test_the_codec_refuses_our_own_mistakes(self) -> None:
        for bad in (
            p.Publish("", b""),
            p.Publish("t", b"", 3, 1),
            p.Publish("t", b"", 1, 0),
            p.Publish("t", b"", 0, 1),
            p.Publish("t", b"", properties={props.TOPIC_ALIAS: 0}),
            p.Publish("t", b"", properties={props.RESPONSE_TOPIC: "a/#"}),
            p.Publish("t", b"", properties={props.RECEIVE_MAXIMUM: 1}),
            p.Publish("t", b"", properties={props.USER_PROPERTY: ("a", "b")}),
            p.Publish("t", b"", properties={props.CONTENT_TYPE: ["a"]}),
            p.Publish("t", b"", properties={props.CONTENT_TYPE: b"a"}),
            p.Publish("t", b"", properties={props.TOPIC_ALIAS: 65536}),
            p.Publish("t", b"", properties={0x7F: 1}),
            p.PubAck(0),
            p.PubAck(1, 0x92),
            p.PubRel(1, 0x80),
            p.Subscribe(1, []),
            p.Unsubscribe(1, []),
            p.SubAck(1, b""),
            p.SubAck(1, b"\x03"),
            p.UnsubAck(1, b""),
            p.UnsubAck(1, b"\x01"),
            p.ConnAck(1),
            p.ConnAck(0x87, True),
            p.Disconnect(1),
            p.Auth(0x18),
            p.Auth(1),
            p.Connect("c", 5, will=p.Will("t", b"", 3)),
            p.Connect("c", 5, properties={props.AUTHENTICATION_DATA: b""}),
        ):
            with self.subTest(bad=bad):
                self.assertRaises(ValueError, e.encode, bad, p.MQTT_5)
        self.assertRaises(ValueError, props.property_bytes, 0x7F, 1)
        self.assertRaises(ValueError, e5.disconnect, 4)
