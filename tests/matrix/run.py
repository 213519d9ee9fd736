"""The phases of the matrix, one after the other; in each of them all cells at the same time.

::

    online ──> uplink ──> command ──> refusal ──> rights ──> offline

A command counts when its application was told so and the device has it, a refusal of rights when the application was
told and the device has nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.matrix.customer_side import CustomerServer
from tests.matrix.devices import Device
from tests.matrix.gizwits_side import GizwitsMqtt, GizwitsWebSocket
from tests.matrix.http_side import Http, Stream
from tests.matrix.mailbox import PATIENCE
from tests.matrix.mqtt_side import PlainMqtt, PlainMqtt5
from tests.matrix.sides import Impossible, Side
from tests.matrix.stage import Stage

SIDES: Final[tuple[type[Side], ...]] = (
    GizwitsMqtt,
    GizwitsWebSocket,
    CustomerServer,
    PlainMqtt,
    PlainMqtt5,
    Http,
    Stream,
)
#: What is asked of each pair, in the order of the page.
ROWS: Final = ("uplink", "command", "presence", "refusal", "rights")
#: A mark of an uplink that all applications hear.
SAID: Final = 77


@dataclass(slots=True)
class Cell:
    """What came of one thing between a device and an application. ``problem``: empty if it is as it should be."""

    seconds: float = 0.0
    impossible: str = ""
    problem: str = ""


#: (protocol, application, row) -> Cell.
Cells = dict[tuple[str, str, str], Cell]


class Matrix:
    """``stage`` has been started. Everything is in the reactor's thread."""

    def __init__(self, reactor: Any, stage: Stage) -> None:
        self.cells: Cells = {}
        self.took: dict[str, float] = {}
        self._reactor = reactor
        self._stage = stage
        self.devices = stage.devices(reactor)
        self._strangers = stage.strangers(reactor)
        self.sides = [make(reactor, stage, number) for number, make in enumerate(SIDES, 1)]

    async def run(self) -> None:
        """All of it; what is wrong stands in ``cells``."""
        await deferToThread(self._stage.register, self.devices)
        try:
            await self._all(side.start(self.devices) for side in self.sides)
            await self._phases()
        finally:
            await self._all(side.stop() for side in self.sides)
            for device in (*self.devices, *self._strangers.values()):
                await maybeDeferred(device.stop)

    async def _phases(self) -> None:
        await self._presence(True)
        for device in (*self.devices, *self._strangers.values()):
            device.say(SAID)
        await self._phase("uplink", lambda device, side: side.uplink(device, SAID))
        await self._phase("command", self._command)
        for device in self.devices:
            device.refuse()
        await self._phase("refusal", lambda device, side: side.refusal(device, device.refused(30 + side.number)))
        await self._phase("rights", self._rights)
        await self._presence(False)

    async def _command(self, device: Device, side: Side) -> None:
        mark = 10 + side.number
        await side.command(device, device.order(mark))
        await self._eventually(lambda: device.has_obeyed(mark), f"{device.title} has not got {mark}: {device.obeyed}")

    async def _rights(self, device: Device, side: Side) -> None:
        """A device of the same protocol that no application is bound to."""
        stranger = self._strangers[device.protocol]
        await side.rights(stranger, device.order(50 + side.number))
        kept = await deferToThread(self._stage.done, "GET", f"/devices/{stranger.id}/commands")
        assert kept["items"] == [], kept
        if stranger.speaks:
            page = await deferToThread(self._stage.done, "GET", f"/devices/{stranger.id}/messages")
            assert page["items"], f"{stranger.id} has said nothing that could have been heard"
        assert not side.heard_of(stranger), side.heard_of(stranger)
        assert not stranger.obeyed, stranger.obeyed

    async def _presence(self, online: bool) -> None:
        """Everybody comes, or goes. The second counts for a cell that the first has not spoiled."""
        since = {side.name: len(side.heard) for side in self.sides}
        for device in (*self.devices, *(self._strangers.values() if online else ())):
            await maybeDeferred(device.start if online else device.stop)
        before = {key: cell for key, cell in self.cells.items() if cell.problem}
        await self._phase("presence", lambda device, side: side.presence(device, online, since[side.name]))
        self.cells.update(before)

    async def _phase(self, row: str, check: Callable[[Device, Side], Coroutine[Any, Any, None]]) -> None:
        began = self._reactor.seconds()
        await self._all(self._cell(row, device, side, check) for device, side in product(self.devices, self.sides))
        self.took[row] = self.took.get(row, 0.0) + self._reactor.seconds() - began

    async def _cell(
        self, row: str, device: Device, side: Side, check: Callable[[Device, Side], Coroutine[Any, Any, None]]
    ) -> None:
        cell = self.cells[device.protocol, side.name, row] = Cell()
        began = self._reactor.seconds()
        try:
            await check(device, side)
        except Impossible as why:
            cell.impossible = str(why)
        except Exception as error:
            cell.problem = f"{type(error).__name__}: {error}"
        cell.seconds = self._reactor.seconds() - began

    async def _eventually(self, condition: Callable[[], bool], what: str) -> None:
        until = self._reactor.seconds() + PATIENCE
        while not condition():
            assert self._reactor.seconds() < until, what
            await deferLater(self._reactor, 0.02)

    @staticmethod
    async def _all(works: Any) -> None:
        await gatherResults([Deferred.fromCoroutine(work) for work in works], consumeErrors=True)
