"""Rough bytes of messages: never far below what they take."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.model.weight import weight

PLENTY = 1 << 30


def taken(value: Any) -> int:
    """What CPython says, each object counted."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return sys.getsizeof(value) + sum(map(taken, inner))


class WeightTests(SynchronousTestCase):
    def test_about_right(self) -> None:
        for text in (
            '{"temperature":21.5,"humidity":40}',
            '{"text":"' + "x" * 100_000 + '"}',
            '{"a":' + "[{}," * 99 + "{}" + "]" * 99 + "}",
            '{"a":[' + "{}," * 40_000 + "{}]}",
            '{"a":[' + "[]," * 40_000 + "[]]}",
            '{"a":[' + "1.5," * 30_000 + "1]}",
            '{"' + "k" * 100_000 + '":null}',
            "{" + ",".join(f'"{number}":{number}' for number in range(1_000)) + "}",
        ):
            value = msgspec.json.decode(text)
            self.assertLess(0.3, weight(value, PLENTY) / taken(value), text[:40])
            self.assertLess(weight(value, PLENTY) / taken(value), 3, text[:40])
        self.assertEqual(weight(b"x" * 1_000, PLENTY), 1_050)

    def test_never_more_than_is_asked(self) -> None:
        value = {"a": [{"b": "x" * 100}] * 1_000}
        self.assertLess(weight(value, 0), 1)
        self.assertGreaterEqual(weight(value, 1_000), 1_000)
        self.assertLess(weight(value, 50_000), weight(value, PLENTY))
