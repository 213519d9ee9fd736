"""Windows over the days on which clocks change, in two places of the world."""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.model.windows import DAYS, Window, is_open, next_opening, stretch, zone_of

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"

#: Zone, local day, from, to -> begin and end in UTC. The clock of Berlin goes forward at 02:00 on 29 March 2026 and
#: back at 03:00 on 25 October, that of New York at 02:00 on 8 March and on 1 November.
STRETCHES = (
    (BERLIN, "2026-06-10", "02:00", "04:00", "2026-06-10T00:00", "2026-06-10T02:00"),
    (BERLIN, "2026-06-10", "22:00", "04:00", "2026-06-10T20:00", "2026-06-11T02:00"),
    (BERLIN, "2026-06-10", "00:00", "00:00", "2026-06-09T22:00", "2026-06-10T22:00"),
    ("UTC", "2026-06-10", "12:30", "12:29", "2026-06-10T12:30", "2026-06-11T12:29"),
    # forward: the hour from 02:00 does not exist
    (BERLIN, "2026-03-29", "02:00", "03:00", "2026-03-29T01:00", "2026-03-29T02:00"),
    (BERLIN, "2026-03-29", "02:15", "02:45", "2026-03-29T01:15", "2026-03-29T01:45"),
    (BERLIN, "2026-03-29", "02:30", "03:30", "2026-03-29T01:30", "2026-03-29T02:30"),
    (BERLIN, "2026-03-29", "01:00", "04:00", "2026-03-29T00:00", "2026-03-29T02:00"),
    (BERLIN, "2026-03-28", "22:00", "06:00", "2026-03-28T21:00", "2026-03-29T04:00"),
    (BERLIN, "2026-03-29", "00:00", "00:00", "2026-03-28T23:00", "2026-03-29T22:00"),
    (NEW_YORK, "2026-03-08", "02:00", "03:00", "2026-03-08T07:00", "2026-03-08T08:00"),
    (NEW_YORK, "2026-03-08", "01:00", "05:00", "2026-03-08T06:00", "2026-03-08T09:00"),
    # back: the hour from 02:00 (Berlin), from 01:00 (New York) is there twice
    (BERLIN, "2026-10-25", "02:00", "03:00", "2026-10-25T00:00", "2026-10-25T02:00"),
    (BERLIN, "2026-10-25", "02:15", "02:45", "2026-10-25T00:15", "2026-10-25T00:45"),
    (BERLIN, "2026-10-25", "01:00", "04:00", "2026-10-24T23:00", "2026-10-25T03:00"),
    (BERLIN, "2026-10-24", "22:00", "06:00", "2026-10-24T20:00", "2026-10-25T05:00"),
    (NEW_YORK, "2026-11-01", "01:00", "02:00", "2026-11-01T05:00", "2026-11-01T07:00"),
    (NEW_YORK, "2026-11-01", "00:30", "01:30", "2026-11-01T04:30", "2026-11-01T05:30"),
)


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(begin: str, end: str, zone: str, *days: str) -> Window:
    return msgspec.convert({"from": begin, "to": end, "time_zone": zone, "days": list(days)}, Window)


class WindowTests(SynchronousTestCase):
    def test_stretches(self) -> None:
        for zone, day, begin, end, opens, closes in STRETCHES:
            found = stretch(window(begin, end, zone), date.fromisoformat(day))
            self.assertEqual(found, (utc(opens), utc(closes)), (zone, day, begin, end))

    def openings(self, one: Window, begin: float, days: int) -> list[tuple[float, float]]:
        """From when until when it is open, asked every quarter of an hour."""
        found: list[tuple[float, float]] = []
        opened: float | None = None
        for quarter in range(days * 96):
            now = begin + quarter * 900
            if is_open([one], now) and opened is None:
                opened = now
            elif not is_open([one], now) and opened is not None:
                found.append((opened, now))
                opened = None
        return found

    def test_each_day_has_each_window_once(self) -> None:
        """Over each change: no window is missing, none is there twice."""
        changes = ((BERLIN, "2026-03-27"), (BERLIN, "2026-10-23"), (NEW_YORK, "2026-03-06"), (NEW_YORK, "2026-10-30"))
        for zone, first in changes:
            for begin, end in (
                ("02:00", "03:00"),
                ("01:00", "02:00"),
                ("02:15", "02:45"),
                ("01:15", "01:45"),
                ("23:00", "05:00"),
                ("01:30", "02:30"),
                ("02:30", "03:30"),
            ):
                start = datetime.fromisoformat(f"{first}T12:00").replace(tzinfo=zone_of(zone)).timestamp()
                found = self.openings(window(begin, end, zone), start, 5)
                days = [datetime.fromtimestamp(opens, zone_of(zone)).date() for opens, _ in found]
                self.assertEqual(len(found), 5, (zone, begin, end, found))
                self.assertEqual(len(set(days)), 5, (zone, begin, end, days))

    def test_days_are_those_on_which_it_begins(self) -> None:
        night = window("22:00", "04:00", BERLIN, "fri")
        self.assertTrue(is_open([night], utc("2026-06-12T21:00")))  # Friday, 23:00 there
        self.assertTrue(is_open([night], utc("2026-06-13T01:59")))  # Saturday, 03:59
        self.assertFalse(is_open([night], utc("2026-06-13T02:00")))
        self.assertFalse(is_open([night], utc("2026-06-13T21:00")))
        self.assertEqual(len(DAYS), 7)

    def test_the_next_opening(self) -> None:
        ones = [window("22:00", "04:00", BERLIN, "fri"), window("05:00", "06:00", NEW_YORK, "sun")]
        self.assertEqual(next_opening(ones, utc("2026-06-13T03:00")), utc("2026-06-14T09:00"))
        self.assertEqual(next_opening(ones, utc("2026-06-14T10:00")), utc("2026-06-19T20:00"))
        self.assertIsNone(next_opening(ones, utc("2026-06-14T09:30")))
        self.assertIsNone(next_opening([], 0.0))

    def test_without_windows_it_is_always_open(self) -> None:
        self.assertTrue(is_open([], 0.0))

    def test_what_is_no_window(self) -> None:
        for wrong in (
            {"from": "24:00", "to": "01:00"},
            {"from": "1:00", "to": "02:00"},
            {"from": "01:00", "to": "02:60"},
            {"from": "01:00", "to": "02:00", "days": ["today"]},
            {"from": "01:00", "to": "02:00", "time_zone": "Mars/Olympus"},
            {"from": "01:00", "to": "02:00", "time_zone": "../../etc/passwd"},
            {"from": "01:00", "to": "02:00", "time_zone": ""},
            {"from": "01:00"},
        ):
            with self.assertRaises(msgspec.ValidationError):
                msgspec.convert(wrong, Window)
