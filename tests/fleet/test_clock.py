"""Windows, ends and time-outs of a campaign while the clock is put forward, put back, or jumps by a day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.fleet.campaign import Pace, Retries
from broker.model.windows import Window
from tests.fleet.bed import Bed

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(begin: str, end: str, zone: str, *days: str) -> Window:
    return msgspec.convert({"from": begin, "to": end, "time_zone": zone, "days": list(days)}, Window)


class ClockCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()

    def fleet(self, count: int, how: str = "good") -> None:
        for number in range(count):
            self.bed.device(f"D{number:04}", how)

    def begun(self, until: str) -> list[str]:
        """When devices are begun until then, minute by minute, in UTC."""
        found: list[str] = []
        while self.bed.wall() < utc(until):
            before = len(self.bed.updater.touched)
            self.bed.tick(MINUTE, MINUTE)
            if len(self.bed.updater.touched) > before:
                found.append(datetime.fromtimestamp(self.bed.wall(), UTC).strftime("%dT%H:%M"))
        return found

    def hours(self, begun: list[str]) -> list[str]:
        """Day and hour in which there was something."""
        return sorted({one[:5] for one in begun})


class DaylightTests(ClockCase):
    """A device a minute may begin, so that it is seen when a window is open."""

    def runs(self, start: str, end: str, one: Window) -> list[str]:
        self.fleet(2_000)
        self.bed.jump_to(utc(start))
        self.bed.campaign(pace=Pace(rate=1, windows=(one,)))
        found = self.begun(end)
        # Each device once, whatever the clock did.
        self.assertEqual(set(self.bed.updater.given.values()), {1})
        return found

    def test_berlin_forward(self) -> None:
        found = self.runs("2026-03-28T00:00", "2026-03-30T23:30", window("02:00", "03:00", BERLIN))
        self.assertEqual(self.hours(found), ["28T01", "29T01", "30T00"])

    def test_berlin_back(self) -> None:
        found = self.runs("2026-10-24T00:00", "2026-10-27T00:00", window("02:15", "02:45", BERLIN))
        self.assertEqual(self.hours(found), ["24T00", "25T00", "26T01"])
        self.assertEqual(next(one for one in found if one.startswith("25")), "25T00:15")
        self.assertEqual([one for one in found if one.startswith("25")][-1], "25T00:44")

    def test_berlin_back_in_the_hour_that_is_there_twice(self) -> None:
        found = self.runs("2026-10-24T12:00", "2026-10-25T12:00", window("02:00", "03:00", BERLIN))
        self.assertEqual(self.hours(found), ["25T00", "25T01"])

    def test_new_york_forward(self) -> None:
        found = self.runs("2026-03-07T00:00", "2026-03-10T00:00", window("02:30", "02:45", NEW_YORK))
        self.assertEqual(self.hours(found), ["07T07", "08T07", "09T06"])

    def test_new_york_back(self) -> None:
        found = self.runs("2026-10-31T00:00", "2026-11-03T00:00", window("01:10", "01:20", NEW_YORK))
        self.assertEqual(self.hours(found), ["01T05", "02T06", "31T05"])


class JumpTests(ClockCase):
    def campaign(self, **pace: Any) -> Any:
        return self.bed.campaign(pace=Pace(rate=1, **pace))

    def test_a_day_forward_in_a_window_and_back(self) -> None:
        self.fleet(1_000)
        self.bed.jump_to(utc("2026-06-10T01:59"))
        campaign = self.campaign(windows=(window("02:00", "04:00", "UTC"),))
        self.assertEqual(self.hours(self.begun("2026-06-10T02:30")), ["10T02"])
        self.bed.jump(DAY)
        self.assertEqual(self.hours(self.begun("2026-06-11T02:58")), ["11T02"])
        self.bed.jump(-DAY)
        # The window that the clock shows is open; who was begun in it before is not begun again.
        self.assertEqual(self.hours(self.begun("2026-06-10T05:00")), ["10T02", "10T03"])
        self.assertEqual(self.hours(self.begun("2026-06-11T05:00")), ["11T02", "11T03"])
        self.assertEqual(set(self.bed.updater.given.values()), {1})
        self.assertTrue(all(line.attempt <= 1 for line in self.bed.lines(campaign).values()))

    def test_over_a_window_and_back_before_it(self) -> None:
        self.fleet(1_000)
        self.bed.jump_to(utc("2026-06-10T00:00"))
        self.campaign(windows=(window("02:00", "03:00", "UTC"),))
        self.bed.jump(12 * HOUR)
        self.assertEqual(self.begun("2026-06-10T12:30"), [])
        self.bed.jump(-12 * HOUR)
        self.assertEqual(self.hours(self.begun("2026-06-10T04:00")), ["10T02"])

    def test_an_end_does_not_come_by_a_jump_that_is_taken_back(self) -> None:
        self.bed.device("A", online=False)
        campaign = self.campaign(ends_at=self.bed.wall() + HOUR)
        self.bed.tick(5)
        self.bed.jump(DAY)
        self.bed.tick(300)
        self.assertEqual(self.bed.states(campaign), {"A": "waiting"})
        self.bed.jump(-DAY)
        self.bed.tick(HOUR - 400)
        self.assertEqual(self.bed.states(campaign), {"A": "waiting"})
        self.bed.tick(700)
        self.assertEqual(self.bed.states(campaign), {"A": "skipped"})

    def test_an_end_comes_after_a_jump_that_stays(self) -> None:
        self.bed.device("A", online=False)
        campaign = self.campaign(ends_at=self.bed.wall() + HOUR)
        self.bed.jump(DAY)
        self.bed.tick(605)
        self.assertEqual(self.bed.states(campaign), {"A": "skipped"})

    def test_what_takes_so_many_seconds_takes_them_whatever_the_clock_shows(self) -> None:
        self.bed.device("A", "dumb")
        campaign = self.campaign(retries=Retries(count=1, after=100), spread=0.0)
        self.bed.jump(DAY)
        self.bed.tick(30)
        self.assertEqual(self.bed.states(campaign), {"A": "sent"})
        self.bed.tick(32)
        self.assertEqual(self.bed.states(campaign), {"A": "waiting"})
        self.bed.jump(-2 * DAY)
        self.bed.tick(90)
        self.assertEqual(self.bed.lines(campaign)["A"].attempt, 1)
        self.bed.tick(20)
        self.assertEqual(self.bed.lines(campaign)["A"].attempt, 2)

    def test_a_restart_after_a_jump_back_keeps_nobody_waiting_for_a_day(self) -> None:
        self.bed.device("A", "refuse")
        campaign = self.campaign(retries=Retries(count=1, after=100))
        self.bed.tick(5)
        self.bed.jump(-DAY)
        self.bed.kill()
        self.bed.tick(110)
        self.assertEqual(self.bed.lines(campaign)["A"].attempt, 2)
