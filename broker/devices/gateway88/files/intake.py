"""Backups on their way in: one upload of each command at a time, kept whole, told to whoever waits for it.

::

    POST ──> nothing has arrived yet ──> disk ──> record ──> the command has succeeded ──> older backups go
              │                                      │
              │                                      └ killed here: found by its name when the broker starts again
              ├ it has, the same bytes: 200 as before, nothing changes (its answer was lost on the way)
              └ it has, others: 409

A gateway whose upload broke off begins anew, perhaps before we have noticed: the new one counts.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.backups import BACKUPS, backup_meta, backup_name, backups_of
from broker.devices.gateway88.files.counters import FilesCounters
from broker.devices.gateway88.operations import Operations, operation_of
from broker.model.errors import BrokerError, Conflict, Invalid, Unavailable
from broker.model.messages import QUEUED, Command
from broker.storage.files import FileInfo
from broker.web.uploads import Upload

log = Logger(namespace="broker.files")

#: Of a file's name as the gateway gives it.
MAX_FILENAME: Final = 255


class Intake:
    """All uploads of the listener. ``operations`` is told of each backup that has arrived."""

    def __init__(self, core: Core, counted: FilesCounters) -> None:
        self._core = core
        self._counted = counted
        #: By command: the uploads that are read, and the commands whose upload is being kept.
        self._reading: dict[str, Upload] = {}
        self._keeping: set[str] = set()

    async def recover(self) -> None:
        """Tell of backups that had arrived when the broker ended. Raises Unavailable."""
        for command in self._core.commands.every():
            if operation_of(command) == codec.DATAFILE_BACKUP and command.status != QUEUED:
                info = await self._core.files.get(BACKUPS, backup_name(command))
                if info is not None:
                    log.info("backup of {mac} had arrived before the start: {name}", mac=command.device, name=info.name)
                    self._tell(command, info)

    async def take(self, command: Command, upload: Upload, keep: int) -> dict[str, Any]:
        """Read a backup to its end, keep it and the ``keep`` newest of its gateway; what to answer.

        Raises Conflict, Invalid, Unavailable, and what reading raises.
        """
        name = backup_name(command)
        known = await self._core.files.get(BACKUPS, name)
        if known is not None:
            return await self._again(known, upload)
        try:
            info = await self._keep(command, name, upload)
        except BrokerError as error:
            self._counted.uploads_failed += 1
            log.info("backup of {mac} not kept: {why}", mac=command.device, why=error.message)
            raise
        self._counted.backups += 1
        log.info("backup of {mac}: {size} bytes, {name}", mac=command.device, size=info.size, name=name)
        self._tell(command, info)
        await self._prune(command.device, keep)
        return told(info)

    async def _keep(self, command: Command, name: str, upload: Upload) -> FileInfo:
        if command.id in self._keeping:
            raise Unavailable("this backup is being kept")
        before = self._reading.get(command.id)
        if before is not None:
            before.fail(Conflict("a newer upload of this backup has begun"))
        self._reading[command.id] = upload
        try:
            meta = await backup_meta(self._core, command)
            writer = self._core.files.create(BACKUPS, name, meta)
            try:
                await upload.into(writer)
                if not upload.taken:
                    raise Invalid("an empty file is no backup")
            except BaseException:
                await writer.abort()
                raise
            if upload.filename:
                meta["filename"] = upload.filename[:MAX_FILENAME]
            self._keeping.add(command.id)
            info: FileInfo = await writer.finish()
            return info
        finally:
            self._keeping.discard(command.id)
            if self._reading.get(command.id) is upload:
                del self._reading[command.id]

    async def _again(self, known: FileInfo, upload: Upload) -> dict[str, Any]:
        hashed = sha256()
        while data := await upload.read():
            hashed.update(data)
        if hashed.hexdigest() != known.sha256:
            raise Conflict("another backup has arrived here")
        self._counted.repeated += 1
        return told(known)

    def _tell(self, command: Command, info: FileInfo) -> None:
        operations: Operations | None = getattr(self._core.listeners.get("gateway88"), "operations", None)
        if operations is not None:
            operations.arrived(command, {"backup": info.id, **figures(info)}, self._core.clock())

    async def _prune(self, mac: str, keep: int) -> None:
        """Remove the oldest, unless somebody is about to go back to them; what fails is done the next time."""
        try:
            surplus = (await backups_of(self._core.files, mac))[:-keep]
            needed = await wanted_backups(self._core) if surplus else set()
            for info in surplus:
                if not {info.id, info.name} & needed:
                    await self._core.files.remove(info)
                    self._counted.pruned += 1
        except BrokerError as error:
            log.warn("old backups of {mac} are still there: {why}", mac=mac, why=error.message)


async def wanted_backups(core: Core) -> set[str]:
    """What open recoveries name, whichever process drives them. Raises Unavailable."""
    wanted = set()
    for command in core.commands.every() if core.backplane.alone else await core.storage.open_commands():
        if operation_of(command) == codec.DATAFILE_RECOVERY and isinstance(command.payload, dict):
            wanted.add(str(command.payload.get("backup")))
    return wanted


def figures(info: FileInfo) -> dict[str, Any]:
    return {"size": info.size, "md5": info.md5, "sha256": info.sha256}


def told(info: FileInfo) -> dict[str, Any]:
    """What a gateway is answered."""
    return {"status": "ok", **figures(info)}
