"""A core with everything that a gateway listener touches, on one `task.Clock`, and a gateway's end of a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.core import Core
from broker.devices.gateway88 import Gateway88Connection, Gateway88Listener, Settings, build
from broker.devices.gateway88.container import AS_WRITTEN, Flavour, decode, encode
from broker.devices.gateway88.frames import Frame, FrameDecoder, encode_frame
from broker.model.errors import Conflict, Disabled, Unauthenticated
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, Presence, Uplink
from broker.model.records import DeviceQuery, DeviceRecord
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.registry import Change, Login
from tests.devices.gateway88.vectors import GATEWAY, INFO, MAC

OTHER_MAC = bytes.fromhex("0a0b0c0d0e0f")
OTHER = "0A0B0C0D0E0F"
NOW = 1_700_000_000.0
#: An answer of a gateway, as one message.
Said = tuple[int, dict[str, Any] | None, int]


class FakeRegistry:
    """What gateways use of `broker.storage.registry.Registry`; test_admission compares the signatures."""

    def __init__(self) -> None:
        self.protocols: dict[str, Any] = {}
        self.on_change: list[Callable[[Change], None]] = []
        self.records = {mac: DeviceRecord(id=mac, protocol="gateway88") for mac in (GATEWAY, OTHER)}
        #: When set, the next look-up waits for it.
        self.wait: Deferred[None] | None = None
        #: When set, look-ups fail with it.
        self.error: Exception | None = None

    def identify_device(self, protocol: str, device_id: str) -> Deferred[Login]:
        if self.wait is not None:
            waiting, self.wait = self.wait, None
            return waiting.addCallback(lambda _: self._identify(device_id))
        return self._identify(device_id)

    def _identify(self, device_id: str) -> Deferred[Login]:
        if self.error is not None:
            return fail(self.error)
        record = self.records.get(device_id)
        if record is None:
            return fail(Unauthenticated("unknown"))
        if record.disabled:
            return fail(Disabled("the device is disabled"))
        return succeed(Login(record=record, sensors=None, values={}, unmapped={}))

    def add_device(self, fields: dict[str, Any]) -> Deferred[tuple[DeviceRecord, str]]:
        mac = self.protocols["gateway88"].normal_id(fields["id"], fields)
        if mac in self.records:
            return fail(Conflict("the id is taken"))
        attributes = {name: fields[name] for name in ("certificate",) if name in fields}
        record = self.records[mac] = DeviceRecord(id=mac, protocol=fields["protocol"], attributes=attributes)
        return succeed((record, ""))

    def update_device(self, device_id: str, changes: dict[str, Any]) -> Deferred[tuple[DeviceRecord, str | None]]:
        self.records[device_id].attributes.update(changes)
        self.change("device_updated", device_id)
        return succeed((self.records[device_id], None))

    def change(self, what: str, device_id: str) -> None:
        for listener in self.on_change:
            listener(Change(what, device_id))


class FakeQuarantine:
    """What gateways use of `broker.storage.quarantine.Quarantine`."""

    def __init__(self) -> None:
        self.approvers: dict[str, Any] = {}
        self.sightings: list[tuple[str, str, str, dict[str, Any] | None]] = []

    def seen(self, protocol: str, id: str, peer: str, info: dict[str, Any] | None = None) -> None:
        self.sightings.append((protocol, id, peer, info))


class MemoryJournal:
    """Keeps commands in memory, at once."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}

    def add_command(self, command: Command, done: Callable[[Exception | None], None]) -> None:
        self.commands[command.id] = command
        done(None)

    def save_command(self, command: Command, done: Callable[[Exception | None], None]) -> None:
        done(None)

    def find_command(self, command_id: str, done: Callable[[Command | None], None]) -> None:
        done(self.commands.get(command_id))

    def get_command(self, command_id: str) -> Deferred[Command | None]:
        return succeed(self.commands.get(command_id))

    def list_devices(self, query: DeviceQuery, limit: int, cursor: str | None) -> Deferred[Any]:
        """None: whoever looks after backups has tests of its own."""
        return succeed(([], None))

    def write_records(self, changes: Any) -> Deferred[None]:
        """Nobody reads them here."""
        return succeed(None)


class FakeFiles:
    """None are kept."""

    def get(self, area: str, id: str) -> Deferred[Any]:
        return succeed(None)


class FakeLinks:
    """What gateways use of the files listener."""

    def firmware_url(self, command: Command) -> str:
        return f"https://files/f/{command.id}"

    def backup_url(self, command: Command) -> str:
        return f"https://files/b/{command.id}"

    def recovery_url(self, command: Command) -> str:
        return f"https://files/r/{command.id}"

    def digest(self, url: str, md5: str) -> str:
        return md5


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
        self.commands.append((change.id[-2:], change.status))


