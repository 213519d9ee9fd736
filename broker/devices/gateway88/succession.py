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
"""

from __future__ import annotations

from typing import Final

import msgspec

from broker.core import Core
from broker.model.errors import Conflict, Invalid, NotFound
from broker.storage.deferred import deferred
from broker.storage.identity import Change
from broker.storage.records import Records

TABLE: Final = "gateway88_successor"


class Step(msgspec.Struct, kw_only=True, frozen=True):
    """One replacement: ``by`` is the MAC that came; ``certificate`` that of the gateway before it, to be put back."""

    by: str
    at: float
    certificate: str = ""
    #: The backup that the new gateway was given, and the command that gave it; empty: none.
    backup: str = ""
    command: str = ""


class Successor(msgspec.Struct, kw_only=True, frozen=True):
    """All replacements of one device that are in force, the oldest first; never empty."""

    steps: tuple[Step, ...]

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
        #: Devices that are being changed: one at a time.
        self._changing: set[str] = set()
        core.registry.on_change.append(self._changed)

    @deferred
    async def open(self) -> None:
        """Read what is on disk. Raises Unavailable."""
        for device, successor in await self._records.all():
            self._set(device, successor)

    # -- who is who ------------------------------------------------------------------------------------------------

    def device_of(self, mac: str) -> str | None:
        """The device whose frames have this MAC; None for a gateway that was replaced."""
        device = self._by_mac.get(mac)
        if device is not None:
            return device
        return None if mac in self._by_device else mac

    def of(self, device: str) -> Successor | None:
        """The replacements of a device; None when it is its own gateway's."""
        return self._by_device.get(device)

    def every(self) -> list[tuple[str, Successor]]:
        """All devices that are another gateway's now, by id."""
        return sorted(self._by_device.items())

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

    @deferred
    async def begin(self, device: str, step: Step) -> Successor:
        """From now on ``step.by`` is the device's gateway. Raises Invalid, Conflict, Unavailable."""
        self.check(device, step.by)
        before = self._by_device.get(device)
        successor = Successor(steps=(*(() if before is None else before.steps), step))
        await self._write(device, successor)
        return successor

    @deferred
    async def note(self, device: str, backup: str, command: str) -> Successor:
        """The newest gateway was given a backup. Raises NotFound, Conflict, Unavailable."""
        now = self._known(device)
        last = msgspec.structs.replace(now.steps[-1], backup=backup, command=command)
        successor = Successor(steps=(*now.steps[:-1], last))
        await self._write(device, successor)
        return successor

    @deferred
    async def back(self, device: str) -> Step:
        """One step back; the step that was taken back. Raises NotFound, Conflict, Unavailable."""
        steps = self._known(device).steps
        await self._write(device, Successor(steps=steps[:-1]) if len(steps) > 1 else None)
        return steps[-1]

    def _known(self, device: str) -> Successor:
        found = self._by_device.get(device)
        if found is None:
            raise NotFound(f"{device} was not replaced")
        return found

    async def _write(self, device: str, successor: Successor | None) -> None:
        if device in self._changing:
            raise Conflict(f"another replacement of {device} is under way")
        self._changing.add(device)
        try:
            await self._storage.write_records([self._records.change(device, successor)])
            self._set(device, successor)
        finally:
            self._changing.discard(device)

    def _set(self, device: str, successor: Successor | None) -> None:
        before = self._by_device.pop(device, None)
        if before is not None:
            self._by_mac.pop(before.mac, None)
        if successor is not None:
            self._by_device[device] = successor
            self._by_mac[successor.mac] = device

    def _changed(self, change: Change) -> None:
        """A device that is removed needs no successor."""
        if change.what == "device_removed" and change.id in self._by_device:
            self._set(change.id, None)
            self._records.remove(change.id)
