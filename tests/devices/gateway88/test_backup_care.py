"""When backups are made without anybody asking, and when somebody hears that there are none."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from broker.core import Core
from broker.devices.gateway88.backup_care import ORIGIN, RETRY, ROUND, BackupCare
from broker.devices.gateway88.codec import DATAFILE_BACKUP
from broker.devices.gateway88.identity import DeviceRules
from broker.devices.gateway88.operations import Operations
from broker.devices.gateway88.settings import Settings
from broker.model.interfaces import IDeviceLink
from broker.model.messages import FAILED, PENDING, SUCCEEDED, Command, DeviceRef, Reply
from broker.model.records import DeviceRecord
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.values import LastValues
from broker.storage.files import FileInfo
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from tests.devices.lorawan.storage import MemoryStorage

DAY = 86_400.0
NOW = 1_700_000_000.0


class Files:
    """What is used of `broker.storage.files.FileStore`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.kept: dict[str, FileInfo] = {}

    def add(self, mac: str) -> FileInfo:
        id = f"file-{len(self.kept)}"
        info = FileInfo(
            area="backups",
            id=id,
            name=f"{mac}-{id}",
            size=1,
            md5="",
            sha256="",
            created_at=self._clock.seconds(),
            meta={"gateway": mac},
        )
        self.kept[id] = info
        return info

    def get(self, area: str, id: str) -> Deferred[FileInfo | None]:
        return succeed(self.kept.get(id))

    def list(self, area: str, prefix: str, limit: int, after: str | None) -> Deferred[list[FileInfo]]:
        return succeed(sorted(self.kept.values(), key=lambda info: info.name))


@implementer(IDeviceLink)
class Link:
    """A gateway that answers as it is told to."""

    protocol = "gateway88"
    window = 1
    answer_timeout = 30 * DAY
    pending_timeout = 600.0

    def __init__(self) -> None:
        self.asked: list[Command] = []

    def send_command(self, command: Command) -> None:
        self.asked.append(command)

    def close_link(self, reason: str) -> None:
        """Nothing is open."""


