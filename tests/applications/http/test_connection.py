"""What one connection may do: sizes, times, rates, garbage, and how it ends."""

import msgspec
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from broker.applications.http.side import Settings
from tests.applications.http.site import RawClient, SiteCase

TOKEN = b"Authorization: Bearer admin-token-of-the-tests\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
ENTRY = b'{"protocol":"nothing","name":"0123456789"}\n'


class SizeTests(SiteCase):
    settings = Settings(
        limits=msgspec.structs.replace(Settings().limits, max_message_size=10_000), max_import_size=100_000
    )

    async def _refused(self, head: bytes, body: bytes = b"", words: bytes = b"too-large") -> RawClient:
        client = await self.connect()
        client.write(head + b"\r\n" + body)
        await client.until(words + b'"')
        self.assertIn(b"\r\nConnection: close\r\n", client.data)
        return client

    async def test_told_in_the_head(self) -> None:
        client = await self._refused(
            b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10001\r\n"
        )
        self.assertTrue(client.data.startswith(b"HTTP/1.1 413 "))
        self.assertNotIn(b" 100 ", client.data)

    async def test_in_chunks(self) -> None:
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        head = b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        client = await self._refused(head, chunk * 3)
        client.write(chunk * 50 + b"0\r\n\r\n" + HEALTH)
        self.pass_time(6)
        self.assertEqual((await client.closed).count(b"HTTP/1.1 "), 1)
        self.assertEqual(self.listener.stats.closed, {"too_long": 1})

    async def test_the_answer_is_not_lost_while_the_client_still_sends(self) -> None:
        reply = await self.api("POST", "/products", body=b"x" * 1_000_000)
        self.assertProblem(reply, 413, "too-large", "10000")

    async def test_import_may_be_longer_for_the_administrator(self) -> None:
        body = ENTRY * 2_000
        self.assertEqual((await self.api("POST", "/devices/import", body=body)).status, 200)
        self.assertProblem(await self.api("POST", "/devices/import", body=ENTRY * 3_000), 413, "too-large", "100000")

    async def test_import_may_not_be_longer_for_anybody_else(self) -> None:
        for token in (None, "wrong"):
            reply = await self.api("POST", "/devices/import", body=ENTRY * 2_000, token=token)
            self.assertProblem(reply, 413, "too-large", "10000")

    async def test_a_long_head(self) -> None:
        client = await self.connect()
        client.write(b"GET /" + b"x" * 20_000)
        await client.until(b'"head-too-large"')
        self.assertTrue(client.data.startswith(b"HTTP/1.1 431 "))

    async def test_many_headers(self) -> None:
        client = await self.connect()
        client.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)
        await client.until(b'"invalid"')
        self.assertTrue(client.data.startswith(b"HTTP/1.1 400 "))


class GarbageTests(SiteCase):
    async def test_not_http(self) -> None:
        for garbage in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"hello\r\n\r\n",
            b"GET / HTTP/9.9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"GET / HTTP/1.1\r\na: \x00\r\n\r\n",
            bytes(range(256)) * 200,
        ):
            client = await self.connect()
            client.write(garbage)
            answer = await client.until(b'"type":"urn:broker:')
            self.assertRegex(answer, rb"^HTTP/1.1 4\d\d .+\r\n")
            self.pass_time(6)
            self.assertEqual((await client.closed).count(b"HTTP/1.1 "), 1, garbage[:50])
        self.assertEqual(self.listener.stats.closed, {"malformed": 10})
        self.assertEqual(self.listener.stats.malformed, 10)

    async def test_paths_that_are_no_text(self) -> None:
        client = await self.connect()
        for target in (b"/%ff%fe?%ff=%ff", b"*", b"//", b"/nothing?"):
            client.data = b""
            client.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.until(b'"not-found"')
        client.data = b""
        client.write(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b'"invalid"')

    async def test_half_a_request(self) -> None:
        for size in range(1, len(HEALTH), 7):
            client = await self.connect()
            client.write(HEALTH[:size])
            client.transport.loseConnection()  # type: ignore[union-attr]
            self.assertEqual(await client.closed, b"")

    async def test_byte_by_byte(self) -> None:
        client = await self.connect()
        for index in range(len(HEALTH)):
            client.write(HEALTH[index : index + 1])
        await client.until(b'"ok"')


