"""Tokens of applications (`POST /app/request_token`): short-lived, in memory; after a restart an app asks again."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Final

from broker.applications.gizwits.user_records import token_key

LIFETIME: Final = 86_400.0
#: Tokens that are kept; the oldest go first.
MAX_TOKENS: Final = 10_000


class Proofs:
    """Who has proven to be which application."""

    def __init__(self, clock: Callable[[], float], random: Callable[[int], str] = token_hex) -> None:
        self._clock = clock
        self._random = random
        #: Hash of a token -> (application, expiry)
        self._tokens: dict[str, tuple[str, float]] = {}

    def new(self, app: str) -> tuple[str, float]:
        """A token, and when it ends (UNIX seconds)."""
        token, expires_at = self._random(16), self._clock() + LIFETIME
        if len(self._tokens) >= MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token_key(token)] = (app, expires_at)
        return token, expires_at

    def good(self, app: str, token: str) -> bool:
        """Whether it is one of this application's."""
        known = self._tokens.get(token_key(token))
        return known is not None and known[0] == app and known[1] > self._clock()
