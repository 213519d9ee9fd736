"""Rows of the tables to what Redis keeps of them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from broker.model.sessions import PUT, RETAIN, SessionRecord, WillRecord
from broker.storage.copying.tables import TABLES, Row
from broker.storage.redis.replies import Argument
from broker.storage.redis.rows import READING, marks, pack_row, time_text, unpack_row
from broker.storage.redis.schema import COPIER
from broker.storage.redis.session_lines import SEQ_SIZE, arguments_of
from broker.storage.session_batch import SEQ_BITS, Batch
from broker.storage.session_rows import unpack_message

Operation = tuple[Argument, ...]


def time_of(raw: bytes | None) -> float | None:
    return float(raw) if raw else None


def device_cells(id: str, flat: Sequence[bytes]) -> Row:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    texts = {name: value.decode() for name, value in fields.items() if name != b"b"}
    secret, disabled, attributes, created_at = unpack_row(fields[b"b"])
    return (
        id,
        texts[b"p"],
        texts.get(b"n", ""),
        texts.get(b"k"),
        texts.get(b"e"),
        secret,
        disabled,
        attributes,
        texts[b"i"],
        created_at,
        int(texts[b"o"]),
        texts[b"r"],
        time_of(fields[b"t"]),
        time_of(fields[b"s"]),
    )


def _reading_cells(flat: Sequence[bytes]) -> list[Row]:
    found = []
    for name, raw in zip(flat[::2], flat[1::2], strict=True):
        kind, at = READING.unpack_from(raw)
        found.append((name.decode(), int(kind), raw[READING.size :].decode(), at))
    return sorted(found, key=lambda cells: cells[0].encode())


def _message_cells(flat: Sequence[bytes]) -> list[Row]:
    found = []
    for raw, score in zip(flat[::2], flat[1::2], strict=True):
        end = 9 + raw[8]
        payload, meta = unpack_row(raw[end:])
        found.append((float(score), int.from_bytes(raw[:8], "big"), raw[9:end].decode(), payload, meta))
    return found


#: table -> how its rows are counted, where that is one command
COUNTED: Final = {
    "products": ("HLEN", "products"),
    "applications": ("HLEN", "applications"),
    "devices": ("ZCARD", "devices"),
    "sessions": ("HLEN", "sessions"),
    "retained": ("HLEN", "retained"),
    "wills": ("HLEN", "wills"),
}
#: How those of one owner are counted, and what stands before the owner in the key.
OWNED: Final = {
    "bindings": ("ZCARD", "ba:"),
    "readings": ("HLEN", "v:"),
    "messages": ("ZCARD", "h:"),
    "commands": ("ZCARD", "cd:"),
    "subscriptions": ("HLEN", "subs:"),
    "queue": ("ZCARD", "q:"),
    "incoming": ("SCARD", "in:"),
}
OF_SESSION: Final = ("subscriptions", "queue", "incoming")
#: The command that gives all of one owner, and its arguments behind the key.
READING_COMMANDS: Final[dict[str, tuple[str | int, ...]]] = {
    "bindings": ("ZRANGE", 0, -1),
    "readings": ("HGETALL",),
    "messages": ("ZRANGE", 0, -1, "WITHSCORES"),
    "commands": ("ZRANGE", 0, -1),
    "subscriptions": ("HGETALL",),
    "queue": ("ZRANGE", 0, -1),
    "incoming": ("SMEMBERS",),
}
#: And what comes of that: rows without their first cell.
CELLS: Final[dict[str, Any]] = {
    "bindings": lambda flat: [(raw.decode(),) for raw in flat],
    "readings": _reading_cells,
    "messages": _message_cells,
    "subscriptions": lambda flat: sorted(
        ((name.decode(), int(given)) for name, given in zip(flat[::2], flat[1::2], strict=True)),
        key=lambda cells: str(cells[0]).encode(),
    ),
    "queue": lambda flat: [(int.from_bytes(raw[:SEQ_SIZE], "big"), raw[SEQ_SIZE:]) for raw in flat],
    "incoming": lambda flat: [(one,) for one in sorted(map(int, flat))],
}


def _put_products(rows: Sequence[Row]) -> list[Operation]:
    return [("add_product", row[0], pack_row(row)) for row in rows]


def _put_applications(rows: Sequence[Row]) -> list[Operation]:
    return [("add_application", row[0], row[4] or "", pack_row(row)) for row in rows]


def _put_devices(rows: Sequence[Row]) -> list[Operation]:
    cells: list[Argument] = []
    for row in rows:
        id, protocol, name, product, dev_eui, secret, disabled, attributes, info, created_at, online, reason, *at = row
        rest = pack_row((secret, bool(disabled), attributes, created_at))
        cells += (id, protocol, product or "", dev_eui or "", *marks(msgspec.json.decode(attributes)), name, rest)
        cells += (info, str(online), reason, time_text(at[0]), time_text(at[1]))
    return [("add_devices", COPIER, len(rows), *cells)]


def _put_bindings(rows: Sequence[Row]) -> list[Operation]:
    return [("bind", application, device) for application, device in rows]


def _by_owner(rows: Sequence[Row]) -> dict[str, list[Row]]:
    owners: dict[str, list[Row]] = {}
    for row in rows:
        owners.setdefault(row[0], []).append(row)
    return owners


def _put_readings(rows: Sequence[Row]) -> list[Operation]:
    operations = []
    for device, some in _by_owner(rows).items():
        cells: list[Argument] = []
        for _, name, mapped, value, at in some:
            cells += (name, READING.pack(b"1" if mapped else b"0", at) + value.encode())
        operations.append(("load_values", device, len(cells), *cells))
    return operations


def _put_messages(rows: Sequence[Row]) -> list[Operation]:
    operations = []
    for device, some in _by_owner(rows).items():
        cells: list[Argument] = []
        for _, at, n, kind, payload, meta in some:
            name = kind.encode()
            head = n.to_bytes(8, "big") + bytes((len(name),)) + name
            cells += (time_text(at), head + pack_row((payload, meta)))
        operations.append(("load_messages", device, len(cells), *cells))
    return operations


def _put_commands(rows: Sequence[Row]) -> list[Operation]:
    operations: list[Operation] = []
    for device, n, id, *cells in rows:
        always, state = pack_row(cells[:7]), pack_row(cells[7:])
        ended, updated_at = "1" if cells[12] else "0", time_text(cells[10])
        operations.append(("load_command", device, id, n, always, state, ended, updated_at))
    return operations


def _put_records(rows: Sequence[Row]) -> list[Operation]:
    cells = [cell for table, key, value in rows for cell in (table, key, "any", "put", value)]
    return [("write_records", len(rows), *cells)]


def _put_of_sessions(table: str, rows: Sequence[Row]) -> list[Operation]:
    """What belongs to sessions goes the way of the journal's own batches."""
    batch = Batch()
    for row in rows:
        if table == "sessions":
            batch.records[row[0]] = SessionRecord(*row), row[0]
        elif table == "subscriptions":
            batch.subscriptions[row[0], row[1]] = row[2]
        elif table == "queue":
            found = unpack_message(row[1], row[2])
            op = (PUT, row[0], found.seq, found.qos, found.expires_at, found.topic, found.payload, found.properties)
            batch.puts[row[0] << SEQ_BITS | row[1]] = (*op, found.retain)
        elif table == "incoming":
            batch.ins[row[0] << SEQ_BITS | row[1]] = None
        elif table == "retained":
            batch.retained[row[0]] = (RETAIN, *row)
        else:
            number, owner, client_id, topic, payload, qos, retain, *rest = row
            batch.wills[number] = WillRecord(number, owner, client_id, topic, payload, qos, bool(retain), *rest)
    return [("sessions", *arguments_of(batch))]


WRITING: Final[dict[str, Any]] = {
    "products": _put_products,
    "applications": _put_applications,
    "devices": _put_devices,
    "bindings": _put_bindings,
    "readings": _put_readings,
    "messages": _put_messages,
    "commands": _put_commands,
    "records": _put_records,
    **{
        table: lambda rows, table=table: _put_of_sessions(table, rows)
        for table in TABLES
        if table in ("sessions", "subscriptions", "queue", "incoming", "retained", "wills")
    },
}
