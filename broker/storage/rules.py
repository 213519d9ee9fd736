"""What may be registered: the rules for names, keys, ids and fields, as pure functions. Each raises Invalid.

What an id of a protocol looks like, and how its secrets are kept, is the protocol's own: `DeviceRules`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from broker.model.errors import Invalid
from broker.model.records import TAGS, Product

APPLICATION_KINDS: Final = ("gizwits", "loracenter", "mqtt", "http")

#: Product keys and application ids: they stand in URLs, topics and user names.
_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Device ids of any protocol; a colon is common in those of plugins.
_DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_EUI = re.compile(r"[0-9A-F]{16}")
_MAC_OR_EUI = re.compile(r"(?:[0-9A-F]{12}|[0-9A-F]{16})")
_BETWEEN = str.maketrans("", "", ":-. ")
_APP_KEY = re.compile(r"[0-9A-F]{32}")
MAX_NAME: Final = 128
MAX_SECRET: Final = 256
#: Tags of one device, and characters of one.
MAX_TAGS: Final = 32
MAX_TAG: Final = 64
#: Sensors, and actuators, of one product.
MAX_PRODUCT_KEYS: Final = 512

#: Fields of POST /devices that are the same for every protocol.
DEVICE_FIELDS: Final = frozenset({"protocol", "id", "secret", "product", "name", "dev_eui", "disabled", "parent", TAGS})
APPLICATION_FIELDS: Final = frozenset({"id", "kind", "secret", "name", "cs_eui", "app_key", "disabled"})


class DeviceRules(Protocol):
    """How a protocol's devices are registered. Each protocol gives one to `Registry.protocols` when it is built.

    One that calls the secret by another name in what comes from outside says so in ``secret_name``.
    One whose commands have no keys that a product could name (bytes of its own) has ``keyed = False`` besides.
    """

    @property
    def hashed(self) -> bool:
        """Whether secrets are kept as hashes; False where the protocol has to use or give them back."""

    @property
    def known_fields(self) -> frozenset[str]:
        """Fields of POST /devices beyond `DEVICE_FIELDS`; they become ``attributes``."""

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The canonical id, made when None. Raises Invalid, also for the protocol's own fields.

        ``fields`` is the whole object of POST /devices, the attributes after a change, or empty at a login, where only
        the id is asked about.
        """

    def make_secret(self) -> str:
        """A new readable secret."""

    def check_secret(self, secret: str) -> None:
        """Raises Invalid for a secret that the protocol cannot carry."""


def known_fields(fields: Mapping[str, Any], allowed: Collection[str]) -> None:
    unknown = sorted(set(fields) - set(allowed))
    if unknown:
        raise Invalid(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(allowed))}")


def optional_text(fields: Mapping[str, Any], field: str) -> str | None:
    """A text or None; missing is None."""
    value = fields.get(field)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{field} must be a text")
    return value


def flag(fields: Mapping[str, Any], field: str, default: bool) -> bool:
    value = fields.get(field, default)
    if not isinstance(value, bool):
        raise Invalid(f"{field} must be true or false")
    return value


def name(value: str | None, field: str = "name") -> str:
    """At most 128 characters, no control characters; None is no name."""
    value = value or ""
    if len(value) > MAX_NAME:
        raise Invalid(f"{field} is longer than {MAX_NAME} characters")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise Invalid(f"{field} holds control characters")
    return value


def tags(value: Any) -> list[str]:
    """Words without repetition, sorted; None is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Invalid("tags must be a list of texts")
    if len(value) > MAX_TAGS or not all(0 < len(one) <= MAX_TAG and one.isprintable() for one in value):
        raise Invalid(f"tags are at most {MAX_TAGS}, each of 1 to {MAX_TAG} printable characters")
    return sorted(set(value))


def key(value: Any, field: str) -> str:
    """1 to 64 of A-Z a-z 0-9 . _ -"""
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise Invalid(f"{field} must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return value


def device_id(value: str) -> str:
    if _DEVICE_ID.fullmatch(value) is None:
        raise Invalid("id must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
    return value


def parent(value: str | None) -> str | None:
    """The id of a device, or the EUI of a gateway; MACs and EUIs as people write them. None or empty is none."""
    if not value:
        return None
    digits = value.translate(_BETWEEN).upper()
    return digits if _MAC_OR_EUI.fullmatch(digits) is not None else device_id(value)


def secret(value: str) -> str:
    """A given secret: printable, not empty."""
    if not 0 < len(value) <= MAX_SECRET:
        raise Invalid(f"secret must have 1 to {MAX_SECRET} characters")
    if not value.isprintable():
        raise Invalid("secret holds characters that cannot be printed")
    return value


def dev_eui(value: str | None) -> str | None:
    """16 hex digits, upper-case; None or an empty text is no alias."""
    if not value:
        return None
    value = value.upper()
    if _EUI.fullmatch(value) is None:
        raise Invalid("dev_eui must be 16 hexadecimal digits")
    return value


def cs_eui(value: str | None) -> str | None:
    """1 to 16 hex digits, filled up with zeros on the left as customer servers do; None or empty is none."""
    if not value:
        return None
    value = value.upper().zfill(16)
    if _EUI.fullmatch(value) is None:
        raise Invalid("cs_eui must be 1 to 16 hexadecimal digits")
    return value


def app_key(value: str | None) -> str:
    """32 hex digits (an AES-128 key), upper-case; None or empty is none."""
    if not value:
        return ""
    value = value.upper()
    if _APP_KEY.fullmatch(value) is None:
        raise Invalid("app_key must be 32 hexadecimal digits")
    return value


def product(value: Product, protocols: Collection[str]) -> None:
    """Everything about a product."""
    key(value.key, "key")
    name(value.name)
    protocol(value.protocol, protocols)
    _product_keys([sensor.value_key for sensor in value.sensors], "sensors", "value_key")
    _product_keys([actuator.command_key for actuator in value.actuators], "actuators", "command_key")
    for sensor in value.sensors:
        name(sensor.name, "sensors.name")
        name(sensor.unit, "sensors.unit")
    for actuator in value.actuators:
        name(actuator.name, "actuators.name")


def _product_keys(keys: list[str], where: str, field: str) -> None:
    if len(keys) > MAX_PRODUCT_KEYS:
        raise Invalid(f"{where} has more than {MAX_PRODUCT_KEYS} entries")
    seen: set[str] = set()
    for each in keys:
        if not name(each, f"{where}.{field}"):
            raise Invalid(f"{where}.{field} may not be empty")
        if each in seen:
            raise Invalid(f"{where} has {each!r} twice")
        seen.add(each)


def protocol(value: Any, protocols: Collection[str]) -> str:
    if not isinstance(value, str) or value not in protocols:
        raise Invalid(f"protocol must be one of: {', '.join(sorted(protocols)) or 'none is running'}")
    return value
