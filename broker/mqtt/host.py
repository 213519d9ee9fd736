"""What a connection needs of the MQTT server; `server` provides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from broker.listening.connection import Home
from broker.mqtt import packets as p
from broker.mqtt.delivery import SessionIndex
from broker.mqtt.message import Message
from broker.mqtt.session import Session
from broker.mqtt.settings import Settings
from broker.mqtt.wills import LastWill


class Server(Home, Protocol):
    """The part of `broker.mqtt.server.MqttListener` that its connections use."""

    settings: Settings
    topics: SessionIndex

    @property
    def committed(self) -> int:
        """The journal's position up to which everything is settled."""
        ...

    def wait(self, waiter: Any) -> None:
        """Have ``waiter.settled(upto, error)`` called with the next commit, once."""
        ...

    def login(
        self, client_id: str, user: str | None, password: bytes | None, host: str, subject: str | None = None
    ) -> Deferred[Any]:
        """Deferred of an IMqttPrincipal; ``subject``: the common name in the client's certificate, if it has one."""
        ...

    def new_client_id(self) -> str: ...

    def acquire(self, principal: Any, client_id: str) -> Deferred[None] | None:
        """Have the client's session in this process, should another one have it; None: there is nothing to wait for."""
        ...

    def attach(
        self, connection: Any, principal: Any, client_id: str, connect: p.Connect, expiry: int | None
    ) -> tuple[Session, bool, LastWill | None] | None:
        """(the session, whether it was there before, the will that CONNECT left); None when there is no room for it."""
        ...

    def recall(self, session: Session, will: LastWill | None) -> Deferred[Any] | None:
        """Fetch what has to be here, and keep what has to be on disk, before CONNACK; None when nothing has."""
        ...

    def resume(self, session: Session) -> None:
        """The client has its CONNACK: send what the session owes it."""
        ...

    def detach(self, session: Session, connection: Any) -> None: ...

    def subscribe(self, session: Session, packet: p.Subscribe) -> tuple[bytes, list[str], int]:
        """(a code for each filter, filters whose retained messages are owed, position for SUBACK)."""
        ...

    def known(self) -> Deferred[None] | None:
        """Fires when other processes know what was subscribed to; None: they do, or there are none."""
        ...

    def unsubscribe(self, session: Session, filters: Sequence[str]) -> tuple[bytes, int]:
        """(a 5.0 code for each filter, position for UNSUBACK)."""
        ...

    def keep(self, message: Message) -> int:
        """Make it its topic's retained message, or remove that; the position to wait for, -1 when it does not fit."""
        ...

    def retained_for(self, session: Session, connection: Any) -> Any:
        """A `broker.mqtt.retained.RetainedPages`."""
        ...

    def will(self, session: Session, will: LastWill) -> None: ...

    def withdraw(self, will: LastWill) -> None:
        """It is not to be published."""
        ...
