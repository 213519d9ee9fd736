"""Gateways that stand in for others: whose frames count as whose (document: 恢复, "当更换网关时").

A gateway is its MAC, and applications know it by that. So when gateway A is replaced by B, nothing that applications
know changes: the device A stays, with its name, product, bindings, alias and history, and from then on it is B's
frames that are A's. Applications need to do nothing.

::

    POST /gateways/A/replacement {"by": "B"}      A's registration      B's frames      A's frames
                                                  ─────────────────     ───────────     ──────────────────────────
        before                                    device A              device B        device A
        after                                     device A, successor   device A        quarantine: A is retired
        DELETE /gateways/A/replacement            device A              device B        device A

A device B of its own, if there is one, rests meanwhile. Replaced again, A gets another successor; the way back goes
one step, to the gateway before. What stands in for what is few, so it is in memory, and on disk before it counts.

What follows from a step (`exchange`) is in its record until it is done, so that a crash in between leaves nothing half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.core import Core
from broker.model.errors import BrokerError, Conflict, Invalid, NotFound
from broker.storage.deferred import deferred
from broker.storage.identity import Change
from broker.storage.records import Records

log = Logger(namespace="broker.gateway88")

TABLE: Final = "gateway88_successor"


class Step(msgspec.Struct, kw_only=True, frozen=True):
    """One replacement: ``by`` is the MAC that came; ``certificate`` that of the gateway before it, to be put back."""

    by: str
    at: float
    certificate: str = ""
    #: The backup that the new gateway is given, and the command that gives it; empty: none.
    backup: str = ""
    command: str = ""
    #: The certificate that the new gateway is bound to; empty: none.
    bind: str = ""
    #: Everything that follows from it is done.
    done: bool = True


class Successor(msgspec.Struct, kw_only=True, frozen=True):
    """All replacements of one device that are in force, the oldest first.

    ``undo``: one was taken back, and this is what is left to be put right. Without it ``steps`` are never empty.
    """

    steps: tuple[Step, ...]
    undo: Step | None = None

    @property
    def mac(self) -> str:
        """Whose frames are the device's."""
        return self.steps[-1].by


