"""Random secrets: made, hashed and compared.

Device keys, application secrets and tokens are random, so a salted SHA-256 is enough (a slow hash would only turn a
reconnect storm into an outage); people's passwords are another matter and not handled here.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex

_SCHEME = "sha256"


def make_secret(size: int = 32) -> str:
    """A random secret of ``2 * size`` hex digits."""
    return token_hex(size)


def hash_secret(secret: str) -> str:
    """``sha256$<salt>$<digest>``."""
    salt = token_hex(8)
    return f"{_SCHEME}${salt}${_digest(salt, secret)}"


def verify_secret(secret: str, stored: str) -> bool:
    """Whether ``secret`` is the one that was hashed; takes as long for a wrong one, and for ``stored`` = ""."""
    scheme, _, rest = stored.partition("$")
    salt, _, digest = rest.partition("$")
    same = compare_digest(_digest(salt, secret).encode(), digest.encode())
    return same and scheme == _SCHEME


def same_text(one: str, other: str) -> bool:
    """Compare two readable secrets in constant time."""
    return compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _digest(salt: str, secret: str) -> str:
    return sha256(salt.encode() + secret.encode("utf-8", "surrogatepass")).hexdigest()
