"""The port to the disk: what persistent sessions and retained messages must not lose (DESIGN §10).

::

    append(op) ──> position += 1 ──> one batch a turn, one commit ──> watchers(upto, None)      acknowledge up to there
                                                        └─ failed ──> watchers(upto, error)     acknowledge none of it

Everything that has to wait until an op is safe waits for its *position*: no callback, no Deferred a message. Positions
begin at 1 and count the ops of this process; 0 is "nothing to wait for". Batches are committed in order, so what is
told is always about the ops behind those that were told before.

The ops (the first field is the kind)::

    (PUT, session, seq, qos, expires_at | None, topic, payload, properties, retain)    a message owed to a session
    (ACK, session, seq)              that one is settled (also one that expired): the row goes
    (REC, session, seq)              PUBREC came for it: the row stays, without topic and payload, as "released"
    (IN, session, packet_id)         a QoS 2 message of the client was taken over under this id
    (OUT, session, packet_id)        and was released: the id is free again
    (DROP, session)                  the session ends, with everything that belongs to it
    (SESSION, SessionRecord)         make it, or replace what was kept under its number; its rows stay
    (SUB, session, filter, options)  it has this subscription; options: a number, opaque here
    (UNSUB, session, filter)         it has it no more
    (SEEN, session, at | None)       it lost its connection at that time (UNIX seconds), or has one again (None)
    (RETAIN, topic, payload, qos, properties, expires_at | None)       the retained message of a topic
    (FORGET, topic)
    (WILL, WillRecord)               a connection has this will, or has been lost and it waits; replaces by its number
    (UNWILL, number)                 it was published, or is not to be
    (SEND, stream, body)             another process is told, over ``box:<session>``, ``mq:<node>`` or ``log``
    (TAKEN, stream, id)              what came so, or lay in the box, has become ops of this batch: it goes

``session`` is a number that is never used again. ``seq`` only grows within one session, so messages lie in the order of
(session, seq), and are acknowledged nearly in that order. Ops about the same thing take effect in the order in which
they were appended; ops that find nothing (an ACK of what is gone, anything but SESSION for a session that is not there)
have no effect. ``properties`` are the bytes of `properties.shared_bytes`, opaque here. ``expires_at``: UNIX seconds.

SEND and TAKEN are only for journals that several processes share (`SharedSessionJournal`).

When a commit fails (full disk, lock) the batch fails as a whole, and the new work in it (PUT, IN, SESSION, SUB, WILL,
RETAIN, SEND, TAKEN) is forgotten: whoever waits for it is told. What only gives back room or notes progress (ACK, REC,
OUT, DROP, SEEN, UNSUB, UNWILL, FORGET) is kept by the journal and tried again with a later batch, before that batch's
own ops: nobody would repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed

from broker.model.errors import Unavailable
from broker.model.sessions import (
    ACK,
    DROP,
    FORGET,
    IN,
    NEW_WORK,
    NEWS,
    OUT,
    PUT,
    REC,
    RETAIN,
    SEEN,
    SEND,
    SESSION,
    SUB,
    TAKEN,
    UNSUB,
    UNWILL,
    WILL,
    LoadedSession,
    Op,
    QueueRow,
    RetainedRow,
    SessionRecord,
    WillRecord,
)

__all__ = [
    "ACK",
    "DROP",
    "FORGET",
    "IN",
    "NEWS",
    "NEW_WORK",
    "OUT",
    "PUT",
    "REC",
    "RETAIN",
    "SEEN",
    "SEND",
    "SESSION",
    "SUB",
    "TAKEN",
    "UNSUB",
    "UNWILL",
    "WILL",
    "LoadedSession",
    "MemoryJournal",
    "Op",
    "QueueRow",
    "RetainedRow",
    "SessionJournal",
    "SessionRecord",
    "Watcher",
    "WillRecord",
]

#: watcher(upto, error): every op up to position ``upto`` that was not told yet is on disk, or (error) is not.
Watcher: TypeAlias = Callable[[int, Exception | None], None]


class SessionJournal(Protocol):
    """What `broker.storage` provides. The loading methods fail with Unavailable."""

    @property
    def position(self) -> int:
        """The position of the op that was appended last; 0 before the first."""
        ...

    @property
    def committed(self) -> int:
        """Every op up to this position is settled: on disk, or told as failed."""
        ...

    @property
    def failed(self) -> Sequence[Op]:
        """While watchers are told of a failure: the ops that are certainly not on disk; none where it is not known."""
        ...

    def append(self, op: Op) -> None:
        """Have it written with this turn's batch. Costs an append to a list."""
        ...

    def watch(self, watcher: Watcher) -> None:
        """Have ``watcher`` called in the reactor's thread, once a batch. For the life of the journal."""
        ...

    def load_sessions(self) -> Deferred[Sequence[LoadedSession]]:
        """All sessions, by number. Once, before the first op."""
        ...

    def load_queue(self, session: int, after: int, limit: int) -> Deferred[Sequence[QueueRow]]:
        """Up to ``limit`` rows with seq > ``after``, by seq: of what is committed when the answer comes, at least all
        that was when it was asked."""
        ...

    def load_incoming(self, session: int) -> Deferred[Sequence[int]]:
        """The packet ids with IN and without OUT. After a commit that failed they say whether it was done all the same:
        who had a connection to the storage that was lost on the way is told of a failure, too."""
        ...

    def load_retained(self, after: str, limit: int) -> Deferred[Sequence[RetainedRow]]:
        """Up to ``limit`` retained messages with topic > ``after`` (by code point), by topic; "" for the first page."""
        ...

    def load_wills(self) -> Deferred[Sequence[WillRecord]]:
        """All wills, by number. Once, before the first op."""
        ...


