"""The boxes of this process's persistent sessions: what others put there becomes what the session is owed.

::

    news(session) ──> read a page ──> session.take (PUT) and TAKEN, in one batch ──> read on until it is empty

A row leaves the box in the commit in which its messages enter the session's queue: they are in one of them, and never in
both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.mqtt.delivery import SessionIndex, plan_of
from broker.mqtt.journal import TAKEN
from broker.mqtt.message import Message
from broker.mqtt.parcels import opened
from broker.mqtt.persistent import PersistentSession

#: Rows of a box read at once. Each holds what one batch of another process had, some 64 KB at most.
PAGE: Final = 50


class Boxes:
    """``sessions``: those of this process by number."""

    log: ClassVar[Logger] = Logger(namespace="broker.mqtt")

    def __init__(self, journal: Any, topics: SessionIndex) -> None:
        self.sessions: dict[int, PersistentSession] = {}
        self.taken = 0
        self._journal = journal
        self._topics = topics
        self._later: set[int] = set()
        #: Being read; True: there is news since.
        self._reading: dict[int, bool] = {}
        #: Up to where a box was read: what is taken may still lie there until the commit.
        self._at: dict[int, bytes] = {}
        #: Commits that have failed: a page that was asked for before one is not where a box was read up to.
        self._failures = 0
        self._resting: dict[int, list[Deferred[None]]] = {}

    def look_at(self, numbers: Iterable[int]) -> None:
        """Something may lie in the boxes of these sessions, as far as they are ours."""
        for number in numbers:
            if number not in self.sessions:
                continue
            if number in self._reading:
                self._reading[number] = True
            else:
                self._reading[number] = False
                Deferred.fromCoroutine(self._read(number)).addErrback(self._failed, number)

    def again(self) -> None:
        """A commit failed: what was taken may be there still."""
        self._failures += 1
        numbers, self._at = list(self._at), {}
        self.look_at(numbers)

    def rest(self, number: int) -> Deferred[None]:
        """Fires when the box is not being read."""
        resting: Deferred[None] = Deferred()
        if number in self._reading:
            self._resting.setdefault(number, []).append(resting)
        else:
            resting.callback(None)
        return resting

    async def _read(self, number: int) -> None:
        while True:
            self._reading[number] = False
            session = self.sessions.get(number)
            if session is None:
                break
            failures = self._failures
            rows = await self._journal.load_box(number, self._at.get(number, b""), PAGE)
            if self.sessions.get(number) is not session:
                break
            if self._failures != failures:
                continue
            for entry, bodies in rows:
                for body in bodies:
                    self._take(session, body)
                self._journal.append((TAKEN, f"box:{number}", entry))
            if rows:
                self._at[number] = rows[-1][0]
                self.taken += len(rows)
            if len(rows) < PAGE and not self._reading[number]:
                break
        self._done(number)

    def _take(self, session: PersistentSession, body: bytes) -> None:
        found = opened(body)
        route = self._topics.route(found.name.decode())
        plan = route.plan or plan_of(route)
        receiver = next((one for one in plan.receivers if one.session is session), None)
        if receiver is None or not receiver.qos:  # at QoS 0 it came, or not, with what the process got
            return
        if isinstance(found, Message):
            receiver.take(found)
        elif found.qos == 1 and receiver.is_plain:
            session.keep_run(plan, found.body, found.at, found.step)
        else:
            for message in found.messages():
                receiver.take(message)

    def _done(self, number: int) -> None:
        del self._reading[number]
        if number not in self.sessions:
            self._at.pop(number, None)
        for resting in self._resting.pop(number, ()):
            resting.callback(None)

    def _failed(self, failure: Failure, number: int) -> None:
        self._done(number)
        if not failure.check(Unavailable):
            self.log.failure("mqtt: fault while a box was read", failure)
            return
        self._later.add(number)

    def tick(self) -> None:
        """Read again what could not be read."""
        later, self._later = self._later, set()
        self.look_at(later)
