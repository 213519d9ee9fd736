"""The cryptography of LoRaWAN 1.0.x (LoRaWAN 1.0.3, chapters 4.3.3, 4.4, 6.2), sans-IO.

* MIC: the first four bytes of AES-CMAC (RFC 4493). Of data frames it is over a block B0 and the frame:
  ``49 | 00000000 | direction | DevAddr LE | FCnt LE (32 bits) | 00 | length``.
* FRMPayload is XORed with AES blocks A1, A2 ...: ``01 | 00000000 | direction | DevAddr LE | FCnt LE | 00 | i``. That is
  CTR mode from A1 on, as i ends at 16.
* A join-accept is "encrypted" with AES *decryption*, so that a mote needs only encryption.
* Session keys: AES of ``01 or 02 | AppNonce LE | NetID LE | DevNonce LE | zeros``.

Contexts are made per call: that costs some microseconds, and keeping them costs a kilobyte for each of the motes.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.cmac import CMAC

UP: Final = 0
DOWN: Final = 1

_B0: Final = Struct("<B4xBIIxB").pack
_A: Final = Struct("<B4xBIIxB").pack
_ECB: Final = ECB()  # nosec B305 # one block, as LoRaWAN has it


def cmac(key: bytes, data: bytes) -> bytes:
    """The whole tag of RFC 4493, 16 bytes."""
    context = CMAC(AES(key))
    context.update(data)
    return context.finalize()


def encrypt_blocks(key: bytes, blocks: bytes) -> bytes:
    """AES-128 in ECB mode over whole blocks."""
    return Cipher(AES(key), _ECB).encryptor().update(blocks)


def decrypt_blocks(key: bytes, blocks: bytes) -> bytes:
    """The inverse of `encrypt_blocks`."""
    return Cipher(AES(key), _ECB).decryptor().update(blocks)


def join_mic(key: bytes, body: bytes) -> bytes:
    """The MIC of a join-request, or of a join-accept before it is encrypted; ``body`` is all that stands before it."""
    return cmac(key, body)[:4]


def data_mic(key: bytes, direction: int, dev_addr: int, fcnt: int, body: bytes) -> bytes:
    """The MIC of a data frame under its NwkSKey; ``fcnt`` has 32 bits, ``body`` is the frame without its MIC."""
    return cmac(key, _B0(0x49, direction, dev_addr, fcnt, len(body)) + body)[:4]


def crypt_payload(key: bytes, direction: int, dev_addr: int, fcnt: int, payload: bytes) -> bytes:
    """Encrypt or decrypt an FRMPayload (the same operation): AppSKey, or NwkSKey on port 0."""
    if not payload:
        return b""
    return Cipher(AES(key), CTR(_A(1, direction, dev_addr, fcnt, 1))).encryptor().update(payload)


def session_keys(app_key: bytes, app_nonce: int, net_id: int, dev_nonce: int) -> tuple[bytes, bytes]:
    """(NwkSKey, AppSKey) that follow from a join."""
    tail = app_nonce.to_bytes(3, "little") + net_id.to_bytes(3, "little") + dev_nonce.to_bytes(2, "little") + bytes(7)
    both = encrypt_blocks(app_key, b"\x01" + tail + b"\x02" + tail)
    return both[:16], both[16:]
