"""Simulated hours in which something changes: settings of the broker, the broker itself, motes that begin anew.

Whatever it is, no downlink misses its window, nothing is delivered twice, and what was ordered arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.lorawan.day import Day, Scenario

HOUR: Final = 3600.0
#: Windows that are not those of EU868, and what motes have to be told to have them.
OTHER: Final[dict[str, Any]] = {"rx1_delay": 3, "rx1_offset": 2, "rx2_rate": 3, "rx2_frequency": 869_050_000}


class ChangeTests(SynchronousTestCase):
    def play(self, *changes: tuple[float, Callable[[Day], None]], region: str = "eu868", **settings: Any) -> Day:
        """A small town for six hours; ``changes`` come at their hours."""
        scenario = Scenario(
            region=region,
            motes=30,
            gateways=3,
            radius=0.8,
            hours=6.0,
            every=300.0,
            confirmed=0.1,
            class_c=0.2,
            commands=60.0,
        )
        day = Day(scenario, **settings)
        for hour, change in changes:
            day.clock.callLater(hour * HOUR, change, day)
        day.run()
        self.assertEqual(day.inside.faults, [])
        self.assertEqual([one for one in day.air.violations if one.why], [])
        self.assertEqual(day.inside.watcher.twice, 0)
        return day

    def share_delivered(self, day: Day) -> float:
        messages = sum(mote.tally.messages for mote in day.motes)
        return sum(map(len, day.inside.watcher.delivered.values())) / messages

    def succeeded(self, day: Day) -> float:
        states = [day.inside.watcher.states.get(id) for id in day.orders]
        return states.count("succeeded") / len(states)

    def test_other_windows_from_the_beginning(self) -> None:
        day = self.play(**OTHER)
        for mote in day.motes:
            mac = mote.mac
            self.assertEqual((mac.rx_delay, mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency), (3, 2, 3, 869_050_000))
        self.assertGreater(self.share_delivered(day), 0.98)
        self.assertGreater(self.succeeded(day), 0.9)

    def test_other_windows_while_it_runs(self) -> None:
        """Motes are told with MAC commands, and listened to meanwhile where each of them is by then. And back again."""
        day = self.play((2.0, lambda day: day.change(**OTHER)))
        for mote in day.motes:
            mac = mote.mac
            self.assertEqual((mac.rx_delay, mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency), (3, 2, 3, 869_050_000))
        self.assertGreater(self.succeeded(day), 0.9)
        standard = {"rx1_delay": 1, "rx1_offset": 0, "rx2_rate": -1, "rx2_frequency": 0}
        day = self.play((2.0, lambda day: day.change(**OTHER)), (4.0, lambda day: day.change(**standard)))
        for mote in day.motes:
            mac = mote.mac
            self.assertEqual((mac.rx_delay, mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency), (1, 0, 0, 869_525_000))

    def test_dwell_time_and_duty_cycle(self) -> None:
        day = self.play((1.0, lambda day: day.change(dwell_time="none", max_duty_cycle=7)), region="as923")
        for mote in day.motes:
            self.assertEqual((mote.mac.dwell_up, mote.mac.duty), (False, 1 / 128))

    def test_the_broker_is_killed(self) -> None:
        """Sessions, counters and what motes were told are on disk; class C motes get their commands, A motes too."""
        day = self.play((1.5, Day.restart), (3.0, Day.restart), (4.0, Day.restart))
        self.assertEqual(sum(mote.tally.joins for mote in day.motes), 30)
        self.assertGreater(self.share_delivered(day), 0.98)
        self.assertGreater(self.succeeded(day), 0.85)
        self.assertEqual([mote.name for mote in day.motes if mote.tally.unread > 2], [])

    def test_the_broker_is_killed_while_windows_change(self) -> None:
        day = self.play((2.0, lambda day: day.change(**OTHER)), *((2.05 + 0.05 * n, Day.restart) for n in range(4)))
        for mote in day.motes:
            mac = mote.mac
            self.assertEqual((mac.rx_delay, mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency), (3, 2, 3, 869_050_000))

    def test_motes_begin_anew(self) -> None:
        def half(day: Day) -> None:
            for mote in day.motes[::2]:
                mote.rejoin()

        day = self.play((1.0, half), (2.0, half), (4.0, half))
        self.assertTrue(all(mote.joined for mote in day.motes))
        self.assertEqual(sum(mote.tally.joins for mote in day.motes) // 75, 1)
        self.assertGreater(self.share_delivered(day), 0.98)
        self.assertGreater(self.succeeded(day), 0.85)
