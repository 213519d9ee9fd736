"""Multicast as the network and the application sides know it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.motes import Motes
from broker.devices.lorawan.multicast.groups import Groups
from broker.devices.lorawan.multicast.messages import Messages
from broker.devices.lorawan.multicast.sending import Sender
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.transmitter import Transmitter
from broker.storage.deferred import deferred


class Multicast:
    """Groups, what waits for them, and who sends it."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        agenda: Agenda,
        motes: Motes,
        gateways: Gateways,
        transmitter: Transmitter,
        new_address: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.random_bytes = random_bytes
        self.groups = Groups(core, settings, motes, new_address)
        self.messages = Messages(core, settings, counted, self.groups, random_bytes)
        self.sender = Sender(core, settings, counted, agenda, motes, gateways, transmitter, self.groups, self.messages)

    @property
    def settings(self) -> Settings:
        return self.groups.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        for part in (self.groups, self.messages, self.sender):
            part.settings = settings

    @deferred
    async def load(self) -> None:
        """After the motes. Raises Unavailable."""
        await self.groups.load()
        self.sender.resume()

    def clear(self) -> None:
        """Others may have all of it by now; `load` reads it anew."""
        for part in (self.groups, self.messages, self.sender):
            part.clear()

    def tick(self) -> None:
        """About once a second."""
        self.messages.tick()
        self.sender.tick()

    # -- for application sides -------------------------------------------------------------------------------------

    def groups_of(self, application: str) -> dict[str, frozenset[str]]:
        """The DevEUIs of each group that is this application's, by the group's id."""
        return {group.id: frozenset(group.members) for group in self.groups if group.record.application == application}

    @deferred
    async def send(
        self, group: str, payload: bytes, port: int, tries: int, priority: int, expires: float, origin: str
    ) -> str:
        """The message's id, when it is on disk. Raises NotFound, Invalid, LimitExceeded, Unavailable."""
        message = await self.messages.accept(
            self.groups.get(group),
            payload,
            port=port,
            tries=tries,
            priority=priority,
            expires=expires,
            origin=origin,
        )
        return message.record.id

    # -- for the network -------------------------------------------------------------------------------------------

    def unfit(self, dev_eui: str) -> None:
        """The mote is removed, or not of class C any more: it leaves its groups."""
        leaving = self.groups.leave_all(dev_eui)
        # In memory it has left; what is still on disk is looked at again with the next start.
        leaving.addErrback(lambda failure: self.log.failure("a mote's leaving its groups is not written", failure))
