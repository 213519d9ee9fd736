"""What updaters tell of their orders, on its way to the process that has the campaigns.

::

    updater ──> Progress ──here──> Campaigns
                   └──elsewhere──> a list in order ──ask fleet.progress──> Progress there ──> Campaigns

Every process has updaters, as every process has devices; one has the campaigns. What is told while nobody has them
waits for whoever is next, up to `MAX_WAITING`: past that the oldest goes, and its line ends by its own time. What is
asked twice, because an answer was lost, changes nothing the second time.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.cluster.duty import Duty
from broker.model.errors import BrokerError, Unavailable
from broker.model.interfaces import IBackplane, IUpdateProgress

KIND: Final = "fleet.progress"
#: What may wait for a process that has the campaigns.
MAX_WAITING: Final = 20_000
#: Notes of one question.
BATCH: Final = 200
#: What is waited for.
AWAITED: Final = frozenset({"fetching", "reported"})

_encode = msgspec.msgpack.Encoder().encode
_notes = msgspec.msgpack.Decoder(list[tuple[str, list[Any]]]).decode


class _Note:
    __slots__ = ("arguments", "told", "what")

    def __init__(self, what: str, arguments: tuple[Any, ...]) -> None:
        self.what = what
        self.arguments = arguments
        #: Fires when it has arrived, and what follows is on disk.
        self.told: Deferred[None] = Deferred()


@implementer(IUpdateProgress)
class Progress:
    """The one that all updaters of this process follow. ``here`` is the Campaigns, while this process has them."""

    log: ClassVar[Logger] = Logger(namespace="broker.fleet")

    def __init__(self, backplane: IBackplane) -> None:
        self.here: Any = None
        self.duty: Duty | None = None
        self._waiting: deque[_Note] = deque()
        self._busy = False
        self.lost = 0
        backplane.answer(KIND, self._asked)

    def settle(self) -> None:
        """Hand on what waits; called when somebody may have the campaigns, about once a second."""
        if self.here is not None:
            waiting, self._waiting = self._waiting, deque()
            for note in waiting:
                self._here(note)
        elif self._waiting and not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._send()).addErrback(self._not_sent).addBoth(self._sent)

    # -- IUpdateProgress -------------------------------------------------------------------------------------------

    def moved(self, order_id: str, step: str) -> None:
        self._tell("moved", order_id, step)

    def returned(self, order_id: str, why: str) -> None:
        self._tell("returned", order_id, why)

    def failed(self, order_id: str, why: str) -> None:
        self._tell("failed", order_id, why)

    def unanswered(self, order_id: str) -> None:
        self._tell("unanswered", order_id)

    def fetching(self, order_id: str) -> Deferred[None]:
        if self.here is not None:
            fetching: Deferred[None] = self.here.fetching(order_id)
            return fetching
        # A device is not kept waiting until somebody has the campaigns: it asks again.
        if self.duty is None:
            return succeed(None)
        return self.duty.ask(KIND, _encode([("fetching", (order_id,))])).addCallback(lambda _: None)

    def fetched(self, order_id: str) -> None:
        self._tell("fetched", order_id)

    def exchanged(self, device_id: str, why: str) -> None:
        self._tell("exchanged", device_id, why)

    def reported(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        return self._tell("reported", device_id, info)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _tell(self, what: str, *arguments: Any) -> Deferred[None]:
        if self.here is not None:
            result = getattr(self.here, what)(*arguments)
            return result if isinstance(result, Deferred) else succeed(None)
        note = _Note(what, arguments)
        self._waiting.append(note)
        if len(self._waiting) > MAX_WAITING:
            self.lost += 1
            self._waiting.popleft().told.callback(None)
        self.settle()
        return note.told

    def _here(self, note: _Note) -> None:
        result = getattr(self.here, note.what)(*note.arguments)
        if isinstance(result, Deferred):
            result.chainDeferred(note.told)
        else:
            note.told.callback(None)

    async def _send(self) -> None:
        while self._waiting and self.here is None:
            if self.duty is None:
                return
            notes = [self._waiting[number] for number in range(min(BATCH, len(self._waiting)))]
            await self.duty.ask(KIND, _encode([(note.what, note.arguments) for note in notes]))
            for note in notes:
                if self._waiting and self._waiting[0] is note:
                    self._waiting.popleft()
                if not note.told.called:
                    note.told.callback(None)

    def _not_sent(self, failure: Failure) -> None:
        """It is tried again by `settle`."""
        if not failure.check(BrokerError):
            self.log.failure("fault while progress was passed on", failure)

    def _sent(self, _: Any) -> None:
        self._busy = False

    def _asked(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._take(_notes(body)))

    async def _take(self, notes: list[tuple[str, list[Any]]]) -> bytes:
        for what, arguments in notes:
            if self.here is None:
                raise Unavailable("this broker process does not have the campaigns")
            if what not in IUpdateProgress:
                continue  # of a later version
            result = getattr(self.here, what)(*arguments)
            if what in AWAITED:
                await result
        return b""
