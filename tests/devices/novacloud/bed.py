"""A core with everything that a NovaCloud listener touches, on one `task.Clock`, and a device's end of a connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.core import Core
from broker.devices.novacloud import NovaCloudConnection, NovaCloudListener, Settings, build
from broker.model.errors import Disabled, Unauthenticated
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, Presence, Uplink
from broker.model.records import DeviceRecord
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.registry import Change, Login

DEVICE = "550e8400-e29b-41d4-a716-446655440000"
OTHER = "650e8400-e29b-41d4-a716-446655440001"
KEY = "abcdef1234567890abcdef1234567890abcdef1234567890abcdef1234567890"
#: 2023-03-15 16:00:00 UTC: the guide's example timestamp is a little before.
NOW = 1_678_896_000.0


class FakeRegistry:
    """What NovaCloud uses of `broker.storage.registry.Registry`; test_protocol_login compares the signatures."""

    def __init__(self) -> None:
        self.protocols: dict[str, Any] = {}
        self.on_change: list[Callable[[Change], None]] = []
        self.sensors: frozenset[str] | None = None
        self.info: dict[str, Any] = {}
        self.disabled = False
        self.keys = {DEVICE: KEY, OTHER: KEY}
        self.asked: list[tuple[str, str, str]] = []
        #: When set, the next login waits for it.
        self.wait: Deferred[None] | None = None

    def login_device(self, protocol: str, device_id: str, secret: str) -> Deferred[Login]:
        self.asked.append((protocol, device_id, secret))
        if self.wait is not None:
            waiting, self.wait = self.wait, None
            return waiting.addCallback(lambda _: self._login(device_id, secret))
        return self._login(device_id, secret)

    def _login(self, device_id: str, secret: str) -> Deferred[Login]:
        if self.keys.get(device_id) != secret:
            return fail(Unauthenticated("unknown id or wrong secret"))
        if self.disabled:
            return fail(Disabled("the device is disabled"))
        record = DeviceRecord(id=device_id, protocol="novacloud", info=self.info)
        return succeed(Login(record=record, sensors=self.sensors, values={}, unmapped={}))


class MemoryJournal:
    """Keeps commands in memory, at once."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.looked_up: list[str] = []

    def add_command(self, command: Command, done: Callable[[Exception | None], None]) -> None:
        self.commands[command.id] = command
        done(None)

    def save_command(self, command: Command, done: Callable[[Exception | None], None]) -> None:
        done(None)

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        self.looked_up.append(command_id)
        done(self.commands.get(command_id))


@implementer(IConsumer)
class Heard:
    """Keeps all that crosses the router."""

    def __init__(self) -> None:
        self.uplinks: list[Uplink] = []
        self.presences: list[tuple[str, bool, str]] = []
        self.commands: list[tuple[str, str]] = []

    def uplink(self, message: Uplink) -> None:
        self.uplinks.append(message)

    def presence(self, change: Presence) -> None:
        self.presences.append((change.device.id, change.online, change.reason))

    def command(self, change: Command) -> None:
        self.commands.append((change.id, change.status))


class Bed:
    """A listener and its core. ``settings`` are those of [listeners.novacloud]; ``clock`` may be the real reactor."""

    def __init__(self, settings: Settings | None = None, clock: Any = None) -> None:
        self.faults: list[BaseException] = []
        if clock is None:
            clock = Clock()
            clock.advance(NOW)
        self.clock = clock
        self.registry = FakeRegistry()
        self.journal = MemoryJournal()
        self.heard = Heard()
        router = Router(lambda what, error: self.faults.append(error))
        router.listen(self.heard)
        devices = LiveDevices(router, clock.seconds)
        storage: Any = self.journal
        registry: Any = self.registry
        unused: Any = None
        self.core = Core(
            reactor=clock,
            clock=clock.seconds,
            monotonic=clock.seconds,
            turn=Turn(lambda flush: clock.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=Commands(self.journal, devices, router, clock.seconds),
            storage=storage,
            registry=registry,
            topics=TopicIndex(),
            files=unused,
            quarantine=unused,
        )
        self.listener: NovaCloudListener = build(self.core, settings or Settings())

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, a second at a time, with the listener's slow tick."""
        while seconds > 0:
            step = min(1.0, seconds)
            self.clock.advance(step)
            self.listener.tick()
            seconds -= step
        self.clock.advance(0)

    def connect(self, host: str = "192.0.2.7") -> Device:
        return Device(self, host)

    def login(self, device_id: str = DEVICE, flat: bool = False) -> Device:
        """A device that is logged in, ready for commands, and has read its answer."""
        device = self.connect()
        device.auth(device_id, flat=flat)
        self.clock.advance(1.5)
        assert device.lines() and not device.connection.closing
        return device

    def command(self, payload: dict[str, Any] | bytes, number: int = 1, **more: Any) -> Command:
        """A command that was submitted; its id is made of ``number``."""
        now = self.clock.seconds()
        command_id = f"00000000-0000-4000-8000-{number:012d}"
        command = Command(command_id, DEVICE, "novacloud", payload, "admin", now, now + 3600, **more)
        refused: list[Exception | None] = []
        self.core.commands.submit(command, refused.append)
        assert refused == [None], refused
        return command


class Device:
    """The other end of a connection: sends lines, reads lines."""

    def __init__(self, bed: Bed, host: str) -> None:
        self.bed = bed
        connection = bed.listener.buildProtocol(IPv4Address("TCP", host, 40000))
        assert isinstance(connection, NovaCloudConnection)
        self.connection = connection
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        connection.makeConnection(self.transport)

    def raw(self, data: bytes) -> None:
        self.connection.dataReceived(data)
        self.bed.clock.advance(0)

    def send(self, *messages: Mapping[str, Any]) -> None:
        """All in one chunk."""
        self.raw(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def auth(self, device_id: str = DEVICE, key: str = KEY, flat: bool = False) -> None:
        names = {"device_id": device_id, "device_key": key}
        self.send({"type": "auth", **names} if flat else {"type": "auth", "payload": names})

    def written(self) -> bytes:
        """What was written since the last look."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def lines(self) -> list[Any]:
        data = self.written()
        assert data == b"" or data.endswith(b"\n"), data
        assert data.isascii()
        return [json.loads(line) for line in data.splitlines()]

    @property
    def reading(self) -> bool:
        return bool(self.transport.producerState == "producing")

    @property
    def closed_for(self) -> str | None:
        """Why the broker closed, None while it did not."""
        return self.connection.reason if self.transport.disconnecting else None

    def lose(self, error: type[BaseException]) -> None:
        self.connection.connectionLost(Failure(error()))
