"""WebSocket peers of routes: messages both ways, limits, pings, how it ends."""

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from broker.listening.frames import text_frame
from broker.model.errors import LimitExceeded
from broker.web.routes import ANYONE, APPLICATION, Call, Route
from broker.web.websocket import WebSocketPeer, WebSocketRoute
from tests.applications.http.site import StreamSocket
from tests.web.site import PATIENCE, WebCase, reactor


class Echo(WebSocketPeer):
    """Says what it hears, and does what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.heard: list[Any] = []
        self.reason = ""
        self.until = 0.0

    @property
    def max_message(self) -> int:
        return 1_000

    @property
    def ping_interval(self) -> float:
        return 10.0

    def opened(self) -> None:
        self.send_text(b'{"hello":"%b"}' % self.name.encode())

    def text(self, message: str) -> None:
        self.heard.append(message)
        if message == "close":
            self.close("auth_failed")
        elif message == "fault":
            raise ZeroDivisionError("a fault of ours")
        else:
            self.send_text(message.encode())

    def binary(self, data: bytes) -> None:
        self.heard.append(data)
        self.offer(text_frame(b"[%d]" % len(data)))

    def check(self, now: float) -> float:
        if self.until and self.until <= now:
            self.close("auth_timeout")
        return self.until or now + 1

    def ended(self, reason: str) -> None:
        self.reason = reason


class PeerTests(WebCase):
    def routes(self) -> tuple[Route, ...]:
        self.peers: list[Echo] = []

        async def open_echo(call: Call) -> Any:
            if call.path.get("name") == "full":
                raise LimitExceeded("no more")
            self.peers.append(Echo(call.path.get("name", "any")))
            return self.peers[-1]

        return (
            WebSocketRoute("/ws/{name}", open_echo, APPLICATION),
            WebSocketRoute("/any", open_echo, ANYONE, any_origin=True, lenient=True),
        )

    async def open(self, target: str, *headers: tuple[bytes, bytes]) -> StreamSocket:
        factory = Factory.forProtocol(lambda: StreamSocket(f"127.0.0.1:{self.port}", target, list(headers)))
        socket: Any = await HostnameEndpoint(reactor, b"127.0.0.1", self.port).connect(factory)
        self.sockets.append(socket)
        socket.status = await socket.opened.addTimeout(PATIENCE, reactor)
        assert isinstance(socket, StreamSocket)
        return socket

    async def named(self, name: str = "n") -> StreamSocket:
        socket = await self.open(f"/ws/{name}", (b"X-Token", b"app"))
        self.assertEqual((socket.status, await socket.next()), (101, {"hello": name}))
        return socket

    async def test_both_ways(self) -> None:
        socket = await self.named()
        socket.send(TextMessage('{"a":', message_finished=False))
        socket.send(TextMessage('"é"}'))
        self.assertEqual(await socket.next(), {"a": "é"})
        socket.send(BytesMessage(b"\x00" * 5))
        self.assertEqual(await socket.next(), [5])
        (peer,) = self.peers
        self.assertEqual(peer.heard, ['{"a":"é"}', b"\x00" * 5])
        self.assertEqual(self.listener.stats.messages_in, 3)  # with the handshake
        socket.send(CloseConnection(1000))
        await socket.closed
        await self.until(lambda: peer.reason)
        self.assertEqual(peer.reason, "client_closed")

    async def test_who_may(self) -> None:
        for target, headers, status in (
            ("/ws/n", (), 401),
            ("/ws/full", ((b"X-Token", b"app"),), 429),
            ("/ws/n", ((b"X-Token", b"app"), (b"Origin", b"https://elsewhere")), 403),
            ("/any?x=1", ((b"Origin", b"https://elsewhere"),), 101),
        ):
            self.assertEqual((await self.open(target, *headers)).status, status, (target, headers))
        status, headers_, _ = await self.ask("GET /any")
        self.assertEqual((status, headers_["Upgrade"]), (426, "websocket"))

    async def test_our_close(self) -> None:
        socket = await self.named()
        socket.send(TextMessage("close"))
        socket.send(TextMessage("never heard"))
        self.assertEqual(await socket.closed, 1008)
        await self.until(lambda: self.peers[0].reason)
        self.assertEqual((self.peers[0].reason, self.peers[0].heard), ("auth_failed", ["close"]))

    async def test_a_fault_of_ours(self) -> None:
        socket = await self.named()
        socket.send(TextMessage("fault"))
        self.assertEqual(await socket.closed, 1011)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_too_long(self) -> None:
        socket = await self.named()
        socket.send(BytesMessage(b"x" * 1_001))
        self.assertEqual(await socket.closed, 1009)
        self.assertEqual(self.listener.stats.closed, {"too_long": 1})

    async def test_pings(self) -> None:
        socket = await self.named()
        for number in (1, 2, 3):
            self.pass_time(10.1)
            await self.until(lambda wanted=number: socket.pings == wanted)  # type: ignore[misc]  # a bound name
        await self.until(lambda: not self.peers[0].unanswered)
        socket.answers_pings = False
        for _ in range(3):
            self.pass_time(10.1)
        self.assertEqual(await socket.closed, 1001)
        self.assertEqual(self.listener.stats.closed, {"idle": 1})

    async def test_time_limits_of_its_own(self) -> None:
        socket = await self.named()
        (peer,) = self.peers
        peer.until = self.core.monotonic() + 5
        self.pass_time(1.1)
        self.assertFalse(peer.connection.closing)
        peer.connection.look_at(peer.until)
        self.pass_time(4)
        self.assertEqual(await socket.closed, 1008)

    async def test_shutdown(self) -> None:
        socket = await self.named()
        self.listener.shut_down()
        self.assertEqual(await socket.closed, 1001)
        self.assertEqual(self.peers[0].reason, "shutdown")
