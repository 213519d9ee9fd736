"""Gateways that are replaced: what is left of it by a crash or a refusal, and what the one before has no part in."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from broker.devices.gateway88.codec import DATAFILE_BACKUP, DATAFILE_RECOVERY
from broker.devices.gateway88.exchange import Exchange
from broker.devices.gateway88.operations import OPERATION, Operations
from broker.devices.gateway88.settings import Settings
from broker.devices.gateway88.succession import Step, Succession
from broker.devices.gateway88.updates import GatewayUpdater
from broker.model.errors import Conflict, NotFound, Unavailable
from broker.model.messages import Command
from tests.devices.gateway88.test_backup_care import CareCase
from tests.fleet.progress import Progress

OLD, NEW, THIRD = "020000000001", "020000000002", "020000000003"
BOUND, GIVEN = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RECOVERY = "00000000-0000-4000-8000-000000000001"


class ExchangeCase(CareCase):
    settings: dict[str, Any] = {}

    def start(self) -> None:
        super().start()
        core = self.core
        self.operations = Operations(core, Settings())
        self.updates = GatewayUpdater(core, self.operations)
        self.progress = Progress()
        self.updates.follow(self.progress)
        self.moved: list[tuple[str, str]] = []
        self.succession = Succession(core)
        self.exchange = Exchange(core, self.succession, self.operations, self.updates, self.move)

    def move(self, device: str, mac: str) -> None:
        """What the listener does."""
        self.moved.append((device, mac))
        for id in {device, mac}:
            live = self.core.devices.get(id)
            if live is not None and live.link is not None:
                self.core.devices.detach(live, live.link, "replaced")

    def begin(self) -> None:
        self.successResultOf(self.succession.open())
        self.successResultOf(self.exchange.open())

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.gateway(1, online=False, certificate=BOUND)
        self.backup = self.files.add(OLD)

    def step(self, by: str = NEW, command: str = RECOVERY) -> Step:
        return Step(by=by, at=1.0, certificate=BOUND, backup=self.backup.id, command=command, bind=GIVEN, done=False)

    def certificate(self) -> Any:
        return self.storage.devices[OLD].attributes.get("certificate")

    def recoveries(self) -> list[Command]:
        found = self.storage.commands.values()
        return [command for command in found if command.options[OPERATION] == DATAFILE_RECOVERY]

    def order(self, operation: str) -> Command:
        ordering = self.operations.order(OLD, operation, {}, "admin", expires=60.0)
        return self.successResultOf(ordering)


class CrashTests(ExchangeCase):
    def killed_after(self, count: int, call: Deferred[Any], outcome: list[Any]) -> None:
        """Storage answers so many times, then the broker is killed, and begins anew."""
        call.addBoth(outcome.append)
        for _ in range(count):
            self.storage.go_on()
        self.storage.held = False
        self.start()
        self.begin()

    def test_a_kill_at_any_moment_leaves_nothing_half(self) -> None:
        ends = []
        for count in range(12):
            with self.subTest(count=count):
                self.setUp()
                self.storage.held = True
                outcome: list[Any] = []
                self.killed_after(count, self.exchange.replace(OLD, self.step()), outcome)
                replaced = self.succession.of(OLD) is not None
                self.assertEqual(self.certificate(), GIVEN if replaced else BOUND)
                self.assertEqual([one.id for one in self.recoveries()], [RECOVERY] if replaced else [])
                self.assertIsNone(self.succession.undone(OLD))
                self.assertEqual(self.succession.device_of(NEW), OLD if replaced else NEW)
                self.assertTrue(replaced or not outcome, "an answer was given")
                ends.append((replaced, bool(outcome)))
        self.assertEqual(ends[0], (False, False))
        self.assertIn((True, False), ends)
        self.assertEqual(ends[-1], (True, True))

    def test_a_kill_on_the_way_back(self) -> None:
        ends = []
        for count in range(8):
            with self.subTest(count=count):
                self.setUp()
                self.successResultOf(self.exchange.replace(OLD, self.step()))
                self.storage.held = True
                self.killed_after(count, self.exchange.take_back(OLD), [])
                replaced = self.succession.of(OLD) is not None
                self.assertEqual(self.certificate(), GIVEN if replaced else BOUND)
                self.assertIsNone(self.succession.undone(OLD))
                ends.append(replaced)
        self.assertEqual((ends[0], ends[-1]), (True, False))

    def test_a_device_that_was_removed_when_the_broker_was_killed(self) -> None:
        self.successResultOf(self.exchange.replace(OLD, self.step()))
        del self.storage.devices[OLD]
        self.start()
        self.begin()
        self.assertEqual((self.succession.device_of(NEW), self.succession.device_of(OLD)), (NEW, OLD))


class RefusalTests(ExchangeCase):
    def test_a_full_queue_takes_it_back(self) -> None:
        self.core.commands.max_queued = 0
        self.failureResultOf(self.exchange.replace(OLD, self.step()))
        self.assertIsNone(self.succession.of(OLD))
        self.assertEqual((self.certificate(), self.recoveries()), (BOUND, []))

    def test_storage_that_is_away_all_the_time(self) -> None:
        """Neither forwards nor back; the same call completes it."""
        self.storage.held = True
        failing = self.exchange.replace(OLD, self.step())
        self.storage.go_on()
        self.storage.away, self.storage.held = True, False
        self.storage.go_on()
        self.failureResultOf(failing, Unavailable)
        self.assertIsNotNone(self.succession.undone(OLD))
        self.storage.away = False
        successor = self.successResultOf(self.exchange.replace(OLD, self.step(command="another")))
        self.assertEqual((len(successor.steps), successor.steps[0].command), (1, RECOVERY))
        self.assertEqual((self.certificate(), len(self.recoveries())), (GIVEN, 1))

    def test_two_devices_and_one_gateway_at_the_same_moment(self) -> None:
        self.gateway(3, online=False)
        self.storage.held = True
        one, other = self.exchange.replace(OLD, self.step()), self.exchange.replace(THIRD, self.step())
        self.failureResultOf(other, Conflict)
        self.storage.held = False
        while not one.called:
            self.storage.go_on()
        self.assertEqual(self.succession.device_of(NEW), OLD)
        self.failureResultOf(self.exchange.replace(THIRD, self.step()), Conflict)


class RestTests(ExchangeCase):
    settings = {"backup_every": 60.0, "backup_too_old": 120.0}

    def test_a_device_whose_gateway_is_another_one_now_has_no_backups_due(self) -> None:
        self.gateway(2, online=False)
        self.successResultOf(self.exchange.replace(OLD, self.step()))
        self.care._rests = self.succession.rests
        self.assertEqual([self.succession.rests(mac) for mac in (OLD, NEW, THIRD)], [False, True, False])
        self.clock.advance(300)
        self.rounds(3)
        self.assertEqual([told for told in self.told if told[0] == "backup_too_old"], [("backup_too_old", OLD)])
        self.successResultOf(self.exchange.take_back(OLD))
        self.rounds(3)
        self.assertIn(("backup_too_old", NEW), self.told)


class LeftBehindTests(ExchangeCase):
    def test_what_the_gateway_before_was_told_is_not_ended_by_the_next_one(self) -> None:
        self.connect(OLD)
        backup = self.order(DATAFILE_BACKUP)
        waits = self.order(DATAFILE_RECOVERY)
        self.assertEqual((backup.status, waits.status), ("sent", "queued"))
        self.successResultOf(self.exchange.replace(OLD, self.step()))
        self.assertEqual(backup.status, "failed")
        self.assertEqual(backup.result, {"error": f"the gateway {OLD} was replaced by {NEW}"})
        self.assertEqual(waits.status, "queued")
        self.assertEqual(self.progress.take()[0][:2], ("exchanged", OLD))
        self.assertEqual(self.moved, [(OLD, OLD), (OLD, NEW)])

    def test_the_way_back_gives_nothing_to_the_gateway_that_returns(self) -> None:
        self.successResultOf(self.exchange.replace(OLD, self.step()))
        self.successResultOf(self.exchange.take_back(OLD))
        self.connect(OLD)
        self.assertEqual((self.recoveries()[0].status, self.asked(OLD)), ("cancelled", 0))
        self.failureResultOf(self.exchange.take_back(OLD), NotFound)

    def test_replaced_again_before_the_first_one_came(self) -> None:
        self.successResultOf(self.exchange.replace(OLD, self.step()))
        second = "00000000-0000-4000-8000-000000000002"
        self.successResultOf(self.exchange.replace(OLD, self.step(THIRD, second)))
        self.assertEqual({one.id: one.status for one in self.recoveries()}, {RECOVERY: "cancelled", second: "queued"})
        self.assertEqual([self.succession.device_of(mac) for mac in (OLD, NEW, THIRD)], [None, NEW, OLD])
