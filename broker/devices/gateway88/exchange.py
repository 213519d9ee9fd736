"""What follows when a gateway stands in for another, or no longer does (document: 恢复, "当更换网关时").

::

    the step is on disk ──> who was the device leaves ──> certificate ──> who is it now comes in ──> its backup ──> done
    there, or back               with its commands                                                  (only there)

Each of it may be done twice. What a crash has left undone is done at the next start, before gateways connect; what was
refused is taken back.

What had left for the gateway before is no affair of the one that comes: its next word would end a recovery or an update
that it knows nothing of. So these commands fail, and what campaigns know of its downloads is forgotten. What still
waits goes to the new one, but for a recovery that was meant for the gateway that leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.backups import BACKUPS, GATEWAY
from broker.devices.gateway88.identity import CERTIFICATE, PROTOCOL
from broker.devices.gateway88.operations import Operations
from broker.devices.gateway88.succession import Step, Succession, Successor
from broker.devices.gateway88.updates import GatewayUpdater
from broker.model.errors import BrokerError, Conflict, NotFound
from broker.storage.deferred import deferred
from broker.storage.files import FileInfo

log = Logger(namespace="broker.gateway88")

#: Seconds that the backup waits for a gateway that has yet to be mounted.
WAIT: Final = 30 * 86_400.0
#: Who orders the recovery: only an administrator replaces gateways.
ORIGIN: Final = "admin"


class Exchange:
    """``moved(device, mac)``: the frames of a MAC are another device's now."""

    def __init__(
        self,
        core: Core,
        succession: Succession,
        operations: Operations,
        updates: GatewayUpdater,
        moved: Callable[[str, str], None],
    ) -> None:
        self._core = core
        self._succession = succession
        self._operations = operations
        self._updates = updates
        self._moved = moved
        succession.on_heard.append(self._elsewhere)

    def _elsewhere(self, device: str, before: str, now: str) -> None:
        """Another process has exchanged the gateway: what of it is here goes, too."""
        self._moved(device, before)
        successor = self._succession.of(device)
        recovery = "" if successor is None else successor.steps[-1].command
        for command in self._core.commands.unanswered(device):
            if command.id != recovery:
                self._core.commands.fail(command.id, {"error": f"the gateway {before} was replaced by {now}"})
        self._moved(device, now)

    @deferred
    async def open(self) -> None:
        """Do what an earlier life of the broker has left undone. Raises Unavailable."""
        for device, left in self._succession.every_undone():
            log.info("the replacement of {device} is completed", device=device)
            try:
                await self._complete(device, left)
            except BrokerError as error:
                # Not worth a broker that does not start; a call tries it again.
                log.warn("the replacement of {device} is not complete: {why}", device=device, why=error.message)

    @deferred
    async def replace(self, device: str, step: Step) -> Successor:
        """Have ``step.by`` stand in for a device; one that was begun, by the same MAC, is completed.

        If that is refused nothing was replaced. Raises Invalid, Conflict, NotFound, LimitExceeded, Unavailable.
        """
        with self._succession.changing(device, step.by):
            left = self._succession.undone(device)
            if left is not None and (left.undo is not None or left.mac != step.by):
                await self._complete(device, left)
                left = None
            if left is None:
                await self._succession.begin(device, step)
            try:
                await self._complete(device, self._succession.undone(device))
            except BrokerError:
                await self._back(device)
                raise
            successor = self._succession.of(device)
            if successor is None:
                raise NotFound(f"{device} was removed meanwhile")
            return successor

    @deferred
    async def take_back(self, device: str) -> None:
        """The gateway before is the device again; nothing is sent to it. Raises NotFound, Conflict, Unavailable."""
        with self._succession.changing(device):
            left = self._succession.undone(device)
            if left is not None and left.undo is not None:  # it was asked for before
                await self._complete(device, left)
            else:
                await self._back(device)

    async def _back(self, device: str) -> None:
        await self._succession.back(device)
        await self._complete(device, self._succession.undone(device))

    async def _complete(self, device: str, left: Successor | None) -> None:
        """Raises BrokerError."""
        if left is None:
            return
        if left.undo is None:
            step = left.steps[-1]
            before, now = _before(device, left), step.by
            binding = step.bind
        else:
            step = left.undo
            before, now = step.by, left.steps[-1].by if left.steps else device
            binding = step.certificate
        self._leave(device, before, now, left)
        record = await self._core.registry.get_device(device)
        if (record.attributes.get(CERTIFICATE) or "") != binding:
            await self._core.registry.update_device(device, {CERTIFICATE: binding or None})
        self._moved(device, now)
        if left.undo is None:
            await self._forget_quarantine(now)
            await self._recover(device, step)
        await self._succession.settle(device)
        backup = (step.backup or None) if left.undo is None else None
        self._core.events.emit("gateway_replaced", device, {"by": now, "before": before, "backup": backup}, PROTOCOL)

    def _leave(self, device: str, before: str, now: str, left: Successor) -> None:
        """The gateway before is not the device any more, and takes with it what it was told."""
        self._moved(device, before)
        why = f"the gateway {before} was replaced by {now}"
        self._updates.exchanged(device, why)
        commands = self._core.commands
        for command in commands.unanswered(device):
            # Of a step that is completed after a crash, the recovery may be with the new gateway already.
            if left.undo is not None or command.id != left.steps[-1].command:
                commands.fail(command.id, {"error": why})
        for step in left.steps[:-1] if left.undo is None else (left.undo,):
            try:
                commands.cancel(step.command)
            except (NotFound, Conflict):
                continue  # there was none, or it is over

    async def _forget_quarantine(self, mac: str) -> None:
        try:
            await self._core.quarantine.forget(mac, PROTOCOL)
        except NotFound:
            return  # it was not there

    async def _recover(self, device: str, step: Step) -> None:
        """Order the recovery, unless that is done. Raises NotFound, LimitExceeded, Unavailable."""
        known = self._core.commands.get(step.command)
        if not step.command or known is not None or await self._core.storage.get_command(step.command) is not None:
            return
        backup: FileInfo | None = await self._core.files.get(BACKUPS, step.backup)
        if backup is None:
            raise NotFound(f"there is no backup {step.backup!r}")
        asked = {
            "backup": backup.id,
            "from": backup.meta.get(GATEWAY),
            "to": step.by,
            "size": backup.size,
            "md5": backup.md5,
        }
        await self._operations.order(device, codec.DATAFILE_RECOVERY, asked, ORIGIN, expires=WAIT, id=step.command)


def _before(device: str, successor: Successor) -> str:
    """Who was the device before the newest."""
    return successor.steps[-2].by if len(successor.steps) > 1 else device
