"""A network on one `task.Clock` with a storage in memory, forwarders that speak Semtech UDP to it, and motes.

The motes are pamoja's, an implementation of its own; the forwarders answer as the reference forwarder does.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from pamoja import lorawan as pamoja
from twisted.internet.task import Clock
from zope.interface import implementer

from broker.cluster.local import LocalBackplane
from broker.core import Core
from broker.devices.lorawan import Settings, build
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, Presence, Uplink
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from tests.devices.lorawan.storage import MemoryStorage

NOW = 1_700_000_000.0
GATEWAY = "AA555A0000000001"
OTHER = "AA555A0000000002"
THIRD = "AA555A0000000003"
JOIN_EUI = "70B3D57ED0000001"
APP_KEY = "8899AABBCCDDEEFF0011223344556677"
NWK_S_KEY = "44024241ED4CE9A68C6A8BC055233FD3"
APP_S_KEY = "EC925802AE430CA77FD3DD73CB2CC588"


@implementer(IConsumer)
class Heard:
    """Keeps all that crosses the router."""

    def __init__(self) -> None:
        self.uplinks: list[Uplink] = []
        self.presences: list[tuple[str, bool, str]] = []
        self.commands: list[tuple[str, str, Any]] = []

    def uplink(self, message: Uplink) -> None:
        self.uplinks.append(message)

    def presence(self, change: Presence) -> None:
        self.presences.append((change.device.id, change.online, change.reason))

    def command(self, change: Command) -> None:
        self.commands.append((change.id[-2:], change.status, change.result))

    def payloads(self) -> list[Any]:
        return [message.payload for message in self.uplinks]


class Wire:
    """The transport of the broker's socket: what goes out is given to whoever has that address."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], Callable[[bytes], None]] = {}
        self.lost: list[tuple[bytes, tuple[str, int]]] = []

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        end = self.ends.get(address)
        if end is None:
            self.lost.append((data, address))
        else:
            end(data)


