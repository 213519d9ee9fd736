"""``authData``: another party's word that somebody is its user.

The broker asks no other service. A party that the administrator has given a key to (``sources`` of the application)
signs the user's id, and everybody else's word counts for nothing::

    token = <expiry, UNIX seconds>.<hexadecimal HMAC-SHA256 of "<src>:<uid>:<expiry>" with the key>
"""

from __future__ import annotations

import hmac
from hashlib import sha256


def vouched(keys: dict[str, str], src: str, uid: str, token: str, now: float) -> bool:
    """Whether the party ``src`` says that this is its user ``uid``, and still says so."""
    expiry, _, signature = token.partition(".")
    # Compared in any case, so that an unknown party takes as long as a wrong signature.
    wanted = signed(keys.get(src, ""), src, uid, expiry)
    same = hmac.compare_digest(wanted.encode(), signature.lower().encode("utf-8", "replace"))
    if not same or not keys.get(src):
        return False
    return expiry.isascii() and expiry.isdigit() and len(expiry) < 12 and int(expiry) > now


def signed(key: str, src: str, uid: str, expiry: str) -> str:
    """The signature."""
    return hmac.new(key.encode(), f"{src}:{uid}:{expiry}".encode("utf-8", "replace"), sha256).hexdigest()
