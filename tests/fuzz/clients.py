"""What clients do in a whole broker (`world`): Gizwits devices and apps over MQTT, HTTP and WebSocket, the API's too.

::

    first byte   bits: `LOGGED_IN` ... `DEAF`
    the rest     what it sends, in chunks, cut where `CUT` stands; where `WAIT` stands, ten seconds pass; a chunk that
                 begins with `NEXT` is sent over another connection, while the one before stays open

The answer to whatever is left under way when the client goes still comes: to nobody.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from broker.applications.gizwits.sockets import MAX_EARLY
from broker.model.jsontext import encode as json
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from tests.applications.http.test_fuzz import HANDSHAKE, masked
from tests.devices.gizwits.bed import DID
from tests.fuzz import lengths
from tests.fuzz.world import ANN, ANN_TOKEN, APP, LIMITS, PLAIN, World, app_packets, device_packets, prepared
from tests.transports import Peer

#: The client has logged in before (over HTTP each request does).
LOGGED_IN: Final = 1
#: The lamp is connected; if it is the client, Ann's app is.
COMPANY: Final = 2
#: Storage answers one round of questions a chunk: the next chunk comes before the answer.
SLOW: Final = 4
#: Lengths are put right first (`lengths`).
RIGHT: Final = 8
#: The client reads nothing.
DEAF: Final = 16

NEXT: Final = b"\xff\x00\xffnext"
#: Seconds.
PAUSE: Final = 10.0
#: The app's WebSocket is opened as the stream's is, at another path and with nothing to prove.
OPENING: Final = HANDSHAKE.replace(b"/api/v1/stream", b"/ws/app/v1").replace(b"Authorization: Bearer t\r\n", b"")
LOGIN: Final = masked(
    0x81, json({"cmd": "login_req", "data": {"appid": APP, "uid": ANN, "token": ANN_TOKEN, "p0_type": "attrs_v4"}})
)


class Client:
    """One client; ``listener`` is the one that it comes to."""

    right: Callable[[bytes], bytes] = staticmethod(lengths.of_packet)
    listener = "mqtt"

    def __init__(self, world: World, flags: int) -> None:
        self.world = world
        self.flags = flags
        self.said = b""
        if flags & COMPANY:
            self.company()
        self.peer = self.connect()
        if flags & LOGGED_IN:
            self.log_in()
        if flags & DEAF:
            self.peer.transport.stop_reading()

    def connect(self) -> Peer:
        return Peer(self.world.core.listeners[self.listener], self.world.reactor)

    def company(self) -> None:
        """Before the client comes."""
        self.world.company(*device_packets())

    def log_in(self) -> None:
        """Prove who it is."""

    def steps(self, *chunks: bytes) -> None:
        """Chunks that are right, each with its answer."""
        for chunk in chunks:
            self.peer.send(chunk)
            self.world.reactor.settle()
            self.world.reactor.advance(0.01)
            self.world.reactor.settle()

    def feed(self, chunk: bytes) -> None:
        if chunk.startswith(NEXT):
            chunk = chunk[len(NEXT) :]
            self.said += self.peer.take()
            self.peer = self.connect()
        if self.peer.open and chunk:
            self.peer.send(self.right(chunk) if self.flags & RIGHT else chunk)
            self.check_held(len(chunk))
        if self.flags & SLOW:
            self.world.reactor.round()
        else:
            self.world.reactor.settle()

    def check_held(self, chunk: int) -> None:
        """What is kept of unfinished input is bounded."""

    def heard(self) -> bytes:
        self.said += self.peer.take()
        return self.said


class _MqttClient(Client):
    packets: tuple[p.Packet, ...] = ()

    def log_in(self) -> None:
        self.steps(*(encode(packet, p.MQTT_3_1) for packet in self.packets))

    def check_held(self, chunk: int) -> None:
        connection: Any = self.peer.connection
        held = connection._decoder.held + len(connection._early)
        assert held <= LIMITS.max_message_size + chunk, f"{held} bytes of unfinished input"


class Device(_MqttClient):
    """The lamp, on MQTT."""

    packets = device_packets()

    def company(self) -> None:
        self.world.company(*app_packets(ANN, ANN_TOKEN, "usrann", DID))


class App(_MqttClient):
    """Ann's, on MQTT."""

    packets = app_packets(ANN, ANN_TOKEN, "usrann", DID, PLAIN)


class Caller(Client):
    """A device or an app, over HTTP."""

    right = staticmethod(lengths.of_request)
    listener = "gservice"

    def heard(self) -> bytes:
        said = super().heard()
        assert b"HTTP/1.1 500 " not in said, said[-500:]
        return said


class ApiCaller(Caller):
    """The administrator's programs, and applications, at the API."""

    listener = "http"


class Socket(Client):
    """Ann's app on its WebSocket; it is open before the first chunk."""

    right = staticmethod(lengths.of_frame)
    listener = "gservice"

    def connect(self) -> Peer:
        peer = super().connect()
        peer.send(OPENING)
        self.world.reactor.settle()
        return peer

    def log_in(self) -> None:
        self.steps(LOGIN)

    def check_held(self, chunk: int) -> None:
        websocket: Any = self.peer.connection.websocket  # type: ignore[attr-defined]  # a WebConnection
        held = websocket.unfinished if websocket is not None else 0
        assert held <= LIMITS.max_message_size, f"{held} bytes of an unfinished message"
        assert websocket is None or len(websocket._early) <= MAX_EARLY


def begun(kind: type[Client], flags: int) -> Client:
    """The client in its world, before it sends anything of its own."""
    world = World(prepared(), kind.listener)
    world.settle_in()
    return kind(world, flags)


@contextmanager
def collected() -> Iterator[None]:
    """Faults of Deferreds are told when these go: at the end of what made them, and not in the middle of another."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if enabled:
            gc.enable()


def converse(kind: type[Client], flags: int, chunks: list[bytes]) -> None:
    """Let the client say it. Raises AssertionError for a fault."""
    with collected():
        _converse(begun(kind, flags), chunks)


def _converse(client: Client, chunks: list[bytes]) -> None:
    world = client.world
    for chunk in chunks:
        if chunk:
            client.feed(chunk)
        else:
            world.pass_time(PAUSE, client.peer)
    if not client.peer.gone:
        client.peer.hang_up()
    world.reactor.settle()
    world.check(client.heard())
    world.end()


CLIENTS: Final[dict[str, type[Client]]] = {
    "gizwits-device-listener": Device,
    "gizwits-app-listener": App,
    "gservice-listener": Caller,
    "gizwits-websocket-listener": Socket,
    "api-listener": ApiCaller,
}