class Bed:
    """``settings`` are those of [listeners.lorawan]; ``storage`` is that of the broker's earlier life, if any.

    ``wall``: seconds that the wall clock is ahead of where it was. ``backplane``: where there are other processes.
    """

    def __init__(
        self,
        storage: MemoryStorage | None = None,
        clock: Clock | None = None,
        wall: float = 0.0,
        backplane: Any = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(NOW)
        self.storage = storage or MemoryStorage()
        self.faults: list[tuple[str, BaseException]] = []
        self.heard = Heard()
        router = Router(lambda what, error: self.faults.append((what, error)))
        router.listen(self.heard)
        devices = LiveDevices(router, self.clock.seconds)
        unused: Any = None
        kept: Any = self.storage
        commands = Commands(kept, devices, router, self.clock.seconds)
        commands.restore(self.storage.open_commands())
        registry = Registry(kept, self.clock.seconds)
        registry.on_change.append(
            lambda change: commands.cancel_device(change.id, "removed") if change.what == "device_removed" else None
        )
        self.core = Core(
            reactor=self.clock,
            clock=lambda: self.clock.seconds() + wall,
            monotonic=self.clock.seconds,
            turn=Turn(lambda flush: self.clock.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=commands,
            storage=kept,
            registry=registry,
            topics=TopicIndex(),
            files=unused,
            quarantine=Quarantine(kept, self.clock.seconds),
            backplane=backplane or LocalBackplane(),
        )
        self.settings = Settings(**{"region": "eu868", "unknown": "accept", "status_interval": 0.0, **settings})
        self.listener = build(self.core, self.settings)
        self.network = self.listener.network
        loaded = self.listener.prepare()
        assert loaded.called
        loaded.addErrback(lambda failure: failure.raiseException())
        self.wire = Wire()
        self.socket = self.listener.datagram_protocol()
        self.socket.transport = self.wire  # type: ignore[assignment]  # all that is used of it is write

    @property
    def counted(self) -> Any:
        return self.network.counted

    def advance(self, seconds: float) -> None:
        """Let time pass, with the slow ticks."""
        while seconds > 0:
            step = min(0.05, seconds)
            self.clock.advance(step)
            seconds -= step
            if int(self.clock.seconds() / 0.25) != int((self.clock.seconds() - step) / 0.25):
                self.core.commands.tick()
            if int(self.clock.seconds()) != int(self.clock.seconds() - step):
                self.listener.tick()

    def again(self, **settings: Any) -> Bed:
        """The broker is killed and started again."""
        self.network.agenda.stop()
        return Bed(self.storage, self.clock, **settings)

    def forwarder(self, eui: str = GATEWAY, host: str = "192.0.2.1", version: int = 2) -> Forwarder:
        """A gateway that is on-line."""
        made = Forwarder(self, eui, host, version)
        made.pull()
        return made

    def register(self, dev_eui: str = "AA00000000000001", **fields: Any) -> None:
        given = {"protocol": "lorawan", "id": dev_eui, "join_eui": JOIN_EUI, "app_key": APP_KEY, **fields}
        added = self.core.registry.add_device({name: value for name, value in given.items() if value is not None})
        added.addErrback(lambda failure: failure.raiseException())
        assert added.called

    def abp(self, dev_eui: str = "AA00000000000001", dev_addr: str = "26011BDA", **fields: Any) -> Mote:
        """An ABP mote, registered."""
        keys = {"dev_addr": dev_addr, "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        self.register(dev_eui, join_eui=None, app_key=None, **keys, **fields)
        return Mote(self, dev_eui, int(dev_addr, 16))

    def command(self, payload: dict[str, Any] | bytes, mote: Mote, expires: float = 3600.0, **options: Any) -> Command:
        """A command that was submitted and kept."""
        now = self.clock.seconds()
        made = Command(
            f"00000000-0000-4000-8000-{len(self.storage.commands):012d}",
            mote.dev_eui,
            "lorawan",
            payload,
            "admin",
            now,
            now + expires,
            options=options,
        )
        refused: list[Exception | None] = []
        self.core.commands.submit(made, refused.append)
        assert refused == [None], refused
        return made


class Forwarder:
    """A gateway: two sockets, a clock in microseconds, and a record of what it was told to send."""

    def __init__(self, bed: Bed, eui: str, host: str, version: int) -> None:
        self.bed = bed
        self.eui = bytes.fromhex(eui)
        self.up = (host, 40_000 + self.eui[-1])
        self.down = (host, 50_000 + self.eui[-1])
        self.version = version
        bed.wire.ends[self.up] = self._up
        bed.wire.ends[self.down] = self._down
        #: Where its clock stands at 0.
        self.offset = 12_345_678
        self.acks: list[bytes] = []
        #: (time, txpk), as they came.
        self.asked: list[tuple[float, dict[str, Any]]] = []
        #: What it answers to the next ones; then "fine". None: nothing.
        self.answers: list[str | None] = []
        self.silent = version == 1
        self._token = 0

    @property
    def tmst(self) -> int:
        return (round((self.bed.clock.seconds() - NOW) * 1e6) + self.offset) % (1 << 32)

    def token(self) -> bytes:
        self._token += 1
        return self._token.to_bytes(2, "big")

    def send(self, kind: int, body: bytes = b"", token: bytes | None = None, source: Any = None) -> None:
        data = bytes((self.version,)) + (token or self.token()) + bytes((kind,)) + self.eui + body
        address = source or (self.up if kind == 0 else self.down)
        self.bed.listener.received(self.bed.socket, data, address)

    def pull(self) -> None:
        self.send(2)

    def push(self, **body: Any) -> None:
        self.send(0, json.dumps(body).encode())

    def rxpk(self, phy: bytes, **fields: Any) -> dict[str, Any]:
        return {
            "tmst": self.tmst,
            "freq": 868.1,
            "stat": 1,
            "modu": "LORA",
            "datr": "SF7BW125",
            "codr": "4/5",
            "rssi": -60,
            "lsnr": 7.5,
            "size": len(phy),
            "data": b64encode(phy).decode(),
            **fields,
        }

    def hears(self, phy: bytes, **fields: Any) -> None:
        """It received a packet."""
        self.push(rxpk=[self.rxpk(phy, **fields)])

    def _up(self, data: bytes) -> None:
        assert data[3] == 1, data
        self.acks.append(data)

    def _down(self, data: bytes) -> None:
        if data[3] == 4:
            self.acks.append(data)
            return
        assert data[3] == 3, data
        assert data[0] == self.version
        self.asked.append((self.bed.clock.seconds(), json.loads(data[4:])["txpk"]))
        answer = self.answers.pop(0) if self.answers else ("" if not self.silent else None)
        if answer is not None:
            body = json.dumps({"txpk_ack": {"error": answer}}).encode() if answer else b""
            token = data[1:3]
            self.bed.clock.callLater(0.01, self.send, 5, body, token)

    def sent(self) -> list[dict[str, Any]]:
        """What it was told to send since the last look."""
        found, self.asked = [packet for _, packet in self.asked], []
        return found

    def frames(self) -> list[bytes]:
        return [b64decode(packet["data"]) for packet in self.sent()]


class Mote:
    """A mote's own side: its counters, and pamoja's cryptography."""

    def __init__(self, bed: Bed, dev_eui: str, dev_addr: int, session: Any = None) -> None:
        self.bed = bed
        self.dev_eui = dev_eui
        self.session = session or pamoja.session(dev_addr, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
        self.fcnt = 0
        self.last = b""
        self.down: list[int] = []

    def says(
        self,
        payload: bytes = b"\x01",
        *through: Forwarder,
        port: int = 5,
        confirmed: bool = False,
        ack: bool = False,
        adr: bool = False,
        fopts: bytes | None = None,
        **fields: Any,
    ) -> bytes:
        """Send a frame, heard by these gateways; the frame."""
        frame: bytes = self.session.encode_uplink(self.fcnt, port, payload, confirmed, adr, ack, fopts)
        self.fcnt += 1
        self.last = frame
        for forwarder in through:
            forwarder.hears(frame, **fields)
        return frame

    def reads(self, frame: bytes) -> Any:
        """A downlink as it understands it; its counter has to be new, or that of the frame before."""
        fcnt = int.from_bytes(frame[6:8], "little")
        heard = self.session.decode(frame, fcnt)
        assert not self.down or fcnt >= self.down[-1], (fcnt, self.down)
        self.down.append(fcnt)
        return heard


def join(bed: Bed, forwarder: Forwarder, dev_eui: str = "AA00000000000001", nonce: int = 1) -> Mote:
    """Let a registered mote join; its side of the session."""
    device = pamoja.device(bytes.fromhex(dev_eui), bytes.fromhex(JOIN_EUI), bytes.fromhex(APP_KEY))
    forwarder.hears(device.join_request(nonce))
    bed.advance(0.4)
    (accept,) = forwarder.frames()
    joined = device.accept_join(accept, nonce)
    return Mote(bed, dev_eui, joined.dev_addr, joined.session())
