"""The journal of MQTT sessions on Redis: a batch is one operation of the write lane (``lua/sessions.lua``).

Sessions have their own keys here, so a session's number is its slot. Whether a session is there is asked in Redis: it
may have been ended by another process.

A batch that was told as failed, because the connection was lost for long, may have been done. It is never taken back:
what it brought may be in other processes' hands by then, and what it took out of boxes and streams would be nowhere.
What counts is what Redis has. Whoever repeats a message at QoS 2 is known by its packet id, which was in that batch, so
the ids are read again after a failure (`SessionJournal.load_incoming`); and as long as nobody knows (`uncertain`),
look-ups go behind the batch, and no session is given away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from secrets import token_bytes
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from broker.model.sessions import LoadedSession, Op, QueueRow, RetainedRow, SessionRecord, WillRecord
from broker.storage.deferred import deferred
from broker.storage.redis.lane import CHANGE, FREEING, Job, Lane
from broker.storage.redis.replies import Argument, Lost
from broker.storage.redis.rows import time_text
from broker.storage.redis.writer import WriteLane
from broker.storage.session_batch import SEQ_BITS, Batch, Slots, runs
from broker.storage.session_journal import BatchJournal
from broker.storage.session_rows import pack_message, unpack_message

_encode: Final = msgspec.msgpack.Encoder().encode
_note: Final = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
#: The rows of sessions, wills and retained messages, from bytes.
read_session: Final = msgspec.msgpack.Decoder(tuple[int, str, str, int, int | None]).decode
read_will: Final = msgspec.msgpack.Decoder(tuple[int, str, str, str, bytes, int, bool, bytes, int, float | None]).decode
read_retained: Final = msgspec.msgpack.Decoder(tuple[bytes, int, bytes, float | None]).decode
#: Bytes of the seq in front of each message: no two members of a sorted set may be the same.
SEQ_SIZE: Final = (SEQ_BITS + 7) // 8
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1
#: Bytes in front of what lies in a box.
_MARK: Final = 16
#: Sessions that are loaded in one step.
LOADED: Final = 200


class Numbers(Slots):
    """Slots that are the sessions' own numbers."""

    def load(self, slots: Iterable[tuple[int, int]]) -> None:
        """Numbers may lie far apart: none of them is looked for among the free."""
        self.bases = {session: session << SEQ_BITS for session, _ in slots}

    def make(self, session: int) -> int:
        base = self.bases.get(session)
        if base is None:
            base = self.bases[session] = session << SEQ_BITS
            self._made.append(session)
        return base

    def keep(self) -> None:
        self._forget()

    def undo(self) -> None:
        self.bases.update(self._dropped)
        for session in self._made:
            self.bases.pop(session, None)
        self._forget()


