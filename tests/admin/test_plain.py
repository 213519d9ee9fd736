"""Text that is safe to show, and times, sizes and durations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.admin import plain

#: What terminals obey, what turns text around, what ends lines.
HOSTILE = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x08\x08",
    "\r",
    "\n",
    "\x00",
    "\x7f",
    "\x85",
    "\u202e",
    "\u2066",
    "\u2028",
    "\u200b",
    "\ufeff",
)


class SafeTests(SynchronousTestCase):
    def test_what_is_plain_stays(self) -> None:
        for text in ("", "hall", "größe", "名字\u3000二", "21.5 °C", "[red]x[/red]", "🚀", "a b"):
            self.assertEqual(plain.safe(text), text)

    def test_what_is_not_printable_is_shown_by_its_number(self) -> None:
        self.assertEqual(plain.safe("a\x1b[31mb"), "a\\x1b[31mb")
        self.assertEqual(plain.safe("a\nb\tc\r"), "a\\nb\\tc\\r")
        self.assertEqual(plain.safe("\x9b\u202e\U000e0001\ud800"), "\\x9b\\u202e\\U000e0001\\ud800")
        for text in HOSTILE:
            self.assertTrue(plain.safe(text).isprintable(), ascii(text))

    def test_json_is_the_same_value_and_safe(self) -> None:
        for text in HOSTILE:
            value = {text: [text, {"x": text}], "名": "字"}
            line = plain.json_line(value)
            self.assertEqual(json.loads(line), value)
            self.assertTrue(line.isprintable(), ascii(line))
        self.assertIn("名", plain.json_line({"名": 1}))


class QuantityTests(SynchronousTestCase):
    def test_durations_there_and_back(self) -> None:
        for text, value in (
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("1.5h", 5_400),
            ("1h30m", 5_400),
            ("2d 3h", 183_600),
            ("1w", 604_800),
            ("0", 0),
        ):
            self.assertEqual(plain.read_duration(text), value, text)
        for text in ("", "h", "1x", "-5", "1h 30", "one", "1e9", "1,5h"):
            self.assertRaises(ValueError, plain.read_duration, text)
        for number, text in ((0.25, "0.25s"), (5, "5s"), (90, "1m 30s"), (183_600, "2d 3h"), (3_600, "1h")):
            self.assertEqual(plain.seconds(number), text)

    def test_sizes(self) -> None:
        for value, text in ((0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (3_000_000, "3.0 MB"), (10**13, "10.0 TB")):
            self.assertEqual(plain.size(value), text)

    def test_moments(self) -> None:
        now = 1_795_976_913.0
        utc = datetime(2026, 11, 29, 12, 0, tzinfo=UTC).timestamp()
        cases: tuple[tuple[Callable[[str, float], float], str, float], ...] = (
            (plain.read_moment, "2h", now - 7_200),
            (plain.read_deadline, "14d", now + 14 * 86_400),
            (plain.read_moment, "1795976000", 1_795_976_000),
            (plain.read_moment, "90", now - 90),
            (plain.read_deadline, "2026-11-29T12:00+00:00", utc),
            (plain.read_moment, "2026-11-29", time.mktime((2026, 11, 29, 0, 0, 0, 0, 0, -1))),
        )
        for read, text, expected in cases:
            self.assertEqual(read(text, now), expected, text)
        wrong: tuple[Any, ...] = ("", "yesterday", "2026-13-01", "12:00", "nan")
        for text in wrong:
            self.assertRaises(ValueError, plain.read_moment, text, now)

    def test_times_that_are_none_are_shown_as_they_are(self) -> None:
        self.assertEqual(plain.moment(1e30), "1e+30")
        self.assertEqual(len(plain.moment(1_795_976_913.4)), len("2026-11-29 18:28:33"))
