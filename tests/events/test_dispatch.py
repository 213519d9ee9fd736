"""From events to sinks: rules, limits, queues that outlive everything, dead letters. Time by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from broker.events.buckets import RateLimit
from broker.events.rules import Rule
from broker.events.settings import EventsTable
from broker.events.sinks import Outcome, delivered, never, not_now
from broker.model.errors import LimitExceeded, NotFound
from broker.model.messages import FAILED, Command
from tests.events.bed import EventBed


class DispatchBed(EventBed):
    settings = EventsTable(retry_for=7_200.0, max_queue=50, max_dead_letters=20, max_sinks=3, max_rules=3)

    def emit(self, count: int = 1, kind: str = "backup_failed", device: str | None = None) -> list[str]:
        """The ids."""
        before = len(self.told)
        for number in range(count):
            self.events.emit(kind, device, {"n": number})
        return [event.id for event in self.told[before:]]

    @property
    def taken_ids(self) -> list[str]:
        return [event.id for event in self.taken]

    def courier(self, id: str = "s1") -> Any:
        return self.side.courier_of(id)

    def on_disk(self, table: str) -> int:
        return len(self.storage.tables.get(table, {}))


class RuleTests(DispatchBed):
    def setUp(self) -> None:
        super().setUp()
        self.sink()
        self.sink("s2")

    def sinks_of(self, kind: str, device: str | None) -> list[str]:
        self.attempts.clear()
        self.emit(kind=kind, device=device)
        return sorted(sink for sink, _ in self.attempts)

    def test_without_rules_nobody_is_told(self) -> None:
        self.assertEqual(self.sinks_of("backup_failed", None), [])

    def test_kinds(self) -> None:
        self.rule(kinds=("backup_failed", "storage_problem"))
        self.rule("r2", ["s2"])
        self.assertEqual(self.sinks_of("backup_failed", None), ["s1", "s2"])
        self.assertEqual(self.sinks_of("campaign_finished", None), ["s2"])
        self.assertEqual(self.sinks_of("command_failed", None), [])

    def test_two_rules_and_one_sink_are_one_delivery(self) -> None:
        self.rule()
        self.rule("r2", ["s1", "s2"])
        self.assertEqual(self.sinks_of("backup_failed", None), ["s1", "s2"])

    def test_rules_that_are_off_or_gone(self) -> None:
        self.rule(enabled=False)
        self.assertEqual(self.sinks_of("backup_failed", None), [])
        self.successResultOf(self.side.rules.change("r1", lambda rule: type(rule)(id="r1", sinks=("s1",))))
        self.assertEqual(self.sinks_of("backup_failed", None), ["s1"])
        self.successResultOf(self.side.rules.remove("r1"))
        self.assertEqual(self.sinks_of("backup_failed", None), [])

    def test_filters(self) -> None:
        self.device("g1", "gateway88", name="Hall North")
        self.device("d1", parent="g1", product="lamp")
        self.storage.applications["d1"] = ["app"]
        self.rule()
        for fields, fits in (
            ({"ids": ("d1", "x")}, True),
            ({"ids": ("x",)}, False),
            ({"protocols": ("novacloud",)}, True),
            ({"protocols": ("gateway88",)}, False),
            ({"products": ("lamp",)}, True),
            ({"products": ("pump",)}, False),
            ({"applications": ("app", "other")}, True),
            ({"applications": ("other",)}, False),
            ({"parents": ("g1",)}, True),
            ({"parents": ("g2",)}, False),
            ({"q": "D1"}, True),
            ({"q": "hall"}, False),
            ({"protocols": ("novacloud",), "products": ("pump",)}, False),
        ):
            self.successResultOf(self.side.rules.remove("r1"))
            self.rule(devices=dict(fields))
            self.assertEqual(self.sinks_of("backup_failed", "d1"), ["s1"] if fits else [], fields)
            self.assertEqual(self.sinks_of("backup_failed", None), [], fields)

    def test_a_filter_sees_what_the_registry_has_now(self) -> None:
        self.device("d1", name="lamp")
        self.rule(devices={"q": "pump"})
        self.assertEqual(self.sinks_of("backup_failed", "d1"), [])
        self.storage.devices["d1"].name = "pump"
        self.registry._tell("device_updated", "d1")
        self.assertEqual(self.sinks_of("backup_failed", "d1"), ["s1"])

    def test_failed_commands_are_events_once_a_rule_asks(self) -> None:
        self.device("d1")
        command = Command("c1", "d1", "novacloud", {"light": "ON"}, "admin", 0.0, 10.0)
        command.status = FAILED
        self.router.command(command)
        self.assertEqual(self.kinds, [])
        self.rule(kinds=("command_failed",))
        self.router.command(command)
        self.assertEqual(self.kinds, [("command_failed", "d1")])
        self.assertEqual(self.told[0].details["command"], "c1")
        command.late.append({"status": "succeeded", "result": None, "at": 1.0})
        self.router.command(command)  # an answer came after all; that it has failed was told
        self.assertEqual(self.kinds, [("command_failed", "d1")])

    def test_no_more_than_the_settings_allow(self) -> None:
        for number in range(3):
            self.rule(f"r{number}")
        self.failureResultOf(self.side.rules.add("r9", Rule(id="r9")), LimitExceeded)
        self.assertIsNone(self.side.rules.find("r9"))

    def test_they_are_there_after_a_restart(self) -> None:
        self.rule(devices={"q": "pump"}, rate_limit=RateLimit(events=5, seconds=60), offline_after=9.0)
        before = list(self.side.rules), list(self.side.sinks)
        self.crash()
        self.assertEqual((list(self.side.rules), list(self.side.sinks)), before)


class DeliveryTests(DispatchBed):
    def setUp(self) -> None:
        super().setUp()
        self.sink()
        self.rule()

    def test_in_order_one_at_a_time(self) -> None:
        first: Deferred[Outcome] = Deferred()
        self.outcomes = [first]
        ids = self.emit(5)
        self.assertEqual(self.attempts, [("s1", ids[:1])])
        first.callback(delivered(200))
        self.assertEqual(self.taken_ids, ids)
        self.assertEqual((self.courier().queued, self.on_disk("event_queue")), (0, 0))

    def test_it_is_on_disk_before_it_is_sent(self) -> None:
        self.outcomes = [Deferred()]
        self.storage.held = True
        self.emit()
        self.assertEqual(self.attempts, [])
        for _ in range(10):
            self.storage.go_on()
        self.assertEqual(len(self.attempts), 1)
        self.assertEqual(self.on_disk("event_queue"), 1)

    def test_one_that_comes_while_the_list_is_read(self) -> None:
        first: Deferred[Outcome] = Deferred()
        self.outcomes = [first]
        ids = self.emit()
        courier = self.courier()
        slow: Deferred[Any] = Deferred()
        page = courier._queue.page
        courier._queue.page = lambda *given: slow
        first.callback(delivered(200))
        courier._queue.page = page
        ids += self.emit()
        slow.callback([])  # as it was before the second one
        self.assertEqual(self.taken_ids, ids)

    def test_an_hour_of_no_answer(self) -> None:
        self.outcomes = [not_now("cannot connect")] * 10_000
        ids: list[str] = []
        for _ in range(60):
            ids += self.emit()
            self.pass_time(60)
            if len(ids) == 30:
                self.assertEqual(self.courier().trouble.detail, "cannot connect")
        self.assertEqual(self.taken, [])
        self.assertLess(len(self.attempts), 30)
        self.outcomes = []
        self.pass_time(600)
        # What did not fit into the queue is among the dead letters.
        self.assertEqual(self.taken_ids, ids[:50])
        self.assertEqual(self.courier().dead, 10)
        self.assertIsNone(self.courier().trouble)

    def test_the_pauses(self) -> None:
        self.outcomes = [not_now("no")] * 100
        self.emit()
        at: list[float] = []
        for _ in range(3_000):
            known = len(self.attempts)
            self.pass_time(1)
            at += [self.clock.seconds()] * (len(self.attempts) - known)
        pauses = [later - before for before, later in pairwise(at)]
        self.assertLessEqual(max(pauses), 601)
        self.assertGreaterEqual(min(pauses[9:]), 299)
        self.assertLess(at[2] - at[0], 15)

    def test_what_the_receiver_wishes(self) -> None:
        self.outcomes = [not_now("busy", 429, 120.0), not_now("busy", 503, 1e9)]
        self.emit()
        self.pass_time(118)
        self.assertEqual(len(self.attempts), 1)
        self.pass_time(4)
        self.assertEqual(len(self.attempts), 2)
        self.pass_time(3_590)
        self.assertEqual(len(self.attempts), 2)
        self.pass_time(20)
        self.assertEqual(len(self.taken), 1)

    def test_refused_for_good(self) -> None:
        self.outcomes = [never("answered 400: what?", 400)]
        ids = self.emit(3)
        self.assertEqual(self.taken_ids, ids[1:])
        ((_, letter),) = self.successResultOf(self.courier().dead_letters(10, None))
        self.assertEqual((letter.event.id, letter.status, letter.attempts), (ids[0], 400, 1))
        self.assertEqual(self.courier().dead, 1)

    def test_too_old(self) -> None:
        self.outcomes = [not_now("no", 500)] * 1_000
        (old,) = self.emit()
        self.pass_time(7_000)
        (young,) = self.emit()
        self.ahead += 1e6  # a clock that jumps makes nothing older
        self.pass_time(900)
        ((_, letter),) = self.successResultOf(self.courier().dead_letters(10, None))
        self.assertEqual((letter.event.id, letter.status), (old, 500))
        self.outcomes = []
        self.pass_time(700)
        self.assertEqual(self.taken_ids, [young])

    def test_dead_letters_again_and_no_more(self) -> None:
        self.outcomes = [never("no", 410)] * 3
        ids = self.emit(3)
        courier = self.courier()
        self.assertEqual(self.successResultOf(courier.revive(lambda letter: letter.event.id == ids[1])), 1)
        self.assertEqual(self.taken_ids, [ids[1]])
        self.assertEqual(self.successResultOf(courier.drop(lambda letter: letter.event.id == ids[0])), 1)
        self.assertEqual(self.successResultOf(courier.revive(lambda letter: True)), 1)
        self.assertEqual(self.taken_ids, [ids[1], ids[2]])
        self.assertEqual((courier.dead, courier.queued, self.on_disk("event_dead_letters")), (0, 0, 0))

    def test_the_oldest_dead_letters_go(self) -> None:
        self.outcomes = [never("no")] * 25
        ids = self.emit(25)
        self.pass_time(61)
        found = self.successResultOf(self.courier().dead_letters(100, None))
        self.assertEqual([letter.event.id for _, letter in found], ids[5:])

    def test_pages_of_dead_letters(self) -> None:
        self.outcomes = [never("no")] * 5
        ids = self.emit(5)
        first = self.successResultOf(self.courier().dead_letters(3, None))
        rest = self.successResultOf(self.courier().dead_letters(3, first[-1][0]))
        self.assertEqual([letter.event.id for _, letter in [*first, *rest]], ids)

    def test_a_crash_while_it_is_sent(self) -> None:
        self.outcomes = [Deferred()]
        ids = self.emit(3)
        self.crash()
        self.assertEqual(self.taken_ids, ids)
        self.crash()
        self.assertEqual(self.taken_ids, ids)

    def test_storage_that_is_away_when_it_was_taken(self) -> None:
        answer: Deferred[Outcome] = Deferred()
        self.outcomes = [answer]
        ids = self.emit(2)
        self.storage.away = True
        answer.callback(delivered(200))
        self.pass_time(30)
        self.assertEqual(self.taken_ids, ids[:1])
        self.storage.away = False
        self.pass_time(3)
        self.assertEqual(self.taken_ids, ids)

    def test_while_it_is_off_events_wait(self) -> None:
        self.successResultOf(self.side.sinks.change("s1", lambda sink: self.changed(sink, enabled=False)))
        ids = self.emit(2)
        self.pass_time(100)
        self.assertEqual((self.attempts, self.courier().queued), ([], 2))
        self.successResultOf(self.side.sinks.change("s1", lambda sink: self.changed(sink, enabled=True)))
        self.assertEqual(self.taken_ids, ids)

    def test_a_change_of_the_sink_is_tried_at_once(self) -> None:
        self.outcomes = [not_now("no")] * 12
        ids = self.emit()
        self.pass_time(3_000)
        self.outcomes = []
        self.successResultOf(self.side.sinks.change("s1", lambda sink: self.changed(sink, url="http://x/")))
        self.assertEqual(self.taken_ids, ids)

    def test_a_sink_that_is_removed_takes_its_queue_with_it(self) -> None:
        self.outcomes = [never("no"), *[not_now("no")] * 10]
        self.emit(3)
        self.successResultOf(self.side.sinks.remove("s1"))
        self.pass_time(10)
        self.assertEqual((self.on_disk("event_queue"), self.on_disk("event_dead_letters")), (0, 0))
        self.assertRaises(NotFound, self.side.courier_of, "s1")
        self.emit()
        self.assertEqual(self.on_disk("event_queue"), 0)

    def test_one_sink_that_is_down_keeps_nothing_from_another(self) -> None:
        self.sink("s2")
        self.rule("r2", ["s2"])
        self.outcomes = [Deferred()]
        ids = self.emit(3)
        self.assertEqual(self.taken_ids, ids)
        self.assertEqual({sink for sink, _ in self.attempts}, {"s1", "s2"})

    def changed(self, sink: Any, **values: Any) -> Any:
        return msgspec.structs.replace(sink, **values)


class BatchTests(DispatchBed):
    def setUp(self) -> None:
        super().setUp()
        self.sink(batch=4)
        self.rule()

    def test_batches_stay_what_they_are_while_they_are_tried(self) -> None:
        first: Deferred[Outcome] = Deferred()
        self.outcomes = [first, not_now("no"), not_now("no")]
        ids = self.emit(7)
        first.callback(delivered(204))
        self.assertEqual([sent for _, sent in self.attempts], [ids[:1], ids[1:5]])
        ids += self.emit(3)
        self.pass_time(20)
        self.assertEqual([sent for _, sent in self.attempts[1:4]], [ids[1:5]] * 3)
        self.assertEqual(self.taken_ids, ids)

    def test_a_batch_that_is_refused_is_sent_one_by_one(self) -> None:
        first: Deferred[Outcome] = Deferred()
        self.outcomes = [first, never("no", 400), delivered(200), never("no", 400), delivered(200)]
        ids = self.emit(9)
        first.callback(delivered(200))
        self.assertEqual(
            [sent for _, sent in self.attempts],
            [ids[:1], ids[1:5], ids[1:2], ids[2:3], ids[3:4], ids[4:5], ids[5:9]],
        )
        ((_, letter),) = self.successResultOf(self.courier().dead_letters(10, None))
        self.assertEqual(letter.event.id, ids[2])


class StorageTests(DispatchBed):
    def setUp(self) -> None:
        super().setUp()
        self.sink("s1")
        self.sink("s2")
        self.rule(kinds=("storage_problem", "storage_recovered"), sinks=["s1", "s2"])
        self.sink("s3")

    def test_sinks_hear_of_it_at_once_and_once(self) -> None:
        self.storage.away = True
        self.outcomes = [delivered(200), not_now("no")]
        self.side.storage_health("", "disk full")
        self.assertEqual([sink for sink, _ in self.attempts], ["s1", "s2"])
        self.pass_time(20)
        self.assertEqual(len(self.attempts), 2)
        self.storage.away = False
        self.side.storage_health("disk full", "")
        self.pass_time(3)
        self.assertEqual([kind for kind, _ in self.kinds], ["storage_problem", "storage_recovered"])
        self.assertEqual([sink for sink, _ in self.attempts].count("s1"), 2)
        self.assertEqual([sink for sink, _ in self.attempts].count("s2"), 3)
        self.assertEqual(self.attempts[1][1], self.attempts[2][1])

    def test_storage_that_comes_and_goes(self) -> None:
        for _ in range(20):
            self.side.storage_health("", "locked")
            self.side.storage_health("locked", "")
        self.assertEqual(len(self.kinds), 40)
        self.assertEqual(len({ids[0] for _, ids in self.attempts}), 40)
        self.assertEqual(len(self.attempts), 80)


class LimitTests(DispatchBed):
    def test_of_a_rule(self) -> None:
        self.sink()
        self.rule(rate_limit=RateLimit(events=3, seconds=60))
        self.emit(10, device="d1")
        self.assertEqual(len(self.taken), 3)
        self.pass_time(25)
        self.assertEqual(len(self.taken), 4)
        summary = self.taken[-1]
        self.assertEqual((summary.kind, summary.device), ("events_folded", None))
        details = summary.details
        self.assertEqual(
            (details["rule"], details["count"], details["kinds"], details["devices"]),
            ("r1", 7, {"backup_failed": 7}, ["d1"]),
        )
        self.pass_time(200)
        self.assertEqual(len(self.taken), 4)
        self.assertEqual(self.on_disk("event_folds"), 0)
        self.assertEqual(len(self.told), 11)

    def test_of_a_sink(self) -> None:
        self.sink(rate_limit=RateLimit(events=2, seconds=100))
        self.sink("s2")
        self.rule(sinks=["s1", "s2"])
        self.emit(6)
        self.assertEqual([sink for sink, _ in self.attempts].count("s1"), 2)
        self.assertEqual([sink for sink, _ in self.attempts].count("s2"), 6)
        self.pass_time(60)
        self.assertEqual(self.taken[-1].details["sink"], "s1")
        self.assertEqual(self.taken[-1].details["count"], 4)
        self.assertEqual([sink for sink, _ in self.attempts].count("s2"), 6)

    def test_what_was_folded_is_told_after_a_crash(self) -> None:
        self.sink()
        self.rule(rate_limit=RateLimit(events=1, seconds=1_000))
        self.emit(5)
        self.crash()
        self.pass_time(2)
        self.assertEqual(self.taken[-1].kind, "events_folded")
        self.assertEqual(self.taken[-1].details["count"], 4)

    def test_a_limit_that_goes_lets_the_summary_out(self) -> None:
        self.sink()
        self.rule(rate_limit=RateLimit(events=1, seconds=1e6))
        self.emit(5)
        self.successResultOf(self.side.rules.change("r1", lambda rule: type(rule)(id="r1", sinks=("s1",))))
        self.pass_time(2)
        self.assertEqual(self.taken[-1].details["count"], 4)

    def test_storage_that_refuses_counts_nothing_twice(self) -> None:
        self.sink()
        self.rule(rate_limit=RateLimit(events=3, seconds=1e6))
        self.storage.away = True
        self.emit(4)
        self.pass_time(30)
        self.storage.away = False
        self.pass_time(5)
        self.assertEqual(len(self.taken), 3)
        self.assertEqual(self.side.dispatch.folds["rule/r1"].count, 1)

    def test_a_flood_of_strangers(self) -> None:
        for number in range(500):
            self.quarantine.seen("gateway88", f"{number:012X}", "192.0.2.1")
            self.quarantine.seen("gateway88", f"{number:012X}", "192.0.2.1")
        self.assertEqual(len(self.told), 20)
        self.assertEqual((self.told[0].kind, self.told[0].device), ("quarantine_new", "000000000000"))
        self.pass_time(10)
        (more,) = self.told[20:]
        self.assertEqual(more.details, {"more": 480, "protocols": {"gateway88": 480}})
