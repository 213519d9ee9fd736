"""What one commit has to do for the ops of the MQTT session journal (`broker.mqtt.journal` has their meaning). Pure.

Ops are merged before SQL sees them, as in this picture of one batch::

    put 7, put 8, ack 3, ack 4, ack 5, ack 7, rec 8        in the order in which they were appended
      insert 8 (released)    7 was settled before it was ever written: it never is
      delete 3..5            one statement for neighbours

The number of a row is ``slot << SEQ_BITS | seq``: one integer in place of (session, seq), which is SQLite's own key of
a table. Slots are small numbers that are used again once the rows of the session that had it are gone, so that neither
sessions nor messages ever run out of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from broker.model.sessions import (
    ACK,
    DROP,
    FORGET,
    IN,
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
    Op,
    SessionRecord,
    WillRecord,
)

#: Messages that a session can have in its life: 17 years of a thousand a second; 16 million sessions at a time.
SEQ_BITS: Final = 39


class Slots:
    """The slot of every session that there is. Changes of a batch hold with `keep` and are taken back with `undo`."""

    def __init__(self) -> None:
        #: session -> slot << SEQ_BITS
        self.bases: dict[int, int] = {}
        self._free: list[int] = []
        self._next = 0
        self._made: list[int] = []
        self._dropped: dict[int, int] = {}

    def load(self, slots: Iterable[tuple[int, int]]) -> None:
        """(session, slot) of those on disk."""
        self.bases = {session: slot << SEQ_BITS for session, slot in slots}
        used = {base >> SEQ_BITS for base in self.bases.values()}
        self._next = max(used, default=-1) + 1
        self._free = [slot for slot in range(self._next) if slot not in used]

    def make(self, session: int) -> int:
        """The base of the session, new or known."""
        base = self.bases.get(session)
        if base is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot, self._next = self._next, self._next + 1
            base = self.bases[session] = slot << SEQ_BITS
            self._made.append(session)
        return base

    def drop(self, session: int) -> int | None:
        """The base that the session had. Nobody else gets it before `keep`: its rows go with the batch's end."""
        base = self.bases.pop(session, None)
        if base is not None:
            self._dropped[session] = base
        return base

    def keep(self) -> None:
        """The batch is on disk."""
        self._free += [base >> SEQ_BITS for base in self._dropped.values()]
        self._forget()

    def undo(self) -> None:
        """The batch failed."""
        self.bases.update(self._dropped)
        for session in self._made:
            self._free.append(self.bases.pop(session) >> SEQ_BITS)
        self._forget()

    def _forget(self) -> None:
        self._made.clear()
        self._dropped.clear()


class Batch:
    """The work of one commit, to be done in the order of the attributes.

    ``spared``: messages that were settled before they were written.
    """

    __slots__ = (
        "acks",
        "drops",
        "ins",
        "outs",
        "puts",
        "records",
        "recs",
        "retained",
        "seen",
        "sent",
        "spared",
        "subscriptions",
        "taken",
        "wills",
    )

    def __init__(self) -> None:
        self.records: dict[int, tuple[SessionRecord, int]] = {}
        self.seen: dict[int, float | None] = {}
        self.recs: dict[int, None] = {}
        self.acks: list[int] = []
        self.puts: dict[int, Op] = {}
        self.outs: dict[int, None] = {}
        self.ins: dict[int, None] = {}
        self.retained: dict[str, Op] = {}
        #: (session, filter) -> options; (will's) number -> will. None: gone.
        self.subscriptions: dict[tuple[int, str], int | None] = {}
        self.wills: dict[int, WillRecord | None] = {}
        #: stream -> what goes there, and the ids of what goes from there: for storages that several processes share.
        self.sent: dict[str, list[bytes]] = {}
        self.taken: dict[str, list[bytes]] = {}
        #: Bases of sessions that end. Last, as nothing of them may stay.
        self.drops: list[int] = []
        self.spared = 0

    @property
    def empty(self) -> bool:
        return not (
            self.puts
            or self.acks
            or self.recs
            or self.ins
            or self.outs
            or self.records
            or self.seen
            or self.retained
            or self.subscriptions
            or self.wills
            or self.sent
            or self.taken
            or self.drops
        )


def merge(ops: Iterable[Op], slots: Slots) -> Batch:
    """The ops as one batch. Raises ValueError for an op of an unknown kind."""
    batch = Batch()
    bases = slots.bases
    puts, acks, spared = batch.puts, batch.acks, 0
    for op in ops:
        kind = op[0]
        if kind == PUT:
            base = bases.get(op[1])
            if base is not None:
                puts[base | op[2]] = op
        elif kind == ACK:
            base = bases.get(op[1])
            if base is not None:
                row = base | op[2]
                if row in puts:
                    del puts[row]
                    spared += 1
                else:
                    acks.append(row)
        else:
            _merge_other(batch, slots, kind, op)
    batch.spared = spared
    return batch


def _merge_other(batch: Batch, slots: Slots, kind: str, op: Op) -> None:
    if kind in (RETAIN, FORGET):
        batch.retained[op[1]] = op
        return
    if kind == WILL:
        batch.wills[op[1].number] = op[1]
        return
    if kind == UNWILL:
        batch.wills[op[1]] = None
        return
    if kind in (SEND, TAKEN):
        (batch.sent if kind == SEND else batch.taken).setdefault(op[1], []).append(op[2])
        return
    if kind == SESSION:
        record = op[1]
        batch.records[record.number] = record, slots.make(record.number) >> SEQ_BITS
        batch.seen.pop(record.number, None)
        return
    session = op[1]
    base = slots.bases.get(session)
    if base is None:
        return
    if kind == REC:
        row = base | op[2]
        put = batch.puts.get(row)
        if put is None:
            batch.recs[row] = None
        else:
            batch.puts[row] = (*put[:5], "", b"", b"", put[8])
    elif kind == IN:
        batch.ins[base | op[2]] = None
    elif kind == OUT:
        batch.ins.pop(base | op[2], None)
        batch.outs[base | op[2]] = None
    elif kind == SUB:
        batch.subscriptions[session, op[2]] = op[3]
    elif kind == UNSUB:
        batch.subscriptions[session, op[2]] = None
    elif kind == SEEN:
        batch.seen[session] = op[2]
    elif kind == DROP:
        slots.drop(session)
        batch.drops.append(base)
    else:
        raise ValueError(f"no such op: {kind!r}")


def runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of neighbouring numbers. Sorts ``rows``."""
    rows.sort()
    first = last = rows[0]
    for row in rows:
        if row > last + 1:
            yield first, last
            first = row
        last = row
    yield first, last
