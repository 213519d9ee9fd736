"""Frame counters and MAC commands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import mac
from broker.devices.lorawan.counter import MAX_COUNTER, reconstruct, repeated
from broker.devices.lorawan.regions import CN470, US915


class CounterTests(SynchronousTestCase):
    def test_rows(self) -> None:
        for expected, bits, full in (
            (0, 0, 0),
            (0, 65535, 65535),
            (1, 0, 65536),
            (5, 5, 5),
            (5, 9, 9),
            (65535, 65535, 65535),
            (65536, 0, 65536),
            (65536, 65535, 131071),
            (70000, 4464, 70000),
            (MAX_COUNTER, 65535, MAX_COUNTER),
            (MAX_COUNTER, 0, None),
            (MAX_COUNTER + 1, 0, None),
        ):
            self.assertEqual(reconstruct(expected, bits), full, (expected, bits))

    @given(st.integers(0, MAX_COUNTER), st.integers(0, 65535))
    def test_forward_and_true_to_the_bits(self, expected: int, ahead: int) -> None:
        meant = expected + ahead
        full = reconstruct(expected, meant & 0xFFFF)
        self.assertEqual(full, meant if meant <= MAX_COUNTER else None)

    def test_the_frame_before(self) -> None:
        self.assertFalse(repeated(0, 65535))
        self.assertTrue(repeated(1, 0))
        self.assertTrue(repeated(65536, 65535))
        self.assertFalse(repeated(5, 5))
        self.assertFalse(repeated(5, 3))


class CommandTests(SynchronousTestCase):
    def test_parsed(self) -> None:
        data = bytes.fromhex("02 03 07 06 ff 3f 0d".replace(" ", ""))
        found, whole = mac.parse_commands(data)
        self.assertEqual(found, [(2, b""), (3, b"\x07"), (6, b"\xff\x3f"), (13, b"")])
        self.assertTrue(whole)

    def test_what_follows_an_unknown_one_is_left(self) -> None:
        self.assertEqual(mac.parse_commands(b"\x02\x80\x02"), ([(2, b"")], False))
        self.assertEqual(mac.parse_commands(b"\x06\x01"), ([], False))
        self.assertEqual(mac.parse_commands(b""), ([], True))

    @given(st.binary(max_size=250))
    def test_any_bytes(self, data: bytes) -> None:
        found, whole = mac.parse_commands(data)
        again = b"".join(bytes((cid,)) + body for cid, body in found)
        self.assertTrue(data.startswith(again))
        self.assertEqual(whole, again == data)

    def test_answers(self) -> None:
        self.assertEqual(mac.link_check_ans(20.7, 3), b"\x02\x14\x03")
        self.assertEqual(mac.link_check_ans(-3.0, 0), b"\x02\x00\x01")
        self.assertEqual(mac.link_check_ans(999, 999), b"\x02\xfe\xff")
        # 2020-01-01T00:00:00.5Z is GPS second 1261872018.
        self.assertEqual(mac.device_time_ans(1577836800.5), b"\x0d" + (1261872018).to_bytes(4, "little") + b"\x80")

    def test_channels(self) -> None:
        """Channels 80 to 87 at data rate 5: the lower half of the sixth sixteen."""
        empty = "".join(f"03500000{part}1" for part in range(5))
        self.assertEqual(mac.link_adr_channels(CN470.masks(range(80, 88)), 5).hex(), empty + "0350ff0051")
        self.assertEqual(mac.link_adr_channels(CN470.masks(range(8, 16)), 0).hex()[:10], "030000ff01")
        self.assertEqual(mac.link_adr_channels(US915.masks(US915.block(1)), 3).hex(), "0330020071033000ff01")
        self.assertTrue(mac.channels_taken(b"\x07"))
        self.assertFalse(mac.channels_taken(b"\x06"))

    def test_device_status(self) -> None:
        self.assertEqual(mac.dev_status(b"\xfe\x1f"), (254, 31))
        self.assertEqual(mac.dev_status(b"\x00\x20"), (0, -32))
        self.assertEqual(mac.dev_status(b"\xff\xff"), (255, -1))