class Bed:
    """A listener and its core. ``settings`` are those of [listeners.gateway88]; ``clock`` may be the real reactor."""

    def __init__(self, settings: Settings | None = None, clock: Any = None) -> None:
        self.faults: list[BaseException] = []
        if clock is None:
            clock = Clock()
            clock.advance(NOW)
        self.clock = clock
        self.registry = FakeRegistry()
        self.quarantine = FakeQuarantine()
        self.journal = MemoryJournal()
        self.heard = Heard()
        router = Router(lambda what, error: self.faults.append(error))
        router.listen(self.heard)
        devices = LiveDevices(router, clock.seconds)
        storage: Any = self.journal
        registry: Any = self.registry
        quarantine: Any = self.quarantine
        files: Any = FakeFiles()
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
            files=files,
            quarantine=quarantine,
        )
        self.core.listeners["files"] = FakeLinks()
        self.listener: Gateway88Listener = build(self.core, settings or Settings())

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, a second at a time, with the slow ticks of listener and commands."""
        while seconds > 0:
            step = min(1.0, seconds)
            self.clock.advance(step)
            self.listener.tick()
            self.core.commands.tick()
            seconds -= step
            self.clock.advance(0)
        self.clock.advance(0)

    def connect(self, host: str = "192.0.2.7", mac: bytes = MAC) -> Gateway:
        return Gateway(self, host, mac)

    def admitted(self, mac: bytes = MAC) -> Gateway:
        """A gateway that has told about itself and read the answer."""
        gateway = self.connect(mac=mac)
        gateway.say(INFO, 1)
        (answer,) = gateway.read()
        assert answer[0] == 1 and not gateway.connection.closing
        self.heard.uplinks.clear()
        return gateway

    def command(self, payload: dict[str, Any] | bytes, number: int = 1, **more: Any) -> Command:
        """A command that was submitted; its id ends with ``number``."""
        now = self.clock.seconds()
        command_id = f"00000000-0000-4000-8000-{number:012d}"
        command = Command(command_id, GATEWAY, "gateway88", payload, "admin", now, now + 3600, **more)
        refused: list[Exception | None] = []
        self.core.commands.submit(command, refused.append)
        assert refused == [None], refused
        self.clock.advance(0)
        return command

    def operation(self, name: str, payload: dict[str, Any], number: int = 1, **options: Any) -> Command:
        return self.command(payload, number, options={"operation": name, **options})


class Gateway:
    """The other end of a connection: sends frames, reads frames."""

    def __init__(self, bed: Bed, host: str, mac: bytes) -> None:
        self.bed = bed
        self.mac = mac
        self.flavour: Flavour = AS_WRITTEN
        connection = bed.listener.buildProtocol(IPv4Address("TCP", host, 40000))
        assert isinstance(connection, Gateway88Connection)
        self.connection = connection
        self.transport = StringTransport()
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        connection.makeConnection(self.transport)
        self._decoder = FrameDecoder(1 << 24)

    def raw(self, data: bytes) -> None:
        self.connection.dataReceived(data)
        self.bed.clock.advance(0)

    def frame(self, value: dict[str, Any], number: int, status: int = 0) -> bytes:
        return encode_frame(self.mac, number, encode(value, self.flavour), status)

    def say(self, value: dict[str, Any], number: int, status: int = 0) -> None:
        self.raw(self.frame(value, number, status))

    def acknowledge(self, number: int, status: int = 0) -> None:
        self.raw(encode_frame(self.mac, number, b"", status))

    def written(self) -> bytes:
        """What was written since the last look."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def frames(self) -> list[Frame]:
        found = list(self._decoder.feed(self.written()))
        assert not self._decoder.buffered
        for item in found:
            assert isinstance(item, Frame) and item.mac == self.mac and item.version == 2, item
        return [item for item in found if isinstance(item, Frame)]

    def read(self) -> list[Said]:
        """What came: id, the object in it or None for an acknowledgement, Status."""
        return [
            (frame.id, decode(frame.data, 1 << 24).value if frame.data else None, frame.status)
            for frame in self.frames()
        ]

    @property
    def reading(self) -> bool:
        return bool(self.transport.producerState == "producing")

    @property
    def closed_for(self) -> str | None:
        """Why the broker closed, None while it did not."""
        return self.connection.reason if self.transport.disconnecting else None

    def lose(self, error: type[BaseException]) -> None:
        self.connection.connectionLost(Failure(error()))
