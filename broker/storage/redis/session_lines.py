"""A batch of the MQTT session journal as arguments of ``OPS.sessions`` in ``lua/sessions.lua``.

::

    how many sections | name, contents | name, contents ...      those that are not empty, in the order of effect

Most batches have one or two of them, and what is not there costs neither side anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from broker.model.sessions import Op, WillRecord
from broker.storage.redis.replies import Argument
from broker.storage.redis.rows import time_text
from broker.storage.session_batch import SEQ_BITS, Batch, runs
from broker.storage.session_rows import pack_message

_encode: Final = msgspec.msgpack.Encoder().encode
#: Bytes of the seq in front of each message: no two members of a sorted set may be the same.
SEQ_SIZE: Final = (SEQ_BITS + 7) // 8
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1

Cells = list[Argument]


def brings_work(batch: Batch) -> bool:
    """Whether it needs room, and not only gives some back."""
    return bool(
        batch.puts
        or batch.sent
        or batch.ins
        or batch.records
        or any(options is not None for options in batch.subscriptions.values())
        or any(will is not None for will in batch.wills.values())
        or any(len(op) > 2 for op in batch.retained.values())
    )


def arguments_of(batch: Batch) -> Cells:
    """The whole batch."""
    cells: Cells = [0]
    if batch.records or batch.seen:
        _sessions(cells, batch)
    for name, rows in (("released", batch.recs), ("settled", batch.acks), ("puts", batch.puts)):
        if rows:
            _section(cells, name, *_QUEUE[name](rows))
    for name, ids in (("outs", batch.outs), ("ins", batch.ins)):
        if ids:
            _section(cells, name, *_groups((row >> SEQ_BITS, (row & _SEQ_MASK,)) for row in ids))
    if batch.retained:
        _retained(cells, list(batch.retained.values()))
    if batch.subscriptions:
        _subscriptions(cells, batch.subscriptions)
    if batch.wills:
        _wills(cells, batch.wills)
    if batch.sent or batch.taken:
        _elsewhere(cells, batch)
    if batch.drops:
        _section(cells, "dropped", *_list([str(base >> SEQ_BITS) for base in batch.drops]))
    return cells


def _section(cells: Cells, name: str, *contents: Argument) -> None:
    cells[0] += 1  # type: ignore[operator]  # the number of sections
    cells.append(name)
    cells += contents


def _list(items: Sequence[Argument]) -> Cells:
    return [len(items), *items]


def _groups(items: Iterable[tuple[int, Iterable[Argument]]]) -> Cells:
    """(session, what belongs together), in their order."""
    groups: dict[int, Cells] = {}
    for session, some in items:
        group = groups.get(session)
        if group is None:
            groups[session] = list(some)
        else:
            group += some
    return _joined(groups)


def _joined(groups: dict[int, Cells]) -> Cells:
    cells: Cells = [len(groups)]
    for session, group in groups.items():
        cells += (str(session), len(group))
        cells += group
    return cells


def _released(rows: dict[int, None]) -> Cells:
    return _groups((row >> SEQ_BITS, (row & _SEQ_MASK,)) for row in rows)


def _settled(rows: list[int]) -> Cells:
    """(first seq, last seq). No run goes from one session into the next: none uses its last seq."""
    return _groups((first >> SEQ_BITS, (first & _SEQ_MASK, last & _SEQ_MASK)) for first, last in runs(rows))


def _puts(puts: dict[int, Op]) -> Cells:
    """As `_groups`, but for what is many."""
    groups: dict[int, Cells] = {}
    for row in sorted(puts):
        group = groups.get(row >> SEQ_BITS)
        if group is None:
            group = groups[row >> SEQ_BITS] = []
        seq = row & _SEQ_MASK
        group.append(seq)
        group.append(seq.to_bytes(SEQ_SIZE, "big") + pack_message(puts[row]))
    return _joined(groups)


_QUEUE: Final[dict[str, Any]] = {"released": _released, "settled": _settled, "puts": _puts}


def _sessions(cells: Cells, batch: Batch) -> None:
    pairs: Cells = []
    for record, _ in batch.records.values():
        row = record.number, record.owner, record.client_id, record.version, record.expiry
        pairs += (str(record.number), _encode(row))
    if pairs:
        _section(cells, "sessions", *_list(pairs))
    seen = {number: record.disconnected_at for number, (record, _) in batch.records.items()} | batch.seen
    times = [cell for session, at in seen.items() for cell in (str(session), time_text(at))]
    _section(cells, "seen", *_list(times))


def _retained(cells: Cells, ops: list[Op]) -> None:
    kept = [cell for op in ops if len(op) > 2 for cell in (op[1], _encode(op[2:]))]
    gone = [op[1] for op in ops if len(op) == 2]
    _section(cells, "retained", *_list(kept), *_list(gone))


def _subscriptions(cells: Cells, subscriptions: dict[tuple[int, str], int | None]) -> None:
    items = subscriptions.items()
    given = _groups((session, (name, granted)) for (session, name), granted in items if granted is not None)
    gone = _groups((session, (name,)) for (session, name), granted in items if granted is None)
    _section(cells, "subscribed", *given)
    _section(cells, "unsubscribed", *gone)


def _wills(cells: Cells, wills: dict[int, WillRecord | None]) -> None:
    pairs: Cells = []
    for number, will in wills.items():
        if will is not None:
            pairs += (str(number), _encode([getattr(will, name) for name in WillRecord.__slots__]))
    gone = [str(number) for number, will in wills.items() if will is None]
    _section(cells, "wills", *_list(pairs), *_list(gone))


def _elsewhere(cells: Cells, batch: Batch) -> None:
    """To other processes, and from them. Streams have one entry each."""
    for name, things in (("boxes", batch.sent), ("taken", batch.taken)):
        boxes = [(int(box[4:]), some) for box, some in things.items() if box.startswith("box:")]
        if boxes:
            _section(cells, name, *_groups(boxes))
    sent = [cell for name, some in batch.sent.items() if name[:4] != "box:" for cell in (name, some[0])]
    if sent:
        _section(cells, "sent", *_list(sent))
    read = [cell for name, some in batch.taken.items() if name[:4] != "box:" for one in some for cell in (name, one)]
    if read:
        _section(cells, "read", *_list(read))
