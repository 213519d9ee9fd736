"""What the registry answers with: who logged in, what they may see, what changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.model.records import DeviceRecord
from broker.storage.interface import Readings


@dataclass(slots=True, frozen=True)
class Change:
    """Something in the registry changed, and is on disk.

    ``what``: device_removed, device_disabled, device_secret, device_updated, product_updated, application_removed,
    application_disabled, application_secret, application_key (its CsEUI or AppKey): ``id`` is the device's, product's
    or application's. bound, unbound: ``id`` is the application's, ``other`` the device's. One update may be several
    changes.
    """

    what: str
    id: str
    other: str = ""


class Rights:
    """What an application may see: the devices bound to it. One object per application, kept true while it is held."""

    __slots__ = ("__weakref__", "devices", "id", "kind")

    def __init__(self, id: str, kind: str, devices: set[str]) -> None:
        self.id = id
        self.kind = kind
        self.devices = devices

    def may_see(self, device_id: str) -> bool:
        return device_id in self.devices

    def __repr__(self) -> str:
        return f"<Rights of {self.id} on {len(self.devices)} devices>"


@dataclass(slots=True)
class Login:
    """A device that proved who it is. ``sensors``: keys of its product that become values; None without a product."""

    record: DeviceRecord
    sensors: frozenset[str] | None
    values: Readings
    unmapped: Readings


@dataclass(slots=True)
class ImportResult:
    """``failed``: (position in the list, why); ``secrets``: (id, readable secret) of those whose secret was made."""

    created: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    secrets: list[tuple[str, str]] = field(default_factory=list, repr=False)
