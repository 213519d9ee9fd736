"""Who a gateway is: its MAC, 12 upper-case hex digits, in every frame; and perhaps the certificate that it shows.

A MAC can be forged, so it may be bound to a client's certificate (``certificate`` of the device): by its fingerprint,
``sha256:`` and 64 hex digits, or by the common name of its subject. Then the gateway is let in with that one only. TLS
has verified whatever is shown (`broker.tls`).
"""

from __future__ import annotations

import re
from hashlib import sha256
from math import inf
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from broker.listening.peer_certificate import verified_name
from broker.model.errors import Invalid
from broker.model.secrets import same_text

PROTOCOL: Final = "gateway88"
#: The attribute of a device that binds it to a certificate.
CERTIFICATE: Final = "certificate"
#: The attribute with its own seconds between two backups; 0: none, null: as it is configured.
BACKUP_EVERY: Final = "backup_every"

_MAC: Final = re.compile(r"[0-9A-F]{12}")
_SEPARATORS: Final = str.maketrans("", "", ":-. ")
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX: Final = "sha256:"
MAX_SUBJECT: Final = 128


def canonical_mac(text: str) -> str | None:
    """The MAC in the form that the registry keeps, or None."""
    mac = text.translate(_SEPARATORS).upper()
    return mac if _MAC.fullmatch(mac) is not None and mac not in ("0" * 12, "F" * 12) else None


def mac_text(mac: bytes) -> str:
    """Six bytes of a frame as the registry keeps them."""
    return mac.hex().upper()


def canonical_certificate(text: str) -> str:
    """The binding in the form that the registry keeps. Raises Invalid."""
    if text.lower().startswith(_PREFIX):
        text = _PREFIX + text[len(_PREFIX) :].translate(_SEPARATORS).lower()
        if _FINGERPRINT.fullmatch(text) is None:
            raise Invalid("certificate must be sha256: and 64 hexadecimal digits, or the common name of a subject")
    elif not 0 < len(text) <= MAX_SUBJECT or not text.isprintable():
        raise Invalid(f"certificate, as the common name of a subject, has 1 to {MAX_SUBJECT} printable characters")
    return text


class DeviceRules:
    """How gateways are registered (see `broker.storage.registry`). They have no secret."""

    hashed: Final = False
    known_fields: Final = frozenset({CERTIFICATE, BACKUP_EVERY})

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The canonical MAC. Raises Invalid."""
        mac = canonical_mac(id) if id is not None else None
        if mac is None:
            raise Invalid("the id of a gateway88 device is its MAC, 12 hexadecimal digits")
        certificate = fields.get(CERTIFICATE)
        if certificate is not None:
            if not isinstance(certificate, str):
                raise Invalid("certificate must be a text or null")
            fields[CERTIFICATE] = canonical_certificate(certificate)
        every = fields.get(BACKUP_EVERY)
        if every is not None and (
            isinstance(every, bool) or not isinstance(every, int | float) or not 0 <= every < inf
        ):
            raise Invalid("backup_every is a number of seconds, 0 for none, or null")
        return mac

    def make_secret(self) -> str:
        """None: a gateway does not log in."""
        return ""

    def check_secret(self, secret: str) -> None:
        """Raises Invalid."""
        raise Invalid("a gateway88 device has no secret")


class Shown:
    """The certificate that a gateway shows; both are empty without one."""

    __slots__ = ("fingerprint", "subject")

    def __init__(self, transport: Any) -> None:
        self.subject = verified_name(transport) or ""
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        shown = handle.get_peer_certificate(as_cryptography=True) if isinstance(handle, SSL.Connection) else None
        self.fingerprint = "" if shown is None else _PREFIX + sha256(shown.public_bytes(Encoding.DER)).hexdigest()

    def fits(self, bound_to: str) -> bool:
        """Whether it is the one that a gateway is bound to; every one is, for a gateway that is bound to none."""
        if not bound_to:
            return True
        shown = self.fingerprint if bound_to.startswith(_PREFIX) else self.subject
        return bool(shown) and same_text(shown, bound_to)
