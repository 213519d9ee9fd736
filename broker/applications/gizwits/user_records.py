"""What is kept of the users of an application of kind gizwits, and under which keys.

=================  =========================  =====================================================================
table              key                        value
=================  =========================  =====================================================================
gizwits_users      ``<appid>/<uid>``          `UserRecord`: everything about one user, bindings and tokens included
gizwits_names      ``<appid>/<kind>/<name>``  the uid; makes a name belong to one user
gizwits_tokens     SHA-256 of the token       `TokenRecord`: whose it is; a token is random, so no salt is needed
gizwits_bound      ``<did>/<appid>/<uid>``    nothing; finds the users of a device that goes
=================  =========================  =====================================================================

A user is one record, so that whatever changes about one is written at once or not at all. The limits in
`broker.applications.gizwits.settings.UserLimits` keep it small.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, TypeVar

import msgspec

USERS: Final = "gizwits_users"
NAMES: Final = "gizwits_names"
TOKENS: Final = "gizwits_tokens"
BOUND: Final = "gizwits_bound"

PHONE_ID: Final = "phone_id"
USERNAME: Final = "username"
EMAIL: Final = "email"
PHONE: Final = "phone"
AUTH: Final = "auth"
#: The names that a user can have, at most one of each kind; all but the first make it more than anonymous.
NAME_KINDS: Final = (PHONE_ID, USERNAME, EMAIL, PHONE, AUTH)


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device of a user. ``at``: since when (UNIX seconds)."""

    at: float
    remark: str = ""
    dev_alias: str = ""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user. ``names``: kind -> name; ``password``: a scrypt hash; ``tokens``: key -> expiry; ``bindings``: by did."""

    app: str
    uid: str
    created_at: float
    updated_at: float = 0.0
    names: dict[str, str] = {}
    password: str = ""
    profile: dict[str, str] = {}
    tokens: dict[str, float] = {}
    bindings: dict[str, Binding] = {}

    @property
    def anonymous(self) -> bool:
        return not set(self.names) - {PHONE_ID}

    def __repr__(self) -> str:
        return f"<UserRecord {self.app}/{self.uid}>"


class TokenRecord(msgspec.Struct, frozen=True):
    """Whose a token is, and until when it is good (UNIX seconds)."""

    app: str
    uid: str
    expires_at: float


class Session(msgspec.Struct, frozen=True):
    """A log-in, as it is answered. The token is told once and kept as a hash only."""

    uid: str
    token: str
    expires_at: float

    def __repr__(self) -> str:
        return f"<Session of {self.uid}>"


def user_key(app: str, uid: str) -> str:
    return f"{app}/{uid}"


def name_key(app: str, kind: str, name: str) -> str:
    return f"{app}/{kind}/{name}"


def token_key(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def bound_key(did: str, app: str, uid: str) -> str:
    return f"{did}/{app}/{uid}"


T = TypeVar("T")


def read(value: bytes, kind: type[T]) -> T:
    """A record as it was written by `written`."""
    return msgspec.json.decode(value, type=kind)


def written(record: UserRecord | TokenRecord) -> bytes:
    return msgspec.json.encode(record)
