"""What is answered with what, byte for byte; what is sent again and when; whose frames are taken."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88.container import FLAVOURS, decode, encode
from broker.devices.gateway88.conversation import IDS, Conversation
from broker.devices.gateway88.frames import Frame, FrameDecoder, encode_frame
from tests.devices.gateway88.bed import NOW, OTHER_MAC, Bed, Gateway
from tests.devices.gateway88.vectors import (
    ACK_A,
    ACK_FAILED,
    ACKS,
    CONTROL,
    CONTROL_REPLY,
    GATEWAY,
    HB,
    HB_FRAME,
    INFO,
    INFO_PLAIN,
    INFO_WRITTEN,
    MAC,
    NEWDEVICES,
    REMOTE_CONTROL_REPLY,
)

ECHO: dict[str, Any] = {**INFO, "status": "ok", "utc": int(NOW)}


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.connect()

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_gateway_info_is_answered_with_itself(self) -> None:
        for raw, flavour in ((INFO_WRITTEN, "zlib(base64)"), (INFO_PLAIN, "zlib")):
            gateway = self.bed.connect()
            gateway.raw(raw)
            (frame,) = gateway.frames()
            content = decode(frame.data, 10_000)
            self.assertEqual((frame.id, frame.status, content.value), (1, 0, ECHO))
            self.assertEqual(content.flavour, FLAVOURS[flavour])

    def test_the_echo_is_exact(self) -> None:
        """Whatever a gateway says of itself comes back as it was, secrets too, under a clean key."""
        body = {"name": "网关", "wifipwd": "hush", "x": [1, {"y": None}], "channel": "15 "}
        self.gateway.say({"type": "gateway_info", "gateway_info ": body}, 9)
        ((number, answer, status),) = self.gateway.read()
        self.assertEqual((number, status), (9, 0))
        assert answer is not None
        self.assertEqual(answer["gateway_info"], body)
        self.assertEqual(list(answer), ["type", "gateway_info", "status", "utc"])

    def test_everything_else_is_acknowledged(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.assertEqual(self.gateway.written(), ACK_A)
        self.gateway.raw(NEWDEVICES)
        self.assertEqual(self.gateway.read(), [(3, None, 0)])
        for value in ({"type": "unheard of"}, {}, {"type": 5}, {"type": "firmware_update", "firmware_update": {}}):
            self.gateway.say(value, 4)
            self.assertEqual(self.gateway.read(), [(4, None, 0)])

    def test_what_cannot_be_decoded(self) -> None:
        self.gateway.raw(encode_frame(MAC, 2, b"no container at all"))
        self.assertEqual(self.gateway.written(), ACK_FAILED)
        self.assertEqual(self.bed.listener.counted.undecodable, 1)
        self.assertIsNone(self.gateway.closed_for)

    def test_acknowledgements_are_never_acknowledged(self) -> None:
        self.gateway.say(INFO, 1)
        self.gateway.read()
        for raw in ACKS:
            self.gateway.raw(raw)
        self.assertEqual(self.gateway.written(), b"")
        self.assertEqual(self.bed.listener.counted.stray_acks, 4)

    def test_an_answer_to_nothing_is_a_report(self) -> None:
        self.gateway.raw(REMOTE_CONTROL_REPLY)
        self.assertEqual(self.gateway.read(), [(0x81, None, 0)])
        self.assertEqual([uplink.payload for uplink in self.bed.heard.uplinks], [CONTROL_REPLY])
        self.gateway.say({"type": "firmware_update", "status": "ok"}, 5)
        self.assertEqual(self.gateway.read(), [(5, None, 0)])

    def test_all_of_a_chunk_is_answered_in_one_write(self) -> None:
        self.gateway.say(INFO, 1)
        self.gateway.read()
        writes: list[bytes] = []
        self.gateway.connection.outbox.write = writes.append
        self.gateway.raw(HB_FRAME + NEWDEVICES + self.gateway.frame({"type": "x"}, 4))
        self.assertEqual(len(writes), 1)
        self.assertEqual([item.id for item in FrameDecoder(999).feed(writes[0]) if isinstance(item, Frame)], [2, 3, 4])

    def test_the_answer_comes_before_the_work(self) -> None:
        self.gateway.say(INFO, 1)
        self.gateway.read()
        written: list[bytes] = []
        self.bed.heard.uplink = lambda message: written.append(self.gateway.written())  # type: ignore[method-assign]
        self.gateway.raw(HB_FRAME)
        self.assertEqual(written, [ACK_A])

    def test_every_flavour_is_spoken(self) -> None:
        for flavour in FLAVOURS.values():
            self.gateway.flavour = flavour
            self.gateway.say(INFO, 1)
            (frame,) = self.gateway.frames()
            self.assertEqual(decode(frame.data, 10_000).flavour, flavour)
            self.bed.tick(21)

    def test_checksums_without_the_length(self) -> None:
        bed = Bed(self.settings(checksum_without_length=True))
        gateway = bed.connect()
        gateway.raw(encode_frame(MAC, 2, encode(HB, gateway.flavour), checksum_without_length=True))
        answer = gateway.written()
        self.assertEqual(answer, encode_frame(MAC, 2, checksum_without_length=True))
        self.assertNotEqual(answer, ACK_A)

    def settings(self, **more: Any) -> Any:
        return type(self.bed.listener.settings)(**more)


class RepeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.connect()

    def test_the_same_answer_byte_for_byte(self) -> None:
        for raw in (INFO_PLAIN, HB_FRAME, encode_frame(MAC, 7, b"nonsense")):
            self.gateway.raw(raw)
            first = self.gateway.written()
            for _ in range(2):
                self.bed.tick(6)
                self.gateway.raw(raw)
                self.assertEqual(self.gateway.written(), first)
        self.assertEqual(self.bed.listener.counted.repeats, 6)

    def test_a_repeat_is_not_carried_out_again(self) -> None:
        self.gateway.raw(HB_FRAME)
        self.bed.tick(6)
        self.gateway.raw(HB_FRAME)
        self.bed.tick(6)
        self.gateway.raw(HB_FRAME)
        self.assertEqual(len(self.bed.heard.uplinks), 1)

    def test_after_twenty_seconds_it_is_news(self) -> None:
        self.gateway.raw(INFO_PLAIN)
        first = self.gateway.written()
        self.bed.tick(20)
        self.gateway.raw(INFO_PLAIN)
        self.assertNotEqual(self.gateway.written(), first)
        self.assertEqual(len(self.bed.heard.uplinks), 2)

    def test_the_same_id_with_something_else_is_news(self) -> None:
        for free in (1, 2, 3):
            self.gateway.say({"type": "hb", "hb": {"freeram": free}}, 2)
        self.assertEqual(len(self.bed.heard.uplinks), 3)
        self.assertEqual(self.bed.listener.counted.repeats, 0)


class OrderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.admitted()

    def test_the_same_bytes_three_times(self) -> None:
        command = self.bed.command(CONTROL["cmd"])
        first = self.gateway.written()
        (frame,) = FrameDecoder(999).feed(first)
        assert isinstance(frame, Frame)
        self.assertEqual((frame.id, decode(frame.data, 999).value), (0x80, CONTROL))
        sends = []
        for second in range(1, 30):
            self.bed.tick(1)
            if data := self.gateway.written():
                sends.append((second, data))
        self.assertEqual(sends, [(6, first), (12, first)])
        self.assertEqual(command.status, "timed_out")
        self.assertEqual(command.updated_at, NOW + 18)
        self.assertEqual(self.bed.listener.counted.resent, 2)

    def test_an_answer_ends_the_repetitions(self) -> None:
        self.bed.command({"a": 1})
        self.gateway.read()
        self.bed.tick(7)
        self.assertEqual(len(self.gateway.read()), 1)
        self.gateway.say({"type": "remote_control", "ack": {"result": 0}}, 0x80)
        self.bed.tick(30)
        self.assertEqual(self.gateway.written(), b"")

    def test_a_command_that_is_over_is_not_sent_again(self) -> None:
        command = self.bed.command({"a": 1}, timeout=3.0)
        self.gateway.read()
        self.bed.tick(10)
        self.assertEqual((command.status, self.gateway.written()), ("timed_out", b""))

    def test_one_at_a_time(self) -> None:
        commands = [self.bed.command({"n": number}, number) for number in (1, 2, 3)]
        ids = []
        for command in commands:
            ((number, value, _),) = self.gateway.read()
            assert value is not None
            self.assertEqual(value["cmd"], command.payload)
            ids.append(number)
            self.gateway.say({"type": "remote_control", "ack": {}}, number)
            self.assertEqual(command.status, "succeeded")
        self.assertEqual(ids, [0x80, 0x81, 0x82])

    def test_an_answer_has_to_have_the_id(self) -> None:
        command = self.bed.command({"a": 1})
        self.gateway.read()
        self.gateway.say(CONTROL_REPLY, 0x81)
        self.gateway.acknowledge(0x7F)
        self.assertEqual(command.status, "sent")

    def test_the_type_of_an_answer_does_not_count(self) -> None:
        command = self.bed.command({"a": 1})
        self.gateway.read()
        self.gateway.say({"type": "gateway_info", "ack": {"result": 0, "x": 1}}, 0x80)
        self.assertEqual((command.status, command.result), ("succeeded", {"result": 0, "x": 1}))
        self.assertEqual(self.gateway.written(), b"")

    def test_a_heartbeat_with_the_id_of_a_command_is_a_heartbeat(self) -> None:
        command = self.bed.command({"a": 1})
        self.gateway.read()
        self.gateway.say(HB, 0x80)
        self.assertEqual(self.gateway.read(), [(0x80, None, 0)])
        self.assertEqual((command.status, len(self.bed.heard.uplinks)), ("sent", 1))

    def test_ids_that_the_gateway_uses_are_left_out(self) -> None:
        for number in (0x80, 0x81, 0x83):
            self.gateway.say({"type": "newdevices", "n": number}, number)
        self.gateway.read()
        for number, wanted in enumerate((0x82, 0x84)):
            self.bed.command({"n": number}, number)
            ((got, _, _),) = self.gateway.read()
            self.assertEqual(got, wanted)
            self.gateway.acknowledge(got)

    def test_ids_go_round_and_are_not_used_again_within_twenty_seconds(self) -> None:
        conversation = Conversation(1_000)
        conversation.mac = MAC
        ids = []
        for number in range(IDS):
            outgoing = conversation.order(str(number), {}, 0.0, lambda key: False)
            assert outgoing is not None
            outgoing.done()
            ids.append(outgoing.id)
        self.assertEqual(ids, list(range(0x80, 0x100)))
        self.assertIsNone(conversation.order("more", {}, 19.9, lambda key: False))
        again = conversation.order("more", {}, 20.0, lambda key: key == "0")
        assert again is not None
        self.assertEqual(again.id, 0x81)

    def test_what_was_sent_on_the_old_connection_is_answered_on_the_new_one(self) -> None:
        command = self.bed.command({"a": 1})
        self.gateway.read()
        again = self.bed.admitted()
        self.assertEqual(self.gateway.closed_for, "takeover")
        self.bed.tick(13)
        self.assertEqual(again.written(), b"", "it may be done already")
        again.say({"type": "remote_control", "ack": {"result": 0}}, 0x80)
        self.assertEqual(command.status, "succeeded")
        self.assertEqual(again.written(), b"")

    def test_many_answers_to_many_sends_are_one(self) -> None:
        """A firmware update that is answered to each of its sends is not done because of that."""
        command = self.bed.operation("firmware_update", {"file": "f", "version": "2.4", "md5": "0" * 32})
        self.bed.tick(7)
        ok = {"type": "firmware_update", "status": "ok"}
        self.gateway.say(ok, 0x80)
        self.gateway.say(ok, 0x80)
        self.assertEqual(command.status, "pending")
        self.gateway.say(ok, 0x80)
        self.assertEqual(command.status, "succeeded")


class StrangerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.admitted()

    def test_another_mac(self) -> None:
        foreign = encode_frame(OTHER_MAC, 2, encode(HB, self.gateway.flavour))
        for mac in (OTHER_MAC, bytes(6)):
            self.gateway.raw(foreign.replace(OTHER_MAC, mac) if mac is OTHER_MAC else encode_frame(mac, 2, b"x"))
        self.assertEqual((self.gateway.written(), self.gateway.closed_for), (b"", None))
        self.gateway.raw(foreign)
        self.assertEqual(self.gateway.closed_for, "protocol_error")
        self.assertEqual((self.bed.listener.counted.foreign_macs, self.bed.heard.uplinks), (3, []))

    def test_nobody_is_no_gateway(self) -> None:
        gateway = self.bed.connect()
        for mac in (bytes(6), b"\xff" * 6):
            gateway.raw(encode_frame(mac, 2, encode(HB, gateway.flavour)))
        self.assertEqual((gateway.written(), gateway.connection.identity), (b"", ""))
        gateway.raw(HB_FRAME)
        self.assertEqual((gateway.written(), gateway.connection.identity), (ACK_A, GATEWAY))

    def test_another_version(self) -> None:
        for version in (0, 1, 3):
            raw = bytearray(HB_FRAME)
            raw[8] = version
            raw[-1] ^= 2 ^ version
            self.assertIsNone(self.gateway.closed_for)
            self.gateway.raw(bytes(raw))
            self.assertEqual(self.gateway.written(), b"")
        self.assertEqual(self.gateway.closed_for, "protocol_error")
        self.assertEqual(self.bed.listener.counted.wrong_versions, 3)

    def test_wrong_checksums_are_dropped_and_many_of_them_close(self) -> None:
        broken = HB_FRAME[:-1] + b"\0"
        self.gateway.raw(broken + HB_FRAME)
        self.assertEqual(self.gateway.written(), ACK_A)
        self.gateway.raw(broken * 9)
        self.assertIsNone(self.gateway.closed_for)
        self.gateway.raw(broken * 3)
        self.assertEqual(self.gateway.closed_for, "malformed")
        self.assertGreaterEqual(self.bed.listener.stats.malformed, 11)

    def test_noise_without_end(self) -> None:
        for _ in range(7):
            self.gateway.raw(b"noise " * 1_700)
        self.assertEqual(self.gateway.closed_for, "malformed")

    def test_a_frame_that_does_not_end(self) -> None:
        """What a damaged length asks for will never come: the frames behind it are read after a while."""
        self.gateway.raw(HB_FRAME[:6] + b"\x10" + HB_FRAME[7:])
        gateway: Gateway = self.gateway
        gateway.raw(NEWDEVICES)
        self.bed.tick(29)
        self.assertEqual(gateway.written(), b"")
        self.bed.tick(2)
        self.assertEqual(gateway.read(), [(3, None, 0)])
        self.assertIsNone(gateway.closed_for)
