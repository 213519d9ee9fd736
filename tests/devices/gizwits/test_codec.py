"""Gizwits codec: exact bytes, what is refused, and that any bytes are a packet or Malformed."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import SPLIT, split
from broker.mqtt.codec import frame as mqtt_frame

DID: Final = "DrfomHVPFi7ALnZrA6NE6R"

#: Bytes seen on the wire or printed in the documents, and their packet.
BUSINESS: Final[tuple[tuple[str, g.Business], ...]] = (
    ("00000003 04 00 0090 02", g.Control(b"\2")),
    ("00000003 06 00 0091 031122", g.Report(b"\3\x11\x22")),
    ("00000003 0b 00 0091 0400000010000000", g.Report(bytes.fromhex("0400000010000000"))),
    ("00000003 cb01 00 0091" + "07" * 200, g.Report(b"\7" * 200)),
    ("00000003 b202 00 0091" + "04" * 0x12F, g.Report(b"\4" * 0x12F)),
    ("00000003 03 00 0091", g.Report()),
    ("00000003 0a 00 0093 0000002a 010101", g.Request(42, b"\1\1\1")),
    ("00000003 07 00 0094 0000002a", g.Ack(42)),
    ("00000003 0a 00 0094 0000002b 031122", g.Ack(43, b"\3\x11\x22")),
    ("00000003 05 00 0010 000f", g.SetLog(g.ERROR_LOGS | g.WARNING_LOGS | g.INFO_LOGS | g.LEDS)),
    ("00000003 05 00 0010 8000", g.SetLog(0x8000)),
    ("00000003 03 00 0011", g.LogSet()),
    ("00000003 13 00 0012 01 0003 746167 0002 6d63 0004 626f6f6d", g.Log(1, b"tag", b"mc", b"boom")),
    ("00000003 05 00 0055 aabb", g.Other(0x55, b"\xaa\xbb")),
)
SYSTEM: Final[tuple[tuple[str, g.System], ...]] = (
    (
        "00000003 020e 01 00000006 0023" + b"http://127.0.0.1/dev/ota/download/6".hex(),
        g.Firmware(g.WIFI, 6, "http://127.0.0.1/dev/ota/download/6"),
    ),
    ("00000003 020f", g.AskApps()),
    ("00000003 0210 0001", g.Apps(1)),
    ("00000003 0210 0102", g.Apps(0x102)),
    ("00000003 0211 02", g.CheckFirmware(g.MCU)),
    ("00000003 0211 01 0016" + DID.encode().hex(), g.CheckFirmware(g.WIFI, DID)),
)
#: Bytes, and why they are no business message.
NO_BUSINESS: Final = (
    ("", "header"),
    ("000000", "header"),
    ("00000004 04 00 0090 02", "header"),
    ("00000003", "truncated"),
    ("00000003 03 00 00", "truncated"),
    ("00000003 02 00 90 00", "length"),
    ("00000003 02 00 90", "truncated"),
    ("00000003 80808080 01 00 0090", "length"),
    ("00000003 80808080", "length"),
    ("00000003 ffffff7f", "length"),
    ("00000003 fffffff0", "length"),
    ("00000003 05 00 0090 02", "length"),
    ("00000003 03 00 0090 02", "length"),
    ("00000003 020f", "truncated"),
    ("00000003 8200 00 00", "truncated"),
    ("00000003 06 00 0093 000000", "truncated"),
    ("00000003 03 00 0094", "truncated"),
    ("00000003 848004 00 0091" + "00" * 65537, "too_long"),
    ("00000003 838004 00 0091" + "00" * 65536, "too_long"),
    ("00000003 878004 00 0093" + "00" * 65540, "too_long"),
    ("00000003 04 00 0010 00", "truncated"),
    ("00000003 06 00 0010 000000", "trailing"),
    ("00000003 04 00 0011 00", "trailing"),
    ("00000003 03 00 0012", "truncated"),
    ("00000003 04 00 0012 01", "truncated"),
    ("00000003 07 00 0012 01 0001 41", "truncated"),
    ("00000003 0b 00 0012 01 0000 0000 0000 00", "trailing"),
    ("00000003 8902 00 0012 01 0101" + "41" * 0x101 + "0000", "too_long"),
    ("00000003 2b 00 0012 01 0000 0021" + "41" * 0x21 + "0000", "too_long"),
    ("00000003 0a 00 0012 01 0000 0000 0001", "truncated"),
)
NO_SYSTEM: Final = (
    ("", "header"),
    ("00000002 020f", "header"),
    ("00000003 02", "truncated"),
    ("00000003 020f 00", "trailing"),
    ("00000003 0210 01", "truncated"),
    ("00000003 0210 000001", "trailing"),
    ("00000003 020e 01 00000006", "truncated"),
    ("00000003 020e 01 00000006 0001", "truncated"),
    ("00000003 020e 01 00000006 0001 41 41", "trailing"),
    ("00000003 020e 01 00000006 0001 ff", "text"),
    ("00000003 020e 01 00000006 0201" + "41" * 0x201, "too_long"),
    ("00000003 0211", "truncated"),
    ("00000003 0211 01 00", "truncated"),
    ("00000003 0211 01 0000", "text"),
    ("00000003 0300" + "00" * 65536, "too_long"),
)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


class BytesTests(SynchronousTestCase):
    def test_business(self) -> None:
        for text, packet in BUSINESS:
            self.assertEqual(g.decode_business(raw(text)), packet, text)
            self.assertEqual(g.encode(packet), raw(text), text)

    def test_system(self) -> None:
        for text, packet in SYSTEM:
            self.assertEqual(g.decode_system(raw(text)), packet, text)
            self.assertEqual(g.encode(packet), raw(text), text)
        self.assertEqual(g.decode_system(raw("00000003 021e 01")), g.Other(0x021E, b"\1"))

    def test_refused(self) -> None:
        for text, reason in NO_BUSINESS:
            error = self.assertRaises(g.Malformed, g.decode_business, raw(text))
            self.assertEqual(error.reason, reason, text)
        for text, reason in NO_SYSTEM:
            error = self.assertRaises(g.Malformed, g.decode_system, raw(text))
            self.assertEqual(error.reason, reason, text)

    def test_every_truncation_of_every_packet(self) -> None:
        """Business messages say their length; of the system ones only 0x0211 may end early."""
        for text, _ in BUSINESS:
            whole = raw(text)
            for end in range(len(whole)):
                self.assertRaises(g.Malformed, g.decode_business, whole[:end])
            self.assertRaises(g.Malformed, g.decode_business, whole + b"\0")
        for text, packet in SYSTEM:
            whole = raw(text)
            for end in range(len(whole)):
                if isinstance(packet, g.CheckFirmware) and end == 7:
                    self.assertEqual(g.decode_system(whole[:end]), g.CheckFirmware(packet.kind))
                else:
                    self.assertRaises(g.Malformed, g.decode_system, whole[:end])

    def test_the_largest(self) -> None:
        data = bytes(g.MAX_DATA)
        for packet in (
            g.Control(data),
            g.Report(data),
            g.Request(g.MAX_SN, data),
            g.Ack(0, data),
            g.Log(3, bytes(g.MAX_TAG), bytes(g.MAX_SOURCE), data),
        ):
            self.assertEqual(g.decode_business(g.encode(packet)), packet)
        longest = g.Firmware(g.MCU, g.MAX_SN, "u" * g.MAX_URL)
        self.assertEqual(g.decode_system(g.encode(longest)), longest)

    def test_what_we_must_not_say(self) -> None:
        for packet in (
            g.Control(bytes(g.MAX_DATA + 1)),
            g.Request(-1),
            g.Request(g.MAX_SN + 1),
            g.Ack(1, bytes(g.MAX_DATA + 1)),
            g.SetLog(0x10000),
            g.Log(256, b"", b"", b""),
            g.Log(1, bytes(g.MAX_TAG + 1), b"", b""),
            g.Log(1, b"", bytes(g.MAX_SOURCE + 1), b""),
            g.Log(1, b"", b"", bytes(g.MAX_DATA + 1)),
            g.Firmware(1, 1, "u" * (g.MAX_URL + 1)),
            g.Firmware(1, 1, "\xfc"),
            g.Apps(0x10000),
        ):
            self.assertRaises(ValueError, g.encode, packet)

    def test_any_flag_and_any_length_of_the_length(self) -> None:
        """The flag is passed on and means nothing; a length may be written longer than it needs."""
        self.assertEqual(g.decode_business(raw("00000003 04 01 0090 02")), g.Control(b"\2"))
        self.assertEqual(g.decode_business(raw("00000003 8400 00 0090 02")), g.Control(b"\2"))
        self.assertEqual(g.decode_business(raw("00000003 84808000 00 0090 02")), g.Control(b"\2"))

    def test_the_captured_publish(self) -> None:
        """A whole packet of a real cloud, with the frame inside."""
        topic = b"app2dev/DrfomHVPFi7ALnZrA6NE6R/usr6U9jtyINX27hmwBGLV05"
        packet = raw("3041 0036") + topic + raw("00000003 04 00 0090 02")
        body, end = mqtt_frame(packet, 0, 1024)
        self.assertEqual(end, len(packet))
        self.assertEqual(g.decode_business(packet[body + 2 + len(topic) :]), g.Control(b"\2"))

    def test_topics(self) -> None:
        for topic, parts in SPLIT:
            self.assertEqual(split(topic), parts, topic)


data = st.binary(max_size=300)
sns = st.integers(0, g.MAX_SN)
bytes_ = st.integers(0, 255)
letters = st.text("abcXYZ019:/.", max_size=60)
business = st.one_of(
    st.builds(g.Control, data),
    st.builds(g.Report, data),
    st.builds(g.Request, sns, data),
    st.builds(g.Ack, sns, data),
    st.builds(g.SetLog, st.integers(0, 0xFFFF)),
    st.builds(g.LogSet),
    st.builds(g.Log, bytes_, st.binary(max_size=256), st.binary(max_size=32), data),
)
system = st.one_of(
    st.builds(g.Firmware, bytes_, sns, letters),
    st.builds(g.AskApps),
    st.builds(g.Apps, st.integers(0, 0xFFFF)),
    st.builds(g.CheckFirmware, bytes_, letters),
)
samples = st.sampled_from([raw(text) for text, _ in BUSINESS + SYSTEM] + [raw(text) for text, _ in NO_BUSINESS])
damaged = st.tuples(samples, st.integers(0, 70_000), bytes_).map(
    lambda t: t[0][: t[1] % (len(t[0]) + 1)] + bytes((t[2],)) + t[0][t[1] % (len(t[0]) + 1) + 1 :]
)
anything = st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: g.HEADER + tail) | damaged


class AnyBytesTests(SynchronousTestCase):
    @given(business)
    def test_business_round_trip(self, packet: Any) -> None:
        self.assertEqual(g.decode_business(g.encode(packet)), packet)

    @given(system)
    def test_system_round_trip(self, packet: Any) -> None:
        self.assertEqual(g.decode_system(g.encode(packet)), packet)

    @given(anything)
    @settings(max_examples=500)
    def test_a_packet_or_malformed(self, payload: bytes) -> None:
        try:
            packet = g.decode_business(payload)
        except g.Malformed:
            pass
        else:
            command, at = g.open_business(payload)
            self.assertEqual(command, packet.command)
            self.assertEqual(g.encode(packet)[-(len(payload) - at) :] if at < len(payload) else b"", payload[at:])
        try:
            g.decode_system(payload)
        except g.Malformed:
            pass
