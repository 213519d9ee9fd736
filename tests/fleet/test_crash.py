"""A broker that is killed at any moment, over and over: every line is true in the end, and no order was given twice."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.fleet.campaign import Pace
from tests.fleet.bed import Bed

KINDS = ("good", "good", "good", "refuse", "keeps", "claims", "dumb")
ENDS = {"good": "confirmed", "refuse": "failed", "keeps": "failed", "claims": "failed", "dumb": "no_answer"}

#: Seconds until something happens: a kill, a device that goes or comes, or nothing but time.
EVENTS = st.lists(
    st.tuples(st.floats(0.05, 6.0), st.sampled_from(("kill", "kill", "time", "flap")), st.integers(0, 11)),
    max_size=12,
)


class CrashTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(events=EVENTS, kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=12))
    def test_every_line_is_true(self, events: list[tuple[float, str, int]], kinds: list[str]) -> None:
        bed = Bed(answer_timeout=8, fetch_timeout=15, confirm_timeout=10, queue_timeout=8)
        for number, kind in enumerate(kinds):
            bed.device(f"D{number}", kind)
        campaign = bed.campaign(pace=Pace(concurrency=3))
        for seconds, what, number in events:
            bed.tick(seconds, min(seconds, 0.25))
            device = f"D{number % len(kinds)}"
            if what == "kill":
                bed.kill()
            elif what == "flap" and device in bed.online:
                bed.off(device)
                bed.on(device)
            shown, lines, places = bed.recount(campaign)
            self.assertEqual((shown, shown), (lines, places))
        bed.tick(200)
        self.assertEqual(
            {id: line.state for id, line in bed.lines(campaign).items()},
            {f"D{number}": ENDS[kind] for number, kind in enumerate(kinds)},
        )
        self.assertTrue(bed.now(campaign).closed)
        self.assertEqual(set(bed.updater.given.values()), {1})
        self.assertEqual({line.attempt for line in bed.lines(campaign).values()}, {1})
        shown, lines, places = bed.recount(campaign)
        self.assertEqual((shown, shown), (lines, places))
        self.assertEqual(bed.faults, [])
