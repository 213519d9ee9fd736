"""What words mean, what values become, and how a map is read."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.extension import Invalid
from broker_modbus.registers import Register, plan
from broker_modbus.settings import Settings

#: (fields, words, value), both ways.
BOTH_WAYS: tuple[tuple[dict[str, Any], list[int], float], ...] = (
    ({}, [65_535], 65_535),
    ({"type": "int16"}, [65_535], -1),
    ({"type": "int16", "scale": 0.1}, [215], 21.5),
    ({"scale": 0.5, "offset": -40}, [100], 10.0),
    ({"type": "uint32"}, [1, 2], 65_538),
    ({"type": "uint32", "word_order": "little"}, [2, 1], 65_538),
    ({"type": "int32"}, [0xFFFF, 0xFFFE], -2),
    ({"type": "float32"}, [0x41AC, 0x0000], 21.5),
    ({"type": "float32", "word_order": "little"}, [0x0000, 0x41AC], 21.5),
    ({"type": "float64"}, [0x4035, 0x8000, 0, 0], 21.5),
)


def register(**fields: Any) -> Register:
    return msgspec.convert({"name": "r", "address": 0, **fields}, Register)


class ValueTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        for fields, words, value in BOTH_WAYS:
            one = register(**fields)
            self.assertEqual((one.value(words), one.words(value)), (value, words), fields)

    def test_no_number(self) -> None:
        words = list(struct.unpack(">2H", struct.pack(">f", float("nan"))))
        self.assertIsNone(register(type="float32").value(words))

    def test_values_that_do_not_fit(self) -> None:
        for fields, value in (
            ({}, -1),
            ({}, 65_536),
            ({"type": "int16", "scale": 0.1}, 3276.8),
            ({"type": "float32"}, 1e300),
            ({}, "1"),
            ({}, True),
            ({}, None),
            ({}, float("inf")),
        ):
            self.assertRaises(Invalid, register(**fields).words, value)
        self.assertRaises(Invalid, register(table="coil", type="bool").bit, 2)

    def test_maps_that_cannot_be(self) -> None:
        for fields in (
            {"table": "coil"},
            {"type": "bool"},
            {"table": "input", "writable": True},
            {"scale": 0},
            {"address": 65_535, "type": "uint32"},
            {"address": -1},
            {"colour": "red"},
        ):
            self.assertRaises(msgspec.ValidationError, register, **fields)
        error = self.assertRaises(ValueError, Settings, maps={"m": (register(), register(address=1))})
        self.assertEqual(str(error), "maps.m: two registers are called r")


class PlanTests(SynchronousTestCase):
    def blocks(self, *places: tuple[str, int, str]) -> list[tuple[str, int, int]]:
        registers = [
            register(name=f"r{number}", table=table, address=address, type=type)
            for number, (table, address, type) in enumerate(places)
        ]
        return [(block.table, block.address, block.length) for block in plan(registers)]

    def test_neighbours_are_read_together(self) -> None:
        self.assertEqual(
            self.blocks(
                ("holding", 2, "uint32"), ("input", 0, "uint16"), ("holding", 1, "uint16"), ("holding", 5, "uint16")
            ),
            [("holding", 1, 3), ("holding", 5, 1), ("input", 0, 1)],
        )

    def test_one_address_with_two_meanings(self) -> None:
        self.assertEqual(self.blocks(("holding", 0, "uint32"), ("holding", 0, "uint16")), [("holding", 0, 2)])

    def test_no_more_than_a_request_may_ask(self) -> None:
        self.assertEqual(
            self.blocks(*(("input", address, "uint16") for address in range(130))),
            [("input", 0, 125), ("input", 125, 5)],
        )

    def test_an_answer_that_is_too_short(self) -> None:
        (block,) = plan([register(type="uint32")])
        self.assertRaises(ValueError, block.values, [1])
        self.assertEqual(block.values([1, 2]), {"r": 65_538})
