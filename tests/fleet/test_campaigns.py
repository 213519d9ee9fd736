"""Campaigns on a made-up protocol: who is begun and when, what becomes of each, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.fleet.campaign import Campaign, Filter, FromVersions, Pace, Retries, Stop, Targets
from broker.model.errors import BrokerError, Conflict, Invalid, LimitExceeded, NotFound, Unavailable
from tests.fleet.bed import NEW, OLD, Bed


class BedCase(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bed = Bed(**self.settings)
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))
        self.addCleanup(lambda: self.assertEqual(self.flushLoggedErrors(), []))

    def recounted(self, campaign: Any) -> dict[str, int]:
        """The counts, after all three ways to count have been compared."""
        shown, lines, places = self.bed.recount(campaign)
        self.assertEqual(shown, lines)
        self.assertEqual(shown, places)
        return shown


class OutcomeTests(BedCase):
    settings = {"confirm_timeout": 20, "answer_timeout": 10, "fetch_timeout": 15, "queue_timeout": 10}

    def outcome(self, how: str, seconds: float = 60, **fields: Any) -> tuple[str, str]:
        device = self.bed.device("A", how)
        campaign = self.bed.campaign(**fields)
        self.bed.tick(seconds)
        line = self.bed.lines(campaign)[device]
        self.recounted(campaign)
        return line.state, line.reason

    def test_one_that_does_it(self) -> None:
        device = self.bed.device("A")
        campaign = self.bed.campaign()
        self.bed.tick(5)
        line = self.bed.lines(campaign)[device]
        self.assertEqual(
            [step.state for step in line.history],
            ["waiting", "queued", "sent", "accepted", "accepted", "accepted", "rebooted", "confirmed"],
        )
        self.assertEqual((line.version, line.reported, line.attempt), (OLD, NEW, 1))
        self.assertEqual(self.bed.now(campaign).state, "finished")
        self.assertEqual(self.recounted(campaign), {"confirmed": 1})
        self.assertEqual([kind for kind, _ in self.bed.events], ["campaign_finished"])
        self.assertEqual(self.bed.events[0][1]["counts"], {"confirmed": 1})

    def test_one_that_refuses(self) -> None:
        self.assertEqual(self.outcome("refuse"), ("failed", "it has refused"))

    def test_one_that_fetches_and_keeps_its_version(self) -> None:
        self.assertEqual(self.outcome("keeps"), ("failed", f"it has fetched the image and still reports {OLD}"))

    def test_one_that_claims_the_version(self) -> None:
        self.assertEqual(self.outcome("claims"), ("failed", f"it reports {NEW} and has never fetched the image"))

    def test_one_that_claims_it_where_that_is_enough(self) -> None:
        self.assertEqual(self.outcome("claims", require_fetch=False), ("confirmed", f"it reports {NEW}"))

    def test_one_that_is_silent(self) -> None:
        self.assertEqual(self.outcome("dumb"), ("no_answer", "it has not answered"))

    def test_one_that_agrees_and_does_nothing(self) -> None:
        device = self.bed.device("A", "wait")
        campaign = self.bed.campaign()
        self.bed.updater.progress.moved(next(iter(self.bed.updater.given)), "accepted")
        self.bed.tick(14)
        self.assertEqual(self.bed.states(campaign), {device: "accepted"})
        self.bed.tick(2)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.reason), ("failed", "it has said that it will, and never fetched the image"))

    def test_one_that_never_comes_back(self) -> None:
        device = self.bed.device("A", "wait")
        campaign = self.bed.campaign()
        (order,) = self.bed.updater.given
        self.bed.updater.fetch(order)
        self.bed.off(device)
        self.bed.tick(21)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.reason), ("failed", "it has fetched the image and has not come back since"))

    def test_one_that_is_late_is_confirmed_all_the_same(self) -> None:
        device, _ = self.bed.device("A", "wait"), self.bed.device("B", "wait")
        campaign = self.bed.campaign()
        order = self.bed.at_work["A"].order.id
        self.bed.tick(9)
        self.bed.updater.progress.moved(self.bed.at_work["B"].order.id, "accepted")
        self.bed.tick(4)
        self.assertEqual(self.bed.states(campaign), {"A": "no_answer", "B": "accepted"})
        self.bed.updater.fetch(order)
        self.assertEqual(self.bed.states(campaign)[device], "no_answer")
        self.bed.report(device, NEW)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.reason), ("confirmed", f"it reports {NEW}, later than it was waited for"))
        self.assertEqual(self.recounted(campaign), {"confirmed": 1, "accepted": 1})
        self.bed.tick(30)
        self.assertEqual(self.recounted(campaign), {"confirmed": 1, "failed": 1})

    def test_a_report_without_the_image_makes_no_late_one_true(self) -> None:
        device, _ = self.bed.device("A", "dumb"), self.bed.device("B", "wait")
        campaign = self.bed.campaign()
        self.bed.updater.progress.moved(self.bed.at_work["B"].order.id, "accepted")
        self.bed.tick(12)
        self.bed.report(device, NEW)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.reported), ("no_answer", NEW))

    def test_one_whose_order_does_not_leave_has_another_turn(self) -> None:
        device = self.bed.device("A", "stuck")
        campaign = self.bed.campaign()
        self.bed.tick(12)
        self.assertEqual(self.bed.states(campaign), {device: "waiting"})
        self.assertEqual(self.bed.updater.withdrawn, [device])
        self.bed.updater.behaviour[device] = "good"
        self.bed.tick(10)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.attempt, line.failures), ("confirmed", 2, 0))

    def test_one_that_leaves_before_its_order_does(self) -> None:
        device = self.bed.device("A", "stuck")
        campaign = self.bed.campaign()
        self.bed.off(device)
        self.bed.tick(30)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.attempt), ("waiting", 1))

    def test_one_that_was_updated_by_others_meanwhile(self) -> None:
        device = self.bed.device("A", "stuck")
        campaign = self.bed.campaign()
        self.bed.report(device, NEW)
        self.bed.tick(10)
        line = self.bed.lines(campaign)[device]
        self.assertEqual((line.state, line.reason), ("skipped", f"it reports the version {NEW} already"))

    def test_what_is_told_of_orders_that_are_over(self) -> None:
        device = self.bed.device("A")
        campaign = self.bed.campaign()
        (order,) = self.bed.updater.given
        self.bed.tick(5)
        progress = self.bed.updater.progress
        progress.moved(order, "sent")
        progress.failed(order, "late")
        progress.unanswered(order)
        progress.returned(order, "late")
        progress.fetched(order)
        self.assertEqual(self.successResultOf(progress.fetching(order)), None)
        self.bed.report(device, OLD)
        self.assertEqual(self.bed.states(campaign), {device: "confirmed"})
        self.assertEqual(self.recounted(campaign), {"confirmed": 1})


class TargetTests(BedCase):
    def test_who_is_touched_and_why_others_are_not(self) -> None:
        bed = self.bed
        bed.device("good")
        bed.device("away", online=False)
        bed.device("unknown", version=None)
        bed.device("done", version=NEW)
        bed.device("disabled", disabled=True)
        bed.device("odd", attributes={"odd": True})
        bed.device("elsewhere", "dumb")
        other = bed.campaign(name="other", targets=Targets(devices=("elsewhere",)))
        plan = bed.plan(targets=Targets(devices=(*bed.registry.records, "nobody")))
        found, cursor = bed.done(bed.campaigns.preview(plan, None))
        self.assertIsNone(cursor)
        expected = {
            "away": None,
            "disabled": "it is disabled",
            "done": f"it reports the version {NEW} already",
            "elsewhere": f"it is in the campaign {other.id}, which is open",
            "good": None,
            "nobody": "there is no such device",
            "odd": "it is odd",
            "unknown": None,
        }
        self.assertEqual({one.device: one.refusal for one in found}, expected)
        self.assertEqual([one.device for one in found if one.online and not one.refusal], ["good", "unknown"])
        # The dry run has changed nothing, and says what the campaign does.
        campaign = bed.campaign(targets=plan.targets)
        lines = bed.lines(campaign)
        self.assertEqual(
            {id: line.reason for id, line in lines.items() if line.state == "skipped"},
            {id: why for id, why in expected.items() if why},
        )
        bed.tick(10)
        self.assertEqual(
            {id for id, line in bed.lines(campaign).items() if line.state == "confirmed"}, {"good", "unknown"}
        )
        self.assertEqual(bed.states(campaign)["away"], "waiting")
        self.assertEqual(bed.updater.touched, {"good", "unknown", "elsewhere"})

    def test_source_versions(self) -> None:
        bed = self.bed
        for number in range(5):
            bed.device(f"D{number}", version=f"1.{number}")
        versions = FromVersions(any_of=("1.1", "1.2", "1.3"), lower_than="1.3")
        campaign = bed.campaign(from_versions=versions)
        bed.tick(10)
        self.assertEqual(
            {id: line.reason for id, line in bed.lines(campaign).items() if line.state == "skipped"},
            {
                "D0": "its version 1.0 is none of 1.1, 1.2, 1.3",
                "D3": "its version 1.3 is not lower than 1.3",
                "D4": "its version 1.4 is none of 1.1, 1.2, 1.3",
            },
        )
        self.assertEqual(bed.updater.touched, {"D1", "D2"})

    def test_a_version_that_is_told_in_time_and_one_that_is_not(self) -> None:
        bed = self.bed
        bed.device("A", version=None)
        bed.device("B", version=None)
        campaign = bed.campaign(from_versions=FromVersions(any_of=(OLD,)))
        bed.tick(8)
        self.assertEqual(bed.states(campaign), {"A": "waiting", "B": "waiting"})
        bed.report("A", OLD)
        bed.tick(80)
        lines = bed.lines(campaign)
        self.assertEqual((lines["A"].state, lines["B"].state), ("confirmed", "skipped"))
        self.assertEqual(lines["B"].reason, "it does not tell its version")

    def test_it_is_looked_at_again_when_its_turn_comes(self) -> None:
        bed = self.bed
        bed.device("A", online=False)
        bed.device("B", online=False)
        bed.device("C", online=False)
        campaign = bed.campaign()
        bed.registry.records["A"].info = {"version": NEW}
        bed.registry.records["B"].disabled = True
        for id in "ABC":
            bed.on(id)
        bed.tick(10)
        self.assertEqual(bed.states(campaign), {"A": "skipped", "B": "skipped", "C": "confirmed"})

    def test_a_percentage_is_always_of_the_same(self) -> None:
        bed = self.bed
        for number in range(300):
            bed.device(f"D{number:03}", "wait")
        filter = Filter()
        touched: list[set[str]] = []
        for percentage in (10.0, 25.5, 50.0, 100.0):
            plan = bed.plan(targets=Targets(filter=filter, percentage=percentage))
            found, _ = bed.done(bed.campaigns.preview(plan, None))
            touched.append({one.device for one in found})
        self.assertTrue(touched[0] < touched[1] < touched[2] < touched[3])
        for share, found in zip((0.1, 0.255, 0.5, 1.0), touched, strict=True):
            self.assertLess(abs(len(found) / 300 - share), 0.07)
        # Of another version, others come first.
        found, _ = bed.done(
            bed.campaigns.preview(bed.plan(version="3.0", targets=Targets(filter=filter, percentage=10.0)), None)
        )
        self.assertNotEqual({one.device for one in found}, touched[0])

    def test_a_percentage_may_grow(self) -> None:
        bed = self.bed
        for number in range(100):
            bed.device(f"D{number:03}")
        campaign = bed.campaign(targets=Targets(filter=Filter(), percentage=10.0), pace=Pace(concurrency=100))
        bed.device("late", online=False)
        first = set(bed.states(campaign))
        targets = Targets(filter=Filter(), percentage=50.0)
        bed.done(bed.campaigns.change(campaign.id, lambda plan: bed.plan(targets=targets, pace=plan.pace)))
        bed.tick(20)
        second = bed.states(campaign)
        self.assertTrue(first < set(second))
        self.assertEqual({second[id] for id in first}, {"confirmed"})
        self.recounted(campaign)

    def test_tags_online_and_lists(self) -> None:
        bed = self.bed
        bed.device("A", attributes={"tags": ["roof"]})
        bed.device("B", attributes={"tags": ["cellar"]})
        bed.device("C", attributes={"tags": ["roof"]}, online=False)
        campaign = bed.campaign(targets=Targets(filter=Filter(tag="roof", online=True)))
        self.assertEqual(set(bed.states(campaign)), {"A"})


class PaceTests(BedCase):
    def test_so_many_at_a_time(self) -> None:
        for number in range(30):
            self.bed.device(f"D{number:02}")
        campaign = self.bed.campaign(pace=Pace(concurrency=4))
        for _ in range(60):
            self.bed.tick(0.5, 0.5)
            self.assertLessEqual(len(self.bed.at_work), 4)
        self.assertEqual(self.recounted(campaign), {"confirmed": 30})
        self.assertEqual(self.bed.updater.most_at_once, 4)

    def test_so_many_a_minute_also_over_a_restart(self) -> None:
        for number in range(40):
            self.bed.device(f"D{number:02}", "dumb")
        campaign = self.bed.campaign(pace=Pace(concurrency=100, rate=6))
        self.bed.tick(10)
        self.assertEqual(len(self.bed.updater.touched), 6)
        self.bed.kill()
        self.bed.tick(40)
        self.assertEqual(len(self.bed.updater.touched), 6)
        self.bed.tick(15)
        self.assertEqual(len(self.bed.updater.touched), 12)
        self.recounted(campaign)

    def test_the_start_is_spread(self) -> None:
        for number in range(100):
            self.bed.device(f"D{number:02}", "dumb")
        self.bed.campaign(pace=Pace(concurrency=1_000, spread=100.0))
        counts = []
        for _ in range(10):
            self.bed.tick(10)
            counts.append(len(self.bed.updater.touched))
        self.assertEqual(counts[-1], 100)
        for number, count in enumerate(counts, 1):
            self.assertLess(abs(count - number * 10), 15)

    def test_pause_and_resume(self) -> None:
        for number in range(10):
            self.bed.device(f"D{number}", "dumb" if number % 2 else "stuck")
        campaign = self.bed.campaign(pace=Pace(concurrency=4))
        self.assertEqual(len(self.bed.at_work), 4)
        self.bed.done(self.bed.campaigns.pause(campaign.id))
        self.bed.tick(20)
        # What had left goes on, what had not waits again.
        self.assertEqual({work.line.state for work in self.bed.at_work.values()}, {"sent"})
        self.assertEqual(len(self.bed.updater.touched), 4)
        self.bed.updater.behaviour = dict.fromkeys(self.bed.updater.behaviour, "good")
        self.bed.tick(300)
        self.assertEqual(len(self.bed.updater.touched), 4)
        self.bed.done(self.bed.campaigns.resume(campaign.id))
        self.bed.tick(30)
        self.assertEqual(self.recounted(campaign)["confirmed"], 8)
        self.assertEqual(self.bed.now(campaign).state, "finished")

    def test_cancel(self) -> None:
        for number in range(10):
            self.bed.device(f"D{number}", "wait" if number else "stuck")
        campaign = self.bed.campaign(pace=Pace(concurrency=3))
        self.bed.done(self.bed.campaigns.cancel(campaign.id))
        self.bed.tick(5)
        self.assertEqual(self.recounted(campaign), {"skipped": 8, "sent": 2})
        self.assertFalse(self.bed.now(campaign).closed)
        for work in list(self.bed.at_work.values()):
            self.bed.updater.fetch(work.order.id)
            self.bed.report(work.line.device, NEW)
        self.bed.tick(2)
        self.assertEqual(self.recounted(campaign), {"skipped": 8, "confirmed": 2})
        self.assertTrue(self.bed.now(campaign).closed)
        self.assertEqual(self.bed.now(campaign).state, "cancelled")
        reasons = {line.reason for line in self.bed.lines(campaign).values() if line.state == "skipped"}
        self.assertEqual(reasons, {"the campaign was cancelled"})
        # Its devices are free.
        again = self.bed.campaign(targets=Targets(devices=("D5",)))
        self.assertEqual(self.bed.states(again), {"D5": "sent"})

    def test_it_waits_for_devices_until_its_end(self) -> None:
        self.bed.device("A", online=False)
        self.bed.device("B", online=False)
        self.bed.device("C", "refuse")
        ends_at = self.bed.wall() + 3_600
        campaign = self.bed.campaign(pace=Pace(ends_at=ends_at, retries=Retries(count=5, after=10_000)))
        self.bed.tick(1_800)
        self.assertEqual(self.bed.states(campaign), {"A": "waiting", "B": "waiting", "C": "waiting"})
        self.bed.on("A")
        self.bed.tick(10)
        self.assertEqual(self.bed.states(campaign)["A"], "confirmed")
        self.bed.tick(1_800)
        lines = self.bed.lines(campaign)
        self.assertEqual(
            {id: line.state for id, line in lines.items()}, {"A": "confirmed", "B": "skipped", "C": "failed"}
        )
        self.assertEqual(lines["B"].reason, "it was offline until the end of the campaign")
        self.assertEqual(lines["C"].reason, "it has refused")
        self.assertEqual(self.bed.now(campaign).state, "finished")

    def test_a_device_that_is_removed(self) -> None:
        self.bed.device("A", online=False)
        self.bed.device("B", "dumb")
        campaign = self.bed.campaign()
        self.bed.remove("A")
        self.bed.remove("B")
        self.bed.tick(3)
        self.assertEqual(self.bed.states(campaign), {"A": "skipped", "B": "failed"})
        self.assertEqual(self.bed.now(campaign).state, "finished")

    def test_a_device_that_was_removed_while_nobody_looked(self) -> None:
        self.bed.device("A", online=False)
        campaign = self.bed.campaign()
        del self.bed.registry.records["A"]
        self.bed.kill()
        self.bed.tick(3)
        self.assertEqual(self.bed.states(campaign), {"A": "skipped"})


class ExchangeTests(BedCase):
    """A device is another piece of hardware from now on."""

    def test_what_the_one_before_has_fetched_does_not_count_for_the_next(self) -> None:
        self.bed.device("A", "wait")
        campaign = self.bed.campaign()
        self.bed.tick(2)
        (work,) = self.bed.at_work.values()
        self.bed.updater.fetch(work.order.id)
        self.bed.campaigns.exchanged("A", "it was replaced")
        self.bed.report("A", NEW)  # it came with that version
        self.bed.updater.fetch(work.order.id)  # the one before, at the address that it was given
        self.bed.report("A", NEW)
        self.bed.tick(3)
        line = self.bed.lines(campaign)["A"]
        self.assertEqual((line.state, line.reason, line.fetched_at), ("failed", "it was replaced", None))
        self.recounted(campaign)

    def test_the_next_one_has_a_turn_of_its_own(self) -> None:
        self.bed.device("A", "wait")
        campaign = self.bed.campaign(pace=Pace(retries=Retries(count=1, after=5)))
        self.bed.tick(2)
        self.bed.updater.behaviour["A"] = "good"
        self.bed.campaigns.exchanged("A", "it was replaced")
        self.bed.tick(15)
        line = self.bed.lines(campaign)["A"]
        self.assertEqual((line.state, line.attempt, line.failures), ("confirmed", 2, 1))
        self.assertEqual(len(self.bed.updater.given), 2)

    def test_one_that_waits_goes_on_waiting(self) -> None:
        self.bed.device("A", online=False)
        self.bed.device("B", "stuck")
        campaign = self.bed.campaign()
        for device in ("A", "B", "C"):
            self.bed.campaigns.exchanged(device, "it was replaced")
        self.assertEqual(self.bed.states(campaign), {"A": "waiting", "B": "queued"})
        self.bed.on("A")
        self.bed.tick(5)
        self.assertEqual(self.bed.states(campaign)["A"], "confirmed")


class RetryTests(BedCase):
    def test_by_itself(self) -> None:
        self.bed.device("A", "refuse")
        campaign = self.bed.campaign(pace=Pace(retries=Retries(count=2, after=100)))
        self.bed.tick(50)
        line = self.bed.lines(campaign)["A"]
        self.assertEqual((line.state, line.reason, line.failures), ("waiting", "is tried again: it has refused", 1))
        self.bed.kill()  # half of the time is over, and stays so
        self.bed.tick(55)
        self.assertEqual(self.bed.lines(campaign)["A"].attempt, 2)
        self.bed.tick(110)
        line = self.bed.lines(campaign)["A"]
        self.assertEqual((line.state, line.attempt, line.failures), ("failed", 3, 3))
        self.assertEqual(self.bed.now(campaign).state, "finished")
        self.recounted(campaign)

    def test_by_hand_after_the_end(self) -> None:
        for number in range(6):
            self.bed.device(f"D{number}", ("good", "refuse", "claims")[number % 3])
        campaign = self.bed.campaign()
        self.bed.tick(10)
        self.assertEqual(self.recounted(campaign), {"confirmed": 2, "failed": 4})
        self.assertTrue(self.bed.now(campaign).closed)
        taken = self.bed.campaign(version="3.0", targets=Targets(devices=("D4",)), pace=Pace(concurrency=1))
        self.bed.updater.behaviour.update(dict.fromkeys(("D1", "D2", "D5"), "good"))
        self.assertEqual(self.bed.done(self.bed.campaigns.retry(campaign.id)), 3 if taken.closed is False else 4)
        self.bed.tick(10)
        counts = self.bed.recount(campaign)
        self.assertEqual(counts[0], counts[1])
        self.assertEqual(counts[0], {"confirmed": 5, "failed": 1})
        self.assertEqual(self.bed.lines(campaign)["D2"].attempt, 2)

    def test_of_what_is_cancelled_or_a_draft(self) -> None:
        self.bed.device("A", "refuse")
        campaign = self.bed.campaign(start=False)
        with self.assertRaises(Conflict):
            self.bed.done(self.bed.campaigns.retry(campaign.id))


class StopTests(BedCase):
    def test_it_stops_and_touches_no_more(self) -> None:
        """95 of 200 would fail; with five at a time, at most five are touched beyond those that tell it to stop."""
        for number in range(200):
            self.bed.device(f"D{number:03}", "refuse" if number % 2 else "good")
        places = 5
        campaign = self.bed.campaign(pace=Pace(concurrency=places, stop=Stop(percent=5, minimum=40)))
        ended_at_stop: int | None = None
        for _ in range(200):
            self.bed.tick(0.2, 0.2)
            if self.bed.now(campaign).state == "stopped" and ended_at_stop is None:
                counts = self.recounted(campaign)
                ended_at_stop = counts["failed"] + counts["confirmed"]
        assert ended_at_stop is not None
        counts = self.recounted(campaign)
        self.assertEqual(self.bed.now(campaign).reason, "2 of 4 devices have failed")
        self.assertGreaterEqual(counts["failed"], 2)
        self.assertLessEqual(len(self.bed.updater.touched), 2 + 2 + places)
        self.assertEqual(counts["waiting"], 200 - len(self.bed.updater.touched))
        self.assertEqual([kind for kind, _ in self.bed.events], ["campaign_stopped"])

    def test_all_fail_with_retries_left(self) -> None:
        """Failures that will be tried again count, too: else every device would be touched before it stops."""
        for number in range(100):
            self.bed.device(f"D{number:03}", "refuse")
        campaign = self.bed.campaign(
            pace=Pace(concurrency=10, stop=Stop(percent=5, minimum=20), retries=Retries(count=3, after=3_600))
        )
        self.bed.tick(60)
        self.assertEqual(self.bed.now(campaign).state, "stopped")
        failed = sum(line.failures > 0 for line in self.bed.lines(campaign).values())
        self.assertLessEqual(len(self.bed.updater.touched), failed + 10)
        self.assertLessEqual(len(self.bed.updater.touched), 11)

    def test_it_does_not_stop_below(self) -> None:
        for number in range(60):
            self.bed.device(f"D{number:02}", "refuse" if number % 20 == 0 else "good")
        campaign = self.bed.campaign(pace=Pace(stop=Stop(percent=10, minimum=20)))
        self.bed.tick(60)
        self.assertEqual(self.recounted(campaign), {"confirmed": 57, "failed": 3})

    def test_a_crash_does_not_make_it_forget(self) -> None:
        for number in range(50):
            self.bed.device(f"D{number:02}", "refuse")
        campaign = self.bed.campaign(pace=Pace(concurrency=5, stop=Stop(percent=50, minimum=4)))
        self.bed.tick(5)
        touched = len(self.bed.updater.touched)
        self.bed.kill()
        self.bed.tick(60)
        self.assertEqual((self.bed.now(campaign).state, len(self.bed.updater.touched)), ("stopped", touched))

    def test_resuming_begins_to_count_anew(self) -> None:
        for number in range(50):
            self.bed.device(f"D{number:02}", "refuse" if number < 10 else "good")
        campaign = self.bed.campaign(pace=Pace(concurrency=1, stop=Stop(percent=10, minimum=10)))
        self.bed.tick(10)
        self.assertEqual(self.bed.now(campaign).state, "stopped")
        for _ in range(20):
            if self.bed.now(campaign).state == "stopped":
                self.bed.done(self.bed.campaigns.resume(campaign.id))
            self.bed.tick(10)
        self.assertEqual(self.bed.now(campaign).state, "finished")
        self.assertEqual(self.recounted(campaign), {"confirmed": 40, "failed": 10})

    def test_no_answer_is_a_failure_and_skipped_lines_are_none(self) -> None:
        for number in range(20):
            self.bed.device(f"D{number:02}", "dumb", version=NEW if number % 2 else OLD)
        campaign = self.bed.campaign(pace=Pace(concurrency=2, stop=Stop(percent=20, minimum=10)))
        self.bed.tick(200)
        self.assertEqual(self.bed.now(campaign).state, "stopped")
        self.assertEqual(self.recounted(campaign), {"no_answer": 2, "skipped": 10, "waiting": 8})


class RefusalTests(BedCase):
    settings = {"max_campaigns": 3, "max_concurrency": 50}

    def refused(self, error: type[BrokerError], **fields: Any) -> str:
        with self.assertRaises(error) as caught:
            self.bed.done(self.bed.campaigns.create(self.bed.plan(**fields)))
        return str(caught.exception)

    def test_what_is_no_campaign(self) -> None:
        self.assertIn("made", self.refused(Invalid, protocol="other"))
        self.refused(NotFound, image="another")
        self.assertIn("50", self.refused(Invalid, pace=Pace(concurrency=51)))
        self.assertIn("over", self.refused(Invalid, pace=Pace(ends_at=self.bed.wall() - 1)))
        with self.assertRaises(ValueError):
            Targets()
        with self.assertRaises(ValueError):
            Targets(devices=("A",), filter=Filter())

    def changed(self, campaign: Campaign, **fields: Any) -> Campaign:
        changed: Campaign = self.bed.done(self.bed.campaigns.change(campaign.id, lambda plan: self.bed.plan(**fields)))
        return changed

    def test_there_are_only_so_many(self) -> None:
        kept = [self.bed.campaign(start=False) for _ in range(3)]
        self.refused(LimitExceeded)
        self.bed.done(self.bed.campaigns.remove(kept[0].id))
        self.bed.campaign(start=False)

    def test_calls_in_the_wrong_state(self) -> None:
        self.bed.device("A", "dumb")
        campaign = self.bed.campaign(start=False)
        campaigns = self.bed.campaigns
        call: Callable[[str], Deferred[Any]]
        for call in (campaigns.pause, campaigns.resume):
            with self.assertRaises(Conflict):
                self.bed.done(call(campaign.id))
        self.bed.done(campaigns.start(campaign.id))
        self.bed.tick(1)
        for call in (campaigns.start, campaigns.resume, campaigns.remove):
            with self.assertRaises(Conflict):
                self.bed.done(call(campaign.id))
        with self.assertRaises(NotFound):
            self.bed.done(campaigns.pause("nothing"))

    def test_what_cannot_be_changed_any_more(self) -> None:
        self.bed.device("A", "dumb")
        campaign = self.bed.campaign()
        for change in (
            {"version": "3.0"},
            {"backup": True},
            {"targets": Targets(devices=("A",))},
            {"targets": Targets(filter=Filter(), percentage=50.0)},
        ):
            with self.assertRaises(Conflict):
                self.changed(campaign, **change)
        draft = self.bed.campaign(start=False)
        self.assertEqual(self.changed(draft, version="3.0").release.version, "3.0")

    def test_a_deleted_campaign_leaves_nothing(self) -> None:
        for number in range(5):
            self.bed.device(f"D{number}")
        campaign = self.bed.campaign()
        self.bed.tick(10)
        self.bed.done(self.bed.campaigns.remove(campaign.id))
        self.assertEqual({name: table for name, table in self.bed.storage.tables.items() if table}, {})

    def test_changes_are_announced_once_a_second(self) -> None:
        for number in range(20):
            self.bed.device(f"D{number:02}")
        campaign = self.bed.campaign(pace=Pace(concurrency=20))
        self.bed.announced.clear()
        self.bed.tick(10)
        self.assertLessEqual(len(self.bed.announced), 11)
        kind, last = self.bed.announced[-1]
        self.assertEqual(
            (kind, last["id"], last["state"], last["counts"]), ("campaign", campaign.id, "finished", {"confirmed": 20})
        )


class FullDiskTests(BedCase):
    def test_nothing_is_begun_that_is_not_on_disk(self) -> None:
        for number in range(6):
            self.bed.device(f"D{number}")
        campaign = self.bed.campaign(start=False)
        self.bed.storage.broken = True
        with self.assertRaises(Unavailable):
            self.bed.done(self.bed.campaigns.start(campaign.id))
        self.bed.storage.broken = False
        self.bed.done(self.bed.campaigns.start(campaign.id))
        self.bed.storage.broken = True
        self.bed.tick(10)
        self.assertEqual(self.bed.updater.touched, set())
        self.bed.storage.broken = False
        self.bed.tick(60)
        self.assertEqual(self.recounted(campaign), {"confirmed": 6})
        self.assertEqual(set(self.bed.updater.given.values()), {1})

    def test_what_happens_meanwhile_is_written_later(self) -> None:
        for number in range(4):
            self.bed.device(f"D{number}", "wait")
        campaign = self.bed.campaign()
        orders = {work.line.device: work.order.id for work in self.bed.at_work.values()}
        self.bed.storage.broken = True
        self.bed.updater.progress.failed(orders["D0"], "it has refused")
        self.failureResultOf(self.bed.updater.progress.fetching(orders["D1"]), Unavailable)
        with self.assertRaises(Unavailable):
            self.bed.done(self.bed.campaigns.pause(campaign.id))
        self.assertEqual(self.bed.now(campaign).state, "paused")
        self.bed.tick(3)
        self.bed.storage.broken = False
        self.bed.tick(2)
        self.assertEqual(self.bed.states(campaign), {"D0": "failed", "D1": "accepted", "D2": "sent", "D3": "sent"})
        self.recounted(campaign)
        self.bed.kill()
        self.assertEqual(self.bed.now(campaign).state, "paused")
