"""The proof by which a customer server registers: AES-CMAC over CsEUI, AppNonce and zeros (document 4.1, RFC 4493)."""

from __future__ import annotations

from hmac import compare_digest
from struct import pack

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC


def tag(app_key: bytes, cs_eui: str, nonce: int) -> bytes:
    """16 bytes. ``app_key`` has 16, ``cs_eui`` is 16 hexadecimal digits, ``nonce`` an unsigned number of 32 bits."""
    mac = CMAC(AES(app_key))
    mac.update(bytes.fromhex(cs_eui) + pack(">I", nonce) + bytes(4))
    return mac.finalize()


def proves(sent: int, app_key: bytes, cs_eui: str, nonce: int) -> bool:
    """Whether ``sent`` is the tag in its natural or in the reversed order of bytes; both are met in the field."""
    right = tag(app_key, cs_eui, nonce)
    given = sent.to_bytes(16, "big")
    # Both are looked at, whatever the first one says: the time taken tells nothing.
    return compare_digest(given, right) | compare_digest(given, right[::-1])
