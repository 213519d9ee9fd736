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
    """What every operation may say."""

    #: The caller's own reference, which comes back with the command; need not be unique.
    ref: Ref | None = None
    #: Seconds that this may wait for its gateway; 0: not at all; null: ``commands.default_expires``.
    expires: Expires | None = None


class FirmwareBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which image a gateway is to install."""

    #: The name or id of a file that was handed in.
    file: Name
    #: What the gateway is told that it is, and reports once it runs the image.
    version: Annotated[str, Meta(min_length=1, max_length=64)]
    #: Whether a backup is made before, which has to succeed; null: as ``backup_before_update`` says.
    backup: bool | None = None


class BackupBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing is needed."""


class RecoveryBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which backup a gateway is to go back to."""

    #: The id of the backup.
    backup: Name
    #: It may be the backup of another gateway.
    confirm: bool = False


class RemoteControlBody(Ordering, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gateway is to carry out."""

    #: The command, in the gateway's own language, which the broker does not look into.
    cmd: dict[str, Any]
    #: Seconds that the gateway's answer may take; null: as the protocol has it.
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class OperationTaken(msgspec.Struct, kw_only=True):
    """A command that was taken; what becomes of it is seen under its id."""

    #: The id of the command, a UUID.
    id: str
    #: Where it stands as this is answered: queued, sent, or further.
    status: str
    #: The id of the command for the backup that has to succeed before; left out where there is none.
    backup: str | UnsetType = UNSET


class BackupShape(msgspec.Struct, kw_only=True):
    """A backup that has arrived."""

    #: Its id, by which a recovery names it.
    id: str
    #: The id of the gateway that it is of.
    gateway: str
    #: Bytes.
    size: int
    #: The MD5 of the content, 32 lower-case hexadecimal digits.
    md5: str
    #: The SHA-256 of the content, 64 lower-case hexadecimal digits.
    sha256: str
    #: When it arrived (UNIX seconds).
    created_at: float


class BackupPage(msgspec.Struct):
    """One page of a list, the oldest first."""

    #: The backups of this page.
    items: list[BackupShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class BackupFilter(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Name | None = None


class GatewayPath(msgspec.Struct):
    """Which gateway."""

    #: The MAC of the gateway, or of the one that stands in for it: 12 hexadecimal digits.
    mac: str


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
                path_shape=GatewayPath,
            )
            for name, handler, access, body in orders
        ),
        Route(
            "GET",
            f"{GATEWAYS}/backups",
            calls.backups,
            APPLICATION,
            query=BackupFilter,
            answers=BackupPage,
            path_shape=GatewayPath,
        ),
    ]
