"""Decision 23: the device's own time."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud.timestamps import device_time
from broker.model import jsontext

NOW = 1_763_700_000.25

USABLE: list[tuple[Any, float, bool]] = [
    # given, time, in milliseconds
    (1678886400, 1678886400.0, False),
    (1678886400.5, 1678886400.5, False),
    (0, 0.0, False),
    (NOW + 86_400, NOW + 86_400, False),
    (1_763_700_000_250, NOW, True),
    (1_678_886_400_000.0, 1678886400.0, True),
    (100_000_000_001, 100_000_000.001, True),
]
UNUSABLE: list[tuple[Any, dict[str, Any]]] = [
    (True, {"timestamp_given": True}),
    (False, {"timestamp_given": False}),
    ("1678886400", {"timestamp_given": "1678886400"}),
    ("x" * 1000, {"timestamp_given": "x" * 64}),
    (-1, {"timestamp_given": -1}),
    (-0.5, {"timestamp_given": -0.5}),
    (NOW + 86_401, {"timestamp_given": NOW + 86_401}),
    ((NOW + 86_401) * 1000, {"timestamp_given": (NOW + 86_401) * 1000}),
    (10**11, {"timestamp_given": 10**11}),
    (10**400, {}),
    (-(10**400), {}),
    (1.7e308, {"timestamp_given": 1.7e308}),
    ([1678886400], {}),
    ({"t": 1}, {}),
]


class TimestampTests(SynchronousTestCase):
    def test_missing(self) -> None:
        self.assertEqual(device_time(None, NOW), (None, None))

    def test_usable(self) -> None:
        for given, time, milliseconds in USABLE:
            sent_at, mark = device_time(given, NOW)
            self.assertIsInstance(sent_at, float)
            self.assertEqual(sent_at, time, given)
            self.assertEqual(mark, {"timestamp": "milliseconds"} if milliseconds else None)

    def test_unusable(self) -> None:
        for given, more in UNUSABLE:
            self.assertEqual(device_time(given, NOW), (None, {"timestamp": "unusable", **more}))

    def test_marks_are_json(self) -> None:
        for given, _ in UNUSABLE:
            jsontext.encode(device_time(given, NOW)[1])
