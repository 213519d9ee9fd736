"""Records to arguments of the scripts and back (`lua/` has the keys and fields). What only the broker reads is
MessagePack or JSON text; a time is its shortest decimal form, and "" stands for what there is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final

import msgspec

from broker.model.jsontext import decode
from broker.model.messages import Command
from broker.model.records import TAGS, ApplicationRecord, DeviceRecord, LiveState, Product, StoredMessage
from broker.storage.interface import Readings
from broker.storage.redis.replies import Argument
from broker.storage.rows import (
    application_of,
    application_row,
    command_of,
    command_row,
    command_state,
    payload_cell,
    payload_of,
    product_of,
    product_row,
    text,
)

#: What only the broker reads, as bytes, and back.
pack_row: Final = msgspec.msgpack.Encoder().encode
unpack_row: Final = msgspec.msgpack.Decoder().decode
#: The number in front of a message of history.
_COUNT: Final = Struct(">Q")
#: In front of a reading: "1" for a value or "0" for what is unmapped, and its time.
READING: Final = Struct("<cd")


def time_text(at: float | None) -> str:
    """A time as Redis reads numbers."""
    return "" if at is None else repr(float(at))


def _time(raw: bytes | None) -> float | None:
    return float(raw) if raw else None


# products and applications


def product_arguments(product: Product) -> tuple[Argument, ...]:
    return product.key, pack_row(product_row(product))


def read_product(raw: bytes | None) -> Product | None:
    return None if raw is None else product_of(tuple(unpack_row(raw)))


def read_products(rows: Sequence[bytes]) -> list[Product]:
    return sorted([product_of(tuple(unpack_row(raw))) for raw in rows], key=lambda product: product.key)


def application_arguments(record: ApplicationRecord) -> tuple[Argument, ...]:
    return record.id, record.cs_eui or "", pack_row(application_row(record))


def read_application(raw: bytes | None) -> ApplicationRecord | None:
    return None if raw is None else application_of(tuple(unpack_row(raw)))


def read_applications(rows: Sequence[bytes]) -> list[ApplicationRecord]:
    return sorted([application_of(tuple(unpack_row(raw))) for raw in rows], key=lambda record: record.id)


def read_ids(rows: Sequence[bytes]) -> list[str]:
    return [raw.decode() for raw in rows]


# devices


def marks(attributes: dict[str, Any]) -> tuple[str, str]:
    """What devices are looked for by: the parent, and the tags with a NUL in between."""
    parent, tags = attributes.get("parent"), attributes.get(TAGS)
    words = [one for one in tags if isinstance(one, str)] if isinstance(tags, list) else []
    return parent if isinstance(parent, str) else "", "\0".join(words)


def registered_arguments(record: DeviceRecord) -> tuple[Argument, ...]:
    """What is registered of a device: 8 arguments."""
    rest = (record.secret, record.disabled, text(record.attributes), record.created_at)
    return (
        record.id,
        record.protocol,
        record.product or "",
        record.dev_eui or "",
        *marks(record.attributes),
        record.name,
        pack_row(rest),
    )


def device_arguments(record: DeviceRecord) -> tuple[Argument, ...]:
    """All of a new device: 13 arguments."""
    return (
        *registered_arguments(record),
        text(record.info),
        "1" if record.online else "0",
        record.presence_reason,
        time_text(record.presence_at),
        time_text(record.last_seen),
    )


def read_device(id: str, flat: Sequence[bytes]) -> DeviceRecord | None:
    """From the fields of its hash; None where it has none."""
    if not flat:
        return None
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    secret, disabled, attributes, created_at = unpack_row(fields[b"b"])
    product, dev_eui = fields.get(b"k"), fields.get(b"e")
    return DeviceRecord(
        id=id,
        protocol=fields[b"p"].decode(),
        name=fields.get(b"n", b"").decode(),
        product=None if product is None else product.decode(),
        dev_eui=None if dev_eui is None else dev_eui.decode(),
        secret=secret,
        disabled=disabled,
        attributes=decode(attributes),
        info=decode(fields[b"i"]),
        created_at=created_at,
        online=fields[b"o"] == b"1",
        presence_reason=fields[b"r"].decode(),
        presence_at=_time(fields[b"t"]),
        last_seen=_time(fields[b"s"]),
    )


def read_named_device(row: Sequence[Any]) -> DeviceRecord | None:
    """From (id, fields)."""
    return read_device(row[0].decode(), row[1])


# live states


def live_arguments(states: Sequence[LiveState]) -> list[Argument]:
    """For ``save_live``, without the node. What JSON cannot hold is left out: it must not keep the others from disk."""
    arguments: list[Argument] = [len(states)]
    for state in states:
        arguments += (
            state.device,
            "1" if state.online else "0",
            state.reason,
            time_text(state.presence_at),
            time_text(state.last_seen),
            _info(state),
        )
        arguments.append(len(state.removed_values) + len(state.removed_unmapped))
        for names, kind in ((state.removed_values, "1"), (state.removed_unmapped, "0")):
            for name in names:
                arguments += (name, kind)
        saved = [*_readings(b"0", state.unmapped), *_readings(b"1", state.values)]
        arguments.append(len(saved))
        for pair in saved:
            arguments += pair
    return arguments


def _info(state: LiveState) -> str:
    if state.info is None:
        return ""
    try:
        return text(state.info)
    except ValueError:
        return ""


def _readings(kind: bytes, readings: Readings) -> Iterable[tuple[str, bytes]]:
    for name, (value, at) in readings.items():
        try:
            yield name, READING.pack(kind, at) + text(value).encode()
        except ValueError:
            continue


def read_values(flat: Sequence[bytes]) -> tuple[Readings, Readings]:
    """(values, unmapped)"""
    values: Readings = {}
    unmapped: Readings = {}
    for name, raw in zip(flat[::2], flat[1::2], strict=True):
        kind, at = READING.unpack_from(raw)
        (values if kind == b"1" else unmapped)[name.decode()] = decode(raw[READING.size :]), at
    return values, unmapped


# history


def message_arguments(messages: Sequence[StoredMessage]) -> list[Argument]:
    """For ``add_messages``: by device, in their order."""
    devices: dict[str, list[Argument]] = {}
    for message in messages:
        try:
            meta = None if message.meta is None else text(message.meta)
            row = pack_row((payload_cell(message.payload), meta))
        except ValueError:
            continue
        kind = message.kind.encode()
        pair = time_text(message.at), bytes((len(kind),)) + kind + row
        devices.setdefault(message.device, []).extend(pair)
    arguments: list[Argument] = [len(devices)]
    for device, rows in devices.items():
        arguments += (device, len(rows) // 2)
        arguments += rows
    return arguments


def read_messages(device: str, answer: Sequence[Any]) -> list[tuple[StoredMessage, str]]:
    """From (protocol, messages); each with the cursor that leads on behind it."""
    found = []
    protocol, flat = (answer[0] or b"").decode(), answer[1]
    for raw, score in zip(flat[::2], flat[1::2], strict=True):
        (number,) = _COUNT.unpack_from(raw)
        end = 9 + raw[8]
        payload, meta = unpack_row(raw[end:])
        at = float(score)
        message = StoredMessage(
            device=device,
            protocol=protocol,
            kind=raw[9:end].decode(),
            at=at,
            payload=payload_of(payload),
            meta=None if meta is None else decode(meta),
        )
        found.append((message, f"{at!r}_{number}"))
    return found


# commands


def new_command_arguments(command: Command) -> tuple[Argument, ...]:
    """Raises ValueError for what cannot be kept."""
    device, id, *always = command_row(command)[:9]
    return device, id, pack_row(always), *_state_arguments(command)


def command_arguments(command: Command) -> tuple[Argument, ...]:
    """Of one that is kept already: its state."""
    return command.id, *_state_arguments(command)


def _state_arguments(command: Command) -> tuple[Argument, ...]:
    state = command_state(command)
    return pack_row(state), "1" if command.final else "0", time_text(command.updated_at)


def read_command(row: Sequence[Any] | None) -> Command | None:
    """From (id, device, its protocol, what never changes, state, number)."""
    if row is None:
        return None
    names = [one.decode() for one in row[:3]]
    return command_of((*names, *unpack_row(row[3]), *unpack_row(row[4])))


def read_commands(rows: Sequence[Sequence[Any]]) -> list[tuple[Command, int]]:
    """Each with its number."""
    found = []
    for row in rows:
        command = read_command(row)
        if command is not None:
            found.append((command, int(row[5])))
    return found
