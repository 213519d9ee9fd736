"""``/api/v1/gateways/{mac}/replacement``: a gateway is replaced by another, and the way back.

::

    GET .../preview?by=MAC               200: what would happen, in a sentence
    POST {"by": MAC}                     409: the same, to be confirmed
    POST {"by": MAC, "confirm": true}    202: the new gateway is the device from now on, and is given its newest backup
    DELETE                               204: the gateway before it is the device again

`succession` says what that means. The new gateway need not be connected, registered or approved: its backup waits for
it. If it was connected, its connection is ended, so that it comes back as what it is now.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import uuid4

import msgspec
from msgspec import Meta

from broker.core import Core
from broker.devices.gateway88.backups import BACKUPS, GATEWAY, backups_of
from broker.devices.gateway88.calls import GatewayPath
from broker.devices.gateway88.identity import CERTIFICATE, PROTOCOL, canonical_certificate, canonical_mac
from broker.devices.gateway88.protocol import Gateway88Listener
from broker.devices.gateway88.succession import Step, Successor
from broker.model.errors import Conflict, Invalid, NotFound
from broker.model.records import DeviceRecord
from broker.storage.files import FileInfo
from broker.web.answers import Answer
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

PATH: Final = f"{API}/gateways/{{mac}}/replacement"
NEWEST: Final = "newest"

Text = Annotated[str, Meta(min_length=1, max_length=255)]


class ReplacementBody(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """By which gateway, and with what."""

    #: The MAC of the new gateway, 12 hexadecimal digits.
    by: Text
    #: What the new gateway is given: the id of a backup, ``newest``, or null for none.
    backup: Text | None = NEWEST
    #: What the new gateway is bound to: ``sha256:`` and 64 hexadecimal digits, or a common name; null: nothing, or with
    #: ``pin_certificates`` the first certificate that it shows.
    certificate: Text | None = None
    #: Without it nothing is done, and the refusal says what would be.
    confirm: bool = False


class PreviewQuery(msgspec.Struct, kw_only=True):
    """As in the body of the replacement."""

    #: The MAC of the new gateway, 12 hexadecimal digits.
    by: Text
    #: What the new gateway would be given: the id of a backup, ``newest``, or nothing if this is empty.
    backup: str = NEWEST


class PreviewShape(msgspec.Struct):
    """What a replacement would do."""

    #: That, in a sentence.
    text: str


class ReplacementShape(msgspec.Struct, kw_only=True):
    """A replacement in force."""

    #: The id of the device, which applications go on using: the MAC of its first gateway.
    gateway: str
    #: The MAC of the gateway whose frames are the device's now.
    by: str
    #: When it took its place (UNIX seconds).
    at: float
    #: The id of the backup that it was given; null: none.
    backup: str | None
    #: The id of the recovery command that gave it that; null: none.
    command: str | None
    #: The MACs of the gateways before it, the first one first.
    before: list[str]


class ReplacementTaken(msgspec.Struct, kw_only=True):
    """A replacement that is in force now."""

    #: The id of the recovery command that is under way; null: none was wanted.
    id: str | None
    #: Where that command stands; none: there is none.
    status: Literal["queued", "sent", "pending", "none"]
    #: The replacement.
    replacement: ReplacementShape


class ReplacementPage(msgspec.Struct):
    """All replacements in force, by gateway."""

    #: The replacements.
    items: list[ReplacementShape]
    #: Always null: this is the whole list.
    next: None = None


class ReplacementCalls:
    """The handlers."""

    def __init__(self, core: Core, listener: Gateway88Listener) -> None:
        self._core = core
        self._listener = listener
        self._succession = listener.succession

    async def replace(self, call: Call) -> Any:
        """Have another gateway stand in for this one, with its newest backup."""
        body: ReplacementBody = call.body
        record = await self._device(call)
        by = self._mac(body.by)
        if not self._begun(record.id, by):
            self._succession.check(record.id, by)
        backup = await self._backup(record.id, body.backup)
        if not body.confirm:
            raise Conflict(f"{await self._consequences(record, by, backup)}. confirm: true does it")
        step = Step(
            by=by,
            at=self._core.clock(),
            certificate=str(record.attributes.get(CERTIFICATE) or ""),
            backup="" if backup is None else backup.id,
            command="" if backup is None else str(uuid4()),
            bind="" if body.certificate is None else canonical_certificate(body.certificate),
            done=False,
        )
        successor: Successor = await self._listener.exchange.replace(record.id, step)
        taken = shape(record.id, successor)
        status: Any = "none"
        if taken.command is not None:
            command = self._core.commands.get(taken.command)
            status = "queued" if command is None else command.status
        return Answer(202, ReplacementTaken(id=taken.command, status=status, replacement=taken))

    async def preview(self, call: Call) -> Any:
        """What replacing this gateway would do."""
        wish: PreviewQuery = call.query
        record = await self._device(call)
        by = self._mac(wish.by)
        self._succession.check(record.id, by)
        return PreviewShape(
            await self._consequences(record, by, await self._backup(record.id, wish.backup.strip() or None))
        )

    async def show(self, call: Call) -> Any:
        """Which gateway stands in for this one."""
        record = await self._device(call)
        successor = self._succession.of(record.id)
        if successor is None:
            raise NotFound(f"{record.id} was not replaced")
        return shape(record.id, successor)

    async def take_back(self, call: Call) -> Any:
        """The gateway before is the device again, as it is: it is given nothing."""
        record = await self._device(call)
        await self._listener.exchange.take_back(record.id)

    async def every(self, call: Call) -> Any:
        """All that are in force."""
        return ReplacementPage([shape(device, successor) for device, successor in self._succession.every()])

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _device(self, call: Call) -> DeviceRecord:
        """The device of the path, named by its own MAC or by that of its gateway. Raises NotFound."""
        mac = canonical_mac(call.path["mac"]) or call.path["mac"]
        record: DeviceRecord = await self._core.registry.get_device(self._succession.device_of(mac) or mac)
        if record.protocol != PROTOCOL:
            raise NotFound(f"{mac!r} is no gateway")
        return record

    @staticmethod
    def _mac(text: str) -> str:
        mac = canonical_mac(text)
        if mac is None:
            raise Invalid("by is a MAC, 12 hexadecimal digits")
        return mac

    def _begun(self, device: str, by: str) -> bool:
        """A call for the same has begun, and could not be completed."""
        left = self._succession.undone(device)
        return left is not None and left.undo is None and left.mac == by

    async def _backup(self, device: str, wanted: str | None) -> FileInfo | None:
        """Raises NotFound."""
        if wanted is None:
            return None
        if wanted == NEWEST:
            found = await backups_of(self._core.files, device)
            if not found:
                raise NotFound(f"there is no backup of {device}; backup: null replaces it without")
            newest: FileInfo = found[-1]
            return newest
        info: FileInfo | None = await self._core.files.get(BACKUPS, wanted)
        if info is None:
            raise NotFound(f"there is no backup {wanted!r}")
        return info

    async def _consequences(self, record: DeviceRecord, by: str, backup: FileInfo | None) -> str:
        what = f"{by} would be {record.id} from now on"
        if record.name:
            what += f" ({record.name})"
        what += ", with its product, bindings and history, "
        if backup is None:
            what += "and be given no backup"
        else:
            age = max(0.0, self._core.clock() - backup.created_at) / 3600
            what += f"and be given the backup {backup.id} of {backup.meta.get(GATEWAY)}, {age:.1f} hours old"
        if await self._core.registry.find_device(by) is not None:
            what += f"; the device {by} that is registered would rest meanwhile"
        return what


def shape(device: str, successor: Successor) -> ReplacementShape:
    """As the API shows it."""
    last = successor.steps[-1]
    return ReplacementShape(
        gateway=device,
        by=last.by,
        at=round(last.at, 3),
        backup=last.backup or None,
        command=last.command or None,
        before=[device, *(step.by for step in successor.steps[:-1])],
    )


def routes(core: Core, listener: Gateway88Listener) -> list[Route]:
    """What replacing adds to the API."""
    calls = ReplacementCalls(core, listener)
    also = {409: (Problem, "What would happen, for a call without confirm; or the gateway stands in for another")}
    return [
        Route(
            "POST",
            PATH,
            calls.replace,
            ADMIN,
            body=ReplacementBody,
            answers=ReplacementTaken,
            status=202,
            also={**also, 429: (Problem, "Too many commands wait for this gateway; nothing was replaced")},
            path_shape=GatewayPath,
        ),
        Route(
            "GET",
            f"{PATH}/preview",
            calls.preview,
            ADMIN,
            query=PreviewQuery,
            answers=PreviewShape,
            also=also,
            path_shape=GatewayPath,
        ),
        Route("GET", PATH, calls.show, ADMIN, answers=ReplacementShape, path_shape=GatewayPath),
        Route("DELETE", PATH, calls.take_back, ADMIN, status=204, also=also, path_shape=GatewayPath),
        Route("GET", f"{API}/replacements", calls.every, ADMIN, answers=ReplacementPage),
    ]
