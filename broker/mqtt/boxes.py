"""The boxes of this process's persistent sessions: what others put there becomes what the session is owed.

::

    news(session) ──> read a page ──> session.take (PUT) and TAKEN, in one batch ──> read on until it is empty

A row leaves the box in the commit in which its messages enter the session's queue: they are in one of the two, never in
both. That commit may be told as failed and have been done; it is never undone, and the box is read again.

A session that has come from another process may have older messages in its box than what is published here next. So
that goes into the box, too, behind them (`Boxes.aside`), until it was read to its end with nothing on its way there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
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
from broker.mqtt.remote import Outgoing

#: Rows of a box read at once. Each holds what one batch of another process had, some 64 KB at most.
PAGE: Final = 50


class Boxes:
    """``sessions``: those of this process by number."""

    log: ClassVar[Logger] = Logger(namespace="broker.mqtt")

    def __init__(self, journal: Any, topics: SessionIndex, out: Outgoing) -> None:
        self.sessions: dict[int, PersistentSession] = {}
        self.taken = 0
        self._journal = journal
        self._topics = topics
        self._out = out
        self._later: set[int] = set()
        #: Being read; True: there is news since.
        self._reading: dict[int, bool] = {}
        #: Up to where a box was read: what is taken may still lie there until the commit.
        self._at: dict[int, bytes] = {}
        #: The position of the last row that was taken.
        self._taken_at: dict[int, int] = {}
        #: Commits that have failed: a page that was asked for before one is not where a box was read up to.
        self._failures = 0
        self._resting: dict[int, list[Deferred[None]]] = {}
        #: Sessions whose messages of this process go through the box -> position of the last one.
        self._aside: dict[int, int] = {}
        #: Sessions that are being given away: their boxes are another's to read.
        self._held: set[int] = set()

    def look_at(self, numbers: Iterable[int]) -> None:
        """Something may lie in the boxes of these sessions, as far as they are ours."""
        for number in numbers:
            if number not in self.sessions or number in self._held:
                continue
            if number in self._reading:
                self._reading[number] = True
            else:
                self._reading[number] = False
                Deferred.fromCoroutine(self._read(number)).addErrback(self._failed, number)

    def again(self) -> None:
        """A commit failed: what was taken may be there still, and what is published here now has to go behind it. It is
        read with the next tick, as a full Redis lets read."""
        self._failures += 1
        self._later.update(self._divert(self._at))
        self._at = {}

    # -- a session comes, or goes ----------------------------------------------------------------------------------

    def aside(self, numbers: Iterable[int]) -> None:
        """Have what is published here go behind what lies in the boxes of these sessions, as far as they are ours."""
        self.look_at(self._divert(numbers))

    def _divert(self, numbers: Iterable[int]) -> list[int]:
        known = [number for number in numbers if number in self.sessions]
        for number in known:
            if number not in self._aside:
                # What was published here before the session came may still be on its way to the box.
                self._aside[number] = self._out.news.get(number, 0)
                self.sessions[number].detour = partial(self._detour, number)
        return known

    def _detour(self, number: int, message: Message) -> int:
        position = self._aside[number] = self._out.box(number, self._out.pack(message))
        return position

    async def hold(self, number: int) -> None:
        """Read no further, and have what is published here go into the box, until `go_on` or `forget`."""
        self._held.add(number)
        self.aside([number])
        if number in self._reading:
            resting: Deferred[None] = Deferred()
            self._resting.setdefault(number, []).append(resting)
            await resting

    def taken_at(self, number: int) -> int:
        """The position with which all that was taken out of the box is in the queue."""
        return self._taken_at.get(number, 0)

    def go_on(self, number: int) -> None:
        """It stays with us after all."""
        self._held.discard(number)
        self.look_at([number])

    def forget(self, number: int) -> None:
        """The session is not ours any more."""
        self._held.discard(number)
        for table in (self._aside, self._at, self._taken_at):
            table.pop(number, None)

    def clear(self) -> None:
        """No session is ours any more."""
        self.sessions.clear()
        self._held.clear()
        for table in (self._aside, self._at, self._taken_at):
            table.clear()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, number: int) -> None:
        session = self.sessions.get(number)
        while session is not None and number not in self._held:
            self._reading[number] = False
            failures, put = self._failures, self._aside.get(number, 0)
            all_there = put <= self._journal.committed
            rows = await self._journal.load_box(number, self._at.get(number, b""), PAGE)
            if self.sessions.get(number) is not session or number in self._held:
                break
            if self._failures != failures:
                continue
            for entry, bodies in rows:
                for body in bodies:
                    self._take(session, body)
                self._journal.append((TAKEN, f"box:{number}", entry))
            if rows:
                self._at[number] = rows[-1][0]
                self._taken_at[number] = self._journal.position
                self.taken += len(rows)
            if len(rows) < PAGE and not self._reading[number]:  # that was all
                if all_there and put == self._aside.get(number, 0):
                    self._aside.pop(number, None)
                    session.detour = None
                break
        self._done(number)

    def _take(self, session: PersistentSession, body: bytes) -> None:
        found = opened(body)
        route = self._topics.route(found.name.decode())
        plan = route.plan or plan_of(route)
        receiver = next((one for one in plan.receivers if one.session is session), None)
        if receiver is None or not receiver.qos:  # at QoS 0 it came, or not, with what the process got
            return
        detour, session.detour = session.detour, None
        try:
            if isinstance(found, Message):
                receiver.take(found)
            elif found.qos == 1 and receiver.is_plain:
                session.keep_run(plan, found.body, found.at, found.step)
            else:
                for message in found.messages():
                    receiver.take(message)
        finally:
            session.detour = detour

    def _done(self, number: int) -> None:
        news = self._reading.pop(number)
        for resting in self._resting.pop(number, ()):
            resting.callback(None)
        if number not in self.sessions:
            self.forget(number)
        elif news:  # of a session that has come back meanwhile
            self.look_at([number])

    def _failed(self, failure: Failure, number: int) -> None:
        self._reading[number] = False
        self._done(number)
        if not failure.check(Unavailable):
            self.log.failure("mqtt: fault while a box was read", failure)
            return
        self._later.add(number)

    def tick(self) -> None:
        """Read again what could not be read."""
        later, self._later = self._later.union(self._aside), set()
        self.look_at(later)
