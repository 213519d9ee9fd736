"""A core with a real registry on a real SQLite file, the MQTT listener on it, and devices that are plain objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from zope.interface import implementer

from broker.applications.mqtt import build
from broker.core import Core
from broker.model.interfaces import IDeviceLink
from broker.model.messages import Command, DeviceRef
from broker.model.records import DeviceQuery
from broker.mqtt import packets as p
from broker.mqtt.connection import MqttConnection
from broker.mqtt.settings import Settings
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.values import LastValues
from broker.storage.files import FileStore
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from broker.storage.sqlite import SqliteStorage
from tests.mqtt.fakes import Client

NOW = 1_763_700_000.0
SECRET = "a secret of an application"


class PlainRules:
    """Registration of devices of a protocol without particulars (`broker.storage.rules.DeviceRules`)."""

    hashed = True
    known_fields: frozenset[str] = frozenset()

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        return id or "made"

    def make_secret(self) -> str:
        return "0" * 16

    def check_secret(self, secret: str) -> None:
        """Any will do."""


@implementer(IDeviceLink)
class Link:
    """A device's connection; ``sent`` is what it was told."""

    protocol = "plain"
    window = 10
    answer_timeout = 30.0
    pending_timeout = 300.0

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def send_command(self, command: Command) -> None:
        self.sent.append(command)

    def close_link(self, reason: str) -> None:
        """Nothing is open."""


class Bed:
    """``journal`` takes the place of storage for commands."""

    def __init__(self, folder: str, journal: Any = None, **settings: Any) -> None:
        Path(folder).mkdir()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.pending: list[Callable[[], None]] = []
        self.faults: list[BaseException] = []
        clock = self.clock.seconds
        self.storage = SqliteStorage(Path(folder) / "broker.db", reactor, clock)
        router = Router(lambda what, error: self.faults.append(error))
        devices = LiveDevices(router, clock)
        self.core = Core(
            reactor=self.clock,
            clock=clock,
            monotonic=clock,
            turn=Turn(self.pending.append),
            router=router,
            devices=devices,
            commands=Commands(journal or self.storage, devices, router, clock),
            storage=self.storage,
            registry=Registry(self.storage, clock, {"plain": PlainRules()}),
            topics=TopicIndex(),
            files=FileStore(self.storage, Path(folder) / "files", reactor, clock),
            quarantine=Quarantine(self.storage, clock),
        )
        self.registry = self.core.registry
        self.server = build(self.core, Settings(**settings))

    async def open(self, *devices: str) -> Bed:
        """With these devices, and the application "app" bound to the first two of them."""
        await self.storage.open()
        for device in devices:
            await self.registry.add_device({"protocol": "plain", "id": device})
        await self.registry.add_application({"kind": "mqtt", "id": "app", "secret": SECRET})
        for device in devices[:2]:
            await self.registry.bind("app", device)
        return self

    def flush(self) -> None:
        while self.pending:
            self.pending.pop(0)()

    async def settle(self) -> None:
        """Everything that was asked of storage, and what was asked because of the answers, is done."""
        for _ in range(12):  # more rounds than any test has look-ups that follow from one another
            await self.storage.list_devices(DeviceQuery(), 1, None)
            await self.storage.get_product("none")
        self.flush()

    def client(self, connect: p.Connect) -> Client:
        connection = self.server.buildProtocol(None)
        assert isinstance(connection, MqttConnection)
        return Client(self, connection, connect.version).send(connect)

    async def login(
        self, user: str | None = "app", password: str | None = SECRET, client_id: str = "c", version: int = p.MQTT_3_1_1
    ) -> Client:
        """A client that has had its CONNACK, whatever it says (see ``received``)."""
        secret = None if password is None else password.encode()
        client = self.client(p.Connect(client_id, version, user=user, password=secret))
        await self.settle()
        client.got()
        return client

    async def ask(self, client: Client, *packets: p.Packet) -> list[p.Packet]:
        """Send, and what comes back once storage has answered."""
        client.send(*packets)
        await self.settle()
        return client.got()

    def device(self, device: str) -> tuple[LiveDevice, Link]:
        """The device connects and takes commands."""
        link = Link()
        live = self.core.devices.attach(DeviceRef("plain", device), link, lambda: (LastValues(), {}))
        self.core.commands.ready(live)
        self.flush()
        return live, link
