"""The sessions of the server by client: who gets which at CONNECT, what outlives a connection, and for how long.

::

    clean start                      the old session ends, a new one begins
    no clean start, one is there     it goes on, with its subscriptions and what it is owed (session present)
    connection lost                  expiry 0: it ends; else it is away until it expires or the client is back

Client ids are per identity: nobody can push out, or take over, somebody else's session. What becomes of wills is in
`broker.mqtt.wills`.

A subscription is one op of the journal, whatever else its session is subscribed to.

5.0: a session is its client id's [MQTT-3.1.3-2], and goes when it has expired [MQTT-4.1.0-2].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from broker.mqtt.bequests import Bequests, pass_on
from broker.mqtt.delivery import SessionIndex
from broker.mqtt.journal import DROP, PUT, SEEN, SESSION, SUB, UNSUB, LoadedSession, Op, SessionJournal, SessionRecord
from broker.mqtt.message import Options, options, options_of
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroups
from broker.mqtt.topics import split_share
from broker.mqtt.wills import Key, LastWill, Wills


class Neighbours(Protocol):
    """Other processes, as far as sessions have to tell them: `broker.mqtt.elsewhere`."""

    def joined(self, session: Session, topic_filter: str, granted: Options, before: Options | None) -> None:
        """It has this subscription; ``before``: what it was granted for this filter until now."""

    def left(self, session: Session, topic_filter: str, granted: Options) -> None:
        """It has it no more."""

    def added(self, session: Session) -> None:
        """It is new."""

    def ended(self, session: Session) -> None:
        """It is over, and has no subscriptions any more."""


class Sessions:
    """``clock``: UNIX seconds. ``publish``: see `Wills`; ``kept``: see `Bequests`."""

    def __init__(
        self,
        journal: SessionJournal,
        topics: SessionIndex,
        clock: Callable[[], float],
        publish: Callable[[LastWill], object],
        kept: Callable[[int], Deferred[None]],
    ) -> None:
        self.journal = journal
        self.topics = topics
        self.groups: SharedGroups[Session, Options] = SharedGroups(topics)
        self._clock = clock
        self.wills = Wills(journal, clock, publish)
        self._bequests = Bequests(journal, kept)
        self._sessions: dict[Key, Session] = {}
        self._numbers: dict[int, PersistentSession] = {}
        #: Told of changes, where there are other processes.
        self.neighbours: Neighbours | None = None
        #: How many are on disk.
        self.persistent = 0
        self._next_number = 1
        #: (when, a number that makes them different, session)
        self._ends: list[tuple[float, int, PersistentSession]] = []
        self._count = 0
        #: Sessions that are being written, and the position of that; those whose commit failed.
        self._saving: dict[PersistentSession, int] = {}
        self._unsaved: set[PersistentSession] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: Key) -> Session | None:
        """The client's session, connected or away."""
        session = self._sessions.get(key)
        if isinstance(session, PersistentSession) and session.connection is None and self._is_over(session):
            self.end(session)
            return None
        return session

    def restore(self, loaded: Sequence[LoadedSession], make: Callable[[SessionRecord], PersistentSession]) -> None:
        """Take up what was on disk at the start."""
        now = self._clock()
        replaced = []
        for each in loaded:
            record = each.record
            if self.neighbours is None:
                self._next_number = max(self._next_number, record.number + 1)
            session = make(record)
            session.restored(each.next_seq, each.queued, each.size)
            session.key = (record.owner, record.client_id)
            session.expiry = record.expiry
            if session.key in self._sessions:  # a crash has kept it from being dropped
                replaced.append(self._sessions[session.key])
            self._sessions[session.key] = session
            self._numbers[session.number] = session
            self.persistent += 1
            for topic_filter, given in each.subscriptions.items():
                self._join(session, topic_filter, options_of(given))
            self.away(session, now if record.disconnected_at is None else record.disconnected_at)
        for old in replaced:
            self.end(old)

    # -- one session -----------------------------------------------------------------------------------------------

    def add(self, session: Session) -> int:
        """A new session; the position that CONNACK has to wait for."""
        self._sessions[session.key] = session
        if self.neighbours is not None:
            self.neighbours.added(session)
        if isinstance(session, PersistentSession):
            self.persistent += 1
            self._numbers[session.number] = session
            return self.save(session)
        return 0

    def number_from(self, first: int) -> None:
        """Numbers from there on are ours to give."""
        self._next_number = first

    def each(self) -> list[Session]:
        """All of them."""
        return list(self._sessions.values())

    def forget(self, session: Session) -> None:
        """It is another process's from now on: nothing of it ends."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        for topic_filter in list(session.subscriptions):
            self._leave(session, topic_filter)
        if isinstance(session, PersistentSession):
            self.persistent -= 1
            self._numbers.pop(session.number, None)
            self._saving.pop(session, None)
            self._unsaved.discard(session)

    def new_number(self) -> int:
        """For a new persistent session."""
        self._next_number += 1
        return self._next_number - 1

    def save(self, session: Session) -> int:
        """Have its record as it is now on disk; the position to wait for, 0 for one that is not kept."""
        if not isinstance(session, PersistentSession):
            return 0
        owner, client_id = session.key
        fields = (session.number, owner, client_id, session.version, session.expiry, session.disconnected_at)
        return self._note(session, (SESSION, SessionRecord(*fields)))

    def _keep_again(self, session: PersistentSession) -> None:
        """A commit failed, and who knows what it had of the session: have all of it on disk."""
        session.keep_again = None
        self.save(session)
        for topic_filter, granted in session.subscriptions.items():
            self._note(session, (SUB, session.number, topic_filter, granted.as_number()))

    def _note(self, session: PersistentSession, op: Op) -> int:
        """Have something about the session on disk; the position to wait for."""
        if session.keep_again is not None:
            session.keep_again()
        self.journal.append(op)
        position = self.journal.position
        if position > self.journal.committed:
            self._saving[session] = position
        return position

    def unsafe(self, session: Session) -> int:
        """The position after which all that it is subscribed to is on disk; 0: it is, or is not kept."""
        return self._saving.get(session, 0) if isinstance(session, PersistentSession) else 0

    def settled(self, upto: int, error: Exception | None) -> None:
        """A batch was committed, or failed: then the sessions in it are to be kept again before they are owed more."""
        if error is not None and self.journal.failed:
            self._owe_less(self.journal.failed)
        for session, position in list(self._saving.items()):
            if position <= upto:
                del self._saving[session]
                if error is not None and self._sessions.get(session.key) is session:
                    session.keep_again = partial(self._keep_again, session)
                    self._unsaved.add(session)

    def _owe_less(self, failed: Sequence[Op]) -> None:
        """Messages could not be kept: else a storage that is full for long would fill queues that are empty."""
        for op in failed:
            if op[0] == PUT:
                _, number, _, _, _, topic, payload, shared, _ = op
                session = self._numbers.get(number)
                if session is not None:
                    session.not_kept(len(topic.encode()) + len(payload) + len(shared))

    def seen(self, session: PersistentSession) -> int:
        """It has a connection again; the position of the note."""
        session.disconnected_at = None
        self.journal.append((SEEN, session.number, None))
        return self.journal.position

    def away(self, session: PersistentSession, at: float) -> None:
        """It lost its connection at that time."""
        session.disconnected_at = at
        if session.expiry is not None:
            self._count += 1
            heappush(self._ends, (at + session.expiry, self._count, session))

    def end(self, session: Session) -> None:
        """It is over, with everything that belongs to it."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        filters = list(session.subscriptions)
        for topic_filter in filters:
            self._leave(session, topic_filter)
        if isinstance(session, PersistentSession):
            self.persistent -= 1
            self._numbers.pop(session.number, None)
            if not self._bequests.left_by(session, filters, self.groups):
                self.journal.append((DROP, session.number))
        if self.neighbours is not None:
            self.neighbours.ended(session)
        for copy in session.left():
            pass_on(copy.group, copy.message)
        self.wills.over(session.key)

    def _is_over(self, session: PersistentSession) -> bool:
        at = session.disconnected_at
        return session.expiry is not None and at is not None and at + session.expiry <= self._clock()

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, topic_filter: str, granted: Options) -> bool:
        """True if it is new. `unsafe` has the position that SUBACK has to wait for."""
        if isinstance(session, PersistentSession) and session.subscriptions.get(topic_filter) is not granted:
            self._note(session, (SUB, session.number, topic_filter, granted.as_number()))
        return self._join(session, topic_filter, granted)

    def _join(self, session: Session, topic_filter: str, granted: Options) -> bool:
        before = session.subscriptions.get(topic_filter)
        session.subscriptions[topic_filter] = granted
        group, plain = split_share(topic_filter) or ("", topic_filter)
        if group:
            new = self.groups.join(group, plain, session, granted)
        else:
            new = self.topics.subscribe(topic_filter, session, granted)
        if self.neighbours is not None:
            self.neighbours.joined(session, topic_filter, granted, before)
        return new

    def unsubscribe(self, session: Session, topic_filter: str) -> bool:
        """False if there was no such subscription. `unsafe` has the position that UNSUBACK has to wait for."""
        if not self._leave(session, topic_filter):
            return False
        if isinstance(session, PersistentSession):
            self._note(session, (UNSUB, session.number, topic_filter))
        return True

    def _leave(self, session: Session, topic_filter: str) -> bool:
        granted = session.subscriptions.pop(topic_filter, None)
        if granted is None:
            return False
        group, plain = split_share(topic_filter) or ("", topic_filter)
        if group:
            self.groups.leave(group, plain, session)
        else:
            self.topics.unsubscribe(topic_filter, session)
        if self.neighbours is not None:
            self.neighbours.left(session, topic_filter, granted)
        return True

    def listen(self, listener: Any, topic_filter: str) -> None:
        """Subscribe somebody at QoS 0 who has no MQTT session and takes each message itself.

        It has what `broker.mqtt.delivery.Receiver` looks at in a clean session that is not plain.
        """
        granted = options(0)
        if self.topics.subscribe(topic_filter, listener, granted) and self.neighbours is not None:
            self.neighbours.joined(listener, topic_filter, granted, None)

    def ignore(self, listener: Any, topic_filter: str) -> None:
        """End that; harmless when there was no such subscription."""
        if self.topics.unsubscribe(topic_filter, listener) and self.neighbours is not None:
            self.neighbours.left(listener, topic_filter, options(0))

    # -- wills -----------------------------------------------------------------------------------------------------

    def will(self, session: Session, last: LastWill) -> None:
        """The connection is gone without a goodbye: publish, or wait as long as the session lasts."""
        if not last.delay or self._sessions.get(session.key) is not session:
            self.wills.now(last)
        elif session.connection is not None:  # it has been taken over: the client is back already
            self.wills.withdraw(last)
        else:
            self.wills.later(last)

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Publish the wills and end the sessions whose time is over."""
        unsaved, self._unsaved = self._unsaved, set()
        for session in unsaved:
            if session.keep_again is not None and self._sessions.get(session.key) is session:
                session.keep_again()
        self.wills.tick()
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            session = heappop(self._ends)[2]
            # It may have come back meanwhile, and gone again.
            if session.connection is None and self._sessions.get(session.key) is session and self._is_over(session):
                self.end(session)
