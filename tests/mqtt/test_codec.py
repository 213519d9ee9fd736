"""MQTT codec: every packet there and back, whole, in pieces, cut short; what the decoder keeps."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import encode as e
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, SMALLEST_LIMIT, Decoder, frame, publish_run, split_publish
from broker.mqtt.packets import ProtocolError
from tests.mqtt.samples import CONNECT_3_1_1, LIMIT, SAMPLES, fresh, outcome


class EveryPacketTests(SynchronousTestCase):
    def test_the_samples_have_every_type(self) -> None:
        kinds = {type(packet) for _, _, _, packet in SAMPLES}
        self.assertEqual(len(kinds), 14)
        self.assertEqual({wire[0] >> 4 for _, _, wire, _ in SAMPLES}, set(range(1, 15)))

    def test_whole(self) -> None:
        for role, version, wire, packet in SAMPLES:
            with self.subTest(wire=wire[:40].hex(), role=role):
                self.assertEqual(outcome(fresh(role, version, packet), [wire]), ([packet], None))

    def test_encoded(self) -> None:
        for _, version, wire, packet in SAMPLES:
            with self.subTest(wire=wire[:40].hex()):
                self.assertEqual(e.encode(packet, version), wire)

    def test_byte_by_byte(self) -> None:
        for role, version, wire, packet in SAMPLES:
            with self.subTest(wire=wire[:40].hex(), role=role):
                chunks = [wire[n : n + 1] for n in range(len(wire))]
                self.assertEqual(outcome(fresh(role, version, packet), chunks), ([packet], None))

    def test_cut_at_every_byte(self) -> None:
        for role, version, wire, packet in SAMPLES:
            if len(wire) > 1000:
                continue
            for cut in range(len(wire)):
                with self.subTest(wire=wire[:40].hex(), role=role, cut=cut):
                    decoder = fresh(role, version, packet)
                    self.assertEqual(outcome(decoder, [wire[:cut]]), ([], None))
                    self.assertEqual(decoder.held, cut)
                    self.assertEqual(outcome(decoder, [wire[cut:]]), ([packet], None))
                    self.assertEqual(decoder.held, 0)

    def test_a_body_that_says_it_is_shorter_is_refused_or_another_packet(self) -> None:
        for role, version, wire, packet in SAMPLES:
            if not 2 < len(wire) < 128:
                continue
            for length in range(wire[1]):
                short = wire[:1] + bytes((length,)) + wire[2 : 2 + length]
                with self.subTest(wire=short.hex(), role=role):
                    packets, reason = outcome(fresh(role, version, packet), [short])
                    self.assertEqual(len(packets), 0 if reason else 1)
                    self.assertNotIn(packet, packets)

    def test_a_byte_more_in_the_body(self) -> None:
        for role, version, wire, packet in SAMPLES:
            if isinstance(packet, p.Publish | p.SubAck):
                continue  # their last field has no length of its own
            with self.subTest(wire=wire.hex(), role=role):
                longer = wire[:1] + bytes((wire[1] + 1,)) + wire[2:] + b"\x00"
                packets, reason = outcome(fresh(role, version, packet), [longer])
                self.assertEqual(packets, [])
                self.assertIn(reason, ("trailing_bytes", "truncated"))

    def test_many_in_one_chunk(self) -> None:
        packets = [s for s in SAMPLES if s[0] == "server" and s[1] == 4 and not isinstance(s[3], p.Connect)]
        wire = CONNECT_3_1_1 + b"".join(s[2] for s in packets)
        whole = outcome(Decoder(LIMIT), [wire])
        self.assertEqual(whole, ([p.Connect("p", 4, True, 10), *(s[3] for s in packets)], None))
        for size in (1, 2, 3, 7, 100, 1000):
            pieces = [wire[n : n + size] for n in range(0, len(wire), size)]
            self.assertEqual(outcome(Decoder(LIMIT), pieces), whole)

    def test_packets_before_an_error_come_out(self) -> None:
        wire = CONNECT_3_1_1 + b"\xc0\x00" + b"\xc1\x00" + b"\xc0\x00"
        expected = [p.Connect("p", 4, True, 10), p.PingReq()], "reserved_flags"
        self.assertEqual(outcome(Decoder(LIMIT), [wire]), expected)
        self.assertEqual(outcome(Decoder(LIMIT), [wire[n : n + 1] for n in range(len(wire))]), expected)

    def test_the_version_is_that_of_the_connect(self) -> None:
        decoder = Decoder(LIMIT)
        self.assertEqual(decoder.version, 0)
        list(decoder.feed(CONNECT_3_1_1))
        self.assertEqual(decoder.version, 4)

    def test_secrets_stay_out_of_the_repr(self) -> None:
        connect = p.Connect("c", user="u", password=b"hunter2", will=p.Will("t", b"hunter2"))
        self.assertNotIn("hunter2", repr(connect))

    def test_packets_are_slotted(self) -> None:
        for _, _, _, packet in SAMPLES:
            self.assertFalse(hasattr(packet, "__dict__"))
            self.assertTrue(dataclasses.is_dataclass(packet))


class KeptBytesTests(SynchronousTestCase):
    def test_a_packet_over_the_limit_is_refused_by_its_length(self) -> None:
        decoder = Decoder(200)
        list(decoder.feed(CONNECT_3_1_1))
        fits = e.publish(b"t", b"x" * (200 - 6))
        self.assertEqual(len(fits), 200)
        self.assertEqual(outcome(decoder, [fits]), ([p.Publish("t", b"x" * 194)], None))
        over = e.publish(b"t", b"x" * 195)
        self.assertEqual(outcome(decoder, [over[:1], over[1:2], over[2:3]]), ([], "packet_too_large"))
        self.assertEqual(decoder.held, 0)

    def test_the_largest_length_needs_no_memory(self) -> None:
        decoder = fresh("server", 4)
        self.assertEqual(outcome(decoder, [b"\x30\xff\xff\xff\x7f"]), ([], "packet_too_large"))
        self.assertEqual(decoder.held, 0)

    def test_tiny_chunks_of_a_large_packet_are_kept_once(self) -> None:
        decoder = fresh("server", 4)
        wire = e.publish(b"t", b"x" * 50_000)
        for n in range(0, len(wire) - 10, 10):
            self.assertEqual(list(decoder.feed(wire[n : n + 10])), [])
            self.assertEqual(decoder.held, n + 10)
        rest = wire[decoder.held :]
        self.assertEqual(list(decoder.feed(rest + b"\xc0\x00\x30")), [p.Publish("t", b"x" * 50_000), p.PingReq()])
        self.assertEqual(decoder.held, 1)

    def test_the_beginning_is_judged_before_the_rest_comes(self) -> None:
        for start, reason in (
            (b"\x00", "packet_type"),
            (b"\xf0", "packet_type"),
            (b"\x20", "direction"),
            (b"\x36", "qos"),
            (b"\x38", "dup"),
            (b"\x80", "reserved_flags"),
            (b"\x10", "connect_repeated"),
            (b"\x30\x80\x00", "remaining_length"),
            (b"\x30\xff\xff\xff\xff", "remaining_length"),
        ):
            with self.subTest(start=start.hex()):
                self.assertEqual(outcome(fresh("server", 4), [start]), ([], reason))

    def test_limits(self) -> None:
        for limit in (0, SMALLEST_LIMIT - 1, LARGEST_PACKET + 1):
            self.assertRaises(ValueError, Decoder, limit)
        for limit in (SMALLEST_LIMIT, LARGEST_PACKET):
            self.assertEqual(Decoder(limit).max_packet_size, limit)
        self.assertRaises(ValueError, Decoder, LIMIT, "client")


class PiecesTests(SynchronousTestCase):
    """The functions of a loop that makes no object a packet."""

    def test_frame(self) -> None:
        self.assertEqual(frame(b"", 0, LIMIT), (0, 0))
        self.assertEqual(frame(b"\x30", 0, LIMIT), (0, 0))
        self.assertEqual(frame(b"\x30\x80", 0, LIMIT), (0, 0))
        self.assertEqual(frame(b"\x30\x05", 0, LIMIT), (2, 7))
        self.assertEqual(frame(b"\xc0\x00\x30\x80\x01", 2, LIMIT), (5, 133))
        self.assertEqual(frame(b"\x30\xff\xff\xff\x7f", 0, LARGEST_PACKET), (5, 5 + 268_435_455))

    def test_length_bytes(self) -> None:
        # Table 2.4
        for length, wire in (
            (0, "00"),
            (127, "7f"),
            (128, "8001"),
            (16_383, "ff7f"),
            (16_384, "808001"),
            (2_097_151, "ffff7f"),
            (2_097_152, "80808001"),
            (268_435_455, "ffffff7f"),
        ):
            self.assertEqual(e.length_bytes(length).hex(), wire)
            start, end = frame(b"\x30" + bytes.fromhex(wire), 0, LARGEST_PACKET)
            self.assertEqual((start, end - start), (1 + len(wire) // 2, length))
        self.assertRaises(ValueError, e.length_bytes, 268_435_456)
        self.assertRaises(ValueError, e.length_bytes, -1)

    def test_split_publish(self) -> None:
        qos0 = b"??" + e.publish(b"a/b", b"xyz")
        self.assertEqual(split_publish(qos0, qos0[2], 4, len(qos0)), (b"a/b", 0, len(qos0) - 3))
        qos1 = e.publish(b"a/b", b"xyz", 1, 0x1234)
        self.assertEqual(split_publish(qos1, qos1[0], 2, len(qos1)), (b"a/b", 0x1234, len(qos1) - 3))
        # It stays inside its packet, whatever follows in the chunk.
        for body, first, reason in (
            (b"", 0x30, "truncated"),
            (b"\x00", 0x30, "truncated"),
            (b"\x00\x02a", 0x30, "truncated"),
            (b"\x00\x01a\x00", 0x32, "truncated"),
            (b"\x00\x01a\x00\x00", 0x34, "packet_id"),
            (b"\x00\x01a", 0x38, "dup"),
            (b"\x00\x01a\x00\x01", 0x36, "qos"),
        ):
            error = self.assertRaises(ProtocolError, split_publish, body + b"\x00\x01" * 4, first, 0, len(body))
            self.assertEqual(error.reason, reason)

    def test_publish_run(self) -> None:
        one = e.publish(b"a/b", b"1234")
        data = b"\xc0\x00" + one + e.publish(b"a/b", b"4321") + e.publish(b"a/b", b"abcd")
        rest = 2 + len(one) - 4
        end = 2 + len(one)
        others = e.publish(b"a/c", b"1234"), e.publish(b"a/b", b"12345"), e.publish(b"a/b", b"1234", retain=True)
        for after in (b"", one[:-1], b"\xc0\x00", *others):
            self.assertEqual(publish_run(data + after, 2, rest, end), len(data))
        self.assertEqual(publish_run(data[:end], 2, rest, end), end)

    def test_publish_in_parts(self) -> None:
        head = e.publish_head(b"a/b", 3, 1)
        for packet_id in (1, 255, 256, 65535):
            self.assertEqual(head + e.packet_id_bytes(packet_id) + b"xyz", e.publish(b"a/b", b"xyz", 1, packet_id))
        self.assertEqual(e.publish_head(b"a/b", 3) + b"xyz", e.publish(b"a/b", b"xyz"))

    def test_the_codec_refuses_our_own_mistakes(self) -> None:
        for bad in (
            p.Publish("", b""),
            p.Publish("t", b"", 3, 1),
            p.Publish("t", b"", 1, 0),
            p.Publish("t", b"", 0, 1),
            p.Publish("t", b"", 0, 0, False, True),
            p.Publish("t", b"", 1, 65536),
            p.Publish("t" * 65536, b""),
            p.Publish("\ud800", b""),
            p.PubAck(0),
            p.PubRel(-1),
            p.Subscribe(1, []),
            p.Subscribe(0, [("a", 0)]),
            p.Unsubscribe(1, []),
            p.Unsubscribe(1, ["t" * 65536]),
            p.ConnAck(6),
            p.ConnAck(5, True),
            p.Connect("c", 6),
            p.Connect("c", password=b"x"),
            p.Connect("c", keep_alive=65536),
            p.Connect("c", will=p.Will("t", b"", 3)),
            p.Connect("c" * 65536),
        ):
            self.assertRaises(ValueError, e.encode, bad)
        self.assertRaises(ValueError, e.encode, p.PingReq(), 6)
        self.assertRaises(ValueError, e.encode, p.Auth())

    def test_client_id_missing(self) -> None:
        for connect, missing in (
            (p.Connect("", 3, True), True),
            (p.Connect("", 3, False), True),
            (p.Connect("", 4, True), False),
            (p.Connect("", 4, False), True),
            (p.Connect("c", 4, False), False),
            (p.Connect("c", 3, False), False),
        ):
            self.assertEqual(connect.client_id_missing, missing)