class CareCase(SynchronousTestCase):
    settings: dict[str, Any] = {"backup_every": DAY}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.wall = 0.0
        self.storage = MemoryStorage()
        self.files = Files(self.clock)
        self.links: dict[str, Link] = {}
        self.start()

    def start(self) -> None:
        """The broker begins, with what is on disk."""

        def seconds() -> float:
            return self.clock.seconds() + self.wall

        faults: list[BaseException] = []
        self.addCleanup(lambda: self.assertEqual(faults, []))
        router = Router(lambda what, error: faults.append(error))
        devices = LiveDevices(router, seconds)
        kept: Any = self.storage
        files: Any = self.files
        commands = Commands(kept, devices, router, seconds)
        commands.restore(self.storage.open_commands())
        registry = Registry(kept, seconds, {"gateway88": DeviceRules()})
        self.core = Core(
            reactor=self.clock,
            clock=seconds,
            monotonic=self.clock.seconds,
            turn=Turn(lambda flush: self.clock.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=commands,
            storage=kept,
            registry=registry,
            topics=TopicIndex(),
            files=files,
            quarantine=Quarantine(kept, seconds),
        )
        self.successResultOf(self.core.events.open(kept))
        self.told: list[tuple[str, str | None]] = []
        self.core.events.watchers.append(lambda event: self.told.append((event.kind, event.device)))
        settings = Settings(**self.settings)
        self.care = BackupCare(self.core, settings, Operations(self.core, settings))
        self.successResultOf(self.care.open())

    def gateway(self, number: int, online: bool = True, **attributes: Any) -> str:
        mac = f"02000000{number:04X}"
        record = DeviceRecord(
            id=mac, protocol="gateway88", attributes=attributes, created_at=self.clock.seconds() + self.wall
        )
        self.storage.devices[mac] = record
        if online:
            self.connect(mac)
        return mac

    def connect(self, mac: str) -> None:
        link = self.links.setdefault(mac, Link())
        live = self.core.devices.attach(DeviceRef("gateway88", mac), link, lambda: (LastValues(), {}))
        self.core.commands.ready(live)

    def rounds(self, count: int = 1) -> None:
        """Let so many rounds pass."""
        for _ in range(count):
            self.care.tick()
            while self.care._cursor is not None:
                self.care.tick()
            self.clock.advance(ROUND)
            self.core.commands.tick()

    def asked(self, mac: str) -> int:
        return len(self.links[mac].asked)

    def answer(self, mac: str, status: str = SUCCEEDED, result: Any = None) -> None:
        """What the gateway was asked for last comes about, or does not."""
        command = self.links[mac].asked[-1]
        if status == SUCCEEDED:
            self.core.commands.reply(mac, Reply(command.id, PENDING, None, self.core.clock()), 600.0)
            result = {"backup": self.files.add(mac).id}
        self.core.commands.reply(mac, Reply(command.id, status, result, self.core.clock()))


class ScheduleTests(CareCase):
    def test_one_a_day(self) -> None:
        mac = self.gateway(1)
        self.rounds(3)
        self.assertEqual(self.asked(mac), 1)
        command = self.links[mac].asked[0]
        self.assertEqual((command.origin, command.options["operation"]), (ORIGIN, DATAFILE_BACKUP))
        self.answer(mac)
        self.rounds(int(DAY / ROUND) - 10)
        self.assertEqual(self.asked(mac), 1)
        self.rounds(20)
        self.assertEqual(self.asked(mac), 2)
        self.assertEqual(self.told, [])

    def test_one_that_somebody_asked_for_counts(self) -> None:
        mac = self.gateway(1)
        self.care.newest[mac] = self.files.add(mac)
        self.rounds(10)
        self.assertEqual(self.asked(mac), 0)

    def test_a_restart_forgets_nothing(self) -> None:
        mac = self.gateway(1)
        self.rounds()
        self.answer(mac)
        self.start()
        self.connect(mac)
        self.rounds(10)
        self.assertEqual(self.asked(mac), 1)

    def test_who_is_away_has_its_backup_when_it_comes(self) -> None:
        mac = self.gateway(1, online=False)
        self.rounds(2)
        self.connect(mac)
        self.rounds()
        self.assertEqual(self.asked(mac), 1)

    def test_a_device_has_its_own_rule(self) -> None:
        never, often = self.gateway(1, backup_every=0), self.gateway(2, backup_every=3600)
        self.care.newest = {mac: self.files.add(mac) for mac in (never, often)}
        self.rounds(62)
        self.assertEqual((self.asked(never), self.asked(often)), (0, 1))

    def test_so_many_at_once(self) -> None:
        macs = [self.gateway(number) for number in range(450)]
        self.care.settings = Settings(backup_every=DAY, backups_at_once=3)
        self.rounds()
        begun = [mac for mac in macs if self.asked(mac)]
        self.assertEqual(len(begun), 3)
        self.answer(begun[0])
        self.rounds()
        self.assertEqual(sum(self.asked(mac) for mac in macs), 4)
        self.assertEqual(self.care.figures()["gateway88_backups_running"], 3)

    def test_a_clock_that_jumps(self) -> None:
        mac = self.gateway(1)
        self.rounds()
        self.answer(mac)
        self.wall = DAY * 2
        self.rounds(2)
        self.assertEqual(self.asked(mac), 2)
        self.answer(mac)
        # What was made in the future counts as nothing, or else none would be made until then.
        self.wall = 0.0
        self.files.kept["file-1"] = self.files.kept["file-1"].__class__(
            **{
                **{name: getattr(self.files.kept["file-1"], name) for name in FileInfo.__struct_fields__},
                "created_at": NOW + 2 * DAY,
            }
        )
        self.care.newest[mac] = self.files.kept["file-1"]
        self.rounds(2)
        self.assertEqual(self.asked(mac), 3)


class FailureTests(CareCase):
    def test_it_is_told_and_tried_again_ever_more_seldom(self) -> None:
        mac = self.gateway(1)
        self.rounds()
        for number in range(1, 4):
            self.answer(mac, FAILED, {"error": "no room"})
            self.assertEqual(self.care.trouble[mac].failures, number)
            pause = RETRY * 2 ** (number - 1)
            self.rounds(int(pause / ROUND) - 1)
            self.assertEqual(self.asked(mac), number)
            self.rounds(2)
            self.assertEqual(self.asked(mac), number + 1)
        self.assertEqual(self.told, [("backup_failed", mac)] * 3)
        self.start()
        self.assertEqual((self.care.trouble[mac].failures, self.care.trouble[mac].error), (3, "no room"))
        self.answer(mac)
        self.assertEqual(self.care.trouble, {})

    def test_one_that_arrives_after_all(self) -> None:
        """Its time was up, which was told; then the data came."""
        mac = self.gateway(1)
        self.rounds()
        command = self.links[mac].asked[-1]
        self.core.commands.reply(mac, Reply(command.id, PENDING, None, self.core.clock()), 30.0)
        self.rounds(2)
        self.assertEqual((self.care.trouble[mac].failures, self.told), (1, [("backup_failed", mac)]))
        self.clock.advance(RETRY / 2)
        result = {"backup": (info := self.files.add(mac)).id}
        self.core.commands.reply(mac, Reply(command.id, SUCCEEDED, result, self.core.clock()))
        self.assertEqual((self.care.newest[mac], self.care.trouble), (info, {}))
        self.rounds(int(RETRY / ROUND) + 1)
        self.assertEqual((self.asked(mac), self.told), (1, [("backup_failed", mac)]))

    def test_what_did_not_get_its_turn_is_no_failure(self) -> None:
        mac = self.gateway(1)
        other = Command("other", mac, "gateway88", {}, "admin", self.core.clock(), self.core.clock() + DAY)
        self.core.commands.submit(other, lambda error: None)
        self.rounds()
        self.assertEqual(self.told, [])


class AgeTests(CareCase):
    settings = {"backup_every": DAY, "backup_too_old": 3 * DAY}

    def test_it_is_told_once(self) -> None:
        mac = self.gateway(1, online=False)
        self.rounds(int(3 * DAY / ROUND) - 1)
        self.assertEqual(self.told, [])
        self.rounds(5)
        self.assertEqual(self.told, [("backup_too_old", mac)])
        self.start()
        self.rounds(5)
        self.assertEqual(self.told, [])
        self.connect(mac)
        self.rounds()
        self.answer(mac)
        self.assertEqual(self.care.figures()["gateway88_backups_too_old"], 0)

    def test_who_needs_none_is_not_told_of(self) -> None:
        self.gateway(1, online=False, backup_every=0)
        self.rounds(int(4 * DAY / ROUND))
        self.assertEqual(self.told, [])


class WindowTests(CareCase):
    settings = {"backup_every": DAY, "backup_window": "02:00-05:00", "backup_time_zone": "Europe/Berlin"}

    def test_only_in_its_window(self) -> None:
        mac = self.gateway(1)
        # NOW is 23:13 in Berlin: three hours less a quarter until it opens.
        self.rounds(int(2.7 * 3600 / ROUND))
        self.assertEqual(self.asked(mac), 0)
        self.rounds(int(0.2 * 3600 / ROUND))
        self.assertEqual(self.asked(mac), 1)

    def test_what_is_none(self) -> None:
        for text, zone in (("2-5", "UTC"), ("02:00-24:30", "UTC"), ("at night", "UTC"), ("", "Mars/Base")):
            self.assertRaises(ValueError, Settings, backup_window=text, backup_time_zone=zone)
