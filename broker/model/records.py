"""What the registry keeps: products, devices, applications. Times are UNIX seconds.

Secrets: ``secret`` of a record is a salted hash (`broker.model.secrets`) wherever the broker only has to compare, and
the readable secret where a protocol has to use or give it back (DESIGN §6). It never shows in a ``repr``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.model.messages import DeviceRef


class Sensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a product measures."""

    #: The key of the value in uplinks, unique among the sensors of a product.
    value_key: str
    #: Its name for people.
    name: str = ""
    #: The unit of its values, for people, such as ``°C``.
    unit: str = ""


class Actuator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a product can be told."""

    #: The key in the payload of commands, unique among the actuators of a product.
    command_key: str
    #: Its name for people.
    name: str = ""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of device."""

    key: str
    name: str
    protocol: str
    sensors: tuple[Sensor, ...] = ()
    actuators: tuple[Actuator, ...] = ()
    created_at: float = 0.0

    @property
    def value_keys(self) -> frozenset[str]:
        return frozenset(sensor.value_key for sensor in self.sensors)

    @property
    def command_keys(self) -> frozenset[str]:
        return frozenset(actuator.command_key for actuator in self.actuators)


#: The attribute of a device that holds its tags, a list of texts.
TAGS: Final = "tags"


class DeviceRecord(msgspec.Struct, kw_only=True):
    """A registered device. ``attributes`` are its protocol's own fields (mac, join_eui), ``info`` what it told us.

    Every protocol has the attribute ``parent``, the id of the device through which this one is reached, and `TAGS`,
    words that operators group devices by.
    """

    id: str
    protocol: str
    name: str = ""
    product: str | None = None
    dev_eui: str | None = None
    secret: str = ""
    disabled: bool = False
    attributes: dict[str, Any] = {}
    info: dict[str, Any] = {}
    created_at: float = 0.0
    #: The presence that storage knows of; for a device that is connected now, `broker.routing.live` knows better.
    online: bool = False
    presence_reason: str = ""
    presence_at: float | None = None
    last_seen: float | None = None

    @property
    def tags(self) -> list[str]:
        return list(self.attributes.get(TAGS, ()))

    def ref(self) -> DeviceRef:
        return DeviceRef(self.protocol, self.id)

    def __repr__(self) -> str:
        return f"<DeviceRecord {self.protocol} {self.id}>"


class ApplicationRecord(msgspec.Struct, kw_only=True):
    """A registered application; ``kind`` is gizwits, loracenter, mqtt or http."""

    id: str
    kind: str
    name: str = ""
    secret: str = ""
    cs_eui: str | None = None
    app_key: str = ""
    disabled: bool = False
    created_at: float = 0.0

    def __repr__(self) -> str:
        return f"<ApplicationRecord {self.kind} {self.id}>"


class StoredMessage(msgspec.Struct, kw_only=True):
    """An uplink in history; ``payload`` is a JSON object or bytes, as it came."""

    device: str
    protocol: str
    kind: str
    at: float
    payload: dict[str, Any] | bytes
    meta: dict[str, Any] | None = None


class LiveState(msgspec.Struct, kw_only=True):
    """What changed about a live device since it was last written."""

    device: str
    online: bool
    reason: str
    presence_at: float
    last_seen: float
    #: key -> (value, at)
    values: dict[str, tuple[Any, float]]
    unmapped: dict[str, tuple[Any, float]]
    #: The whole info when it changed, else None.
    info: dict[str, Any] | None = None
    #: Keys that moved between values and unmapped or vanished.
    removed_values: tuple[str, ...] = ()
    removed_unmapped: tuple[str, ...] = ()


class DeviceQuery(msgspec.Struct, kw_only=True, frozen=True):
    """A filter for lists of devices; None means any. ``q`` is looked for in id and name."""

    protocol: str | None = None
    product: str | None = None
    online: bool | None = None
    q: str | None = None
    application: str | None = None
    tag: str | None = None
    #: The device through which they are reached.
    parent: str | None = None
    #: Whose presence has changed at that time (UNIX seconds) or later.
    changed_since: float | None = None
