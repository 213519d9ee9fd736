"""Records to rows and back. JSON is TEXT, bytes are BLOB (see `schema`)."""

from __future__ import annotations

from typing import Any

import msgspec

from broker.model.jsontext import decode, encode
from broker.model.messages import Command, Payload
from broker.model.records import Actuator, ApplicationRecord, DeviceRecord, Product, Sensor, StoredMessage

Row = tuple[Any, ...]

PRODUCT_COLUMNS = "key, protocol, name, sensors, actuators, created_at"
DEVICE_COLUMNS = (
    "d.id, d.protocol, d.name, d.product, d.dev_eui, d.secret, d.disabled, d.attributes, d.info, d.created_at,"
    " d.online, d.presence_reason, d.presence_at, d.last_seen"
)
APPLICATION_COLUMNS = "id, kind, name, secret, cs_eui, app_key, disabled, created_at"
MESSAGE_COLUMNS = "d.id, d.protocol, m.kind, m.at, m.payload, m.meta, m.n"
COMMAND_COLUMNS = (
    "c.id, d.id, d.protocol, c.payload, c.origin, c.created_at, c.expires_at, c.timeout, c.ref, c.options,"
    " c.status, c.result, c.late, c.updated_at, c.deadline, c.n"
)

_sensors = msgspec.json.Decoder(tuple[Sensor, ...])
_actuators = msgspec.json.Decoder(tuple[Actuator, ...])


def text(value: Any) -> str:
    """JSON as TEXT. Raises ValueError for what JSON cannot hold."""
    return encode(value).decode()


def _lenient(value: Any) -> str:
    """The same for what a plugin may have made: a command's end has to be kept in any case."""
    try:
        return text(value)
    except ValueError:
        return text(None)


def payload_cell(payload: Payload) -> str | bytes:
    return payload if isinstance(payload, bytes) else text(payload)


def payload_of(cell: str | bytes) -> Payload:
    return cell if isinstance(cell, bytes) else decode(cell)


def product_row(product: Product) -> Row:
    sensors, actuators = text(product.sensors), text(product.actuators)
    return product.key, product.protocol, product.name, sensors, actuators, product.created_at


def product_of(row: Row) -> Product:
    key, protocol, name, sensors, actuators, created_at = row
    return Product(
        key=key,
        protocol=protocol,
        name=name,
        sensors=_sensors.decode(sensors),
        actuators=_actuators.decode(actuators),
        created_at=created_at,
    )


def device_row(record: DeviceRecord) -> Row:
    """In the order of the table, without ``n``."""
    return (
        record.id,
        record.protocol,
        record.name,
        record.product,
        record.dev_eui,
        record.secret,
        record.disabled,
        text(record.attributes),
        text(record.info),
        record.created_at,
        record.online,
        record.presence_reason,
        record.presence_at,
        record.last_seen,
    )


def device_of(row: Row) -> DeviceRecord:
    return DeviceRecord(
        id=row[0],
        protocol=row[1],
        name=row[2],
        product=row[3],
        dev_eui=row[4],
        secret=row[5],
        disabled=bool(row[6]),
        attributes=decode(row[7]),
        info=decode(row[8]),
        created_at=row[9],
        online=bool(row[10]),
        presence_reason=row[11],
        presence_at=row[12],
        last_seen=row[13],
    )


def application_row(record: ApplicationRecord) -> Row:
    return (
        record.id,
        record.kind,
        record.name,
        record.secret,
        record.cs_eui,
        record.app_key,
        record.disabled,
        record.created_at,
    )


def application_of(row: Row) -> ApplicationRecord:
    return ApplicationRecord(
        id=row[0],
        kind=row[1],
        name=row[2],
        secret=row[3],
        cs_eui=row[4],
        app_key=row[5],
        disabled=bool(row[6]),
        created_at=row[7],
    )


def message_of(row: Row) -> StoredMessage:
    device, protocol, kind, at, payload, meta, _n = row
    return StoredMessage(
        device=device,
        protocol=protocol,
        kind=kind,
        at=at,
        payload=payload_of(payload),
        meta=None if meta is None else decode(meta),
    )


def command_row(command: Command) -> Row:
    """A new command: what never changes, then `command_state`. ``device`` is still the id."""
    return (
        command.device,
        command.id,
        payload_cell(command.payload),
        command.origin,
        command.created_at,
        command.expires_at,
        command.timeout,
        command.ref,
        text(command.options),
        *command_state(command),
    )


def command_state(command: Command) -> Row:
    """What changes in a command's life: status, result, late, updated_at, deadline, ended."""
    return (
        command.status,
        _lenient(command.result),
        _lenient(command.late),
        command.updated_at,
        command.deadline,
        command.final,
    )


def command_of(row: Row) -> Command:
    command = Command(
        id=row[0],
        device=row[1],
        protocol=row[2],
        payload=payload_of(row[3]),
        origin=row[4],
        created_at=row[5],
        expires_at=row[6],
        timeout=row[7],
        ref=row[8],
        options=decode(row[9]),
    )
    command.status = row[10]
    command.result = decode(row[11])
    command.late = decode(row[12]) or []
    command.updated_at = row[13]
    command.deadline = row[14]
    return command
