"""People's apps over MQTT: user name ``2$<appid>$<uid>``, password the user's token (DESIGN §6).

The client id is the AppClientId of topics, so it has to be usable in one and belong to one user at a time. A session
ends when its token does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from broker.applications.gizwits.app_topics import AppTopics, usable_client_id
from broker.applications.gizwits.people import People, Person
from broker.applications.gizwits.user_records import token_key
from broker.devices.gizwits.errors import Refused
from broker.model.errors import Forbidden, Unauthenticated
from broker.model.interfaces import IMqttIdentities, IMqttPrincipal

PREFIX: Final = "2$"
#: Texts of people are longer than any real appid, uid or token.
MAX_PART: Final = 64


@implementer(IMqttPrincipal)
class AppPrincipal:
    """A person's app on one connection."""

    def __init__(
        self, person: Person, client_id: str, token: str, expires_at: float, people: People, topics: AppTopics
    ) -> None:
        self.name = f"user:{person.app}/{person.uid}"
        self.person = person
        self.client_id = client_id
        self.token = token
        self._expires_at = expires_at
        self._people = people
        self._topics = topics
        self._close: Callable[[str], None] | None = None

    def may_see(self, did: str) -> bool:
        return did in self.person.devices

    def may_subscribe(self, topic_filter: str) -> bool:
        return self._topics.may_subscribe(self, topic_filter)

    def may_receive(self, topic: str) -> bool:
        return self._topics.may_hear(self, topic)

    def publisher(self, topic: str) -> Any:
        return self._topics.publisher(self, topic)

    def retained(self, topic_filter: str, cursor: str | None) -> None:
        """There are none on these topics."""
        return None

    def connected(self, close: Callable[[str], None]) -> None:
        self._close = close
        if self._people.owner_of(self.client_id) not in (None, self.person):
            close("auth_failed")  # two users logged in at the same moment with one client id
            return
        self._people.arrived(self, self._expires_at)

    def disconnected(self) -> None:
        self._close = None
        self._people.left(self)

    def end(self, reason: str) -> None:
        if self._close is not None:
            self._close(reason)

    def binding_changed(self, did: str, bound: bool) -> None:
        """Rights are asked anew by the topic index; nothing is said over MQTT."""


@implementer(IMqttIdentities)
class AppIdentities:
    """Claims the user names that begin with ``2$``."""

    def __init__(self, people: People, topics: AppTopics) -> None:
        self._people = people
        self._topics = topics

    def claims(self, client_id: str, username: str | None) -> bool:
        return username is not None and username.startswith(PREFIX)

    def login(self, client_id: str, username: str | None, password: bytes | None, peer: str) -> Deferred[AppPrincipal]:
        return Deferred.fromCoroutine(self._login(client_id, username or "", password or b""))

    async def _login(self, client_id: str, username: str, password: bytes) -> AppPrincipal:
        parts = username.split("$")
        if len(parts) != 3 or not all(0 < len(part) <= MAX_PART for part in (*parts, password)):
            raise Unauthenticated("unknown user or wrong token")
        if not usable_client_id(client_id):
            raise Forbidden("this client id cannot stand in a topic")
        token = password.decode("utf-8", "replace")
        try:
            person, expires_at = await self._people.prove(parts[1], parts[2], token)
        except Refused as refusal:
            raise Unauthenticated(refusal.code.text) from None
        if self._people.owner_of(client_id) not in (None, person):
            raise Forbidden("another user's app has this client id")
        return AppPrincipal(person, client_id, token_key(token), expires_at, self._people, self._topics)
