"""The parts of the application side, and how they hang together."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThreadPool

from broker.applications.gizwits.app_topics import AppTopics
from broker.applications.gizwits.audience import Audience
from broker.applications.gizwits.business import Business
from broker.applications.gizwits.consumer import Consumer
from broker.applications.gizwits.identities import AppIdentities
from broker.applications.gizwits.passwords import InThread, Passwords
from broker.applications.gizwits.people import People
from broker.applications.gizwits.presence_log import PresenceLog
from broker.applications.gizwits.products import Products
from broker.applications.gizwits.proofs import Proofs
from broker.applications.gizwits.refusals import Refusals
from broker.applications.gizwits.settings import UserLimits
from broker.applications.gizwits.surface import AppCaller, GserviceSurface
from broker.applications.gizwits.translation import Translation
from broker.applications.gizwits.user_records import UserRecord
from broker.applications.gizwits.users import Users
from broker.applications.gizwits.users_across import UsersAcross
from broker.core import Core
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.hosts import m2m_address
from broker.devices.gizwits.newcomers import Newcomers
from broker.devices.gizwits.side import GizwitsDevices
from broker.devices.gizwits.topics import ROOTS
from broker.web.routes import Call


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
        records = core.storage if records is None else records
        self.core = core
        self.limits = limits
        self.devices = devices
        self.users = Users(records, core.clock, limits, passwords)
        self.people = People(core, self.users, devices.online)
        UsersAcross(core.backplane, self.users, self.people.changed_elsewhere)
        self.products = Products(core, records)
        self.proofs = Proofs(core.clock)
        self.newcomers = Newcomers(core.monotonic)
        self.translation = Translation(core, self.products)
        self.presence_log = PresenceLog()
        self.business = Business(core, devices)
        self.audience = Audience(core)
        self.refusals = Refusals()
        self.topics = AppTopics(core, self.people, self.business)
        self.surface = GserviceSurface(self.people)
        self.consumer = Consumer(core.topics, self.products, self.presence_log)
        core.mqtt_identities.append(AppIdentities(self.people, self.topics))
        core.mqtt_spaces.update(dict.fromkeys(ROOTS, self.topics))
        core.router.listen(self.consumer)
        core.router.listen_quietly(self.refusals)
        core.whereabouts.listeners.append(self.consumer.presence_elsewhere)

    async def user(self, caller: AppCaller) -> UserRecord:
        """The user who calls. Raises Refused (9005)."""
        user = await self.users.get(caller.app, caller.uid)
        if user is None:
            raise e.Refused(e.USER_NOT_EXIST)
        return user

    def addresses(self, call: Call) -> dict[str, Any]:
        """Where an app finds the broker, if it has found it as this call did."""
        host, port = m2m_address(self.devices, call)
        mqtt, web = dict(reversed(self.core.ports("mqtt"))), dict(reversed(self.core.ports("gservice")))
        # Apps read all of them, even those that nobody listens on; 0 is nobody's.
        others = {"port_s": mqtt.get("tls", 0), "ws_port": web.get("tcp", 0), "wss_port": web.get("tls", 0)}
        return {"host": host, "port": port, **others}


def side_of(call: Call) -> Side:
    """The side whose listener this call came to."""
    side: Side = call.home.side
    return side