class KeepAliveTests(SiteCase):
    async def arrived(self, size: int) -> None:
        """Wait until the broker has read that many bytes more."""
        wanted = self.listener.stats.bytes_in + size
        await self.until(lambda: self.listener.stats.bytes_in >= wanted)

    async def test_pipelined(self) -> None:
        client = await self.connect()
        client.write(HEALTH * 50)
        await self.until(lambda: client.data.count(b'{"status":"ok"}') == 50)
        self.assertEqual(self.listener.stats.messages_in, 50)

    async def test_http_1_0_is_closed_after_the_answer(self) -> None:
        client = await self.connect()
        client.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        self.assertIn(b'{"status":"ok"}', await client.closed)

    async def test_closed_on_wish(self) -> None:
        client = await self.connect()
        client.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b'{"status":"ok"}', await client.closed)

    async def test_idle(self) -> None:
        client = await self.connect()
        client.write(HEALTH)
        await client.until(b'"ok"')
        self.pass_time(74)
        client.write(HEALTH)
        await self.until(lambda: client.data.count(b'"ok"') == 2)
        self.pass_time(74)
        self.assertFalse(client.closed.called)
        self.pass_time(2)
        await client.closed
        self.assertEqual(self.listener.stats.closed, {"idle": 1})

    async def test_silent_from_the_start(self) -> None:
        client = await self.connect()
        await self.until(lambda: self.listener.connections)
        self.pass_time(76)
        self.assertEqual(await client.closed, b"")

    async def test_a_slow_head(self) -> None:
        client = await self.connect()
        for text in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"a: b\r\n"):
            client.write(text)
            await self.arrived(len(text))
            self.pass_time(11)
        await client.until(b'"too-slow"')
        self.assertTrue(client.data.startswith(b"HTTP/1.1 408 "))

    async def test_a_slow_body(self) -> None:
        client = await self.connect()
        client.write(b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(4):
            client.write(b"x" * 100)
            await self.arrived(100)
            self.pass_time(8)
        await client.until(b'"too-slow"')

    async def test_a_body_that_keeps_the_rate(self) -> None:
        client = await self.connect()
        client.write(b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\n" + TOKEN + b"Content-Length: 250000\r\n\r\n")
        for _ in range(5):
            client.write(b"x" * 50_000)
            await self.arrived(50_000)
            self.pass_time(12)
        await client.until(b'"invalid"')


class LimitTests(SiteCase):
    settings = Settings(
        limits=msgspec.structs.replace(
            Settings().limits,
            max_connections=3,
            max_connections_per_address=2,
            exempt_loopback=False,
            max_message_rate=100,
            message_burst=5,
        )
    )

    async def test_connections(self) -> None:
        clients = [await self.connect() for _ in range(2)]
        await self.until(lambda: len(self.listener.connections) == 2)
        third = await self.connect()
        self.assertEqual(await third.closed, b"")
        self.assertEqual(self.listener.stats.refused, {"too_many_per_address": 1})
        clients[0].transport.loseConnection()  # type: ignore[union-attr]
        await clients[0].closed
        await self.until(lambda: len(self.listener.connections) == 1)
        again = await self.connect()
        again.write(HEALTH)
        await again.until(b'"ok"')

    async def test_requests_that_come_too_fast_wait(self) -> None:
        client = await self.connect()
        for _ in range(20):
            client.write(HEALTH)
            await client.until(b'"ok"')
            client.data = b""
        self.assertGreater(self.listener.stats.throttled, 0)


class EndTests(SiteCase):
    async def test_idle_ones_are_closed_at_once(self) -> None:
        client = await self.connect()
        client.write(HEALTH)
        await client.until(b'"ok"')
        self.listener.shut_down()
        await client.closed
        self.assertEqual(self.listener.stats.closed, {"shutdown": 1})

    async def test_settings_are_taken_anew(self) -> None:
        self.assertEqual(tuple(self.listener.reload(Settings(max_streams=7))), ())
        self.assertEqual((self.listener.api.settings.max_streams, self.listener.api.streams.max_streams), (7, 7))

    async def test_the_query_is_not_logged(self) -> None:
        events: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        await self.api("GET", "/stream?access_token=SECRET-IN-QUERY")
        await self.api("GET", "/devices", token="SECRET-TOKEN")
        self.assertTrue([text for text in events if "/api/v1/stream" in text])
        self.assertEqual([text for text in events if "SECRET" in text], [])
