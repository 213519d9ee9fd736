"""Who calls: ``Authorization: Bearer <admin token>`` or ``Bearer <id>:<secret>`` of an application (DESIGN §6).

An application of any kind may log in here: the secret is the same one that it has on its own side. What was proven is
remembered for half a minute under a digest of the token, and forgotten at once when the application is removed,
disabled or gets a new secret. Answers to wrong tokens are delayed once an address has had too many of them, and in the
end no token from there is looked at for a while; what was proven shortly before is still believed.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from broker.core import Core
from broker.model.errors import LimitExceeded, Unauthenticated
from broker.web.callers import ADMINISTRATOR, Caller

#: Kinds of application that may use the API.
KINDS: Final = ("http", "mqtt", "gizwits", "loracenter")
#: Seconds that a proven token is believed without looking it up.
REMEMBERED: Final = 30.0
#: Proven tokens that are kept; the oldest go first.
MAX_REMEMBERED: Final = 10_000


class Logins:
    """Proves callers. ``penalty(host)`` counts a failure and says how many seconds its answer has to wait;
    ``locked_out(host)`` for how many nobody from there is heard.
    """

    def __init__(self, core: Core, penalty: Callable[[str], float], locked_out: Callable[[str], float]) -> None:
        self._core = core
        self._penalty = penalty
        self._locked_out = locked_out
        #: digest of a token -> (caller, believed until)
        self._proven: dict[bytes, tuple[Caller, float]] = {}
        self._changes = 0
        core.registry.on_change.append(self._changed)

    def is_admin(self, token: str | None) -> bool:
        """Whether this is the administrator's token; decided at once."""
        return token is not None and self._core.is_admin(token)

    async def identify(self, token: str | None, host: str) -> Caller:
        """The caller who has this token. Raises Unauthenticated, Disabled, LimitExceeded, Unavailable."""
        if token is None:
            raise Unauthenticated("a bearer token is needed")
        digest = sha256(token.encode()).digest()
        known = self._proven.get(digest)
        if known is not None and known[1] > self._core.monotonic():
            return known[0]
        if self._locked_out(host):
            raise LimitExceeded("too many wrong tokens from this address", limit="lockout_failed_logins")
        if self._core.is_admin(token):
            return ADMINISTRATOR
        try:
            return await self._prove(token, digest)
        except Unauthenticated:
            await self._delay(host)
            raise

    async def _prove(self, token: str, digest: bytes) -> Caller:
        application, colon, secret = token.partition(":")
        if not colon:
            raise Unauthenticated("the token is not valid")
        changes = self._changes
        rights = await self._core.registry.login_application(application, secret, KINDS)
        caller = Caller(f"application:{rights.id}", rights)
        if changes != self._changes:  # what was looked up may be what has just been taken back
            return caller
        if len(self._proven) >= MAX_REMEMBERED:
            del self._proven[next(iter(self._proven))]
        self._proven[digest] = (caller, self._core.monotonic() + REMEMBERED)
        return caller

    async def _delay(self, host: str) -> None:
        seconds = self._penalty(host)
        if seconds:
            waited: Deferred[None] = deferLater(self._core.reactor, seconds)
            await waited

    def _changed(self, change: Any) -> None:
        if change.what in ("application_removed", "application_disabled", "application_secret"):
            self._changes += 1
            name = f"application:{change.id}"
            for digest in [key for key, (caller, _) in self._proven.items() if caller.name == name]:
                del self._proven[digest]


def bearer_token(headers: list[str]) -> str | None:
    """The token of an ``Authorization`` header, or None without one. Raises Unauthenticated for other schemes."""
    if not headers:
        return None
    scheme, _, token = headers[0].strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip() or len(headers) > 1:
        raise Unauthenticated("the Authorization header has to be: Bearer <token>")
    return token.strip()
