"""The sessions of the server by client: who gets which at CONNECT, what outlives a connection, and for how long.

::

    clean start                      the old session ends, a new one begins
    no clean start, one is there     it goes on, with its subscriptions and what it is owed (session present)
    connection lost                  expiry 0: it ends; else it is away until it expires or the client is back

Client ids are per identity: nobody can push out, or take over, somebody else's session. Wills with a delay (§3.1.3.2.2
of 5.0) wait here: they are published when the delay or the session is over, and not at all if the client is back first
[MQTT-3.1.3-9].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, TypeAlias

import msgspec

from broker.mqtt import packets as p
from broker.mqtt.delivery import SessionIndex
from broker.mqtt.journal import DROP, SEEN, SESSION, LoadedSession, SessionJournal, SessionRecord
from broker.mqtt.message import Options, options
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroups
from broker.mqtt.topics import split_share

Key: TypeAlias = tuple[str, str]
Publish: TypeAlias = Callable[[Any, p.Will], object]


class Sessions:
    """``clock``: UNIX seconds. ``publish(principal, will)`` sends a will."""

    def __init__(
        self, journal: SessionJournal, topics: SessionIndex, clock: Callable[[], float], publish: Publish
    ) -> None:
        self.journal = journal
        self.topics = topics
        self.groups: SharedGroups[Session, Options] = SharedGroups(topics)
        self._clock = clock
        self._publish = publish
        self._sessions: dict[Key, Session] = {}
        #: How many are on disk.
        self.persistent = 0
        self._next_number = 1
        #: (when, a number that makes them different, session)
        self._ends: list[tuple[float, int, PersistentSession]] = []
        #: (when, number, key); the will itself is in ``_wills``
        self._delays: list[tuple[float, int, Key]] = []
        self._wills: dict[Key, tuple[int, Any, p.Will]] = {}
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
        for each in loaded:
            record = each.record
            self._next_number = max(self._next_number, record.number + 1)
            session = make(record)
            session.restored(each.next_seq, each.queued, each.size)
            session.key = (record.owner, record.client_id)
            session.expiry = record.expiry
            self._sessions[session.key] = session
            self.persistent += 1
            for topic_filter, given in msgspec.json.decode(record.subscriptions, type=dict[str, list[int]]).items():
                self.subscribe(session, topic_filter, options(given[0], bool(given[1]), bool(given[2]), given[3]))
            self.away(session, now if record.disconnected_at is None else record.disconnected_at)

    # -- one session -----------------------------------------------------------------------------------------------

    def add(self, session: Session) -> int:
        """A new session; the position that CONNACK has to wait for."""
        self._sessions[session.key] = session
        if isinstance(session, PersistentSession):
            self.persistent += 1
            return self.save(session)
        return 0

    def new_number(self) -> int:
        """For a new persistent session."""
        self._next_number += 1
        return self._next_number - 1

    def save(self, session: Session) -> int:
        """Have it as it is now on disk; the position to wait for, 0 for one that is not kept."""
        if not isinstance(session, PersistentSession):
            return 0
        owner, client_id = session.key
        subscriptions = {one: granted.as_list() for one, granted in session.subscriptions.items()}
        record = SessionRecord(
            session.number,
            owner,
            client_id,
            session.version,
            session.expiry,
            msgspec.json.encode(subscriptions),
            b"",
            session.disconnected_at,
        )
        self.journal.append((SESSION, record))
        position = self.journal.position
        session.keep_again = None
        if position > self.journal.committed:
            self._saving[session] = position
        return position

    def settled(self, upto: int, error: Exception | None) -> None:
        """A batch was committed, or failed: then the sessions in it are to be kept again before they are owed more."""
        for session, position in list(self._saving.items()):
            if position <= upto:
                del self._saving[session]
                if error is not None and self._sessions.get(session.key) is session:
                    session.keep_again = partial(self.save, session)
                    self._unsaved.add(session)

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
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)
        if isinstance(session, PersistentSession):
            self.persistent -= 1
            self.journal.append((DROP, session.number))
        self._will_is_due(session.key)

    def _is_over(self, session: PersistentSession) -> bool:
        at = session.disconnected_at
        return session.expiry is not None and at is not None and at + session.expiry <= self._clock()

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, topic_filter: str, granted: Options) -> bool:
        """True if it is new."""
        session.subscriptions[topic_filter] = granted
        group, plain = split_share(topic_filter) or ("", topic_filter)
        if group:
            return self.groups.join(group, plain, session, granted)
        return self.topics.subscribe(topic_filter, session, granted)

    def unsubscribe(self, session: Session, topic_filter: str) -> bool:
        """False if there was no such subscription."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return False
        group, plain = split_share(topic_filter) or ("", topic_filter)
        if group:
            self.groups.leave(group, plain, session)
        else:
            self.topics.unsubscribe(topic_filter, session)
        return True

    # -- wills -----------------------------------------------------------------------------------------------------

    def will(self, session: Session, will: p.Will, delay: int) -> None:
        """The connection is gone without a goodbye: publish, or wait as long as the session lasts."""
        key = session.key
        if not delay or self._sessions.get(key) is not session:
            self._publish(session.principal, will)
            return
        self._count += 1
        self._wills[key] = (self._count, session.principal, will)
        heappush(self._delays, (self._clock() + delay, self._count, key))

    def forget_will(self, key: Key) -> None:
        """The client is back in time."""
        self._wills.pop(key, None)

    def _will_is_due(self, key: Key) -> None:
        waiting = self._wills.pop(key, None)
        if waiting is not None:
            self._publish(waiting[1], waiting[2])

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Publish the wills and end the sessions whose time is over."""
        unsaved, self._unsaved = self._unsaved, set()
        for session in unsaved:
            if session.keep_again is not None and self._sessions.get(session.key) is session:
                self.save(session)
        now = self._clock()
        while self._delays and self._delays[0][0] <= now:
            _, count, key = heappop(self._delays)
            if self._wills.get(key, (0,))[0] == count:
                self._will_is_due(key)
        while self._ends and self._ends[0][0] <= now:
            session = heappop(self._ends)[2]
            # It may have come back meanwhile, and gone again.
            if session.connection is None and self._sessions.get(session.key) is session and self._is_over(session):
                self.end(session)
