"""The shapes of DESIGN §8 as types. What is answered is made of these, and the OpenAPI document describes these.

Times are UNIX seconds, rounded to milliseconds.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from broker.model.discreet import Discreet
from broker.model.messages import Command
from broker.model.records import Actuator, ApplicationRecord, Product, Sensor, StoredMessage
from broker.storage.files import FileInfo
from broker.storage.quarantine import Entry


def milliseconds(at: float | None) -> float | None:
    """A time as it is shown."""
    return None if at is None else round(at, 3)


class CommandShape(msgspec.Struct, kw_only=True):
    """A command and where it stands."""

    #: The id that the broker gave it, a UUID.
    id: str
    #: The caller's own reference; null: none was given.
    ref: str | None
    #: The id of the device that it is for.
    device: str
    #: queued, sent, pending, or in the end succeeded, failed, timed_out, expired or cancelled.
    status: str
    #: What the device answered, or why the command failed; any JSON, null where there is nothing.
    result: Any
    #: When it was taken (UNIX seconds).
    created_at: float
    #: When it came into its present state (UNIX seconds).
    updated_at: float
    #: Until when it waits for its device (UNIX seconds).
    expires_at: float
    #: Answers that came after its end, the oldest first: ``{"status", "result", "at"}`` each.
    late: list[dict[str, Any]]
    #: What the device is told, where that is a JSON object.
    payload: dict[str, Any] | UnsetType = UNSET
    #: What the device is told, where that is bytes.
    payload_base64: str | UnsetType = UNSET


class CommandTaken(msgspec.Struct, kw_only=True):
    """A command that was taken; what becomes of it is seen under its id."""

    #: The id of the command, a UUID.
    id: str
    #: Where it stands as this is answered: queued, sent, or further.
    status: str


class MessageShape(msgspec.Struct, kw_only=True):
    """Something that a device said."""

    #: The id of the device.
    device: str
    #: The protocol of the device.
    protocol: str
    #: data, status, event, log or raw.
    kind: str
    #: When it arrived (UNIX seconds).
    at: float
    #: What it said, where that is a JSON object.
    payload: dict[str, Any] | UnsetType = UNSET
    #: What it said, where that is bytes.
    payload_base64: str | UnsetType = UNSET
    #: What the protocol knows beyond that: ``sent_at`` is the device's own time; of LoRaWAN port, counter, signal.
    meta: dict[str, Any] | UnsetType = UNSET


class ProductShape(msgspec.Struct, kw_only=True):
    """A kind of device."""

    #: The key that devices name it by.
    key: str
    #: Its name for people.
    name: str
    #: The protocol that its devices speak.
    protocol: str
    #: What its devices measure.
    sensors: tuple[Sensor, ...]
    #: What its devices can be told.
    actuators: tuple[Actuator, ...]


class ApplicationShape(Discreet, msgspec.Struct, kw_only=True):
    """An application."""

    #: Its id; over MQTT its user name, over HTTP what stands before the colon of its token, in Gizwits apps the appid.
    id: str
    #: gizwits, loracenter, mqtt or http: the side on which it connects.
    kind: str
    #: Its name for people; may be empty.
    name: str
    #: The EUI of a LoRaCenter customer server, 16 upper-case hexadecimal digits; null: it has none.
    cs_eui: str | None
    #: Whether it is kept out: nobody can log in as it.
    disabled: bool
    #: The ids of the devices that it is bound to; left out in lists.
    devices: list[str] | UnsetType = UNSET
    #: Its secret, this once: in the answer to the call that registered it, or in which it was made anew.
    secret: str | UnsetType = UNSET


class CommandPage(msgspec.Struct):
    """One page of a list, the newest first."""

    #: The commands of this page.
    items: list[CommandShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class MessagePage(msgspec.Struct):
    """One page of a list, the newest first."""

    #: The messages of this page.
    items: list[MessageShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class ProductPage(msgspec.Struct):
    """All products."""

    #: The products.
    items: list[ProductShape]
    #: Always null: this is the whole list.
    next: str | None


class ApplicationPage(msgspec.Struct):
    """All applications."""

    #: The applications, without their devices.
    items: list[ApplicationShape]
    #: Always null: this is the whole list.
    next: str | None


class FileShape(msgspec.Struct, kw_only=True):
    """A file that was handed in."""

    #: The name that it was handed in under.
    name: str
    #: Made for this content: the next file of the same name has another one.
    id: str
    #: Bytes.
    size: int
    #: The MD5 of the content, 32 lower-case hexadecimal digits.
    md5: str
    #: The SHA-256 of the content, 64 lower-case hexadecimal digits.
    sha256: str
    #: When it was handed in (UNIX seconds).
    created_at: float


class FilePage(msgspec.Struct):
    """One page of a list, by name."""

    #: The files of this page.
    items: list[FileShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class QuarantineShape(msgspec.Struct, kw_only=True):
    """A device or gateway that was seen and is not registered."""

    #: What it calls itself, in the form of its protocol's ids.
    id: str
    #: The protocol in which it was seen.
    protocol: str
    #: Where it was seen from last.
    peer: str
    #: When it came first (UNIX seconds).
    first_seen: float
    #: When it came last (UNIX seconds).
    last_seen: float
    #: How often it came.
    count: int
    #: What it said of itself; empty where that is nothing, or too much to keep.
    info: dict[str, Any]


class QuarantinePage(msgspec.Struct):
    """One page of a list, by protocol and id."""

    #: The strangers of this page.
    items: list[QuarantineShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class ImportFailure(msgspec.Struct):
    """A line that was refused."""

    #: Its number in the body; the first line is 1.
    line: int
    #: Why it was refused, for people.
    error: str


class ImportedSecret(Discreet, msgspec.Struct):
    """A secret that was made because the line had none."""

    #: The id of the device.
    id: str
    #: Its secret, this once.
    secret: str


class ImportAnswer(Discreet, msgspec.Struct):
    """How an import went."""

    #: How many devices were registered.
    created: int
    #: The lines that were refused, in their order.
    failed: list[ImportFailure]
    #: Secrets that were made because their lines had none; left out where there are none.
    secrets: list[ImportedSecret] | UnsetType = UNSET


class Health(msgspec.Struct):
    """Whether the broker takes work."""

    #: ``ok``; ``degraded``: it takes work, and something does not work; ``unavailable``: it takes none.
    status: str
    #: What does not work, or keeps it from taking work, a sentence each; left out where all is well.
    problems: list[str] | UnsetType = UNSET


def command_shape(command: Command) -> CommandShape:
    """A copy: the life cycle's own object goes on changing."""
    payload = command.payload
    return CommandShape(
        id=command.id,
        ref=command.ref,
        device=command.device,
        status=command.status,
        payload=UNSET if isinstance(payload, bytes) else payload,
        payload_base64=b64encode(payload).decode("ascii") if isinstance(payload, bytes) else UNSET,
        result=command.result,
        created_at=round(command.created_at, 3),
        updated_at=round(command.updated_at, 3),
        expires_at=round(command.expires_at, 3),
        late=list(command.late),
    )


