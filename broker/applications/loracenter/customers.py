"""The customer servers that are registered now, and who may become one.

A customer server is an application of kind loracenter with its ``cs_eui`` and ``app_key``. It may have several
connections, each with a ServiceId of its own: (CsEUI, ServiceId) is the identity, and a new connection of the same one
takes over. What devices say goes to all connections of a customer server; what became of a command goes to the
ServiceId that sent it, or to any when that is not connected.
"""

from __future__ import annotations

from typing import Final, Protocol

from twisted.logger import Logger

from broker.applications.loracenter.challenge import proves
from broker.applications.loracenter.settings import Settings
from broker.core import Core
from broker.model.errors import Disabled, LimitExceeded, Unauthenticated
from broker.storage.registry import Change, Rights

KIND: Final = "loracenter"
#: Before the id in the origin of an application's commands.
ORIGIN: Final = "application:"
#: Changes of an application that end its connections.
ENDING: Final = frozenset({"application_removed", "application_disabled", "application_key"})
#: Tokens that we make are signed numbers of 32 bits to some clients.
MAX_TOKEN: Final = 0x7FFF_FFFF
#: What a proof is held against when there is no such application: it takes as long.
_NOBODY: Final = bytes(16)


class Session(Protocol):
    """What may be done to a registered connection."""

    service: int

    def keeping(self) -> None:
        """A SENDTO of its is on its way to the disk."""

    def kept(self) -> None:
        """It is there, or was refused; its answer has been said."""

    def say(self, message: bytes) -> None:
        """Send what must not be lost: an answer."""

    def tell(self, message: bytes) -> None:
        """Send an indication, if the client keeps up."""

    def close(self, reason: str) -> None:
        """End it."""


class Customer:
    """One customer server with at least one connection."""

    __slots__ = ("_token", "broadcasting", "cs_eui", "id", "rights", "sessions")

    def __init__(self, cs_eui: str, rights: Rights) -> None:
        self.id = rights.id
        self.cs_eui = cs_eui
        self.rights = rights
        #: By ServiceId.
        self.sessions: dict[int, Session] = {}
        #: A BROADCAST is being carried out.
        self.broadcasting = False
        self._token = 0

    @property
    def origin(self) -> str:
        return ORIGIN + self.id

    def token(self) -> int:
        """The next Token of our own."""
        self._token = self._token % MAX_TOKEN + 1
        return self._token

    def tell(self, message: bytes) -> None:
        """An indication, to all."""
        for session in list(self.sessions.values()):
            session.tell(message)

    def session_for(self, service: int) -> Session:
        """The connection for what became of a command of this ServiceId."""
        return self.sessions.get(service) or next(iter(self.sessions.values()))

    def __repr__(self) -> str:
        return f"<Customer {self.cs_eui}>"


class Customers:
    """By application. ``generation`` is another one after whatever could change who hears of a device."""

    log = Logger(namespace="broker.loracenter")

    def __init__(self, core: Core, settings: Settings) -> None:
        self._core = core
        self.settings = settings
        self.generation = 0
        self._customers: dict[str, Customer] = {}
        #: Changes of applications so far: a registration under way has to take notice.
        self._changes = 0
        core.registry.on_change.append(self._changed)

    def all(self) -> list[Customer]:
        return list(self._customers.values())

    def get(self, application_id: str) -> Customer | None:
        return self._customers.get(application_id)

    # -- registration ----------------------------------------------------------------------------------------------

    async def admit(self, cs_eui: str, nonce: int | None, proof: int | None) -> Rights:
        """The rights of who proves to be this customer server. Raises Unauthenticated, Disabled, Unavailable."""
        while True:
            changes = self._changes
            record = await self._core.storage.find_by_cs_eui(cs_eui)
            key = _NOBODY if record is None else bytes.fromhex(record.app_key)
            if key:
                right = nonce is not None and proof is not None and proves(proof, key, cs_eui, nonce)
            else:
                right = self.settings.unproven
                if not right:
                    self.log.warn("loracenter {cs_eui} has no app_key, and unproven = false", cs_eui=cs_eui)
            if record is None or record.kind != KIND or not right:
                raise Unauthenticated("unknown CsEUI or wrong challenge")
            if record.disabled:
                raise Disabled("the application is disabled")
            rights = await self._core.registry.known_application(record.id, (KIND,))
            if changes == self._changes:
                return rights

    def enter(self, session: Session, cs_eui: str, rights: Rights, service: int) -> Customer:
        """A connection is registered; the older one of the same identity is closed. Raises LimitExceeded."""
        customer = self._customers.get(rights.id)
        if customer is None:
            customer = Customer(cs_eui, rights)
        old = customer.sessions.get(service)
        if old is None and len(customer.sessions) >= self.settings.max_services:
            raise LimitExceeded("too many ServiceIds", limit="max_services")
        self._customers[rights.id] = customer
        customer.sessions[service] = session
        self.generation += 1
        if old is not None and old is not session:
            old.close("takeover")
        return customer

    def leave(self, session: Session, customer: Customer, service: int) -> None:
        """A connection is gone; harmless when another one has taken over."""
        if customer.sessions.get(service) is not session:
            return
        del customer.sessions[service]
        if not customer.sessions and self._customers.get(customer.id) is customer:
            del self._customers[customer.id]
            self.generation += 1

    # -- the registry ----------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        self.generation += 1
        if change.what not in ENDING:
            return
        self._changes += 1
        customer = self._customers.get(change.id)
        if customer is not None:
            for session in list(customer.sessions.values()):
                session.close("removed")
