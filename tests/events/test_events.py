"""`Events.emit`: what is emitted is on disk before anybody is told, in order; storage that refuses costs nothing."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.events.event import MAX_DETAILS, Event
from broker.events.events import Events
from broker.model.errors import Invalid
from tests.devices.lorawan.storage import MemoryStorage


class EventsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.storage: Any = MemoryStorage()
        self.told: list[Event] = []
        self.events = self.opened()

    def opened(self, max_waiting: int = 100) -> Events:
        events = Events(self.clock.seconds, max_waiting)
        events.watchers.append(self.told.append)
        self.successResultOf(events.open(self.storage))
        return events

    def kinds(self, events: Events | None = None) -> list[str]:
        """The list, the newest first."""
        journal = (events or self.events).journal
        assert journal is not None
        found, cursor = self.successResultOf(journal.page(1_000, lambda event: True, None, None))
        self.assertIsNone(cursor)
        return [event.kind for event in found]


class EmitTests(EventsCase):
    def test_an_event(self) -> None:
        self.events.emit("campaign_finished", None, {"campaign": "c1", "confirmed": 3})
        (event,) = self.told
        self.assertEqual(
            event.as_dict(),
            {
                "id": event.id,
                "kind": "campaign_finished",
                "severity": "info",
                "at": 1_000.0,
                "device": None,
                "protocol": None,
                "details": {"campaign": "c1", "confirmed": 3},
            },
        )
        self.assertEqual(event.number, 1)
        self.assertEqual(self.kinds(), ["campaign_finished"])

    def test_a_kind_that_is_none(self) -> None:
        self.assertRaises(ValueError, self.events.emit, "made_up", None, {})
        self.assertEqual((self.told, self.kinds()), ([], []))

    def test_details_are_a_copy_and_what_json_cannot_hold_is_noted(self) -> None:
        details = {"list": [1]}
        self.events.emit("backup_failed", "A", details)
        details["list"].append(2)
        self.events.emit("backup_failed", "A", {"what": object()})
        self.events.emit("backup_failed", "A", {"much": "x" * MAX_DETAILS})
        self.events.emit("backup_failed", "A", {"number": 1 << 70})
        first, *others = self.told
        self.assertEqual(first.details, {"list": [1]})
        self.assertEqual([list(event.details) for event in others], [["omitted"]] * 3)

    def test_nobody_is_told_before_it_is_on_disk(self) -> None:
        self.storage.held = True
        self.events.emit("backup_failed", "A", {})
        self.assertEqual((self.told, len(self.events.waiting)), ([], 1))
        self.storage.go_on()
        self.assertEqual([event.device for event in self.told], ["A"])
        self.assertEqual(len(self.events.waiting), 0)

    def test_storage_that_refuses(self) -> None:
        self.storage.away = True
        self.events.emit("backup_failed", "A", {})
        self.events.emit("backup_failed", "B", {})
        self.assertEqual(self.told, [])
        self.storage.away = False
        self.events.tick()
        self.assertEqual([event.device for event in self.told], ["A", "B"])
        self.assertEqual([event.number for event in self.told], [1, 2])

    def test_more_than_may_wait(self) -> None:
        self.events = self.opened(max_waiting=3)
        self.storage.away = True
        for number in range(9):
            self.events.emit("backup_failed", str(number), {})
        # Those that were being written when storage refused wait on their own.
        self.storage.away = False
        self.events.tick()
        devices = [event.device for event in self.told]
        self.assertEqual(devices, sorted(devices, key=str))
        self.assertEqual(devices[-3:], ["6", "7", "8"])
        self.assertEqual(len(devices) + self.events.lost, 9)
        self.assertEqual(self.events.counters()["events_lost_total"], self.events.lost)

    def test_before_it_is_opened(self) -> None:
        events = Events(self.clock.seconds)
        events.emit("storage_problem", None, {"problem": "full"})
        self.assertEqual([event.kind for event in events.waiting], ["storage_problem"])
        self.successResultOf(events.open(self.storage))
        self.assertEqual(self.kinds(events), ["storage_problem"])

    def test_a_watcher_that_fails_keeps_nothing_from_the_others(self) -> None:
        def fails(event: Event) -> None:
            raise RuntimeError("never mind")

        self.events.watchers.insert(0, fails)
        self.events.emit("backup_failed", "A", {})
        self.assertEqual(len(self.told), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_after_a_restart_numbers_go_on(self) -> None:
        for _ in range(5):
            self.events.emit("backup_failed", "A", {})
        self.successResultOf(self.events.close())
        self.events.emit("backup_failed", "late", {})
        again = self.opened()
        again.emit("gateway_replaced", "A", {})
        self.assertEqual(self.told[-1].number, 6)
        self.assertEqual(self.kinds(again), ["gateway_replaced", *["backup_failed"] * 5])


class JournalTests(EventsCase):
    def fill(self, count: int) -> None:
        for number in range(count):
            self.clock.advance(1)
            self.events.emit("backup_failed" if number % 2 else "device_offline", f"d{number % 3}", {"n": number})

    def test_pages(self) -> None:
        self.fill(25)
        journal = self.events.journal
        assert journal is not None
        seen: list[int] = []
        cursor = None
        for _ in range(3):
            page, cursor = self.successResultOf(journal.page(10, lambda event: True, None, cursor))
            seen += [event.details["n"] for event in page]
        self.assertEqual(seen, list(range(24, -1, -1)))
        self.assertIsNone(cursor)

    def test_filters(self) -> None:
        self.fill(25)
        journal = self.events.journal
        assert journal is not None
        page, _ = self.successResultOf(journal.page(100, lambda event: event.device == "d1", 1_010.5, None))
        self.assertEqual([event.details["n"] for event in page], [22, 19, 16, 13, 10])

    def test_a_clock_that_was_set(self) -> None:
        self.fill(5)
        self.clock.rightNow -= 500
        self.fill(5)
        self.clock.rightNow += 500
        self.fill(2)
        journal = self.events.journal
        assert journal is not None
        page, _ = self.successResultOf(journal.page(100, lambda event: True, 1_000.0, None))
        self.assertEqual([event.number for event in page], [12, 11, 5, 4, 3, 2, 1])
        # Pruning by age leaves what is behind one that is not old enough; the number prunes it all the same.
        self.assertEqual(self.successResultOf(journal.prune(900.0, 1_000)), 0)
        self.assertEqual(self.successResultOf(journal.prune(900.0, 6)), 10)
        self.assertEqual(len(self.kinds()), 2)

    def test_since_ends_the_look(self) -> None:
        self.fill(1_600)
        journal = self.events.journal
        assert journal is not None
        real, asked = self.storage.list_records, []

        def list_records(*given: Any) -> Any:
            asked.append(given)
            return real(*given)

        self.storage.list_records = list_records
        page, cursor = self.successResultOf(journal.page(1_000, lambda event: True, self.clock.seconds() - 9.5, None))
        self.assertEqual((len(page), cursor, len(asked)), (10, None, 2))

    def test_cursors_of_others(self) -> None:
        journal = self.events.journal
        assert journal is not None
        for cursor in ("", "x", "-000000000000001", "ffffffffffffffff", "1"):
            self.failureResultOf(journal.page(1, lambda event: True, None, cursor), Invalid)

    def test_retention(self) -> None:
        self.fill(25)
        journal = self.events.journal
        assert journal is not None
        self.assertEqual(self.successResultOf(journal.prune(1_005.0, 1_000)), 4)
        self.assertEqual(self.successResultOf(journal.prune(0.0, 10)), 11)
        self.assertEqual(len(self.kinds()), 10)
        # The newest stays, so that numbers go on.
        self.assertEqual(self.successResultOf(journal.prune(9e9, 1)), 9)
        again = self.opened().journal
        assert again is not None
        self.assertEqual((again.oldest, again.newest), (25, 25))
