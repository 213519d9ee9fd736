"""The parts of the application side, and how they hang together."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThreadPool

from broker.applications.gizwits.app_topics import AppTopics
from broker.applications.gizwits.business import Business, OtherDevices
from broker.applications.gizwits.identities import AppIdentities
from broker.applications.gizwits.passwords import InThread, Passwords
from broker.applications.gizwits.people import People
from broker.applications.gizwits.settings import UserLimits
from broker.applications.gizwits.users import Users
from broker.core import Core
from broker.devices.gizwits.side import GizwitsDevices
from broker.devices.gizwits.topics import ROOTS


def threads_of(reactor: Any) -> InThread:
    """Calls in the reactor's own threads."""

    def in_thread(function: Any, *arguments: Any) -> Any:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    return in_thread


class Side:
    """Users and their apps. Made once, before anything listens; ``records`` is storage or a stand-in."""

    def __init__(
        self, core: Core, limits: UserLimits, devices: GizwitsDevices, passwords: Passwords, records: Any = None
    ) -> None:
        self.core = core
        self.limits = limits
        self.devices = devices
        self.users = Users(core.storage if records is None else records, core.clock, limits, passwords)
        self.people = People(core, self.users, devices.online)
        self.business = Business(core, devices)
        self.topics = AppTopics(core, self.people, self.business)
        core.mqtt_identities.append(AppIdentities(self.people, self.topics))
        core.mqtt_spaces.update(dict.fromkeys(ROOTS, self.topics))
        core.router.listen(OtherDevices(core.topics))
