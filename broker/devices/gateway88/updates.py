"""How gateways are updated by campaigns: an order is a firmware_update command, under the order's own id.

=================  ===================================================================================
the command is     the campaign hears
=================  ===================================================================================
sent               sent
pending            accepted
failed             failed, with what the gateway said
timed out          unanswered
expired, cancelled returned: it never left
succeeded          nothing: what counts is the version in gateway_info, together with the download
=================  ===================================================================================

The journal of commands is where an order is found again after a restart. One that is not there was never given, as it
is kept before it is sent. A backup before it is a command of its own, whose id follows from the order's.

Versions of gateways are compared piece by piece, numbers as numbers: 2.9 is lower than 2.10, 2.10-rc1 than 2.10-rc2,
and what is only longer is higher (2.1.0 than 2.1).
"""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID, uuid5

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from broker.cluster.commands import cancel_anywhere
from broker.cluster.replies import fail_anywhere
from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.identity import PROTOCOL
from broker.devices.gateway88.operations import Operations
from broker.model.errors import BrokerError, Conflict, Invalid, NotFound
from broker.model.interfaces import IConsumer, IUpdateProgress, IUpdater
from broker.model.jsontext import encode
from broker.model.messages import (
    CANCELLED,
    EXPIRED,
    FAILED,
    PENDING,
    QUEUED,
    SENT,
    SUCCEEDED,
    TIMED_OUT,
    Command,
    Presence,
    Uplink,
)
from broker.model.records import DeviceRecord
from broker.model.updates import ACCEPTED, Order, Release
from broker.model.updates import SENT as SENT_STEP
from broker.storage.deferred import deferred
from broker.storage.files import UPLOADS

log = Logger(namespace="broker.gateway88")

#: Who orders the commands of campaigns.
ORIGIN: Final = "campaign"
_PIECES: Final = re.compile(r"\d+|[^\d]+")


def version_key(version: str) -> list[tuple[int, int, str]]:
    """By which versions are sorted."""
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in _PIECES.findall(version)]