class SharedSessionJournal(SessionJournal, Protocol):
    """One that several processes write to. Sessions and wills have numbers that no two processes give."""

    def load_these(self, sessions: Sequence[int]) -> Deferred[Sequence[LoadedSession]]:
        """Those of these sessions that there are, as they are now."""
        ...

    def load_box(self, session: int, after: bytes, limit: int) -> Deferred[Sequence[tuple[bytes, list[bytes]]]]:
        """(id, bodies) of up to ``limit`` rows of the session's box behind the id ``after``, b"" for all; oldest first.

        A row holds what one batch had for the session.
        """
        ...

    def load_boxes(self) -> Deferred[Sequence[int]]:
        """The sessions in whose boxes something may lie."""
        ...

    def adopt(self, session: int) -> None:
        """A session that another process has made, or had, is this one's from now on."""
        ...

    def release(self, session: int) -> None:
        """It is another process's: ops about it have no effect any more."""
        ...

    def abandon(self) -> None:
        """What is not written yet never will be: whoever waits is told that it failed."""
        ...

    @property
    def uncertain(self) -> bool:
        """Whether a commit that was told as failed may be done yet: then no session may be given to another process."""
        ...


class MemoryJournal:
    """A journal that keeps everything in memory: for tests, and where storage has none.

    It commits by itself at every append, so that nothing ever waits, unless ``held`` is set; then `commit` does, and
    `fail` lets the batch fail.
    """

    def __init__(self) -> None:
        self.position = 0
        self.committed = 0
        self.held = False
        self.uncertain = False
        self.failed: Sequence[Op] = ()
        self.sessions: dict[int, SessionRecord] = {}
        self.subscriptions: dict[int, dict[str, int]] = {}
        self.wills: dict[int, WillRecord] = {}
        self.queues: dict[int, dict[int, QueueRow]] = {}
        self.incoming: dict[int, dict[int, None]] = {}
        self.retained: dict[str, RetainedRow] = {}
        self.boxes: dict[str, dict[bytes, bytes]] = {}
        #: Told of each SEND that is no box's.
        self.on_send: Callable[[str, bytes], object] = lambda stream, body: None
        self._sent = 0
        self._batch: list[Op] = []
        self._again: list[Op] = []
        self._watchers: list[Watcher] = []

    def append(self, op: Op) -> None:
        """See `SessionJournal`."""
        self.position += 1
        self._batch.append(op)
        if not self.held:
            self.commit()

    def watch(self, watcher: Watcher) -> None:
        """See `SessionJournal`."""
        self._watchers.append(watcher)

    def commit(self) -> None:
        """The batch is on disk now."""
        ops = self._again + self._batch
        self._again, self._batch = [], []
        for op in ops:
            self._apply(op)
        self._tell(None)

    def fail(self, error: Exception) -> None:
        """The batch could not be written."""
        self._again += [op for op in self._batch if op[0] not in NEW_WORK]
        self.failed, self._batch = self._batch, []
        self._tell(error)
        self.failed = ()

    def _tell(self, error: Exception | None) -> None:
        if self.committed == self.position:
            return
        self.committed = self.position
        for watcher in self._watchers:
            watcher(self.committed, error)

    def _apply(self, op: Op) -> None:  # noqa: C901 - one line a kind
        match op:
            case ("put", session, seq, qos, expires_at, topic, payload, properties, retain):
                if session in self.sessions:
                    row = QueueRow(seq, qos, expires_at, topic, payload, properties, retain)
                    self.queues.setdefault(session, {})[seq] = row
            case ("ack", session, seq):
                self.queues.get(session, {}).pop(seq, None)
            case ("rec", session, seq):
                rows = self.queues.get(session, {})
                if seq in rows:
                    rows[seq] = replace(rows[seq], topic="", payload=b"", properties=b"", released=True)
            case ("in", session, packet_id):
                if session in self.sessions:
                    self.incoming.setdefault(session, {})[packet_id] = None
            case ("out", session, packet_id):
                self.incoming.get(session, {}).pop(packet_id, None)
            case ("drop", session):
                for table in (self.sessions, self.subscriptions, self.queues, self.incoming):
                    table.pop(session, None)
            case ("session", record):
                self.sessions[record.number] = record
            case ("sub", session, topic_filter, granted):
                if session in self.sessions:
                    self.subscriptions.setdefault(session, {})[topic_filter] = granted
            case ("unsub", session, topic_filter):
                self.subscriptions.get(session, {}).pop(topic_filter, None)
            case ("will", record):
                self.wills[record.number] = record
            case ("unwill", number):
                self.wills.pop(number, None)
            case ("seen", session, at):
                if session in self.sessions:
                    self.sessions[session] = replace(self.sessions[session], disconnected_at=at)
            case ("retain", topic, payload, qos, properties, expires_at):
                self.retained[topic] = RetainedRow(topic, payload, qos, properties, expires_at)
            case ("forget", topic):
                self.retained.pop(topic, None)
            case ("send", stream, body):
                self._send(stream, body)
            case ("taken", stream, entry):
                self.boxes.get(stream, {}).pop(entry, None)
            case _:
                raise ValueError(f"no such op: {op[0]!r}")

    def load_sessions(self) -> Deferred[Sequence[LoadedSession]]:
        """See `SessionJournal`."""
        loaded = []
        for number, record in sorted(self.sessions.items()):
            rows = self.queues.get(number, {}).values()
            next_seq = max((row.seq for row in rows), default=0) + 1
            size = sum(row.size for row in rows)
            loaded.append(LoadedSession(record, next_seq, len(rows), size, dict(self.subscriptions.get(number, {}))))
        return succeed(loaded)

    def load_queue(self, session: int, after: int, limit: int) -> Deferred[Sequence[QueueRow]]:
        """See `SessionJournal`."""
        rows = sorted(self.queues.get(session, {}).items())
        return succeed([row for seq, row in rows if seq > after][:limit])

    def load_incoming(self, session: int) -> Deferred[Sequence[int]]:
        """See `SessionJournal`."""
        return succeed(list(self.incoming.get(session, {})))

    def load_retained(self, after: str, limit: int) -> Deferred[Sequence[RetainedRow]]:
        """See `SessionJournal`."""
        return succeed([row for topic, row in sorted(self.retained.items()) if topic > after][:limit])

    def _send(self, stream: str, body: bytes) -> None:
        if not stream.startswith("box:"):
            self.on_send(stream, body)
        elif int(stream[4:]) in self.sessions:
            self._sent += 1
            self.boxes.setdefault(stream, {})[b"%012d" % self._sent] = body

    def load_these(self, sessions: Sequence[int]) -> Deferred[Sequence[LoadedSession]]:
        """See `SharedSessionJournal`."""
        return self.load_sessions().addCallback(
            lambda loaded: [one for one in loaded if one.record.number in set(sessions)]
        )

    def load_box(self, session: int, after: bytes, limit: int) -> Deferred[Sequence[tuple[bytes, list[bytes]]]]:
        """See `SharedSessionJournal`."""
        rows = self.boxes.get(f"box:{session}", {}).items()
        return succeed([(entry, [body]) for entry, body in rows if entry > after][:limit])

    def load_boxes(self) -> Deferred[Sequence[int]]:
        """See `SharedSessionJournal`."""
        return succeed([int(name[4:]) for name, box in self.boxes.items() if box])

    def adopt(self, session: int) -> None:
        """See `SharedSessionJournal`."""

    def release(self, session: int) -> None:
        """See `SharedSessionJournal`."""

    def abandon(self) -> None:
        """See `SharedSessionJournal`."""
        self._batch, self._again = [], []
        self._tell(Unavailable("it was given up"))

    def load_wills(self) -> Deferred[Sequence[WillRecord]]:
        """See `SessionJournal`."""
        return succeed([will for _, will in sorted(self.wills.items())])
