"""A session that outlives its connection: what it is owed at QoS 1 and 2 is on disk (DESIGN §10).

::

    away ────────── connect ──> loading ── nothing is left on disk that is not here ──> live
      ^                            ^                                                      │
      │                            └─────────── more waits than SPILL messages ───────────┤
      └──────────────────────────────── connection lost ──────────────────────────────────┘

    away, loading   a message goes to the disk only; when loading, pages of it come from there in their order
    live            a message goes to the disk and into the window, or the queue in memory

Every message has a ``seq``, and the packet id (seq - 1) % 65535 + 1: a message has the same id when it is sent again
[MQTT-4.4.0-1], and no id has to be kept. A window that comes round to an id in flight waits for it.

QoS 1 goes out at once, whatever the disk does. QoS 2 goes out after the commit, PUBREL after the commit of PUBREC:
else a crash between them could make one message of two, or two of one. What is loaded is what was committed after
everything that this session had to say; so nothing comes back that was settled.

5.0: it is there as long as its connection, and until it expires [MQTT-3.1.2-23] [MQTT-4.1.0-1]; what has its PUBREC is
never sent again, only released [MQTT-4.3.3-6].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from twisted.python.failure import Failure

from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.journal import ACK, IN, OUT, PUT, REC, QueueRow, SessionJournal
from broker.mqtt.message import Copy, Message, identifier_bytes
from broker.mqtt.session import PUBACK, PUBCOMP, Session

#: Messages that wait in memory; more are read from the disk when they are due.
SPILL: Final = 1_000
#: Rows read from the disk at once.
PAGE: Final = 200


def message_of(row: QueueRow) -> tuple[Message, tuple[int, ...]]:
    """The message of a row of the queue, and its subscription identifiers for this receiver."""
    shared = row.properties
    identifiers: tuple[int, ...] = ()
    if shared:
        block = props.property_block(shared)
        decoded = props.decode_properties(block, 0, len(block), p.PUBLISH)[0] or {}
        identifiers = tuple(cast("list[int]", decoded.get(props.SUBSCRIPTION_IDENTIFIER, [])))
        shared = props.shared_bytes(decoded)
    return Message(row.topic.encode(), row.payload, row.qos, row.retain, shared, row.expires_at), identifiers


class PersistentSession(Session):
    """``number``: its number in the journal. ``wait_for(self)`` has `settled` called with
    the next commit."""

    __slots__ = (
        "_again",
        "_journal",
        "_last_position",
        "_loaded",
        "_loading",
        "_over",
        "_over_bytes",
        "_put_at",
        "_rows",
        "_sent",
        "_spilled",
        "_start",
        "_wait_for",
        "_welcome",
        "detour",
        "disconnected_at",
        "incoming_known",
        "keep_again",
        "next_seq",
        "number",
        "owed",
        "owed_bytes",
    )
    persistent = True

    def __init__(self, number: int, journal: SessionJournal, wait_for: Any, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.number = number
        self.plain = False
        self._queue = deque()
        self._journal = journal
        self._wait_for = wait_for
        self.detour: Callable[[Message], int] | None = None
        self.next_seq = 1
        #: Messages on disk and not settled, and their bytes.
        self.owed = 0
        self.owed_bytes = 0
        self.disconnected_at: float | None = None
        #: Set when a commit failed that this session itself was in: called before anything that is owed to it, which
        #: would find no session on disk.
        self.keep_again: Callable[[], object] | None = None
        #: False: the ids of the client's QoS 2 messages are on disk only.
        self.incoming_known = True
        #: packet id in flight -> (seq, bytes)
        self._rows: dict[int, tuple[int, int]] = {}
        #: The client has its CONNACK, or is about to: nothing may be sent before that.
        self._welcome = False
        self._spilled = True
        #: The seq that was last taken into memory, the highest one that was ever sent, whether a page is on its way.
        self._loaded = 0
        self._sent = 0
        self._loading = False
        #: The last position of this session, of its last PUT, and the one that loading has to wait for.
        self._last_position = 0
        self._put_at = 0
        #: Messages, and their bytes, that could not be kept and are counted as owed, at most.
        self._over = 0
        self._over_bytes = 0
        self._start = 0
        self._again = 0

    def restored(self, next_seq: int, owed: int, owed_bytes: int) -> None:
        """What was found on disk at the start."""
        self.next_seq = next_seq
        self.owed = owed
        self.owed_bytes = owed_bytes
        # Whether they were sent is not known. What could have been in the window may be a duplicate [MQTT-3.3.1-1].
        self._again = self.window
        self.incoming_known = False

    @property
    def connected(self) -> bool:
        return self._welcome

    @property
    def position(self) -> int:
        return self._last_position

    @property
    def sent(self) -> tuple[int, int]:
        """The highest seq that was ever sent, and how many of the first rows on disk were, or not, before a restart."""
        return max(self._sent, max((seq for seq, _ in self._rows.values()), default=0)), self._again

    def left(self) -> list[Copy]:
        """Nothing: what it leaves is on disk, see `broker.mqtt.bequests`."""
        return []

    def may_receive(self, topic: str) -> bool:
        """Nobody is asked while it is not known who it is: then it is asked again before anything is sent."""
        return self.principal is None or super().may_receive(topic)

    # -- connections -----------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """The connection is gone: from now on it owes to the disk alone."""
        self.connection = None
        self._welcome = False
        self.retained = None
        self._sent = self.sent[0]
        self.inflight.clear()
        self._rows.clear()
        self._queue.clear()
        self._aliases.clear()
        self._spilled = True
        self._loaded = 0

    def come_back(self, position: int) -> None:
        """There is a connection, and everything before ``position`` is to be on disk before anything is read there."""
        self._start = self._last_position = max(position, self._last_position)
        self._welcome = True
        self._spilled = True
        self._loaded = 0
        if not self.owed:
            self._spilled = False
            self._loaded = self.next_seq - 1
        else:
            self._load()

    def not_kept(self, size: int) -> None:
        """A message is certainly not on disk. It may have been settled all the same, so ``owed`` stays: what counts it
        may be too high, but never too low, as nothing would be read then."""
        self._over += 1
        self._over_bytes += size

    def _is_full(self, size: int) -> bool:
        """Whether there is no room for a message. Asked when ``owed`` says so."""
        settings = self._settings
        waiting = self.owed - self._over - len(self.inflight)
        return waiting >= settings.max_queued_messages or (
            self.owed_bytes - self._over_bytes + size > settings.max_queued_bytes
        )

    def settled(self, upto: int, error: Exception | None) -> None:
        """A batch was committed, or failed."""
        if self.connection is None:
            return
        if error is not None:  # what it waits for may not be there
            self.connection.close("unavailable")
            return
        if self._put_at > upto:
            self._wait_for(self)
        self._load()
        self.fill()

    # -- to the client ---------------------------------------------------------------------------------------------

    def offer(self, packet: bytes, count: int = 1) -> None:
        if self._welcome:
            super().offer(packet, count)

    def offer_alone(self, packet: bytes) -> None:
        if self._welcome:
            super().offer_alone(packet)

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], group: Any = None) -> int:
        if not qos:
            return super().take(message, qos, retain, identifiers) if self._welcome else 0
        settings = self._settings
        size = message.size
        waiting = self.owed - len(self.inflight)
        if (
            waiting >= settings.max_queued_messages or self.owed_bytes + size > settings.max_queued_bytes
        ) and self._is_full(size):
            self.stats.drop("queue_full")
            return 0
        seq = self.next_seq
        self.next_seq = seq + 1
        self.owed += 1
        self.owed_bytes += size
        if self.keep_again is not None:
            self.keep_again()
        shared = identifier_bytes(identifiers) + message.shared if identifiers else message.shared
        journal = self._journal
        journal.append((PUT, self.number, seq, qos, message.expires_at, message.topic, message.payload, shared, retain))
        position = self._last_position = self._put_at = journal.position
        if self._spilled:
            if not self._loading:
                self._load()
            return position
        self._loaded = seq
        if qos == 1 and not self._queue and self._room() and (seq - 1) % 65535 + 1 not in self.inflight:
            if self.version == p.MQTT_5 or message.expires_at is not None:
                self._send_copy(Copy(message, qos, retain, identifiers, seq, position))
            else:  # nothing of 5.0 can keep it from being sent
                self._put_out(message.head(4, 1, retain), message.payload, seq, size, 1)
            return position
        self._queue.append(Copy(message, qos, retain, identifiers, seq, position))
        if len(self._queue) > SPILL:
            self._spilled = True
        elif len(self._queue) == 1:
            self.fill()
        if qos == 2:
            self._wait_for(self)  # it must not go out if it is not kept, however long it waits for the window
        return position

    def keep(self, plan: Any, head: bytes, payload: bytes) -> int:
        """`take` for a client of 3.1.1 and a plain message at QoS 1; ``head``: its PUBLISH up to the packet id."""
        inflight = self.inflight
        settings = self._settings
        size = len(plan.name) + len(payload)
        owed = self.owed
        if (
            owed - len(inflight) >= settings.max_queued_messages or self.owed_bytes + size > settings.max_queued_bytes
        ) and self._is_full(size):
            self.stats.drop("queue_full")
            return 0
        outbox = self.outbox
        seq = self.next_seq
        packet_id = (seq - 1) % 65535 + 1
        if (
            self._spilled
            or self._queue
            or len(inflight) >= self.window
            or packet_id in inflight
            or (outbox.size >= outbox.limit and outbox.blocked)
            or self.keep_again is not None
            or self.detour is not None
        ):
            if self.detour is not None:
                return self.detour(Message(plan.name, payload, 1))
            return self.take(Message(plan.name, payload, 1), 1, False, ())
        self.next_seq = seq + 1
        self.owed = owed + 1
        self.owed_bytes += size
        self._loaded = seq
        journal = self._journal
        journal.append((PUT, self.number, seq, 1, None, plan.topic, payload, b"", False))
        self._last_position = self._put_at = position = journal.position
        inflight[packet_id] = PUBACK
        self._rows[packet_id] = (seq, size)
        self.stats.messages_out += 1
        outbox.put(b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 255, payload))
        return position

    def keep_run(self, plan: Any, run: bytes, at: int, step: int) -> int:
        """`keep` for whole packets of ``step`` bytes with one head, which ends at ``at``."""
        settings = self._settings
        size = len(plan.name) + step - at - 2
        if (
            self.owed - len(self.inflight) >= settings.max_queued_messages
            or self.owed_bytes + size > settings.max_queued_bytes
        ) and self._is_full(size):
            self.stats.drop("queue_full", len(run) // step)
            return 0
        position = 0
        head = run[:at]
        for start in range(0, len(run), step):
            position = self.keep(plan, head, run[start + at + 2 : start + step]) or position
        return position

    def fill(self) -> None:
        if self.connection is None:
            return
        queue = self._queue
        while queue and self._room():
            copy = queue[0]
            assert isinstance(copy, Copy)
            if copy.qos == 2 and copy.position > self._journal.committed:
                self._wait_for(self)
                return
            if (copy.seq - 1) % 65535 + 1 in self.inflight:
                return
            queue.popleft()
            self._send_copy(copy)
        if not queue:
            if self._spilled:
                self._load()
            elif self.retained is not None:
                self.retained.go_on()

    def _send_copy(self, copy: Copy) -> None:
        message = copy.message
        # What was sent before does not expire, 5.0 [MQTT-4.3.3-7]; nor at QoS 2 what may have been before a restart.
        sent = copy.seq <= self._sent or (copy.dup and copy.qos == 2)
        if not sent and self._expired(message):
            self._gone(copy.seq, message.size)
            return
        head, tail = self._parts(message, copy.qos, copy.retain, copy.identifiers, copy.dup)
        if not self._fits(head, tail):
            self._gone(copy.seq, message.size)
            return
        self._put_out(head, tail, copy.seq, message.size, copy.qos)

    def _put_out(self, head: bytes, tail: bytes, seq: int, size: int, qos: int) -> None:
        packet_id = (seq - 1) % 65535 + 1
        self.inflight[packet_id] = qos
        self._rows[packet_id] = (seq, size)
        self.stats.messages_out += 1
        self.outbox.put(b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 255, tail))

    def _forbidden(self, item: tuple[bytes, bytes] | Copy) -> None:
        assert isinstance(item, Copy)
        self._gone(item.seq, item.message.size)

    # -- from the client -------------------------------------------------------------------------------------------

    def acknowledged(self, packet_id: int) -> bool:
        inflight = self.inflight
        if inflight.get(packet_id) != PUBACK:
            return super().acknowledged(packet_id)
        seq, size = self._rows.pop(packet_id)
        self.owed -= 1
        self.owed_bytes -= size
        journal = self._journal
        journal.append((ACK, self.number, seq))
        self._last_position = journal.position
        del inflight[packet_id]
        if self._queue:
            self.fill()
        return True

    def acknowledged_run(self, data: bytes, offset: int) -> int:
        size = len(data)
        while True:
            packet_id = data[offset + 2] << 8 | data[offset + 3]
            if not self.acknowledged(packet_id) and not packet_id:
                raise p.ProtocolError("packet_id")
            offset += 4
            if offset + 4 > size or data[offset] != 0x40 or data[offset + 1] != 2:
                return offset

    def _release(self, packet_id: int) -> None:
        self._journal.append((REC, self.number, self._rows[packet_id][0]))
        self._last_position = self._journal.position
        self.connection.reply_at(self._last_position, encode.pubrel(packet_id))

    def _settle(self, packet_id: int) -> None:
        self._gone(*self._rows.pop(packet_id))
        super()._settle(packet_id)

    def _gone(self, seq: int, size: int) -> None:
        self.owed -= 1
        self.owed_bytes -= size
        self._journal.append((ACK, self.number, seq))
        self._last_position = self._journal.position

    def take_in(self, packet_id: int) -> int:
        super().take_in(packet_id)
        if self.keep_again is not None:
            self.keep_again()
        self._journal.append((IN, self.number, packet_id))
        self._last_position = self._journal.position
        return self._last_position

    def let_go(self, packet_id: int) -> int:
        if packet_id in self.incoming:
            super().let_go(packet_id)
            self._journal.append((OUT, self.number, packet_id))
            self._last_position = self._journal.position
        # Once the client has PUBCOMP it gives the id to another message: nobody may find the old one on disk then.
        return self._last_position

    def not_taken_in(self, packet_id: int) -> None:
        super().not_taken_in(packet_id)
        self.incoming_known = False  # a commit of which nothing is heard may have been done

    # -- from the disk ---------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Have the next page read, once everything that we said is on disk and there is nothing left in memory."""
        if not self._spilled or self._loading or self._queue or not self._welcome or self.connection is None:
            return
        if self._journal.committed < self._start:
            self._wait_for(self)
            return
        if self._loaded >= self.next_seq - 1:
            self._spilled = False
            if not self.inflight:
                self.owed = self.owed_bytes = self._over = self._over_bytes = 0
            if self.retained is not None:
                self.retained.go_on()
            return
        self._loading = True
        connection = self.connection
        all_there = self._journal.committed >= self._put_at
        page = self._journal.load_queue(self.number, self._loaded, PAGE)
        page.addCallback(self._got, connection, self.next_seq - 1 if all_there else 0).addErrback(
            self._lost, connection
        )

    def _got(self, rows: Sequence[QueueRow], connection: Any, last: int) -> None:
        """``last``: the seq up to which everything there is was on disk when it was asked; 0: not known."""
        self._loading = False
        if connection is not self.connection:
            self._load()
            return
        for row in rows:
            self._take_row(row)
        if rows:
            self._loaded = rows[-1].seq
        if len(rows) < PAGE:
            if not last and not self._queue:
                if self._journal.committed < self._put_at:
                    self._wait_for(self)
                else:  # it was committed while the page was read
                    self._load()
                return
            self._loaded = max(self._loaded, last)  # what is not there was settled
        if self._queue:
            self.fill()
        else:
            self._load()

    def _take_row(self, row: QueueRow) -> None:
        packet_id = (row.seq - 1) % 65535 + 1
        if row.released:
            self.inflight[packet_id] = PUBCOMP
            self._rows[packet_id] = (row.seq, row.size)
            self.connection.send(encode.pubrel(packet_id))
            return
        if not self.may_receive(row.topic):
            self.stats.drop("not_allowed")
            self._gone(row.seq, row.size)
            return
        message, identifiers = message_of(row)
        copy = Copy(message, row.qos, row.retain, identifiers, row.seq)
        if self._again:
            self._again -= 1
            copy.dup = True
        else:
            copy.dup = row.seq <= self._sent
        self._queue.append(copy)

    def _lost(self, failure: Failure, connection: Any) -> None:
        self._loading = False
        if connection is self.connection:
            connection.fault_behind(failure)
