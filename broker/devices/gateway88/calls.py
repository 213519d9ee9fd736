"""The calls of the API for gateways (DESIGN §8): firmware, backup, recovery, remote control.

Each is answered with 202 when its command is kept; what becomes of it is seen under the command's id. An application
may call all of them but firmware for the gateways that are bound to it.

A backup may be given to another gateway of the same owner, which has to be confirmed: for an application, it is one of
a gateway that is bound to it, or was when the backup was made; for the administrator, any. Where it came from and where
it went stands in the command.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.backups import APPLICATIONS, BACKUPS, GATEWAY
from broker.devices.gateway88.identity import PROTOCOL, canonical_mac
from broker.devices.gateway88.operations import Operations
from broker.devices.gateway88.succession import Succession
from broker.model.errors import Conflict, NotFound
from broker.model.messages import Command
from broker.storage.files import UPLOADS, FileInfo
from broker.web.answers import Answer
from broker.web.callers import Caller
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, APPLICATION, Call, Route

GATEWAYS: Final = f"{API}/gateways/{{mac}}"

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Ref = Annotated[str, Meta(max_length=128)]
Expires = Annotated[float, Meta(ge=0, le=30 * 86_400)]


class Ordering(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What every operation may say: the caller's own reference, and seconds that it may wait for its gateway."""

    ref: Ref | None = None
    expires: Expires | None = None


class FirmwareBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: name or id of an uploaded file. ``backup``: make one before; left out: as it is configured."""

    file: Name
    version: Annotated[str, Meta(min_length=1, max_length=64)]
    backup: bool | None = None


class BackupBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing is needed."""


class RecoveryBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``backup``: the id of one. ``confirm``: it may be another gateway's."""

    backup: Name
    confirm: bool = False


class RemoteControlBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``cmd`` is between the application and the gateway."""

    cmd: dict[str, Any]
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class OperationTaken(msgspec.Struct, kw_only=True):
    """A command that was taken; ``backup`` is the one that has to succeed before it."""

    id: str
    status: str
    backup: str | UnsetType = UNSET


class BackupShape(msgspec.Struct, kw_only=True):
    """A backup that has arrived. ``gateway`` is the one that it is of."""

    id: str
    gateway: str
    size: int
    md5: str
    sha256: str
    created_at: float


class BackupPage(msgspec.Struct):
    """One page of a list, oldest first; ``next`` is the cursor of the following one."""

    items: list[BackupShape]
    next: str | None


class BackupFilter(msgspec.Struct, kw_only=True):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Name | None = None


def backup_shape(info: FileInfo) -> BackupShape:
    return BackupShape(
        id=info.id,
        gateway=str(info.meta.get(GATEWAY, "")),
        size=info.size,
        md5=info.md5,
        sha256=info.sha256,
        created_at=round(info.created_at, 3),
    )


class Calls:
    """The handlers."""

    def __init__(self, core: Core, operations: Operations, succession: Succession) -> None:
        self._core = core
        self._operations = operations
        self._succession = succession

    async def firmware(self, call: Call) -> Any:
        """Have a gateway fetch and install a firmware image."""
        mac = await self._gateway(call)
        body: FirmwareBody = call.body
        info: FileInfo | None = await self._core.files.get(UPLOADS, body.file)
        if info is None:
            raise NotFound(f"there is no file {body.file!r}")
        before = None
        if self._operations.backup_before_update if body.backup is None else body.backup:
            before = await self._order(call, mac, codec.DATAFILE_BACKUP, {})
        asked = {"file": info.name, "file_id": info.id, "size": info.size, "md5": info.md5, "version": body.version}
        update = await self._order(call, mac, codec.FIRMWARE_UPDATE, asked, before)
        return self._taken(update, before)

    async def backup(self, call: Call) -> Any:
        """Have a gateway post its data."""
        mac = await self._gateway(call)
        return self._taken(await self._order(call, mac, codec.DATAFILE_BACKUP, {}))

    async def recovery(self, call: Call) -> Any:
        """Have a gateway go back to a backup, its own or that of the gateway that it replaces."""
        mac = await self._gateway(call)
        body: RecoveryBody = call.body
        info: FileInfo | None = await self._core.files.get(BACKUPS, body.backup)
        if info is None or not self._owns(call.caller, info):
            raise NotFound(f"there is no backup {body.backup!r}")
        source = info.meta.get(GATEWAY)
        if source != mac and not body.confirm:
            raise Conflict(f"the backup is of another gateway, {source}; confirm: true gives it to {mac} all the same")
        asked = {"backup": info.id, "from": source, "to": mac, "size": info.size, "md5": info.md5}
        return self._taken(await self._order(call, mac, codec.DATAFILE_RECOVERY, asked))

    async def remote_control(self, call: Call) -> Any:
        """Have a gateway carry out a command of its own language."""
        mac = await self._gateway(call)
        body: RemoteControlBody = call.body
        return self._taken(await self._order(call, mac, codec.REMOTE_CONTROL, body.cmd, timeout=body.timeout))

    async def backups(self, call: Call) -> Any:
        """The backups of a gateway."""
        mac = await self._gateway(call)
        wish: BackupFilter = call.query
        found = await self._core.files.list(BACKUPS, f"{mac}-", wish.limit + 1, wish.cursor)
        more = len(found) > wish.limit
        shown = [backup_shape(info) for info in found[: wish.limit]]
        return BackupPage(shown, found[wish.limit - 1].name if more else None)

    async def _gateway(self, call: Call) -> str:
        """The device of the path, named by its own MAC or by that of the gateway that stands in for it.

        Raises NotFound.
        """
        mac = canonical_mac(call.path["mac"]) or call.path["mac"]
        mac = self._succession.device_of(mac) or mac
        call.caller.check_device(mac)
        record = await self._core.registry.get_device(mac)
        if record.protocol != PROTOCOL:
            raise NotFound(f"{mac!r} is no gateway")
        return mac

    @staticmethod
    def _owns(caller: Caller, info: FileInfo) -> bool:
        return caller.may_see(info.meta.get(GATEWAY, "")) or caller.application in info.meta.get(APPLICATIONS, ())

    async def _order(
        self,
        call: Call,
        mac: str,
        operation: str,
        payload: dict[str, Any],
        after: Command | None = None,
        timeout: float | None = None,
    ) -> Command:
        body: Ordering = call.body
        return await self._operations.order(
            mac,
            operation,
            payload,
            call.caller.name,
            ref=body.ref,
            expires=body.expires,
            after=None if after is None else after.id,
            timeout=timeout,
        )

    @staticmethod
    def _taken(command: Command, before: Command | None = None) -> Answer:
        return Answer(
            202,
            OperationTaken(id=command.id, status=command.status, backup=UNSET if before is None else before.id),
        )


_REFUSED: Final[dict[int, tuple[Any, str]]] = {
    409: (Problem, "The gateway is offline and the command may not wait, or a confirmation is missing"),
    429: (Problem, "Too many commands wait for this gateway"),
}


def routes(core: Core, operations: Operations, succession: Succession) -> list[Route]:
    """What gateways add to the API."""
    calls = Calls(core, operations, succession)
    orders = (
        ("firmware", calls.firmware, ADMIN, FirmwareBody),
        ("backup", calls.backup, APPLICATION, BackupBody),
        ("recovery", calls.recovery, APPLICATION, RecoveryBody),
        ("remote_control", calls.remote_control, APPLICATION, RemoteControlBody),
    )
    return [
        *(
            Route(
                "POST",
                f"{GATEWAYS}/{name}",
                handler,
                access,
                body=body,
                bodiless=body is BackupBody,
                answers=OperationTaken,
                status=202,
                also=_REFUSED,
            )
            for name, handler, access, body in orders
        ),
        Route("GET", f"{GATEWAYS}/backups", calls.backups, APPLICATION, query=BackupFilter, answers=BackupPage),
    ]