class RedisSessionJournal(BatchJournal):
    """``reactor`` gives callLater."""

    gives_back_alone = True

    def __init__(self, write_lane: WriteLane, read_lane: Lane, reactor: Any) -> None:
        super().__init__(reactor, Numbers())
        #: In front of what goes into boxes: no two may be the same.
        self._token = token_bytes(8)
        self._sent = 0
        #: Who sends, as the others know it: see `broker.cluster`.
        self.node: Callable[[], str] = str
        self._write_lane = write_lane
        self._read_lane = read_lane

    def write(self, batch: Batch, done: Callable[[Exception | None], None]) -> None:
        """See `BatchJournal`."""
        kind = CHANGE if brings_work(batch) else FREEING
        self._mark(batch)
        self._write_lane.tell(Job("sessions", arguments_of(batch), kind, lambda _, error: done(error)))

    @property
    def uncertain(self) -> bool:
        """See `SharedSessionJournal`."""
        return self._write_lane.uncertain

    def _is_certain(self, error: Exception) -> bool:
        return not isinstance(error, Lost)

    def _mark(self, batch: Batch) -> None:
        """Make what goes into boxes unique, and envelopes of what goes into streams."""
        for name, bodies in batch.sent.items():
            if name.startswith("box:"):
                for at, body in enumerate(bodies):
                    self._sent += 1
                    bodies[at] = self._token + self._sent.to_bytes(_MARK - 8, "big") + body
            elif name == "log":
                batch.sent[name] = [_encode((self.node(), 0, [_note(body) for body in bodies]))]
            else:
                batch.sent[name] = [_encode(bodies)]

    # -- loading ---------------------------------------------------------------------------------------------------

    @deferred
    async def open(self) -> None:
        """Before the first op."""
        numbers = await self._write_lane.ask("session_numbers")
        self._slots.load((int(number), int(number)) for number in numbers)

    def adopt(self, session: int) -> None:
        """A session that another process has made is this one's from now on."""
        self._slots.bases[session] = session << SEQ_BITS

    def release(self, session: int) -> None:
        """It is another process's: ops about it have no effect any more."""
        self._slots.bases.pop(session, None)

    @deferred
    async def load_sessions(self) -> Sequence[LoadedSession]:
        """See the contract."""
        numbers = sorted(int(number) for number in await self._read_lane.ask("session_numbers"))
        found: list[LoadedSession] = []
        for first in range(0, len(numbers), LOADED):
            found += await self.load_some(numbers[first : first + LOADED])
        return found

    @deferred
    async def load_some(self, numbers: Sequence[int]) -> list[LoadedSession]:
        """Those of these sessions that are there."""
        rows = await self._read_lane.ask("load_sessions", len(numbers), *map(str, numbers))
        return [await self._loaded(*row) for row in rows]

    async def _loaded(
        self, name: bytes, raw: bytes, seen: bytes | None, granted: list[bytes], last: bytes, count: int, size: int
    ) -> LoadedSession:
        number, owner, client_id, version, expiry = read_session(raw)
        if size < 0:
            size = await self._size(name, count)
        return LoadedSession(
            record=SessionRecord(number, owner, client_id, version, expiry, float(seen) if seen else None),
            next_seq=int(last) + 1,
            queued=count,
            size=size,
            subscriptions={key.decode(): int(value) for key, value in zip(granted[::2], granted[1::2], strict=True)},
        )

    async def _size(self, name: bytes, count: int) -> int:
        size = at = 0
        while at < count:
            some, step = await self._read_lane.ask("sum_queue", name, at)
            size += some
            at += step
        return size

    def load_these(self, sessions: Sequence[int]) -> Deferred[list[LoadedSession]]:
        """See `SharedSessionJournal`."""
        return self.load_some(sessions)

    @deferred
    async def load_box(self, session: int, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """See `SharedSessionJournal`. An id is what marks the row, behind its place in the box."""
        flat = await self._write_lane.ask("load_box", str(session), after.partition(b" ")[0] or b"-inf", limit)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [(b"%b %b" % (score, row[:_MARK]), row[_MARK:]) for row, score in pairs]

    @deferred
    async def load_boxes(self) -> Sequence[int]:
        """See `SharedSessionJournal`."""
        return [int(number) for number in await self._read_lane.ask("load_boxes")]

    @deferred
    async def load_wills(self) -> Sequence[WillRecord]:
        """See the contract."""
        rows = await self._read_lane.ask("load_wills")
        return sorted([WillRecord(*read_will(raw)) for raw in rows], key=lambda will: will.number)

    @deferred
    async def load_queue(self, session: int, after: int, limit: int) -> Sequence[QueueRow]:
        """See the contract."""
        lane = self._write_lane if self.uncertain else self._read_lane
        rows = await lane.ask("load_queue", str(session), after, limit)
        return [unpack_message(int.from_bytes(raw[:SEQ_SIZE], "big"), raw[SEQ_SIZE:]) for raw in rows]

    @deferred
    async def load_incoming(self, session: int) -> Sequence[int]:
        """See the contract."""
        return sorted(int(raw) for raw in await self._write_lane.ask("load_incoming", str(session)))

    def load_retained(self, after: str, limit: int) -> Deferred[Sequence[RetainedRow]]:
        """See the contract."""
        return self._read_lane.ask("load_retained", after, limit, decode=_read_retained)


def _read_retained(flat: Sequence[bytes]) -> list[RetainedRow]:
    return [RetainedRow(topic.decode(), *read_retained(raw)) for topic, raw in zip(flat[::2], flat[1::2], strict=True)]


def brings_work(batch: Batch) -> bool:
    """Whether it needs room, and not only gives some back."""
    return bool(
        batch.puts
        or batch.ins
        or batch.records
        or any(options is not None for options in batch.subscriptions.values())
        or any(will is not None for will in batch.wills.values())
        or any(len(op) > 2 for op in batch.retained.values())
        or batch.sent
    )


def arguments_of(batch: Batch) -> list[Argument]:
    """The batch as ``lua/sessions.lua`` reads it."""
    arguments: list[Argument] = []
    _add(arguments, _session_pairs(batch))
    seen = {number: record.disconnected_at for number, (record, _) in batch.records.items()} | batch.seen
    arguments.append(len(seen))
    for session, at in seen.items():
        arguments += (str(session), time_text(at))
    _add_groups(arguments, ((row >> SEQ_BITS, (row & _SEQ_MASK,)) for row in batch.recs))
    _add_groups(arguments, _runs(batch.acks))
    _add_messages(arguments, batch.puts)
    for ids in (batch.outs, batch.ins):
        _add_groups(arguments, ((row >> SEQ_BITS, (row & _SEQ_MASK,)) for row in ids))
    kept = [op for op in batch.retained.values() if len(op) > 2]
    _add(arguments, [cell for op in kept for cell in (op[1], _encode(op[2:]))])
    _add(arguments, [op[1] for op in batch.retained.values() if len(op) == 2])
    subscriptions = batch.subscriptions.items()
    _add_groups(arguments, ((session, (name, given)) for (session, name), given in subscriptions if given is not None))
    _add_groups(arguments, ((session, (name,)) for (session, name), given in subscriptions if given is None))
    _add(arguments, [cell for will in batch.wills.values() if will is not None for cell in _will_pair(will)])
    _add(arguments, [str(number) for number, will in batch.wills.items() if will is None])
    boxes = [(int(name[4:]), tuple(bodies)) for name, bodies in batch.sent.items() if name.startswith("box:")]
    _add_groups(arguments, boxes)
    taken = [(int(name[4:]), tuple(ids)) for name, ids in batch.taken.items() if name.startswith("box:")]
    _add_groups(arguments, taken)
    _add(arguments, [cell for name, bodies in batch.sent.items() if name[:4] != "box:" for cell in (name, bodies[0])])
    streams = [(name, entry) for name, entries in batch.taken.items() if name[:4] != "box:" for entry in entries]
    _add(arguments, [cell for pair in streams for cell in pair])
    _add(arguments, [str(base >> SEQ_BITS) for base in batch.drops])
    return arguments


def _add(arguments: list[Argument], items: Sequence[Argument]) -> None:
    arguments.append(len(items))
    arguments += items


def _add_groups(arguments: list[Argument], items: Iterable[tuple[int, tuple[Argument, ...]]]) -> None:
    """(session, what belongs together), in their order."""
    groups: dict[int, list[Argument]] = {}
    for session, cells in items:
        group = groups.get(session)
        if group is None:
            groups[session] = list(cells)
        else:
            group += cells
    arguments.append(len(groups))
    for session, group in groups.items():
        arguments.append(str(session))
        _add(arguments, group)


def _runs(rows: list[int]) -> Iterable[tuple[int, tuple[int, int]]]:
    """(session, (first seq, last seq)). No run goes from one session into the next: none uses its last seq."""
    for first, last in runs(rows) if rows else ():
        yield first >> SEQ_BITS, (first & _SEQ_MASK, last & _SEQ_MASK)


def _add_messages(arguments: list[Argument], puts: dict[int, Op]) -> None:
    """As `_add_groups`, but for what is many."""
    groups: dict[int, list[Argument]] = {}
    for row in sorted(puts):
        group = groups.get(row >> SEQ_BITS)
        if group is None:
            group = groups[row >> SEQ_BITS] = []
        seq = row & _SEQ_MASK
        group.append(seq)
        group.append(seq.to_bytes(SEQ_SIZE, "big") + pack_message(puts[row]))
    arguments.append(len(groups))
    for session, group in groups.items():
        arguments += (str(session), len(group))
        arguments += group


def _session_pairs(batch: Batch) -> list[Argument]:
    pairs: list[Argument] = []
    for record, _ in batch.records.values():
        row = record.number, record.owner, record.client_id, record.version, record.expiry
        pairs += (str(record.number), _encode(row))
    return pairs


def _will_pair(will: WillRecord) -> tuple[Argument, ...]:
    fields = [getattr(will, name) for name in WillRecord.__slots__]
    return str(will.number), _encode(fields)