class Succession:
    """Who stands in for whom. Devices are named by the MAC that they were registered with."""

    def __init__(self, core: Core) -> None:
        self._storage = core.storage
        self._records = Records(core.storage, TABLE, Successor)
        self._by_device: dict[str, Successor] = {}
        #: MAC of a successor -> the device that it is.
        self._by_mac: dict[str, str] = {}
        #: Devices of which the last step, there or back, is not all done.
        self._undone: dict[str, Successor] = {}
        #: Devices that are being changed, and who is about to stand in for them: one change at a time.
        self._changing: set[str] = set()
        #: Told of a device that is another gateway's since a process other than this one has said so: the device, whose
        #: frames were its own before, and whose are now.
        self.on_heard: list[Callable[[str, str, str], object]] = []
        self._backplane = core.backplane
        self._backplane.hear("gw88.succession", self._heard)
        core.registry.on_change.append(self._changed)

    @deferred
    async def open(self) -> None:
        """Read what is on disk. Raises Unavailable."""
        for device, successor in await self._records.all():
            if await self._storage.get_device(device) is None:
                # The broker was killed between removing the device and this; nobody would come in by that MAC.
                await self._records.remove(device)
            else:
                self._set(device, successor)

    # -- who is who ------------------------------------------------------------------------------------------------

    def device_of(self, mac: str) -> str | None:
        """The device whose frames have this MAC; None for a gateway that was replaced."""
        device = self._by_mac.get(mac)
        if device is not None:
            return device
        return None if mac in self._by_device else mac

    def rests(self, device: str) -> bool:
        """Whether a device has no gateway, as its own stands in for another one."""
        return device in self._by_mac and device not in self._by_device

    def of(self, device: str) -> Successor | None:
        """The replacements of a device; None when it is its own gateway's."""
        return self._by_device.get(device)

    def every(self) -> list[tuple[str, Successor]]:
        """All devices that are another gateway's now, by id."""
        return sorted(self._by_device.items())

    def undone(self, device: str) -> Successor | None:
        """What is left of the last step of a device, there or back; None when all is done."""
        return self._undone.get(device)

    def every_undone(self) -> list[tuple[str, Successor]]:
        """What an earlier life of the broker has left, by device."""
        return sorted(self._undone.items())

    def check(self, device: str, by: str) -> None:
        """Whether ``by`` may stand in for it. Raises Invalid, Conflict."""
        if by == device and device not in self._by_device:
            raise Invalid(f"{by} cannot replace itself")
        if by == device:
            raise Invalid(f"{by} was replaced itself: DELETE /gateways/{device}/replacement is the way back")
        other = self._by_mac.get(by)
        if other is not None:
            raise Conflict(f"{by} stands in for {other} already")

    # -- changes, on disk first ------------------------------------------------------------------------------------

    @contextmanager
    def changing(self, *macs: str) -> Iterator[None]:
        """Nobody else changes what is about these meanwhile. Raises Conflict."""
        busy = self._changing.intersection(macs)
        if busy:
            raise Conflict(f"another replacement of {', '.join(sorted(busy))} is under way")
        self._changing.update(macs)
        try:
            yield
        finally:
            self._changing.difference_update(macs)

    @deferred
    async def begin(self, device: str, step: Step) -> None:
        """From now on ``step.by`` is the device's gateway. Raises Invalid, Conflict, Unavailable."""
        self.check(device, step.by)
        before = self._by_device.get(device)
        await self._write(device, Successor(steps=(*(() if before is None else before.steps), step)))

    @deferred
    async def settle(self, device: str) -> None:
        """Everything that follows from the last step, there or back, is done. Raises Unavailable."""
        left = self._undone.get(device)
        if left is None:
            return
        steps = left.steps
        if left.undo is None:
            steps = (*steps[:-1], msgspec.structs.replace(steps[-1], done=True))
        await self._write(device, Successor(steps=steps) if steps else None)

    @deferred
    async def back(self, device: str) -> None:
        """One step back; `undone` says what is left to do. Raises NotFound, Unavailable."""
        found = self._by_device.get(device)
        if found is None:
            raise NotFound(f"{device} was not replaced")
        await self._write(device, Successor(steps=found.steps[:-1], undo=found.steps[-1]))

    async def _write(self, device: str, successor: Successor | None) -> None:
        await self._storage.write_records([self._records.change(device, successor)])
        self._set(device, successor)
        if not self._backplane.alone:
            self._backplane.tell("gw88.succession", msgspec.msgpack.encode((device, successor)))

    def _heard(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        device, successor = msgspec.msgpack.decode(body, type=tuple[str, Successor | None])
        before = self._mac_of(device)
        self._set(device, successor)
        now = self._mac_of(device)
        if before != now:
            for told in self.on_heard:
                told(device, before, now)

    def _mac_of(self, device: str) -> str:
        found = self._by_device.get(device)
        return device if found is None else found.mac

    def _set(self, device: str, successor: Successor | None) -> None:
        before = self._by_device.pop(device, None)
        self._undone.pop(device, None)
        if before is not None:
            self._by_mac.pop(before.mac, None)
        if successor is None:
            return
        if successor.undo is not None or not successor.steps[-1].done:
            self._undone[device] = successor
        if successor.steps:
            self._by_device[device] = successor
            self._by_mac[successor.mac] = device

    def _changed(self, change: Change) -> None:
        """A device that is removed needs no successor."""
        known = change.id in self._by_device or change.id in self._undone
        if change.what == "device_removed" and known:
            self._set(change.id, None)
            self._records.remove(change.id).addErrback(self._not_removed, change.id)

    def _not_removed(self, failure: Failure, device: str) -> None:
        failure.trap(BrokerError)
        log.warn(
            "the replacement of {device} goes at the next start: {why}", device=device, why=failure.getErrorMessage()
        )
