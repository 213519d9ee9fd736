"""Who plain MQTT clients are and what they may do: registered applications, and anybody where that is switched on.

An application has rights on the devices bound to it and no others. Topics outside ``devices/`` are free to all who are
logged in: they are messages between clients and no device's. Of those that begin with '$', which are the server's own,
the figures under $SYS may be subscribed to.

Topics whose first level is in ``Core.mqtt_spaces`` are another protocol's: what an application may do there is asked of
that, and anybody else may do nothing but listen.

A filter without a wildcard in the place of the device id is granted or refused by the binding. One with a wildcard is
granted and cut: what reaches the client is decided for each topic by `may_receive`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from zope.interface import implementer

from broker.applications.mqtt.commands import CommandIntake
from broker.applications.mqtt.presence import PresenceRetained
from broker.applications.mqtt.topics import command_topic, device_of
from broker.core import Core
from broker.model.errors import Disabled, Unauthenticated
from broker.model.interfaces import IKnownMqttIdentities, IMqttPrincipal
from broker.mqtt.retained import Page
from broker.mqtt.topics import matches
from broker.storage.registry import APPLICATION_KINDS, Change, Rights

Close = Callable[[str], None]

#: Changes of an application that end its connections.
_ENDING = frozenset({"application_removed", "application_disabled", "application_secret"})
#: Changes after which somebody may see more or less than before.
_RIGHTS = frozenset({"bound", "unbound", "device_removed", "application_removed"})


#: Before the id in the name of an application's principal.
_PREFIX: Final = "application:"


@implementer(IMqttPrincipal)
class ApplicationPrincipal:
    """A registered application on one connection. ``certified``: it has shown a certificate, and not its secret."""

    def __init__(self, rights: Rights, client_id: str, side: ApplicationIdentities, certified: bool = False) -> None:
        self.name = _PREFIX + rights.id
        self.rights = rights
        self.client_id = client_id
        self.certified = certified
        self._side = side
        self._close: Close | None = None

    def may_subscribe(self, topic_filter: str) -> bool:
        if topic_filter.startswith("$"):
            return topic_filter.startswith("$SYS/")
        space = self._side.space_of(topic_filter)
        if space is not None:
            return bool(space.may_subscribe(self, topic_filter))
        device = device_of(topic_filter)
        return device is None or device in ("", "+", "#") or self.rights.may_see(device)

    def may_receive(self, topic: str) -> bool:
        space = self._side.space_of(topic)
        if space is not None:
            return bool(space.may_receive(self, topic))
        device = device_of(topic)
        return device is None or self.rights.may_see(device)

    def publisher(self, topic: str) -> Any:
        if topic.startswith("$"):
            return False
        space = self._side.space_of(topic)
        if space is not None:
            return space.publisher(self, topic)
        device = device_of(topic)
        if device is None:
            return True
        if topic != command_topic(device) or not self.rights.may_see(device):
            return False
        return self._side.intake.taker(device, self.name, self.publisher)

    def retained(self, topic_filter: str, cursor: str | None) -> Deferred[Page] | None:
        return self._side.presence.page(topic_filter, self.rights.id, cursor)

    def connected(self, close: Close) -> None:
        self._close = close
        self._side.connected.setdefault(self.rights.id, set()).add(self)
        for space in self._side.spaces():
            space.connected(self)

    def disconnected(self) -> None:
        self._close = None
        for space in self._side.spaces():
            space.disconnected(self)
        here = self._side.connected.get(self.rights.id)
        if here is not None:
            here.discard(self)
            if not here:
                del self._side.connected[self.rights.id]

    def may_see(self, device: str) -> bool:
        """Whether the device is bound to it."""
        return self.rights.may_see(device)

    def end(self, reason: str = "removed") -> None:
        """Close the connection: the identity is gone, has another secret now, or does what it should not."""
        if self._close is not None:
            self._close(reason)


@implementer(IKnownMqttIdentities)
class ApplicationIdentities:
    """Log-in of applications: the id is the user name, the secret the password, the client id is free (DESIGN §6).
    Where certificates count, the id is the common name in it.

    It claims every CONNECT with a user name, so it has to be the last one asked. ``strangers``: who somebody is whose
    name is no application's, where anybody may come; a wrong secret of one that is there is refused.
    """

    def __init__(
        self,
        core: Core,
        intake: CommandIntake,
        presence: PresenceRetained,
        strangers: AnonymousPrincipal | None = None,
    ) -> None:
        self._core = core
        self._strangers = strangers
        self.intake = intake
        self.presence = presence
        #: application id -> its connections' principals
        self.connected: dict[str, set[ApplicationPrincipal]] = {}
        core.registry.on_change.append(self._changed)

    def space_of(self, topic: str) -> Any:
        """The IMqttSpace that a topic or filter is in, or None."""
        spaces = self._core.mqtt_spaces
        return spaces.get(topic.partition("/")[0]) if spaces else None

    def spaces(self) -> list[Any]:
        """All of them, each once."""
        return list({id(space): space for space in self._core.mqtt_spaces.values()}.values())

    def claims(self, client_id: str, username: str | None) -> bool:
        return bool(username)

    @inlineCallbacks
    def login(
        self, client_id: str, username: str | None, password: bytes | None, peer: str
    ) -> Generator[Deferred[Any], Any, ApplicationPrincipal | AnonymousPrincipal]:
        secret = (password or b"").decode("utf-8", "replace")
        try:
            rights = yield self._core.registry.login_application(username or "", secret, APPLICATION_KINDS)
        except Unauthenticated:
            if self._strangers is None:
                raise
            known = yield self._core.storage.get_application(username or "")
            if known is not None:
                raise
            return self._strangers
        return ApplicationPrincipal(rights, client_id, self)

    @inlineCallbacks
    def login_certified(
        self, client_id: str, subject: str, peer: str
    ) -> Generator[Deferred[Any], Any, ApplicationPrincipal]:
        """See `IKnownMqttIdentities`. Who has a certificate is no stranger: a name that nobody has is refused."""
        rights = yield self._core.registry.known_application(subject, APPLICATION_KINDS)
        return ApplicationPrincipal(rights, client_id, self, certified=True)

    @inlineCallbacks
    def find(self, name: str) -> Generator[Deferred[Any], Any, ApplicationPrincipal | None]:
        """See `IKnownMqttIdentities`."""
        if not name.startswith(_PREFIX):
            return None
        try:
            rights = yield self._core.registry.known_application(name.removeprefix(_PREFIX), APPLICATION_KINDS)
        except (Unauthenticated, Disabled):
            return None
        return ApplicationPrincipal(rights, "", self)

    def _changed(self, change: Change) -> None:
        if change.what in _RIGHTS:
            self._core.topics.rights_changed(lost=change.what != "bound")
        if change.what in _ENDING:
            for principal in list(self.connected.get(change.id, ())):
                if change.what != "application_secret" or not principal.certified:
                    principal.end()


def _covers(one: str, other: str) -> bool:
    """Whether everything that the filter ``other`` matches is matched by the filter ``one``."""
    # Level by level a filter is matched like a name, but for "#", which "+" does not cover.
    return matches(one, other) and (one.endswith("#") or not other.endswith("#"))


@implementer(IMqttPrincipal)
class AnonymousPrincipal:
    """Anybody, where ``anonymous = true``: everything but the denied topics."""

    name = "anonymous"

    def __init__(
        self,
        deny: tuple[str, ...],
        intake: CommandIntake,
        presence: PresenceRetained,
        reserved: Collection[str] = (),
    ) -> None:
        self._deny = deny
        #: First levels of topics on which nobody without a name publishes; it may still grow.
        self._reserved = reserved
        self._intake = intake
        self._presence = presence

    def may_subscribe(self, topic_filter: str) -> bool:
        # A filter inside a denied one is refused; one that only overlaps it is granted and cut.
        return not any(_covers(denied, topic_filter) for denied in self._deny)

    def may_receive(self, topic: str) -> bool:
        return not any(matches(denied, topic) for denied in self._deny)

    def publisher(self, topic: str) -> Callable[..., Any] | bool:
        # $SYS is the broker's; other topics with a "$" are only hidden from leading wildcards.
        root = topic.partition("/")[0]
        if root == "$SYS" or root in self._reserved or not self.may_receive(topic):
            return False
        device = device_of(topic)
        if device and topic == command_topic(device):
            return self._intake.taker(device, self.name, self.publisher)
        # Nobody but the broker speaks for a device.
        return device is None

    def retained(self, topic_filter: str, cursor: str | None) -> Deferred[Page] | None:
        return self._presence.page(topic_filter, None, cursor)

    def connected(self, close: Close) -> None:
        """Nothing about nobody can be removed or changed."""

    def disconnected(self) -> None:
        """See `connected`."""


@implementer(IKnownMqttIdentities)
class AnonymousIdentities:
    """Claims every CONNECT without a user name."""

    def __init__(self, principal: AnonymousPrincipal) -> None:
        self._principal = principal

    def claims(self, client_id: str, username: str | None) -> bool:
        return not username

    def login(
        self, client_id: str, username: str | None, password: bytes | None, peer: str
    ) -> Deferred[AnonymousPrincipal]:
        return succeed(self._principal)

    def login_certified(self, client_id: str, subject: str, peer: str) -> Deferred[AnonymousPrincipal]:
        """See `IKnownMqttIdentities`. A certificate has a name, so nobody comes here with one."""
        return fail(Unauthenticated("whoever has a certificate has a name"))

    def find(self, name: str) -> Deferred[AnonymousPrincipal | None]:
        """See `IKnownMqttIdentities`."""
        return succeed(self._principal if name == self._principal.name else None)
