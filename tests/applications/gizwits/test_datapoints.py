"""Data points <-> P0 bytes: every type, every place, and whatever a program may give wrongly."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits.datapoints import DataPoint, Table

WRITABLE = "status_writable"


def point(name: str, id: int, kind: str, position: dict[str, Any], type: str, more: dict[str, Any]) -> DataPoint:
    fields = {"name": name, "id": id, "data_type": kind, "type": type, "position": position, "desc": "for people"}
    return msgspec.convert({**fields, **more}, DataPoint)


def bit(name: str, id: int, byte: int, at: int, length: int = 1, type: str = WRITABLE, **more: Any) -> DataPoint:
    position = {"byte_offset": byte, "unit": "bit", "len": length, "bit_offset": at}
    return point(name, id, "enum" if "enum" in more else "bool", position, type, more)


def wide(name: str, id: int, byte: int, kind: str, length: int, type: str = WRITABLE, **more: Any) -> DataPoint:
    position = {"byte_offset": byte, "unit": "byte", "len": length, "bit_offset": 0}
    return point(name, id, kind, position, type, more)


#: Names of data points, and of none, with whatever JSON may hold.
ATTRS = st.dictionaries(
    st.sampled_from(["power", "level", "heat", "watts", "x"]),
    st.none() | st.integers() | st.floats() | st.text(max_size=3),
)


LAMP = (
    bit("power", 0, 0, 0),
    bit("mode", 1, 0, 1, 2, enum=["white", "warm", "night"]),
    wide("level", 2, 1, "uint8", 1, uint_spec={"ratio": 1, "addition": 0, "min": 0, "max": 100}),
    wide("heat", 3, 2, "uint16", 2, uint_spec={"ratio": 0.1, "addition": -30, "min": 0, "max": 1000}),
    wide("scene", 4, 4, "binary", 3),
    wide("watts", 5, 7, "uint32", 4, "status_readonly"),
    bit("hot", 6, 11, 0, 1, "alert"),
    bit("broken", 7, 12, 0, 1, "fault"),
)


class LampTests(SynchronousTestCase):
    table = Table(LAMP)

    def test_control(self) -> None:
        for attrs, text in (
            ({"power": True}, "01 01 01 00 0000 000000"),
            ({"power": 1}, "01 01 01 00 0000 000000"),
            ({"power": False}, "01 01 00 00 0000 000000"),
            ({"mode": "night"}, "01 02 04 00 0000 000000"),
            ({"mode": 2, "power": True}, "01 03 05 00 0000 000000"),
            ({"level": 100}, "01 04 00 64 0000 000000"),
            ({"heat": 25.5}, "01 08 00 00 022b 000000"),
            ({"scene": "0A0b"}, "01 10 00 00 0000 0a0b00"),
        ):
            self.assertEqual(self.table.control(attrs).hex(), text.replace(" ", ""), attrs)

    def test_report(self) -> None:
        values = bytes.fromhex("05 64 022b 0a0b00 00001000 01 00")
        expected = {
            "power": True,
            "mode": "night",
            "level": 100,
            "heat": 25.5,
            "scene": "0a0b00",
            "watts": 4096,
            "hot": True,
            "broken": False,
        }
        for action in (b"\3", b"\4"):
            self.assertEqual(self.table.attrs(action + values), expected)

    def test_a_shorter_report_and_an_unknown_enum(self) -> None:
        self.assertEqual(self.table.attrs(bytes.fromhex("04 06 01")), {"power": False, "mode": 3, "level": 1})
        self.assertEqual(self.table.attrs(b"\4"), {})

    def test_what_is_no_report(self) -> None:
        for data in (b"", b"\1\1\1", b"\2", b"\5abc", b"\6abc", b"{}"):
            self.assertIsNone(self.table.attrs(data))

    def test_what_cannot_be_set(self) -> None:
        for attrs in (
            {},
            {"unknown": 1},
            {"watts": 1},
            {"hot": True},
            {"power": 2},
            {"power": "on"},
            {"power": None},
            {"power": 1.0},
            {"mode": "cold"},
            {"mode": 3},
            {"mode": -1},
            {"mode": True},
            {"level": 101},
            {"level": -1},
            {"level": "1"},
            {"level": True},
            {"level": 1.5},
            {"heat": 25.55},
            {"heat": 1e300},
            {"scene": "xyz"},
            {"scene": "00112233"},
            {"scene": 5},
            {"power": True, "unknown": 1},
        ):
            self.assertRaises(ValueError, self.table.control, attrs)

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(ATTRS)
    def test_whatever_a_program_gives(self, attrs: dict[str, Any]) -> None:
        try:
            made = self.table.control(attrs)
        except ValueError:
            return
        self.assertEqual(len(made), 9)

    @given(st.binary(max_size=20))
    def test_whatever_a_device_says(self, data: bytes) -> None:
        self.assertIsInstance(self.table.attrs(data), dict if data[:1] in (b"\3", b"\4") else type(None))


class PlaceTests(SynchronousTestCase):
    def test_more_than_a_byte_of_bits_is_big_endian(self) -> None:
        points = [bit(f"b{number}", number, number // 8, number % 8) for number in range(10)]
        table = Table([*points, wide("level", 10, 2, "uint8", 1)])
        self.assertEqual(table.control({"b0": True}).hex(), "010001000100")
        self.assertEqual(table.control({"b9": True, "level": 7}).hex(), "010600020007")
        attrs = table.attrs(bytes.fromhex("04 0201 05"))
        assert attrs is not None
        self.assertEqual([name for name, value in attrs.items() if value], ["b0", "b9", "level"])

    def test_tables_that_cannot_be(self) -> None:
        for points in (
            [bit("a", 0, 0, 0), bit("a", 1, 0, 1)],
            [bit("a", 0, 0, 0), bit("b", 0, 0, 1)],
            [bit("a", 0, 0, 0, 2)],
            [wide("a", 0, 0, "uint16", 1)],
            [wide("a", 0, 4095, "uint16", 2)],
            [wide("a", 0, 0, "uint8", 1, uint_spec={"ratio": 0})],
        ):
            self.assertRaises(ValueError, Table, points)
        self.assertRaises(ValueError, Table, [bit(f"b{n}", n % 256, 0, 0, type="alert") for n in range(257)])

    def test_a_table_without_anything_to_set(self) -> None:
        self.assertRaises(ValueError, Table([]).control, {"a": 1})
        self.assertEqual(Table([]).attrs(b"\4\1"), {})
