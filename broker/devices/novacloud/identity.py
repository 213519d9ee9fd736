"""Who a NovaCloud device is: the rules of its registration, and what its auth message says (guide 3.2).

An id is a UUID. It is kept in lower case with hyphens; devices may write it in capitals, with braces, without hyphens
or as a URN. A key is opaque text: "128 bits", 128 digits and the guide's example of 64 disagree about its length.
"""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID, uuid4

from broker.devices.novacloud import texts
from broker.devices.novacloud.codec import Message
from broker.model.errors import Invalid
from broker.model.secrets import make_secret

MAX_KEY: Final = 256
#: `uuid.UUID` alone takes signs, underscores and hyphens anywhere.
_UUID: Final = re.compile(
    r"(?:urn:uuid:)?\{?([0-9a-f]{8}(-?)[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})\}?", re.I | re.A
)


def canonical_id(text: str) -> str | None:
    """The UUID in the form that the registry keeps, or None."""
    found = _UUID.fullmatch(text.strip())
    return str(UUID(found[1])) if found is not None else None


class DeviceRules:
    """How NovaCloud devices are registered (see `broker.storage.registry`)."""

    hashed: Final = True
    known_fields: Final[frozenset[str]] = frozenset()

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The canonical id; a new one for None. Raises Invalid."""
        if id is None:
            return str(uuid4())
        known = canonical_id(id)
        if known is None:
            raise Invalid("the id of a novacloud device is a UUID")
        return known

    def make_secret(self) -> str:
        """64 hex digits, as in the guide's example."""
        return make_secret()

    def check_secret(self, secret: str) -> None:
        """Raises Invalid."""
        if not 1 <= len(secret) <= MAX_KEY:
            raise Invalid(f"the secret of a novacloud device has 1 to {MAX_KEY} characters")


class Credentials:
    """What an auth message claims. ``flat`` is the dialect of the shipped server."""

    __slots__ = ("device_id", "flat", "key")

    def __init__(self, device_id: str, key: str, flat: bool) -> None:
        self.device_id = device_id
        self.key = key
        self.flat = flat

    def __repr__(self) -> str:
        return f"<Credentials of {self.device_id!r}>"


def credentials(message: Message, flat_auth: bool) -> Credentials:
    """Read an auth message. Raises Invalid with what is wrong with its form.

    ``device_id`` is canonical, or empty when it is no UUID: no device has that, so it is refused like a wrong key.
    """
    payload = message.payload
    if isinstance(payload, dict):
        device_id, key, flat = payload.get("device_id"), payload.get("device_key"), False
    elif payload is None and flat_auth:
        device_id, key, flat = message.device_id, message.device_key, True
    else:
        raise Invalid(f"{texts.BAD_AUTH}: payload must be an object")
    if not isinstance(device_id, str):
        raise Invalid(f"{texts.BAD_AUTH}: device_id must be text")
    if not isinstance(key, str):
        raise Invalid(f"{texts.BAD_AUTH}: device_key must be text")
    if not 1 <= len(key) <= MAX_KEY:
        return Credentials("", "", flat)
    return Credentials(canonical_id(device_id) or "", key, flat)
