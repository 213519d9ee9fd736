"""The bed of the plain MQTT side with users, apps and Gizwits devices that are plain objects."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import maybeDeferred

from broker.applications.gizwits.passwords import Passwords
from broker.applications.gizwits.settings import UserLimits
from broker.applications.gizwits.side import Side
from broker.applications.gizwits.user_records import PHONE_ID, Session
from broker.devices.gizwits.identity import DeviceRules
from broker.devices.gizwits.settings import DeviceSettings
from broker.devices.gizwits.side import GizwitsDevices
from broker.devices.gizwits.topics import commands_filter, report_topic
from broker.model.messages import DeviceRef
from broker.model.records import Product
from broker.mqtt.delivery import deliver
from broker.mqtt.message import Message, options
from broker.routing.values import LastValues
from tests.applications.gizwits.memory_records import MemoryRecords
from tests.applications.mqtt.bed import NOW, SECRET, Bed, Link, PlainRules
from tests.mqtt.fakes import Client

__all__ = ["NOW", "SECRET", "AppBed", "Device", "MemoryRecords"]

APP = "gizapp"


class ReadableRules(PlainRules):
    """Gizwits devices: passcodes are kept readable."""

    hashed = False
    known_fields = frozenset({"mac"})


class Device:
    """A Gizwits device that is logged in; ``got`` is (topic, payload) of what apps sent it."""

    plain = False
    persistent = False
    plain_5 = False

    def __init__(self, bed: AppBed, did: str) -> None:
        self.bed = bed
        self.did = did
        self.got: list[tuple[str, bytes]] = []
        bed.core.topics.subscribe(commands_filter(did), self, options(0))
        self.live = bed.core.devices.attach(DeviceRef("gizwits", did), Link(), lambda: (LastValues(), {}))

    def may_receive(self, topic: str) -> bool:
        return True

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> int:
        self.got.append((message.topic, message.payload))
        return 0

    def report(self, frame: bytes, app: str = "") -> None:
        """As the device side does with what the device publishes."""
        deliver(self.bed.core.topics.route(report_topic(self.did, app)), frame, 0)
        self.bed.flush()


class AppBed(Bed):
    """With the application `APP`, whose users are made by `user`. ``records`` and ``backplane`` are shared with other
    beds; the MQTT side knows of none.
    """

    def __init__(
        self,
        folder: str,
        limits: UserLimits | None = None,
        journal: Any = None,
        records: MemoryRecords | None = None,
        backplane: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(folder, journal, **settings)
        self.core.listeners["mqtt"] = self.server
        if backplane is not None:
            self.core.backplane = backplane
        self.records = records or MemoryRecords()
        self.devices = GizwitsDevices(self.core, DeviceSettings())
        self.apps_online = self.devices.online
        self.registry.protocols["gizwits"] = ReadableRules()  # ids that can be read
        self.passwords = Passwords(maybeDeferred, cost=4)
        self.side = Side(self.core, limits or UserLimits(), self.devices, self.passwords, self.records)
        self.users = self.side.users

    async def open(self, *devices: str, gizwits: tuple[str, ...] = ()) -> AppBed:
        await super().open(*devices)
        for device in gizwits:
            await self.registry.add_device({"protocol": "gizwits", "id": device, "secret": f"passcode of {device}"})
        await self.registry.add_application({"kind": "gizwits", "id": APP, "secret": SECRET})
        return self

    async def user(self, phone: str, *bound: str) -> Session:
        """The user of a phone, with these devices bound."""
        session = await self.users.known(APP, PHONE_ID, phone)
        for device in bound:
            await self.users.bind(APP, session.uid, device)
        return session

    async def app(self, session: Session, client_id: str = "usr1", token: str | None = None) -> Client:
        """A user's app that has had its CONNACK."""
        secret = session.token if token is None else token
        return await self.login(f"2${APP}${session.uid}", secret, client_id, version=3)

    def product(self, key: str) -> Product:
        return Product(key=key, name=key, protocol="gizwits")

    async def device_with_mac(self, product: str, mac: str) -> str:
        """The DID of a device that is registered as real ones are."""
        self.registry.protocols["gizwits"] = DeviceRules(self.devices.index)
        record, _ = await self.registry.add_device({"protocol": "gizwits", "product": product, "mac": mac})
        return record.id

    async def set_product_secret(self, product: str, secret: str) -> None:
        extra = await self.side.products.extra(product)
        await self.side.products.set_extra(product, msgspec.structs.replace(extra, secret=secret))
