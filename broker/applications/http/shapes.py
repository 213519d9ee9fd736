"""The shapes of DESIGN §8 as types. What is answered is made of these, and the OpenAPI document describes these.

Times are UNIX seconds, rounded to milliseconds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from broker.cluster.lives import FarDevice
from broker.model.discreet import Discreet
from broker.model.messages import Command
from broker.model.records import Actuator, ApplicationRecord, DeviceRecord, Product, Sensor, StoredMessage
from broker.routing.live import LiveDevice
from broker.storage.files import FileInfo
from broker.storage.quarantine import Entry


def milliseconds(at: float | None) -> float | None:
    """A time as it is shown."""
    return None if at is None else round(at, 3)


class ReadingShape(msgspec.Struct):
    """A last value and when it was measured."""

    value: Any
    at: float


class PresenceShape(msgspec.Struct, kw_only=True):
    """What is known of a device's being there, each kept apart. Times are UNIX seconds.

    ``connected``: there is a connection (for LoRaWAN: it was heard lately), since ``connected_at``, from ``peer``; or
    not since ``disconnected_at``, and why. ``last_frame``: when anything valid came; ``last_heartbeat``: when its
    protocol's own sign of life did. ``flaps``: how often it went away within events.flap_window. ``state``: online,
    late (silent for longer than usual), away (gone, and no event yet), offline (told as an event) or flapping.
    """

    connected: bool
    connected_at: float | None
    disconnected_at: float | None
    reason: str
    peer: str
    last_frame: float | None
    last_heartbeat: float | None
    flaps: int
    state: str


class DeviceShape(Discreet, msgspec.Struct, kw_only=True):
    """A device with its presence and last values. ``secret`` is there once: in the answer that made it.

    Of a 0x88 gateway, where they are set: the ``certificate`` that it is bound to, and its own ``backup_every``.
    """

    id: str
    protocol: str
    name: str
    product: str | None
    online: bool
    last_seen: float | None
    presence: PresenceShape
    dev_eui: str | None
    parent: str | None
    applications: list[str]
    values: dict[str, ReadingShape]
    unmapped: dict[str, ReadingShape]
    info: dict[str, Any]
    tags: list[str]
    certificate: str | UnsetType = UNSET
    backup_every: float | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class CommandShape(msgspec.Struct, kw_only=True):
    """A command and where it stands."""

    id: str
    ref: str | None
    device: str
    status: str
    result: Any
    created_at: float
    updated_at: float
    expires_at: float
    late: list[dict[str, Any]]
    payload: dict[str, Any] | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET


class CommandTaken(msgspec.Struct, kw_only=True):
    """A command that was taken; what becomes of it is seen under its id."""

    id: str
    status: str


class MessageShape(msgspec.Struct, kw_only=True):
    """Something that a device said; ``at`` is when it arrived, the device's own time is ``meta.sent_at``."""

    device: str
    protocol: str
    kind: str
    at: float
    payload: dict[str, Any] | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class ProductShape(msgspec.Struct, kw_only=True):
    """A kind of device."""

    key: str
    name: str
    protocol: str
    sensors: tuple[Sensor, ...]
    actuators: tuple[Actuator, ...]


class ApplicationShape(Discreet, msgspec.Struct, kw_only=True):
    """An application. ``secret`` is there once: in the answer that made it."""

    id: str
    kind: str
    name: str
    cs_eui: str | None
    disabled: bool
    devices: list[str] | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class DevicePage(msgspec.Struct):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[DeviceShape]
    next: str | None


class CommandPage(msgspec.Struct):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[CommandShape]
    next: str | None


class MessagePage(msgspec.Struct):
    """One page of a list, newest first; ``next`` is the cursor of the following one."""

    items: list[MessageShape]
    next: str | None


class ProductPage(msgspec.Struct):
    """All products; ``next`` is always null."""

    items: list[ProductShape]
    next: str | None


class ApplicationPage(msgspec.Struct):
    """All applications; ``next`` is always null."""

    items: list[ApplicationShape]
    next: str | None


class FileShape(msgspec.Struct, kw_only=True):
    """A file that was handed in; the hashes are in hex."""

    name: str
    id: str
    size: int
    md5: str
    sha256: str
    created_at: float


class FilePage(msgspec.Struct):
    """One page of a list, by name; ``next`` is the cursor of the following one."""

    items: list[FileShape]
    next: str | None