@implementer(IUpdater, IConsumer)
class GatewayUpdater:
    """The updater of all gateways."""

    backs_up = True

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core = core
        self._operations = operations
        self._progress: Any = None
        core.commands.followed.add(ORIGIN)
        #: Ids of the orders whose command has not ended.
        self._orders: set[str] = set()

    # -- IUpdater --------------------------------------------------------------------------------------------------

    def follow(self, progress: IUpdateProgress) -> None:
        self._progress = progress
        self._core.router.listen_quietly(self)
        self._core.commands.followers.append(self.command)

    @deferred
    async def find(self, image: str, version: str | None) -> Release:
        """Fails with Invalid, NotFound, Unavailable."""
        if version is None:
            raise Invalid("version: what gateways report as their swversion when they run the image")
        info = await self._core.files.get(UPLOADS, image)
        if info is None:
            raise NotFound(f"there is no file {image!r}"[:300])
        details = {"file": info.name, "file_id": info.id, "size": info.size, "md5": info.md5}
        return Release(protocol=PROTOCOL, image=info.name, version=version.strip(), details=details)

    def version_of(self, info: dict[str, Any], release: Release) -> str | None:
        version = info.get("swversion")
        return None if version is None else str(version).strip()

    def lower(self, one: str, other: str) -> bool:
        return version_key(one) < version_key(other)

    def unfit(self, record: DeviceRecord, info: dict[str, Any], release: Release) -> str | None:
        """Any gateway may be given any image, a lower version too: there is no way to know which are for which."""
        return None

    @deferred
    async def begin(self, order: Order) -> None:
        self._orders.add(order.id)
        try:
            command = await self._find(order.id)
            if command is not None and command.status == SUCCEEDED:
                self._over(order.id)
                self.reported(command.device, command.result if isinstance(command.result, dict) else {})
            elif command is not None:
                self.command(command)
            elif order.again:
                self._over(order.id)
                self._progress.failed(order.id, "no trace is left of its command")
            else:
                await self._give(order)
        except NotFound as error:
            self._over(order.id)
            self._progress.failed(order.id, error.message)
        except BrokerError as error:
            self._over(order.id)
            self._progress.returned(order.id, error.message)

    def withdraw(self, order: Order) -> None:
        for id in (order.id, backup_id(order)):
            try:
                self._core.commands.cancel(id)
            except NotFound:
                if not self._core.backplane.alone:
                    Deferred.fromCoroutine(self._withdraw_elsewhere(order)).addErrback(self._not_withdrawn, order)
                return  # else it has left, or is about to be kept and then leaves; or there is no backup
            except Conflict:
                return  # it has left

    async def _withdraw_elsewhere(self, order: Order) -> None:
        """The same, where another process drives the gateway's commands."""
        for id in (order.id, backup_id(order)):
            command = await self._core.storage.get_command(id)
            if command is None or command.final:
                continue
            try:
                await cancel_anywhere(self._core.commands, command)
            except (NotFound, Conflict):
                return

    def _not_withdrawn(self, failure: Any, order: Order) -> None:
        failure.trap(BrokerError)
        log.warn("the order of {device} is not taken back: {why}", device=order.device, why=failure.getErrorMessage())

    def end(self, order: Order, why: str | None) -> None:
        self._over(order.id)
        if why is not None:
            fail_anywhere(self._core.backplane, self._core.commands, order.id, {"error": why})

    def ask(self, device_id: str, release: Release) -> None:
        """A gateway tells its version when it connects, and never when it is asked."""

    # -- from the gateway side -------------------------------------------------------------------------------------

    def reported(self, device_id: str, info: dict[str, Any]) -> None:
        """A gateway has told about itself."""
        if self._progress is not None:
            self._progress.reported(device_id, info).addErrback(self._not_kept, device_id)

    def exchanged(self, device_id: str, why: str) -> None:
        """Another gateway is the device from now on."""
        if self._progress is not None:
            self._progress.exchanged(device_id, why)

    def fetching(self, command: Command) -> Deferred[None]:
        """A gateway asks for an image; it may go when this answers. Fails with Unavailable."""
        return succeed(None) if self._progress is None else self._progress.fetching(command.id)

    def fetched(self, command: Command) -> None:
        """The last byte of it was handed to the gateway's connection."""
        if self._progress is not None:
            self._progress.fetched(command.id)

    def _not_kept(self, failure: Any, device_id: str) -> None:
        """A gateway is not kept waiting for the disk; what it has reported is written again later."""
        failure.trap(BrokerError)
        log.warn("what {device} reports waits: {why}", device=device_id, why=failure.getErrorMessage())

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Of no interest."""

    def presence(self, change: Presence) -> None:
        """Of no interest."""

    def command(self, change: Command) -> None:
        """A command has changed: whether it is an order."""
        id = change.id
        if id not in self._orders:
            return
        progress, status = self._progress, change.status
        if status == QUEUED:
            return
        if status == SENT:
            progress.moved(id, SENT_STEP)
        elif status == PENDING:
            progress.moved(id, ACCEPTED)
        else:
            self._over(id)
            self._ended(change)

    def _ended(self, command: Command) -> None:
        progress, id, status = self._progress, command.id, command.status
        if status == FAILED:
            progress.failed(id, reason_of(command.result))
        elif status == TIMED_OUT:
            progress.unanswered(id)
        elif status in (EXPIRED, CANCELLED):
            progress.returned(id, "it could not be sent in time" if status == EXPIRED else "it was taken back")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _over(self, order_id: str) -> None:
        self._orders.discard(order_id)

    @deferred
    async def _find(self, command_id: str) -> Command | None:
        command = self._core.commands.get(command_id)
        return await self._core.storage.get_command(command_id) if command is None else command

    async def _give(self, order: Order) -> None:
        """Raises BrokerError."""
        asked = order.release.details
        if await self._core.files.get(UPLOADS, asked["file_id"]) is None:
            raise NotFound(f"the image {order.release.image!r} is not there any more")
        before = None
        if order.backup:
            before = backup_id(order)
            if await self._find(before) is None:
                await self._order(order, codec.DATAFILE_BACKUP, {}, before, None)
        await self._order(order, codec.FIRMWARE_UPDATE, {**asked, "version": order.release.version}, order.id, before)

    async def _order(self, order: Order, operation: str, payload: dict[str, Any], id: str, after: str | None) -> None:
        await self._operations.order(
            order.device, operation, payload, ORIGIN, expires=order.patience, after=after, id=id
        )


def backup_id(order: Order) -> str:
    """Of the backup that goes before."""
    return str(uuid5(UUID(order.id), "backup"))


def reason_of(result: Any) -> str:
    """Why a command has failed, in words."""
    if isinstance(result, dict) and isinstance(result.get("error"), str):
        return str(result["error"])
    return "it has refused" if result is None else f"it has refused: {encode(result).decode()}"[:300]
