"""Who a CONNECT is for: the kinds of identities, asked in their order (`broker.model.interfaces.IMqttIdentities`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred

from broker.model.errors import Forbidden, Unauthenticated
from broker.model.interfaces import IKnownMqttIdentities, IMqttIdentities


class Identities:
    """``last`` are asked when none of the ``first`` claims it; both lists may still grow."""

    def __init__(self, first: Sequence[IMqttIdentities], last: Sequence[IMqttIdentities]) -> None:
        self._first = first
        self._last = last

    def __iter__(self) -> Iterator[IMqttIdentities]:
        yield from self._first
        yield from self._last

    def login(self, client_id: str, user: str | None, password: bytes | None, host: str) -> Deferred[Any]:
        """Deferred of an IMqttPrincipal; fails with an error of `broker.model.errors`."""
        for identities in self:
            if identities.claims(client_id, user):
                return maybeDeferred(identities.login, client_id, user, password, host)
        return fail(Forbidden("a user name and a password are needed"))

    def login_certified(self, client_id: str, user: str | None, subject: str, host: str) -> Deferred[Any]:
        """The same for the common name in a certificate; ``user`` may only say the same."""
        if user and user != subject:
            return fail(Unauthenticated("the user name is not the one in the certificate"))
        for identities in self:
            if identities.claims(client_id, subject) and IKnownMqttIdentities.providedBy(identities):
                return maybeDeferred(identities.login_certified, client_id, subject, host)
        return fail(Unauthenticated("nobody has the name in the certificate"))

    async def find(self, name: str) -> Any:
        """Who has this IMqttPrincipal.name now; None: nobody. Raises Unavailable."""
        for identities in self:
            if IKnownMqttIdentities.providedBy(identities):
                principal = await identities.find(name)
                if principal is not None:
                    return principal
        return None
