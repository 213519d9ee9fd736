"""The MQTT server: the factory of its connections, who they log in as, and the sessions by client id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from broker.listening.listener import Listener
from broker.listening.websocket import websocket_factory
from broker.model.errors import Forbidden
from broker.model.interfaces import IMqttIdentities
from broker.mqtt.connection import MqttConnection
from broker.mqtt.delivery import SessionIndex, SessionRoute, deliver
from broker.mqtt.packets import SUBSCRIPTION_REFUSED, Will
from broker.mqtt.session import Session
from broker.mqtt.settings import Settings
from broker.mqtt.topics import split_share
from broker.routing.outbox import Turn

#: What subscriptions are granted at most.
HIGHEST_QOS: Final = 1


class MqttListener(Listener):
    """The MQTT listener. ``identities`` are asked in their order which of them a CONNECT is for; the list may still
    grow while other sides are built. ``last_identities`` are asked when none of those claims it.
    """

    def __init__(
        self,
        settings: Settings,
        topics: SessionIndex,
        identities: Sequence[IMqttIdentities],
        last_identities: Sequence[IMqttIdentities],
        turn: Turn,
        reactor: Any,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__("mqtt", settings.limits, turn, reactor, clock, monotonic)
        self.settings = settings
        self.topics = topics
        self._identities = identities
        self._last_identities = last_identities
        #: (principal's name, client id) -> connection. Client ids are per identity: nobody can push out somebody else.
        self._clients: dict[tuple[str, str], MqttConnection] = {}

    def connection_for(self, addr: IAddress | None) -> MqttConnection:
        return MqttConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def reload(self, settings: Settings) -> Sequence[str]:
        """Limits hold for whoever connects from now on; who may log in at all was settled when we were built."""
        self.settings = settings
        return ("bind", "anonymous", "anonymous_deny")

    def websocket_factory(self) -> Factory:
        """What ``ws`` and ``wss`` bindings serve: the same connections inside WebSocket frames."""
        return websocket_factory(self, ("mqtt", "mqttv3.1"), lambda: self.settings.websocket)

    # -- for connections -------------------------------------------------------------------------------------------

    def login(self, client_id: str, user: str | None, password: bytes | None, host: str) -> Deferred[Any]:
        """Deferred of an IMqttPrincipal; fails with an error of `broker.model.errors`."""
        for identities in (*self._identities, *self._last_identities):
            if identities.claims(client_id, user):
                return maybeDeferred(identities.login, client_id, user, password, host)
        return fail(Forbidden("a user name and a password are needed"))

    def new_client_id(self) -> str:
        """For a client that leaves the choice to us [MQTT-3.1.3-6]."""
        return f"auto-{token_hex(8)}"

    def attach(self, session: Session, connection: MqttConnection) -> None:
        """The session is up; an older connection of the same client ends [MQTT-3.1.4-2]."""
        key = (session.principal.name, session.client_id)
        older = self._clients.get(key)
        self._clients[key] = connection
        if older is not None:
            older.close("takeover")

    def detach(self, session: Session, connection: MqttConnection) -> None:
        """The session is over: its subscriptions go."""
        key = (session.principal.name, session.client_id)
        if self._clients.get(key) is connection:
            del self._clients[key]
        for topic_filter in session.subscriptions:
            self.topics.unsubscribe(topic_filter, session)
        session.subscriptions.clear()

    def subscribe(self, session: Session, filters: Sequence[tuple[str, int]]) -> bytes:
        """A code for each (filter, QoS asked for), in their order: the QoS granted or `SUBSCRIPTION_REFUSED`."""
        codes = bytearray()
        for topic_filter, asked in filters:
            if self._may_subscribe(session, topic_filter):
                qos = min(asked, HIGHEST_QOS)
                session.subscriptions[topic_filter] = qos
                self.topics.subscribe(topic_filter, session, qos)
                codes.append(qos)
            else:
                codes.append(SUBSCRIPTION_REFUSED)
        return bytes(codes)

    def _may_subscribe(self, session: Session, topic_filter: str) -> bool:
        settings = self.settings
        known = session.subscriptions
        return (
            settings.fits(topic_filter)
            and (len(known) < settings.max_subscriptions or topic_filter in known)
            and split_share(topic_filter) == ("", topic_filter)  # shared subscriptions are MQTT 5's
            and session.principal.may_subscribe(topic_filter)
        )

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """Known filter or not."""
        if session.subscriptions.pop(topic_filter, None) is not None:
            self.topics.unsubscribe(topic_filter, session)

    def deliver(self, route: SessionRoute, payload: bytes, qos: int) -> None:
        deliver(route, payload, qos)

    def publish_will(self, principal: Any, will: Will) -> None:
        """Publish for a client that went without a goodbye, with the rights that it has now."""
        right = principal.publisher(will.topic)
        if right is True:
            deliver(self.topics.route(will.topic), will.payload, will.qos)
        elif callable(right):
            right(will.payload, will.qos, None, lambda error: None)
        else:
            self.stats.drop("not_allowed")
