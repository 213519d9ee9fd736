"""The MQTT server on a real registry, with the device side of Gizwits, devices in memory, and somebody who listens."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from broker.devices.gizwits import DeviceSettings, build_devices
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import commands_filter, notice_topic, response_topic
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, Presence, Uplink
from broker.model.records import Product
from broker.mqtt import packets as p
from tests.applications.mqtt.bed import Bed as MqttBed
from tests.mqtt.fakes import Client

PRODUCT = "6f3074fe43894547a4f1314bd7e3ae0b"
OTHER_PRODUCT = "0" * 32
MAC = "6E536B716179"
DID = "DrfomHVPFi7ALnZrA6NE6R"
OTHER = "gdGn7PzAYf4VrhnVag5x8D"
PASSCODE = "CILECMOIWH"


@implementer(IConsumer)
class Listening:
    """Keeps what crosses the broker."""

    def __init__(self) -> None:
        self.uplinks: list[tuple[str, str, Any, Any]] = []
        self.presences: list[tuple[str, bool, str]] = []
        self.commands: list[tuple[str, Any]] = []

    def uplink(self, message: Uplink) -> None:
        self.uplinks.append((message.device.id, message.kind, message.payload, message.meta))

    def presence(self, change: Presence) -> None:
        self.presences.append((change.device.id, change.online, change.reason))

    def command(self, change: Command) -> None:
        self.commands.append((change.status, change.result))


class Bed(MqttBed):
    """``gizwits``: settings of the device side."""

    def __init__(self, folder: str, gizwits: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.side = build_devices(self.core, DeviceSettings(**(gizwits or {})))
        self.heard = Listening()
        self.core.router.listen(self.heard)

    async def open(self, *devices: str) -> Bed:
        """With two products and these devices."""
        await super().open()
        for key in (PRODUCT, OTHER_PRODUCT):
            await self.registry.add_product(Product(key=key, name="", protocol="gizwits"))
        for number, did in enumerate(devices):
            fields = {"protocol": "gizwits", "id": did, "product": PRODUCT, "secret": PASSCODE}
            await self.registry.add_device({**fields, "mac": f"{number:012X}"})
        await self.side.prepare()
        return self

    async def device(  # type: ignore[override] # of this protocol
        self,
        did: str = DID,
        passcode: str = PASSCODE,
        version: int = p.MQTT_3_1,
        subscribed: bool = True,
        **fields: Any,
    ) -> Client:
        """A device that logs in as agents do, and its three subscriptions."""
        connect = p.Connect(did, version, **{"keep_alive": 120, "user": did, "password": passcode.encode(), **fields})
        client = self.client(connect)
        await self.settle()
        client.got()
        if subscribed:
            for number, one in enumerate((notice_topic(PRODUCT), response_topic(did), commands_filter(did)), 1):
                self.pass_time(0.01)
                answer = client.ask(p.Subscribe(number, [(one, 0)]))
                if not connect.clean:  # it has to be on disk first
                    await self.settle()
                    answer = client.got()
                assert answer == [p.SubAck(number, b"\0")]
            self.pass_time(0.01)
            await self.settle()
        return client

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.core.commands.tick()
        self.flush()

    def say(self, client: Client, topic: str, packet: g.Business | g.System | bytes, qos: int = 0) -> None:
        payload = packet if isinstance(packet, bytes) else g.encode(packet)
        client.send(p.Publish(topic, payload, qos, 1 if qos else 0))
