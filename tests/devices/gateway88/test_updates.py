"""What campaigns are told of gateways, and what gateways are told by campaigns."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.devices.gateway88.updates import GatewayUpdater, backup_id, version_key
from broker.model.errors import Invalid, NotFound
from broker.model.interfaces import IUpdateProgress, IUpdater
from broker.model.messages import FAILED, SUCCEEDED
from broker.model.updates import Order, Release
from broker.storage.files import FileInfo
from tests.devices.gateway88.bed import Bed, Gateway
from tests.devices.gateway88.vectors import GATEWAY, INFO
from tests.fleet.progress import Progress

DETAILS = {"file": "relay.bin", "file_id": "file-1", "size": 3, "md5": "0" * 32}
RELEASE = Release(protocol="gateway88", image="relay.bin", version="2.4", details=DETAILS)


class Files:
    """One file, or none."""

    def __init__(self) -> None:
        self.there = True

    def get(self, area: str, name: str) -> Deferred[FileInfo | None]:
        info: Any = FileInfo(
            id="file-1", area=area, name="relay.bin", size=3, md5="0" * 32, sha256="", created_at=0.0, meta={}
        )
        return succeed(info if self.there and name in ("file-1", "relay.bin") else None)


class UpdaterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin_life()

    def begin_life(self, journal: Any = None) -> None:
        """A broker, the first one or the next on the same journal."""
        self.bed = Bed()
        if journal is not None:
            self.bed.journal.commands.update(journal.commands)
            self.bed.core.commands.restore([one for one in journal.commands.values() if not one.final])
        self.files = Files()
        files: Any = self.files
        self.bed.core.files = files
        self.updater: GatewayUpdater = self.bed.listener.updates
        self.progress = Progress()
        self.updater.follow(self.progress)

    def order(self, **more: Any) -> Order:
        return Order(id=str(uuid4()), device=GATEWAY, release=RELEASE, **more)

    def begin(self, order: Order) -> None:
        self.successResultOf(self.updater.begin(order))
        self.bed.clock.advance(0)

    def given(self, gateway: Gateway) -> list[dict[str, Any]]:
        """Orders that the gateway was sent."""
        return [value for _, value, _ in gateway.read() if value is not None and "status" not in value]

    def answer(self, gateway: Gateway, status: str) -> None:
        ((id, value, _),) = [one for one in gateway.read() if one[1] is not None]
        assert value is not None
        gateway.say({"type": value["type"], "status": status}, id)

    def introduce(self, gateway: Gateway, version: str) -> None:
        gateway.say({"type": "gateway_info", "gateway_info": {"swversion": version}}, 9)

    def test_interfaces(self) -> None:
        verifyObject(IUpdater, self.updater)
        verifyObject(IUpdateProgress, self.progress)
        self.assertIs(self.bed.core.updaters["gateway88"], self.updater)

    def test_one_that_goes_well(self) -> None:
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        self.assertEqual(self.progress.take(), [("sent",)])
        self.answer(gateway, "ok")
        self.assertEqual(self.progress.take(), [("accepted",)])
        self.introduce(gateway, "2.3")
        self.introduce(gateway, "2.4")
        self.assertEqual([info["swversion"] for _, info in self.progress.reports[-2:]], ["2.3", "2.4"])
        self.updater.end(order, None)
        self.assertEqual(self.bed.journal.commands[order.id].status, SUCCEEDED)
        self.assertEqual(self.progress.take(), [])

    def test_what_is_asked_for(self) -> None:
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        (value,) = self.given(gateway)
        self.assertEqual(value["firmware_update"]["version"], "2.4")
        self.assertEqual(value["firmware_update"]["firmware_url"], f"https://files/f/{order.id}")

    def test_one_that_refuses(self) -> None:
        gateway = self.bed.admitted()
        self.begin(self.order())
        self.answer(gateway, "error")
        ((first,), (kind, why)) = self.progress.take()
        self.assertEqual((first, kind), ("sent", "failed"))
        self.assertIn("it has refused", why)

    def test_one_that_fails_later(self) -> None:
        gateway = self.bed.admitted()
        self.begin(self.order())
        self.answer(gateway, "ok")
        gateway.say({"type": "firmware_update", "status": "error"}, 77)
        self.assertEqual([told[0] for told in self.progress.take()], ["sent", "accepted", "failed"])

    def test_one_that_is_silent(self) -> None:
        self.bed.admitted()
        self.begin(self.order())
        self.bed.tick(19)
        self.assertEqual(self.progress.take(), [("sent",), ("unanswered",)])

    def test_the_end_of_one_that_lies(self) -> None:
        """The campaign decides while it hears of the version, before the command would have succeeded by it."""
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        self.answer(gateway, "ok")
        reported = self.progress.reported

        def judge(device_id: str, info: dict[str, Any]) -> Deferred[None]:
            self.updater.end(order, "it has never fetched the image")
            return reported(device_id, info)

        self.progress.reported = judge  # type: ignore[method-assign]
        self.introduce(gateway, "2.4")
        command = self.bed.journal.commands[order.id]
        self.assertEqual((command.status, command.result), (FAILED, {"error": "it has never fetched the image"}))

    def test_a_full_disk_keeps_no_gateway_waiting(self) -> None:
        gateway = self.bed.admitted()
        self.progress.broken = True
        self.introduce(gateway, "2.4")
        self.assertEqual(len(gateway.read()), 1)
        self.assertEqual(self.bed.faults, [])

    def test_an_order_is_given_once(self) -> None:
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        self.begin(order)
        self.assertEqual(len(self.given(gateway)), 1)

    def test_after_a_restart_it_is_found_in_the_journal(self) -> None:
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        self.answer(gateway, "ok")
        self.begin_life(self.bed.journal)
        for again in (True, False):  # the line may not have got so far
            order.again = again
            self.begin(order)
            self.assertEqual(self.progress.take(), [("accepted",)])
        gateway = self.bed.admitted()
        self.assertEqual(self.given(gateway), [])
        self.bed.tick(1_900)
        self.assertEqual(self.progress.take(), [("unanswered",)])

    def test_what_has_ended_before_the_restart(self) -> None:
        gateway = self.bed.admitted()
        order = self.order()
        self.begin(order)
        self.answer(gateway, "ok")
        self.introduce(gateway, "2.4")
        self.begin_life(self.bed.journal)
        self.begin(order)
        self.assertEqual(self.progress.reports, [(GATEWAY, {"swversion": "2.4"})])

    def test_one_of_which_nothing_is_left(self) -> None:
        self.begin(self.order(again=True))
        self.assertEqual(self.progress.take(), [("failed", "no trace is left of its command")])

    def test_an_image_that_is_gone(self) -> None:
        self.files.there = False
        self.begin(self.order())
        self.assertEqual(self.progress.take(), [("failed", "the image 'relay.bin' is not there any more")])

    def test_a_queue_that_is_full(self) -> None:
        self.bed.core.commands.max_queued = 0
        self.begin(self.order())
        ((kind, _),) = self.progress.take()
        self.assertEqual(kind, "returned")

    def test_one_that_is_taken_back(self) -> None:
        order = self.order()
        self.begin(order)
        self.updater.withdraw(order)
        self.assertEqual(self.progress.take(), [("returned", "it was taken back")])
        gateway = self.bed.admitted()
        self.assertEqual(self.given(gateway), [])
        sent = self.order()
        self.begin(sent)
        self.updater.withdraw(sent)
        self.assertEqual(self.progress.take(), [("sent",)])

    def test_one_that_does_not_leave_in_time(self) -> None:
        self.begin(self.order(patience=10))
        self.bed.tick(11)
        self.assertEqual(self.progress.take(), [("returned", "it could not be sent in time")])

    def test_a_backup_before(self) -> None:
        gateway = self.bed.admitted()
        order = self.order(backup=True)
        self.begin(order)
        ((id, value, _),) = gateway.read()
        assert value is not None
        self.assertEqual(value["type"], "datafile_backup")
        self.assertEqual(self.progress.take(), [])
        gateway.say({"type": "datafile_backup", "status": "ok"}, id)
        self.assertEqual(self.given(gateway), [])
        backup = self.bed.core.commands.get(backup_id(order))
        assert backup is not None
        self.bed.listener.operations.arrived(backup, {"backup": "b"}, self.bed.clock.seconds())
        self.bed.clock.advance(0)
        self.assertEqual([one["type"] for one in self.given(gateway)], ["firmware_update"])
        self.assertEqual(self.progress.take(), [("sent",)])

    def test_a_backup_that_fails(self) -> None:
        gateway = self.bed.admitted()
        self.begin(self.order(backup=True))
        self.answer(gateway, "error")
        self.bed.clock.advance(0)
        self.assertEqual(
            [told for told in self.progress.take() if told[0] != "sent"],
            [("failed", "the backup before it did not succeed")],
        )

    def test_a_backup_whose_update_was_not_kept_is_not_made_twice(self) -> None:
        """Killed between the two: the backup is in the journal, the update is not."""
        order = self.order(backup=True)
        self.begin(order)
        del self.bed.journal.commands[order.id]
        self.begin_life(self.bed.journal)
        self.begin(order)
        gateway = self.bed.connect()
        gateway.say(INFO, 1)
        self.assertEqual([one["type"] for one in self.given(gateway)], ["datafile_backup"])
        self.assertEqual(set(self.bed.journal.commands), {order.id, backup_id(order)})

    def test_finding_an_image(self) -> None:
        found = self.successResultOf(self.updater.find("relay.bin", "2.4 "))
        self.assertEqual(found, RELEASE)
        self.failureResultOf(self.updater.find("relay.bin", None), Invalid)
        self.failureResultOf(self.updater.find("other.bin", "2.4"), NotFound)

    def test_versions(self) -> None:
        rising = ["", "rc", "1", "1.9", "1.10", "1.10-rc1", "1.10-rc2", "1.10-rc10", "2", "2.0", "10"]
        self.assertEqual(sorted(rising, key=version_key), rising)
        self.assertTrue(self.updater.lower("2.9", "2.10"))
        self.assertFalse(self.updater.lower("2.10", "2.10"))
        self.assertEqual(self.updater.version_of({"swversion": 2.5}, RELEASE), "2.5")
        self.assertIsNone(self.updater.version_of({}, RELEASE))