def message_shape(message: StoredMessage) -> MessageShape:
    payload = message.payload
    return MessageShape(
        device=message.device,
        protocol=message.protocol,
        kind=message.kind,
        at=round(message.at, 3),
        payload=UNSET if isinstance(payload, bytes) else payload,
        payload_base64=b64encode(payload).decode("ascii") if isinstance(payload, bytes) else UNSET,
        meta=UNSET if message.meta is None else message.meta,
    )


def product_shape(product: Product) -> ProductShape:
    return ProductShape(
        key=product.key,
        name=product.name,
        protocol=product.protocol,
        sensors=product.sensors,
        actuators=product.actuators,
    )


def application_shape(record: ApplicationRecord) -> ApplicationShape:
    return ApplicationShape(
        id=record.id, kind=record.kind, name=record.name, cs_eui=record.cs_eui, disabled=record.disabled
    )


def file_shape(info: FileInfo) -> FileShape:
    return FileShape(
        name=info.name,
        id=info.id,
        size=info.size,
        md5=info.md5,
        sha256=info.sha256,
        created_at=round(info.created_at, 3),
    )


def quarantine_shape(entry: Entry) -> QuarantineShape:
    return QuarantineShape(
        id=entry.id,
        protocol=entry.protocol,
        peer=entry.peer,
        first_seen=round(entry.first_seen, 3),
        last_seen=round(entry.last_seen, 3),
        count=entry.count,
        info=entry.info,
    )
