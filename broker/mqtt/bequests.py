"""What a member of a shared subscription leaves unacknowledged when its session ends (MQTT 5.0 §4.8.2).

::

    session ends ──> left in memory (clean sessions) ───────────────────────> another member of the group
                └──> left on disk ──> a page of rows ──> another member, and the row goes, in one batch
                                      └── until there are no more: the session is dropped

Passed on is what was on its way at QoS 1, and what was never sent. A QoS 2 message whose sending has begun must not be
[MQTT-4.8.2-5]; after a restart nobody knows which of the first window that was, so none of those is. As long as a
session lasts, what was assigned to it stays its own [MQTT-4.8.2-4].

A row does not say which subscription it came by. It is passed on if its topic matches a shared one of the session and
none of its own: where both match, one of the two rows was the session's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.model.errors import Unavailable
from broker.mqtt.delivery import Share
from broker.mqtt.journal import ACK, DROP, QueueRow, SessionJournal
from broker.mqtt.message import Message, Options
from broker.mqtt.persistent import PAGE, PersistentSession, message_of
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroup, SharedGroups
from broker.mqtt.topics import matches, split_share


def pass_on(group: SharedGroup[Session, Options], message: Message) -> None:
    """Give the message to whoever's turn it is, if anybody is left."""
    Share(group.turn(message.topic)).take(message)


class Bequests:
    """``kept(position)``: a Deferred that fires when the journal has come that far, or fails with Unavailable."""

    log: ClassVar[Logger] = Logger(namespace="broker.mqtt")

    def __init__(self, journal: SessionJournal, kept: Callable[[int], Deferred[None]]) -> None:
        self._journal = journal
        self._kept = kept

    def left_by(
        self, session: PersistentSession, filters: Sequence[str], groups: SharedGroups[Session, Options]
    ) -> bool:
        """A session with these subscriptions has ended: if others may want what it leaves, pass that on and drop it."""
        shared = []
        own = []
        for topic_filter in filters:
            name, plain = split_share(topic_filter) or ("", topic_filter)
            group = groups.get(name, plain) if name else None
            if group is not None:
                shared.append((plain, group))
            elif not name:
                own.append(topic_filter)
        if not session.owed or not shared:
            return False
        Deferred.fromCoroutine(self._pass_on_all(session, shared, own)).addErrback(
            lambda failure: self.log.failure("mqtt: fault while messages were passed on", failure)
        )
        return True

    async def _pass_on_all(self, session: PersistentSession, shared: Sequence[Any], own: Sequence[str]) -> None:
        journal, number = self._journal, session.number
        sent, unsure = session.sent
        after = 0
        try:
            await self._kept(session.position)
            while rows := await journal.load_queue(number, after, PAGE):
                after = rows[-1].seq
                for row in rows:
                    unsure -= 1
                    if row.qos == 1 or not (row.released or row.seq <= sent or unsure >= 0):
                        self._pass_on(row, shared, own)
                    journal.append((ACK, number, row.seq))
        except Unavailable:
            self.log.warn("mqtt: what {key} left is not passed on: storage failed", key=session.key[1])
        finally:
            journal.append((DROP, number))

    def _pass_on(self, row: QueueRow, shared: Sequence[Any], own: Sequence[str]) -> None:
        if any(matches(topic_filter, row.topic) for topic_filter in own):
            return
        for topic_filter, group in shared:
            if matches(topic_filter, row.topic):
                pass_on(group, message_of(row)[0])
                return
