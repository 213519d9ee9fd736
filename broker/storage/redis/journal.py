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

from broker.model.sessions import NEWS, LoadedSession, QueueRow, RetainedRow, SessionRecord, WillRecord
from broker.storage.deferred import deferred
from broker.storage.redis.lane import CHANGE, FREEING, Job, Lane
from broker.storage.redis.replies import Lost
from broker.storage.redis.session_lines import SEQ_SIZE, arguments_of, brings_work
from broker.storage.redis.writer import WriteLane
from broker.storage.session_batch import SEQ_BITS, Batch, Slots
from broker.storage.session_journal import BatchJournal
from broker.storage.session_rows import unpack_message

_encode: Final = msgspec.msgpack.Encoder().encode
_note: Final = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_bodies: Final = msgspec.msgpack.Decoder(list[bytes]).decode
#: The rows of sessions, wills and retained messages, from bytes.
read_session: Final = msgspec.msgpack.Decoder(tuple[int, str, str, int, int | None]).decode
read_will: Final = msgspec.msgpack.Decoder(tuple[int, str, str, str, bytes, int, bool, bytes, int, float | None]).decode
read_retained: Final = msgspec.msgpack.Decoder(tuple[bytes, int, bytes, float | None]).decode
#: Bytes in front of what lies in a box, and of bodies after which a row of it is full: pages are read by rows.
_MARK: Final = 16
ROW: Final = 65_536
#: Among what is sent: the channel that all processes hear.
CHANNEL: Final = "ch"
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
        """Make rows of what goes into boxes, no two of which are the same, and envelopes of what goes into streams.

        All hear of boxes in which there is something, in the same step.
        """
        news = []
        for name, bodies in batch.sent.items():
            if name.startswith("box:"):
                batch.sent[name] = [self._row(some) for some in _parts(bodies)]
                news.append(int(name[4:]))
            elif name == "log":
                batch.sent[name] = [_encode((self.node(), 0, [_note(body) for body in bodies]))]
            else:
                batch.sent[name] = [_encode(bodies)]
        if news:
            batch.sent[CHANNEL] = [_encode((self.node(), 0, [(NEWS, _encode(news))]))]

    def _row(self, bodies: list[bytes]) -> bytes:
        self._sent += 1
        return self._token + self._sent.to_bytes(_MARK - 8, "big") + _encode(bodies)

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
    async def load_box(self, session: int, after: bytes, limit: int) -> Sequence[tuple[bytes, list[bytes]]]:
        """See `SharedSessionJournal`. An id is what marks the row, behind its place in the box."""
        place = after.partition(b" ")[0] or b"-inf"
        flat = await self._write_lane.ask("load_box", str(session), place, limit, self.node())
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [(b"%b %b" % (score, row[:_MARK]), _bodies(row[_MARK:])) for row, score in pairs]

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
        rows = await lane.ask("load_queue", str(session), after, limit, self.node())
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


def _parts(bodies: list[bytes]) -> Iterable[list[bytes]]:
    """As they fit into rows."""
    if sum(map(len, bodies)) <= ROW:
        yield bodies
        return
    part: list[bytes] = []
    size = 0
    for body in bodies:
        if part and size + len(body) > ROW:
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body)
    yield part
