"""What a connection needs of the MQTT server; `server` provides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from broker.listening.connection import Home
from broker.mqtt.delivery import SessionIndex, SessionRoute
from broker.mqtt.packets import Will
from broker.mqtt.session import Session
from broker.mqtt.settings import Settings


class Server(Home, Protocol):
    """The part of `broker.mqtt.server.MqttListener` that its connections use."""

    settings: Settings
    topics: SessionIndex

    def login(self, client_id: str, user: str | None, password: bytes | None, host: str) -> Deferred[Any]: ...

    def new_client_id(self) -> str: ...

    def attach(self, session: Session, connection: Any) -> None: ...

    def detach(self, session: Session, connection: Any) -> None: ...

    def subscribe(self, session: Session, filters: Sequence[tuple[str, int]]) -> bytes: ...

    def unsubscribe(self, session: Session, topic_filter: str) -> None: ...

    def deliver(self, route: SessionRoute, payload: bytes, qos: int) -> None: ...

    def publish_will(self, principal: Any, will: Will) -> None: ...
