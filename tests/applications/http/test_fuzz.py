"""Any bytes: an answer or a counted close, and never a fault of ours."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as some
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.http.side import HttpListener, Settings, build
from broker.core import Core
from broker.listening.frames import text_frame
from broker.model.errors import Unavailable
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router

HANDSHAKE = (
    b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HEADS = some.sampled_from(
    (
        b"GET ",
        b"POST ",
        b"/api/v1/devices",
        b"/api/v1/products",
        b" HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Authorization: Bearer t\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"{}",
    )
)


REQUESTS = some.builds(
    b"%b %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b".__mod__,
    some.tuples(
        some.sampled_from((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"X")),
        some.sampled_from(
            (
                b"/healthz",
                b"/api/v1/devices",
                b"/api/v1/devices?limit=%00",
                b"/api/v1/devices/import",
                b"/api/v1/devices/a/commands?wait=1",
                b"/api/v1/products",
                b"/api/v1/applications/a/devices/b",
                b"/api/v1/stream",
                b"*",
                b"//",
            )
        ),
        some.sampled_from((b"t", b"a:b", b"wrong", b"\xff")),
    ).flatmap(
        lambda head: some.sampled_from((b"", b"{}", b"[", b'{"protocol":1}', b'{"payload":{}}', b"\xff\n{}")).map(
            lambda body: (*head, len(body), body)
        )
    ),
)


class Nothing:
    """A registry, a storage ... that never has anything to say."""

    def __init__(self) -> None:
        self.on_change: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        raise Unavailable("not in this test")


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame; the mask is zero."""
    frame = text_frame(payload)
    return bytes((first, frame[1] | 0x80)) + frame[2 : len(frame) - len(payload)] + bytes(4) + payload


FRAMES = some.builds(masked, some.integers(0, 255), some.binary(max_size=200))


class FuzzTests(SynchronousTestCase):
    def connected(self) -> tuple[HttpListener, Any, StringTransport]:
        clock = Clock()
        nothing: Any = Nothing()
        core = Core(
            reactor=clock,
            clock=clock.seconds,
            monotonic=clock.seconds,
            turn=Turn(lambda flush: None),
            router=Router(lambda what, error: self.fail(what)),
            devices=LiveDevices(Router(lambda what, error: None), clock.seconds),
            commands=nothing,
            storage=nothing,
            registry=nothing,
            topics=nothing,
            files=nothing,
            quarantine=nothing,
            admin_token="t",
        )
        listener = build(core, Settings())
        protocol = listener.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = StringTransport()
        assert protocol is not None
        protocol.makeConnection(transport)
        return listener, protocol, transport

    def fed(self, listener: HttpListener, protocol: Any, chunks: list[bytes]) -> None:
        for chunk in chunks:
            protocol.dataReceived(chunk)
            listener.turn.flush()
        self.assertNotEqual(protocol.reason, "internal_error")
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=200, deadline=None)
    @given(some.lists(some.binary(max_size=200), max_size=5))
    @example([b"\x00" * 20_000])
    def test_bytes(self, chunks: list[bytes]) -> None:
        listener, protocol, _ = self.connected()
        self.fed(listener, protocol, chunks)

    @settings(max_examples=300, deadline=None)
    @given(some.lists(HEADS | REQUESTS, max_size=12))
    def test_almost_http(self, chunks: list[bytes]) -> None:
        listener, protocol, transport = self.connected()
        self.fed(listener, protocol, chunks)
        written = transport.value()
        self.assertEqual(listener.stats.bytes_out, len(written))
        self.assertRegex(written, rb"^(HTTP/1\.[01] \d\d\d |$)")
        self.assertNotIn(b"<html", written)
        self.assertNotIn(b"HTTP/1.1 500 ", written)

    @settings(max_examples=300, deadline=None)
    @given(some.lists(FRAMES | some.binary(max_size=50), max_size=8))
    def test_frames(self, chunks: list[bytes]) -> None:
        listener, protocol, transport = self.connected()
        self.fed(listener, protocol, [HANDSHAKE])
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 101 "))
        self.fed(listener, protocol, chunks)
        self.fed(listener, protocol, [b"".join(chunks)])
