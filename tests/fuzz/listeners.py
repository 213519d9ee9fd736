"""Listeners in memory for the fuzzers: what a client sends, in chunks, before or after its log-in, and time between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.applications.http import test_fuzz as http
from tests.applications.loracenter.test_registration import BehaviourTests as LoraCenterBehaviour
from tests.behaviour import StreamBehaviour
from tests.devices.gateway88.test_behaviour import AsWrittenTests as Gateway88Behaviour
from tests.devices.lorawan.bed import Bed as LorawanBed
from tests.devices.novacloud.test_behaviour import FlatBehaviourTests as NovaCloudBehaviour
from tests.fuzz import clients
from tests.fuzz.world import check_over
from tests.hostile.test_websocket import REQUEST as WEBSOCKET_REQUEST
from tests.mqtt.test_behaviour import MqttBehaviour
from tests.transports import CHUNK, Peer

#: Between two chunks, and where time passes.
CUT: Final = b"\xff\x00\xffcut"
WAIT: Final = b"\xff\x00\xffwait"
#: Seconds.
PAUSE: Final = 10.0

BEHAVIOURS: Final[dict[str, Callable[[], StreamBehaviour]]] = {
    "mqtt-listener": MqttBehaviour,
    "novacloud-listener": NovaCloudBehaviour,
    "gateway88-listener": Gateway88Behaviour,
    "loracenter-listener": LoraCenterBehaviour,
}
LISTENERS: Final = (
    *BEHAVIOURS,
    *clients.CLIENTS,
    *("mqtt-websocket-listener", "http-listener", "http-stream-listener", "lorawan-listener"),
)


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks, with an empty one where time passes."""
    found = []
    for number, part in enumerate(data.split(WAIT)):
        if number:
            found.append(b"")
        found += [chunk for chunk in part.split(CUT) if chunk]
    return found


@implementer(ILogObserver)
class _Faults:
    """What is logged as a fault meanwhile."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> _Faults:
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *exception: object) -> None:
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.found.append(f"{formatEvent(event)}\n{failure.getTraceback()}")


def converse(name: str, data: bytes) -> None:
    """Let a client of the listener say it. Raises AssertionError for a fault."""
    with _Faults() as faults:
        if name.startswith("http"):
            _http(name == "http-stream-listener", chunks_of(data))
        elif name in clients.CLIENTS:
            clients.converse(clients.CLIENTS[name], data[0] if data else 0, chunks_of(data[1:]))
        elif name == "lorawan-listener":
            _lorawan(chunks_of(data))
        elif name == "mqtt-websocket-listener":
            _websocket(data[:1], chunks_of(data[1:]))
        else:
            _stream(BEHAVIOURS[name](), data[:1], chunks_of(data[1:]))
    assert not faults.found, faults.found[0]


def _stream(case: Any, first: bytes, chunks: list[bytes]) -> None:
    case.setUp()
    peer: Peer = case.connect()
    if first and first[0] & 1:
        peer.send(case.login_bytes(0))
        peer.take()
    for chunk in chunks:
        if not peer.open:
            break
        if chunk:
            peer.send(chunk)
            kept = case.buffered(peer.connection)
            assert kept <= case.limits.max_message_size + CHUNK, f"{kept} bytes of unfinished input"
        else:
            case.pass_time(PAUSE, peer)
    if peer.open:
        peer.hang_up()
    case.clock.advance(30.0)
    check_over(case.listener)


def _websocket(first: bytes, chunks: list[bytes]) -> None:
    case: Any = MqttBehaviour()
    case.setUp()
    protocol = case.listener.websocket_factory().buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    if first and first[0] & 1:
        protocol.dataReceived(WEBSOCKET_REQUEST)
    for chunk in chunks:
        if not chunk:
            case.clock.advance(PAUSE)
            case.listener.tick()
        elif not transport.disconnecting:
            protocol.dataReceived(chunk)
            case.clock.advance(0)
    protocol.connectionLost(Failure(ConnectionDone()))
    case.clock.advance(30.0)
    check_over(case.listener)


def _http(stream: bool, chunks: list[bytes]) -> None:
    listener, protocol, transport = http.FuzzTests().connected()
    if stream:
        protocol.dataReceived(http.HANDSHAKE)
    for chunk in chunks:
        if chunk and not transport.disconnecting:
            protocol.dataReceived(chunk)
        elif not chunk:
            cast(Clock, listener.reactor).advance(PAUSE)
            listener.tick()
        listener.turn.flush()
    assert b"HTTP/1.1 500 " not in transport.value(), transport.value()[:500]
    protocol.connectionLost(Failure(ConnectionDone()))
    check_over(listener)


def _lorawan(chunks: list[bytes]) -> None:
    bed = LorawanBed()
    for chunk in chunks:
        if chunk:
            bed.listener.received(bed.socket, chunk, ("192.0.2.1", 40_000))
        else:
            bed.advance(PAUSE)
    bed.advance(PAUSE)
