"""Backups without anybody asking for them, and word when there are none (document: 备份).

::

    newest backup older than ``backup_every`` ──> the window is open ──> gateway online ──> datafile_backup
    newest backup older than ``backup_too_old``, or none and registered for that long   ──> event backup_too_old
    a backup that failed, of whatever origin                                            ──> event backup_failed

When a backup is due is worked out from the newest that there is, never from a timetable: a restart forgets nothing, and
a clock that jumps neither skips nor repeats one. Each gateway is looked at about once a minute, whatever their number;
``backup_every`` of the device (PATCH) counts before that of the settings, 0 is never.

Gateways in trouble have a record each, so that a restart neither forgets the failures in a row nor tells of them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.backups import BACKUPS, GATEWAY
from broker.devices.gateway88.identity import BACKUP_EVERY, PROTOCOL
from broker.devices.gateway88.operations import Operations, operation_of
from broker.devices.gateway88.settings import Settings, backup_windows
from broker.events.across import DUTY as EVENTS
from broker.model.errors import BrokerError
from broker.model.interfaces import IConsumer
from broker.model.messages import CANCELLED, EXPIRED, SUCCEEDED, Command, DeviceRef, Presence, Uplink
from broker.model.records import DeviceQuery, DeviceRecord
from broker.model.windows import is_open
from broker.storage.deferred import deferred
from broker.storage.files import FileInfo
from broker.storage.identity import Change
from broker.storage.records import Records

log = Logger(namespace="broker.gateway88")

TABLE: Final = "gateway88_backup_trouble"
#: The origin of backups that the broker makes of its own accord.
ORIGIN: Final = "backup-schedule"
#: Gateways that are looked at in one tick, and the least seconds between two looks at the same one.
PAGE: Final = 200
ROUND: Final = 60.0
#: Seconds that such a backup waits in the gateway's queue: a busy one has its turn in the next round.
WAIT: Final = 300.0
#: Seconds until a backup that failed is tried again; doubled with each failure in a row.
RETRY: Final = 900.0
MAX_DOUBLINGS: Final = 6
#: Characters of an error that are kept.
MAX_ERROR: Final = 200
#: In place of a command's id, until it has one.
BEGINNING: Final = "beginning "


class Trouble(msgspec.Struct, kw_only=True, frozen=True):
    """``failures`` in a row, the last one at ``failed_at`` (UNIX seconds) for ``error``; ``told``: it is too old."""

    failures: int = 0
    failed_at: float = 0.0
    error: str = ""
    told: bool = False


@implementer(IConsumer)
class BackupCare:
    """Looks after the backups of all gateways. ``newest`` is each one's newest; ``rests``: it has no gateway now."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        operations: Operations,
        rests: Callable[[str], bool] = lambda device: False,
    ) -> None:
        self._core = core
        self._rests = rests
        self._operations = operations
        self._records = Records(core.storage, TABLE, Trouble)
        self.settings = settings
        self.newest: dict[str, FileInfo] = {}
        self.trouble: dict[str, Trouble] = {}
        #: Commands of the schedule that are open.
        self._running: dict[str, str] = {}
        self._cursor: str | None = None
        self._next_round = float("-inf")
        self._looking = False
        core.router.listen(self)
        core.registry.on_change.append(self._changed)
        core.backplane.hear("gw88.backup", self._heard_backup)
        core.backplane.hear("gw88.trouble", self._heard_trouble)

    @deferred
    async def open(self) -> None:
        """Read which backups there are. Raises Unavailable."""
        self.trouble = dict(await self._records.all())
        after: str | None = None
        while True:
            page = await self._core.files.list(BACKUPS, "", 1000, after)
            for info in page:
                self._note(info)
            if len(page) < 1000:
                break
            after = page[-1].name
        for command in self._core.commands.every():
            if command.origin == ORIGIN:
                self._running[command.id] = command.device

    def figures(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "gateway88_backups_running": len(self._running),
            "gateway88_backups_failing": sum(1 for one in self.trouble.values() if one.failures),
            "gateway88_backups_too_old": sum(1 for one in self.trouble.values() if one.told),
        }

    def _note(self, info: FileInfo) -> None:
        mac = str(info.meta.get(GATEWAY, ""))
        known = self.newest.get(mac)
        if known is None or info.created_at >= known.created_at:
            self.newest[mac] = info

    # -- IConsumer: how backups end --------------------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        return False

    def uplink(self, message: Uplink) -> None:
        pass

    def presence(self, change: Presence) -> None:
        pass

    def command(self, change: Command) -> None:
        if change.protocol != PROTOCOL or not change.final or operation_of(change) != codec.DATAFILE_BACKUP:
            return
        self._running.pop(change.id, None)
        if change.late:  # it has been told how it ended; the data may have come all the same
            late = change.late[-1]
            if late["status"] == SUCCEEDED:
                self._arrived(change.device, late["result"])
        elif change.status == SUCCEEDED:
            self._arrived(change.device, change.result)
        elif change.status != CANCELLED and not (change.origin == ORIGIN and change.status == EXPIRED):
            # One of ours that did not get its turn is no failure: it is due again in the next round.
            self._failed(change)

    def _arrived(self, mac: str, result: Any) -> None:
        name = result.get("backup") if isinstance(result, dict) else None
        finding: Deferred[Any] = self._core.files.get(BACKUPS, str(name))
        finding.addCallback(lambda info: None if info is None else self._note(info))
        finding.addErrback(self._not_known)
        self._tell("gw88.backup", str(name))
        if mac in self.trouble:
            self._set(mac, None)

    def _failed(self, command: Command) -> None:
        before = self.trouble.get(command.device, Trouble())
        error = command.result.get("error") if isinstance(command.result, dict) else None
        now = msgspec.structs.replace(
            before,
            failures=before.failures + 1,
            failed_at=self._core.clock(),
            error=str(error or command.status)[:MAX_ERROR],
        )
        self._set(command.device, now)
        details = {"error": now.error, "failures": now.failures, "command": command.id}
        self._core.events.emit("backup_failed", command.device, details, PROTOCOL)

    def _set(self, mac: str, trouble: Trouble | None) -> None:
        """In memory now and on disk a moment later; what is lost by a crash in between is counted anew."""
        if trouble is None:
            self.trouble.pop(mac, None)
        else:
            self.trouble[mac] = trouble
        writing = self._records.remove(mac) if trouble is None else self._records.put(mac, trouble)
        writing.addErrback(self._not_known)
        self._tell("gw88.trouble", (mac, trouble))

    # -- other processes: a gateway may be at another one when its next backup is due ------------------------------

    def _tell(self, kind: str, what: Any) -> None:
        if not self._core.backplane.alone:
            self._core.backplane.tell(kind, msgspec.msgpack.encode(what))

    def _heard_backup(self, node: str, body: bytes) -> None:
        if node != self._core.backplane.node:
            finding: Deferred[Any] = self._core.files.get(BACKUPS, msgspec.msgpack.decode(body, type=str))
            finding.addCallback(lambda info: None if info is None else self._note(info))
            finding.addErrback(self._not_known)

    def _heard_trouble(self, node: str, body: bytes) -> None:
        if node != self._core.backplane.node:
            mac, trouble = msgspec.msgpack.decode(body, type=tuple[str, Trouble | None])
            if trouble is None:
                self.trouble.pop(mac, None)
            else:
                self.trouble[mac] = trouble

    def _not_known(self, failure: Failure) -> None:
        failure.trap(BrokerError)
        log.warn("what is known of backups was not kept: {why}", why=failure.getErrorMessage())

    # -- the round -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """About once a second: look at the next page of gateways."""
        now = self._core.monotonic()
        if self._looking or (self._cursor is None and now < self._next_round):
            return
        if self._cursor is None:
            self._next_round = now + ROUND
            if not self._core.backplane.alone:  # those whose gateway has gone to another process are that one's
                known = self._core.commands.get
                self._running = {id: mac for id, mac in self._running.items() if known(id) or id.startswith(BEGINNING)}
        self._looking = True
        reading: Deferred[Any] = self._core.storage.list_devices(DeviceQuery(protocol=PROTOCOL), PAGE, self._cursor)
        reading.addCallback(self._look_at)
        reading.addErrback(self._not_looked)

    def _look_at(self, page: tuple[list[DeviceRecord], str | None]) -> None:
        records, self._cursor = page
        self._looking = False
        for record in records:
            if not record.disabled:
                self._look(record)

    def _not_looked(self, failure: Failure) -> None:
        self._looking = False
        self._cursor = None
        if failure.check(BrokerError) is None:
            log.failure("fault while looking after backups", failure)

    def _look(self, record: DeviceRecord) -> None:
        now = self._core.clock()
        self._tell_if_old(record, now)
        if self.due(record, now) and self._may_begin(record.id, now):
            self._begin(record.id)

    def _tell_if_old(self, record: DeviceRecord, now: float) -> None:
        limit = self.settings.backup_too_old
        if not limit or not self.every(record) or self._core.duties.far(EVENTS) is not None:
            return  # of several processes the one that has the events tells
        newest = self.newest.get(record.id)
        age = now - (record.created_at if newest is None else newest.created_at)
        trouble = self.trouble.get(record.id, Trouble())
        if age > limit and not trouble.told:
            self._set(record.id, msgspec.structs.replace(trouble, told=True))
            details = {"age": round(age), "newest": None if newest is None else newest.id, "limit": limit}
            self._core.events.emit("backup_too_old", record.id, details, PROTOCOL)

    def every(self, record: DeviceRecord) -> float:
        """Seconds between two backups of a gateway; 0: none are made."""
        if self._rests(record.id):
            return 0.0
        own = record.attributes.get(BACKUP_EVERY)
        return self.settings.backup_every if own is None else float(own)

    def due(self, record: DeviceRecord, now: float) -> bool:
        """Whether a backup should be made when it can be."""
        every = self.every(record)
        if not every:
            return False
        newest = self.newest.get(record.id)
        # One from the future was made before the clock was set back.
        return newest is None or not 0 <= now - newest.created_at < every

    def _may_begin(self, mac: str, now: float) -> bool:
        if len(self._running) >= self.settings.backups_at_once or mac in self._running.values():
            return False
        live = self._core.devices.get(mac)
        if live is None or live.link is None or not live.ready or self._core.commands.queued(mac):
            return False
        trouble = self.trouble.get(mac)
        if trouble is not None and trouble.failures:
            pause = RETRY * 2 ** min(trouble.failures - 1, MAX_DOUBLINGS)
            if 0 <= now - trouble.failed_at < pause:
                return False
        return is_open(backup_windows(self.settings), now)

    def _begin(self, mac: str) -> None:
        self._running[marker := f"{BEGINNING}{mac}"] = mac
        ordering = self._operations.order(mac, codec.DATAFILE_BACKUP, {}, ORIGIN, expires=WAIT)

        def taken(command: Command) -> None:
            del self._running[marker]
            if not command.final:
                self._running[command.id] = mac

        def refused(failure: Failure) -> None:
            del self._running[marker]
            failure.trap(BrokerError)
            log.info("no backup of {mac} now: {why}", mac=mac, why=failure.getErrorMessage())

        ordering.addCallbacks(taken, refused)

    def _changed(self, change: Change) -> None:
        if change.what == "device_removed" and change.id in self.trouble:
            self._set(change.id, None)
