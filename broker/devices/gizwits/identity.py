"""Who a Gizwits device is: its DID, its MAC, its passcode, and the rules of its registration.

A DID is 22 characters of ``[0-9A-Za-z]``; agents take exactly so many. One that is not given is derived from product
key and MAC, so that a device that registers again is found under its old DID without an index, whatever crashed in
between. Devices whose DID was given by an administrator are found by `MacIndex`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from secrets import choice
from typing import Any, Final

from broker.model.errors import Invalid
from broker.model.records import DeviceRecord

PROTOCOL: Final = "gizwits"

DID_LENGTH: Final = 22
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DID: Final = re.compile(r"[0-9A-Za-z]{22}")
_MAC: Final = re.compile(r"[0-9A-F]{12}")
_PRODUCT: Final = re.compile(r"[0-9A-Fa-f]{32}")
#: A passcode goes unescaped into form bodies. Agents refuse more than 16 characters; some have others.
_PASSCODE: Final = re.compile(r"[!-%'-<>-~]{1,32}")
#: What a device says that it is when it registers.
TYPES: Final = ("normal", "center_control")
#: As agents make them: ten capitals.
PASSCODE_LENGTH: Final = 10


def is_did(text: str) -> bool:
    return _DID.fullmatch(text) is not None


def is_product_key(text: str) -> bool:
    """32 hexadecimal digits."""
    return _PRODUCT.fullmatch(text) is not None


def is_passcode(text: str) -> bool:
    return _PASSCODE.fullmatch(text) is not None


def canonical_mac(text: Any) -> str | None:
    """12 upper-case hexadecimal digits, or None; colons and hyphens are left out."""
    if not isinstance(text, str):
        return None
    mac = text.replace(":", "").replace("-", "").upper()
    return mac if _MAC.fullmatch(mac) else None


def derived_did(product: str, mac: str) -> str:
    """The DID of the device with this product key and canonical MAC."""
    number = int.from_bytes(sha256(f"gizwits device {product.lower()} {mac}".encode()).digest(), "big")
    letters = []
    for _ in range(DID_LENGTH):
        number, place = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)


def random_did() -> str:
    return "".join(choice(_LETTERS) for _ in range(DID_LENGTH))


class MacIndex:
    """Which DIDs a MAC may belong to, besides the derived one. An entry is a hint: look at the device's record."""

    def __init__(self) -> None:
        self._hints: dict[str, tuple[str, ...]] = {}

    def note(self, did: str, product: Any, mac: str) -> None:
        """A device is, or is about to be, registered so."""
        known = self._hints.get(mac, ())
        if did not in known and not (isinstance(product, str) and derived_did(product, mac) == did):
            self._hints[mac] = (*known, did)

    def note_record(self, record: DeviceRecord) -> None:
        """The same for a record, at the start."""
        mac = canonical_mac(record.attributes.get("mac"))
        if mac is not None:
            self.note(record.id, record.product, mac)

    def candidates(self, product: str, mac: str) -> tuple[str, ...]:
        """DIDs to look at, the likeliest last."""
        return (*self._hints.get(mac, ()), derived_did(product, mac))

    def forget(self, did: str, mac: str) -> None:
        """There is no such device any more."""
        left = tuple(one for one in self._hints.get(mac, ()) if one != did)
        if left:
            self._hints[mac] = left
        else:
            self._hints.pop(mac, None)


class DeviceRules:
    """How Gizwits devices are registered (see `broker.storage.rules`). Passcodes are kept readable: apps are told."""

    hashed: Final = False
    #: Commands are bytes, which have no keys that a product could know.
    keyed: Final = False
    known_fields: Final[frozenset[str]] = frozenset({"mac", "type"})

    def __init__(self, index: MacIndex) -> None:
        self._index = index

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The DID; derived for None. Raises Invalid."""
        if id is not None and not is_did(id):
            raise Invalid(f"the id of a gizwits device is {DID_LENGTH} characters of 0-9 A-Z a-z")
        product = fields.get("product")
        if "protocol" in fields and not (isinstance(product, str) and product):
            raise Invalid("a gizwits device needs its product")
        mac = canonical_mac(fields.get("mac"))
        if mac is None and ("mac" in fields or "protocol" in fields):
            raise Invalid("the mac of a gizwits device is 12 hexadecimal digits")
        if fields.get("type", "normal") not in TYPES:
            raise Invalid(f"the type of a gizwits device is one of: {', '.join(TYPES)}")
        if id is None:
            if mac is None or not isinstance(product, str):
                raise Invalid("a gizwits device without an id needs product and mac")
            return derived_did(product, mac)
        if mac is not None:
            self._index.note(id, product, mac)
        return id

    def make_secret(self) -> str:
        """Ten letters, as agents make them."""
        return "".join(choice(_LETTERS[10:36]) for _ in range(PASSCODE_LENGTH))

    def check_secret(self, secret: str) -> None:
        """Raises Invalid."""
        if not is_passcode(secret):
            raise Invalid("a passcode has 1 to 32 printable ASCII characters without blanks, & and =")