class QuarantineShape(msgspec.Struct, kw_only=True):
    """A device or gateway that was seen and is not registered; ``info`` is what it said of itself."""

    id: str
    protocol: str
    peer: str
    first_seen: float
    last_seen: float
    count: int
    info: dict[str, Any]


class QuarantinePage(msgspec.Struct):
    """One page of a list, by protocol and id; ``next`` is the cursor of the following one."""

    items: list[QuarantineShape]
    next: str | None


class ImportFailure(msgspec.Struct):
    """A line that was refused; the first line is 1."""

    line: int
    error: str


class ImportedSecret(Discreet, msgspec.Struct):
    """A secret that was made because the line had none."""

    id: str
    secret: str


class ImportAnswer(Discreet, msgspec.Struct):
    """How an import went. ``secrets``: those that were made because their lines had none."""

    created: int
    failed: list[ImportFailure]
    secrets: list[ImportedSecret] | UnsetType = UNSET


class Health(msgspec.Struct):
    """``ok``; ``degraded``, and what does not work; ``unavailable``, and what keeps the broker from taking work."""

    status: str
    problems: list[str] | UnsetType = UNSET


def readings_shape(readings: Mapping[str, tuple[Any, float]]) -> dict[str, ReadingShape]:
    return {key: ReadingShape(value, round(at, 3)) for key, (value, at) in readings.items()}


def device_shape(
    record: DeviceRecord,
    live: LiveDevice | None,
    stored: tuple[Mapping[str, tuple[Any, float]], Mapping[str, tuple[Any, float]]],
    applications: Iterable[str],
    state: tuple[str, int] | None = None,
    far: FarDevice | None = None,
) -> DeviceShape:
    """A record together with what is known of the device now. ``stored`` counts only where nothing is live.

    ``far``: it is connected to another process. ``state``: of its presence, and how often it went lately.
    """
    values, unmapped = stored
    online, last_seen, info = record.online, record.last_seen, record.info
    if far is not None:
        values, unmapped = far.values, far.unmapped
        online, last_seen, info = True, far.last_seen, far.info
    elif live is not None:
        values, unmapped = live.values.values, live.values.unmapped
        online, last_seen, info = live.online, live.last_seen, live.info
    return DeviceShape(
        id=record.id,
        protocol=record.protocol,
        name=record.name,
        product=record.product,
        online=online,
        last_seen=milliseconds(last_seen),
        presence=presence_shape(record, live, state, far),
        dev_eui=record.dev_eui,
        parent=record.attributes.get("parent"),
        applications=list(applications),
        values=readings_shape(values),
        unmapped=readings_shape(unmapped),
        info=info,
        tags=record.tags,
        certificate=_set(record.attributes.get("certificate")),
        backup_every=_set(record.attributes.get("backup_every")),
    )


def _set(value: Any) -> Any:
    """Left out where nobody has set it."""
    return UNSET if value is None else value


def presence_shape(
    record: DeviceRecord, live: LiveDevice | None, known: tuple[str, int] | None, far: FarDevice | None
) -> PresenceShape:
    """Of a device that is live, here or elsewhere, or as storage has it."""
    online = far is not None or (live is not None and live.online) or (live is None and record.online)
    state, flaps = ("online" if online else "offline", 0) if known is None else known
    if far is not None:
        return PresenceShape(
            connected=True,
            connected_at=milliseconds(far.since),
            disconnected_at=None,
            reason=far.presence_reason,
            peer=far.peer,
            last_frame=milliseconds(far.last_seen),
            last_heartbeat=milliseconds(far.last_heartbeat or None),
            flaps=flaps,
            state="late" if far.late and state == "online" else state,
        )
    if live is None:
        return PresenceShape(
            connected=online,
            connected_at=milliseconds(record.presence_at) if online else None,
            disconnected_at=None if online else milliseconds(record.presence_at),
            reason=record.presence_reason,
            peer="",
            last_frame=milliseconds(record.last_seen),
            last_heartbeat=None,
            flaps=flaps,
            state=state,
        )
    return PresenceShape(
        connected=online,
        connected_at=milliseconds(live.since) if online else None,
        disconnected_at=None if online else milliseconds(live.since),
        reason=live.presence_reason,
        peer=getattr(live.link, "peer", "") if online else "",
        last_frame=milliseconds(live.last_seen),
        last_heartbeat=milliseconds(live.last_heartbeat or None),
        flaps=flaps,
        state="late" if live.late and state == "online" else state,
    )


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
