"""The WebSocket stream: who gets what, slow readers, bad clients, the end."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from wsproto.events import CloseConnection, Ping, TextMessage

from broker.listening.frames import text_frame
from broker.model.messages import Command, DeviceRef, Presence, Uplink
from broker.routing.traces import TracedPacket
from tests.applications.http.site import ADMIN_TOKEN, SiteCase, StreamSocket


class StreamTests(SiteCase):
    def says(self, device: str, kind: str = "data", protocol: str = "novacloud", payload: Any = None) -> None:
        self.core.router.uplink(Uplink(DeviceRef(protocol, device), kind, payload or {"a": 1}, 1_763_700_000.1234))

    async def test_what_is_no_device_s_is_the_administrator_s(self) -> None:
        token = await self.application("app", await self.device())
        everything, one_device, traced = [
            await self.stream(query) for query in ("", "?device=d", "?kind=trace&device=d")
        ]
        application = await self.stream(token=token)
        for announced in self.core.announcements:
            announced("campaign", {"id": "c1", "protocol": "gizwits"})
        self.core.traces.told_elsewhere(TracedPacket("d", "novacloud", "in", b"{}", {"type": "heartbeat"}, 5.0))
        self.assertEqual(await everything.next(), {"type": "campaign", "id": "c1", "protocol": "gizwits"})
        packet = await traced.next()  # only who asks for them by name is told of packets
        self.assertEqual((packet["type"], packet["raw"], packet["device"]), ("trace", "7b7d", "d"))
        for socket in (everything, one_device, traced, application):
            socket.send(Ping())
            self.assertEqual(await socket.next(), "pong", "nothing else came before")

    async def test_shapes(self) -> None:
        socket = await self.stream()
        self.core.router.uplink(Uplink(DeviceRef("novacloud", "d"), "data", {"a": 1}, 10.1234, 9.5, {"port": 2}))
        self.core.router.uplink(Uplink(DeviceRef("lorawan", "e"), "raw", b"\x00", 11.0))
        self.core.router.presence(Presence(DeviceRef("novacloud", "d"), True, "connected", 12.0))
        self.core.router.command(Command("c", "d", "novacloud", {"x": 1}, "admin", 13.0, 14.00049, ref="r"))
        expected: list[dict[str, Any]] = [
            {
                "type": "uplink",
                "device": "d",
                "protocol": "novacloud",
                "kind": "data",
                "at": 10.123,
                "payload": {"a": 1},
                "meta": {"port": 2, "sent_at": 9.5},
            },
            {
                "type": "uplink",
                "device": "e",
                "protocol": "lorawan",
                "kind": "raw",
                "at": 11.0,
                "payload_base64": "AA==",
            },
            {
                "type": "presence",
                "device": "d",
                "protocol": "novacloud",
                "online": True,
                "reason": "connected",
                "at": 12.0,
            },
            {
                "type": "command",
                "id": "c",
                "ref": "r",
                "device": "d",
                "status": "queued",
                "payload": {"x": 1},
                "result": None,
                "created_at": 13.0,
                "updated_at": 13.0,
                "expires_at": 14.0,
                "late": [],
            },
        ]
        for one in expected:
            self.assertEqual(await socket.next(), one)

    async def test_filters(self) -> None:
        for query, heard in (
            ("?device=d1", ["d1 data", "d1 presence"]),
            ("?device=d1&device=d2&kind=data", ["d1 data", "d2 data"]),
            ("?kind=presence", ["d1 presence"]),
            ("?kind=status&kind=event", ["d2 status"]),
            ("?protocol=lorawan", ["d3 data"]),
            ("", ["d1 data", "d2 data", "d2 status", "d3 data", "d1 presence"]),
        ):
            socket = await self.stream(query)
            self.says("d1")
            self.says("d2")
            self.says("d2", "status")
            self.says("d3", protocol="lorawan")
            self.core.router.presence(Presence(DeviceRef("novacloud", "d1"), True, "connected", 1.0))
            got = [await socket.next() for _ in heard]
            self.assertEqual([f"{one['device']} {one.get('kind', one['type'])}" for one in got], heard)
            socket.send(Ping())
            self.assertEqual(await socket.next(), "pong", "nothing else came before")

    async def test_an_application_hears_its_devices(self) -> None:
        mine, other = await self.device(), await self.device()
        token = await self.application("app", mine)
        socket = await self.stream(token=token)
        asking = await self.stream(f"?device={other}", token=token)
        self.says(other)
        self.says(mine)
        self.assertEqual((await socket.next())["device"], mine)
        await self.api("PUT", f"/applications/app/devices/{other}")
        self.says(other, payload={"now": "bound"})
        self.assertEqual((await socket.next())["device"], other)
        self.assertEqual((await asking.next())["payload"], {"now": "bound"})
        await self.api("DELETE", f"/applications/app/devices/{mine}")
        self.says(mine)
        self.says(other)
        self.assertEqual((await socket.next())["device"], other)

    async def test_the_router_is_listened_to_only_while_somebody_listens(self) -> None:
        router: Any = self.core.router
        self.assertEqual(router._everyone, ())
        one, two = await self.stream(), await self.stream()
        self.assertEqual(len(router._everyone), 1)
        for socket in (one, two):
            socket.send(CloseConnection(1000))
            self.assertEqual(await socket.closed, 1000)
        await self.until(lambda: router._everyone == ())
        self.assertEqual(self.listener.stats.closed, {"client_closed": 2})

    async def test_one_frame_for_all(self) -> None:
        sockets = [await self.stream() for _ in range(3)]
        message = Uplink(DeviceRef("novacloud", "d"), "data", {"text": "x" * 100_000}, 1.0)
        self.core.router.uplink(message)
        for socket in sockets:
            self.assertEqual((await socket.next())["payload"], message.payload)
        self.assertEqual(self.listener.stats.messages_out, 3 + 3)

    async def test_slow_reader(self) -> None:
        small = msgspec.structs.replace(self.listener.limits, max_outbox=100_000)
        self.listener.limits = small
        socket = await self.stream()
        transport: Any = socket.transport
        transport.pauseProducing()
        total, payload = 2_000, {"text": "x" * 10_000}
        for number in range(total):
            self.says(f"d{number}", payload=payload)
            if number % 20 == 0:
                self.core.turn.flush()
        dropped = self.listener.stats.dropped["stream_full"]
        self.assertGreater(dropped, total // 2)
        (connection,) = self.listener.connections
        self.assertLess(connection.outbox.size, 130_000)
        transport.resumeProducing()
        got = told = 0
        while got + told < total:
            message = await socket.next()
            if message["type"] == "dropped":
                told += message["count"]
            else:
                got += 1
        self.assertEqual((told, got), (dropped, total - dropped))
        self.says("after")
        self.assertEqual((await socket.next())["device"], "after")

    async def test_a_reader_that_reads_nothing_is_cut_off(self) -> None:
        socket = await self.stream()
        transport: Any = socket.transport
        transport.pauseProducing()
        for _ in range(2_000):
            self.says("d", payload={"text": "x" * 10_000})
        self.core.turn.flush()
        await self.until(lambda: next(iter(self.listener.connections))._blocked_since is not None)
        self.pass_time(61)
        await self.until(lambda: not self.listener.connections)
        self.assertEqual(self.listener.stats.closed, {"slow_reader": 1})
        transport.resumeProducing()
        await socket.closed

    async def test_pings(self) -> None:
        socket = await self.stream()
        for _ in range(3):
            socket.pings = 0
            self.pass_time(31)
            await self.until(lambda: socket.pings == 1)
            await self.until(self.answered)
        socket.answers_pings = False
        for _ in range(3):
            self.pass_time(31)
        self.assertEqual(await socket.closed, 1001)
        self.assertEqual(self.listener.stats.closed, {"idle": 1})

    def answered(self) -> bool:
        return all(client.unanswered == 0 for client in self.listener.api.streams.clients)

    async def test_what_the_client_says_does_not_matter(self) -> None:
        socket = await self.stream()
        for _ in range(20):
            socket.send(TextMessage("x" * 1_000))
        self.says("d")
        self.assertEqual((await socket.next())["device"], "d")

    async def test_a_long_message_of_the_client(self) -> None:
        for end in (True, False):
            socket = await self.stream()
            for _ in range(20):
                socket.send(TextMessage("x" * 1_000, message_finished=False))
            socket.send(TextMessage("", message_finished=end))
            self.assertEqual(await socket.closed, 1009)
        self.assertEqual(self.listener.stats.closed, {"too_long": 2})

    async def test_garbage(self) -> None:
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff" * 100,
            b"\x81\x05hello",
            b"\x81\x81\0\0\0\0\xff",
            b"\x88\x80\0\0\0\0\x88\x80\0\0\0\0",
        ):
            socket = await self.stream()
            socket.write(garbage)
            await socket.closed
        self.assertEqual(self.listener.api.streams.clients, set())

    async def test_shutdown(self) -> None:
        socket = await self.stream()
        self.listener.shut_down()
        self.assertEqual(await socket.closed, 1001)
        self.assertEqual(self.listener.stats.closed, {"shutdown": 1})

    async def test_an_application_that_may_no_longer(self) -> None:
        token = await self.application("app")
        socket, administrator = await self.stream(token=token), await self.stream()
        await self.api("PATCH", "/applications/app", {"secret": None})
        self.assertEqual(await socket.closed, 1008)
        self.says("d")
        self.assertEqual((await administrator.next())["device"], "d")


class HandshakeTests(SiteCase):
    def refused(self, socket: StreamSocket, slug: str) -> None:
        self.assertIn(f'"slug":"{slug}"'.encode(), socket.rejection)

    async def test_token(self) -> None:
        for query, token, status in (
            ("", None, 401),
            ("", "wrong", 401),
            ("?access_token=wrong", None, 401),
            (f"?access_token={ADMIN_TOKEN}", None, 101),
            ("", ADMIN_TOKEN, 101),
        ):
            socket = await self.stream(query, token)
            self.assertEqual(socket.status, status)

    async def test_a_token_in_the_query_is_for_streams_only(self) -> None:
        reply = await self.api("GET", f"/devices?access_token={ADMIN_TOKEN}", token=None)
        self.assertEqual(reply.status, 401)

    async def test_origin(self) -> None:
        host = f"127.0.0.1:{self.port}"
        for origin, status in (
            (f"http://{host}", 101),
            ("http://127.0.0.1:1", 403),
            ("https://elsewhere.example", 403),
            ("null", 403),
            ("", 403),
        ):
            headers = [(b"Origin", origin.encode())]
            socket = await self.stream(headers=headers)
            self.assertEqual(socket.status, status, origin)

    async def test_kinds_are_checked(self) -> None:
        socket = await self.stream("?kind=nothing")
        self.assertEqual(socket.status, 400)
        self.refused(socket, "invalid")

    async def test_not_a_websocket(self) -> None:
        reply = await self.api("GET", "/stream")
        self.assertProblem(reply, 426, "upgrade-required")
        client = await self.connect()
        client.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b"\r\nUpgrade: websocket\r\n", await client.until(b"upgrade-required"))
        upgrade = {"upgrade": "websocket", "connection": "Upgrade"}
        for headers, status in (
            ({**upgrade, "sec-websocket-version": "8", "sec-websocket-key": "x"}, 426),
            ({**upgrade, "sec-websocket-version": "13"}, 400),
        ):
            self.assertEqual((await self.api("GET", "/stream", headers=headers)).status, status)

    async def test_too_many(self) -> None:
        self.listener.api.streams.max_streams = 1
        await self.stream()
        socket = await self.stream()
        self.assertEqual(socket.status, 429)
        self.refused(socket, "limit")


class FrameTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        for size, head in (
            (0, b"\x81\x00"),
            (125, b"\x81\x7d"),
            (126, b"\x81\x7e\x00\x7e"),
            (65_535, b"\x81\x7e\xff\xff"),
        ):
            self.assertEqual(text_frame(b"x" * size), head + b"x" * size)
        self.assertEqual(text_frame(b"x" * 65_536)[:10], b"\x81\x7f\0\0\0\0\0\1\0\0")
