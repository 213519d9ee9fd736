"""From the JSON objects of ``POST`` and ``PATCH`` to records (DESIGN §8). Pure; everything here raises Invalid.

In a change, what is left out stays as it is; null takes a product, an alias or a name away, and makes a new secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import msgspec

from broker.model.errors import Invalid, NotFound
from broker.model.records import TAGS, ApplicationRecord, DeviceRecord, Product
from broker.model.secrets import hash_secret, make_secret
from broker.storage import rules
from broker.storage.rules import DeviceRules


def new_device(
    fields: dict[str, Any], protocols: Mapping[str, DeviceRules], now: float
) -> tuple[DeviceRecord, str, bool]:
    """The record, the readable secret and whether that was made here."""
    protocol = rules.protocol(fields.get("protocol"), protocols)
    own = protocols[protocol]
    fields = _own_words(fields, own)
    rules.known_fields(fields, rules.DEVICE_FIELDS | own.known_fields)
    given = rules.optional_text(fields, "secret")
    secret = own.make_secret() if given is None else rules.secret(given)
    if given is not None:
        own.check_secret(secret)
    record = DeviceRecord(
        id=rules.device_id(own.normal_id(rules.optional_text(fields, "id"), fields)),
        protocol=protocol,
        name=rules.name(rules.optional_text(fields, "name")),
        product=rules.optional_text(fields, "product") or None,
        dev_eui=rules.dev_eui(rules.optional_text(fields, "dev_eui")),
        secret=hash_secret(secret) if own.hashed else secret,
        disabled=rules.flag(fields, "disabled", False),
        attributes=_attributes(fields, own),
        created_at=now,
    )
    _set_parent(record, record.attributes, fields)
    return record, secret, given is None


def changed_device(
    old: DeviceRecord, changes: dict[str, Any], protocols: Mapping[str, DeviceRules]
) -> tuple[DeviceRecord, str | None]:
    """The new record, and its readable secret if one was made."""
    own = protocols.get(old.protocol)
    if own is None:
        raise Invalid(f"the protocol {old.protocol!r} of this device is not running")
    changes = _own_words(changes, own)
    changeable = (rules.DEVICE_FIELDS - {"protocol", "id"}) | own.known_fields
    rules.known_fields(changes, changeable)
    values: dict[str, Any] = {}
    if "name" in changes:
        values["name"] = rules.name(rules.optional_text(changes, "name"))
    if "product" in changes:
        values["product"] = rules.optional_text(changes, "product") or None
    if "dev_eui" in changes:
        values["dev_eui"] = rules.dev_eui(rules.optional_text(changes, "dev_eui"))
    if "disabled" in changes:
        values["disabled"] = rules.flag(changes, "disabled", False)
    attributes = _attributes(changes, own)
    if attributes:
        values["attributes"] = {**old.attributes, **attributes}
        if own.normal_id(old.id, values["attributes"]) != old.id:
            raise Invalid("these fields belong to another id")
    if "parent" in changes:
        values["attributes"] = dict(values.get("attributes", old.attributes))
        _set_parent(old, values["attributes"], changes)
    made = None
    if "secret" in changes:
        secret = rules.optional_text(changes, "secret")
        if secret is None:
            secret = made = own.make_secret()
        else:
            own.check_secret(rules.secret(secret))
        values["secret"] = hash_secret(secret) if own.hashed else secret
    return msgspec.structs.replace(old, **values), made


def _attributes(fields: dict[str, Any], own: DeviceRules) -> dict[str, Any]:
    """The protocol's own fields, and the tags."""
    attributes = {name: fields[name] for name in own.known_fields if name in fields}
    if TAGS in fields:
        attributes[TAGS] = rules.tags(fields[TAGS])
    return attributes


def _own_words(fields: dict[str, Any], own: DeviceRules) -> dict[str, Any]:
    """The fields with the secret under that name, where the protocol has another one for it as well."""
    other: str | None = getattr(own, "secret_name", None)
    if other is None or other not in fields:
        return fields
    if "secret" in fields:
        raise Invalid(f"{other} is the secret of such a device: give one of the two")
    renamed = dict(fields)
    renamed["secret"] = renamed.pop(other)
    return renamed


def _set_parent(record: DeviceRecord, attributes: dict[str, Any], fields: Mapping[str, Any]) -> None:
    parent = rules.parent(rules.optional_text(fields, "parent"))
    if parent == record.id:
        raise Invalid("a device is not its own parent")
    if parent is None:
        attributes.pop("parent", None)
    else:
        attributes["parent"] = parent


def check_product(record: DeviceRecord, product: Product | None) -> None:
    """Whether a device may be of this product. Raises NotFound, Invalid."""
    if product is None:
        raise NotFound(f"there is no product {record.product!r}")
    if product.protocol != record.protocol:
        raise Invalid(f"the product {product.key!r} is one of {product.protocol} devices")


def new_application(fields: dict[str, Any], now: float) -> tuple[ApplicationRecord, str]:
    """The record and the readable secret."""
    rules.known_fields(fields, rules.APPLICATION_FIELDS)
    kind, given = fields.get("kind"), fields.get("id")
    if kind not in rules.APPLICATION_KINDS:
        raise Invalid(f"kind must be one of: {', '.join(rules.APPLICATION_KINDS)}")
    secret = rules.optional_text(fields, "secret")
    secret = make_secret() if secret is None else rules.secret(secret)
    record = ApplicationRecord(
        id=f"app-{token_hex(6)}" if given is None else rules.key(given, "id"),
        kind=str(kind),
        name=rules.name(rules.optional_text(fields, "name")),
        secret=hash_secret(secret),
        cs_eui=rules.cs_eui(rules.optional_text(fields, "cs_eui")),
        app_key=rules.app_key(rules.optional_text(fields, "app_key")),
        disabled=rules.flag(fields, "disabled", False),
        created_at=now,
    )
    return record, secret


def changed_application(old: ApplicationRecord, changes: dict[str, Any]) -> tuple[ApplicationRecord, str | None]:
    """The new record, and its readable secret if one was made."""
    rules.known_fields(changes, rules.APPLICATION_FIELDS - {"id", "kind"})
    values: dict[str, Any] = {}
    if "name" in changes:
        values["name"] = rules.name(rules.optional_text(changes, "name"))
    if "cs_eui" in changes:
        values["cs_eui"] = rules.cs_eui(rules.optional_text(changes, "cs_eui"))
    if "app_key" in changes:
        values["app_key"] = rules.app_key(rules.optional_text(changes, "app_key"))
    if "disabled" in changes:
        values["disabled"] = rules.flag(changes, "disabled", False)
    made = None
    if "secret" in changes:
        secret = rules.optional_text(changes, "secret")
        if secret is None:
            secret = made = make_secret()
        values["secret"] = hash_secret(rules.secret(secret))
    return msgspec.structs.replace(old, **values), made
