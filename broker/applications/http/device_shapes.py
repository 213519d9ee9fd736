"""Devices as the API shows them: with their presence and last values. Times are UNIX seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from broker.applications.http.shapes import milliseconds
from broker.cluster.lives import FarDevice
from broker.model.discreet import Discreet
from broker.model.records import DeviceRecord
from broker.routing.live import LiveDevice


class ReadingShape(msgspec.Struct):
    """A last value and when it was measured."""

    #: The value as the device gave it, any JSON.
    value: Any
    #: When it was measured, or arrived where the device gives no time (UNIX seconds).
    at: float


class PresenceShape(msgspec.Struct, kw_only=True):
    """What is known of a device's being there, each kept apart."""

    #: Whether there is a connection; for LoRaWAN: whether it was heard lately.
    connected: bool
    #: Since when it is connected (UNIX seconds); null while it is not.
    connected_at: float | None
    #: Since when it is not (UNIX seconds); null while it is, and if it never was.
    disconnected_at: float | None
    #: Why that changed last: a close reason, ``connected`` or ``restart``; empty if it never did.
    reason: str
    #: Where it is connected from, ``host:port``; for LoRaWAN the EUI of the gateway that heard it best. Empty: unknown.
    peer: str
    #: When anything valid came from it last (UNIX seconds); null: never.
    last_frame: float | None
    #: When its protocol's own sign of life came last (UNIX seconds); null: none that is known of.
    last_heartbeat: float | None
    #: How often it went away within the last ``events.flap_window`` seconds.
    flaps: int
    #: online, late (silent for longer than usual), away (gone, and no event yet), offline or flapping.
    state: str


class DeviceShape(Discreet, msgspec.Struct, kw_only=True):
    """A device with its presence and last values."""

    #: Its id, in the form that its protocol has for ids: a UUID, a MAC, a DID, a DevEUI.
    id: str
    #: The protocol that it speaks: gateway88, gizwits, lorawan, novacloud, or that of a plugin.
    protocol: str
    #: Its name for people; may be empty.
    name: str
    #: The key of its product; null: it has none.
    product: str | None
    #: Whether it is connected, to whichever process; for LoRaWAN: whether it was heard lately.
    online: bool
    #: When anything came from it last (UNIX seconds); null: never.
    last_seen: float | None
    #: What is known of its being there.
    presence: PresenceShape
    #: Its alias for LoRaCenter customer servers, 16 upper-case hexadecimal digits; null: it has none.
    dev_eui: str | None
    #: The id of the device or gateway through which it is reached; null: it is reached directly.
    parent: str | None
    #: The ids of the applications that it is bound to; an application sees itself alone.
    applications: list[str]
    #: Last values by key: those that its product names as sensors, or all if it has no product.
    values: dict[str, ReadingShape]
    #: Last values by key that its product does not name.
    unmapped: dict[str, ReadingShape]
    #: What the device has said of itself, such as its versions; what is in it depends on the protocol.
    info: dict[str, Any]
    #: Words that operators group devices by, sorted.
    tags: list[str]
    #: Of a 0x88 gateway that is bound to one: ``sha256:`` and its fingerprint, or the common name of its subject.
    certificate: str | UnsetType = UNSET
    #: Of a 0x88 gateway that has its own: seconds between two backups that the broker makes; 0: none.
    backup_every: float | UnsetType = UNSET
    #: Its secret, this once: in the answer to the call that registered it, or in which it was made anew.
    secret: str | UnsetType = UNSET


class DevicePage(msgspec.Struct):
    """One page of a list, by id."""

    #: The devices of this page.
    items: list[DeviceShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


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
