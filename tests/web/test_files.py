"""Files as answers: ranges, conditions, a client that reads slowly or not at all."""

import ssl
from hashlib import md5
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from broker.settings.tables import TlsTable
from broker.tls import Certificate
from broker.web.files import CHUNK, FileAnswer, requested_range
from broker.web.problems import RangeNotSatisfiable
from broker.web.routes import ANYONE, Call, Route
from tests.web.site import WebCase, reactor

BIG = 48 * 1024 * 1024


class RangeTests(SynchronousTestCase):
    def test_understood(self) -> None:
        for text, part in (
            ("bytes=0-0", (0, 1)),
            ("bytes=2-5", (2, 4)),
            ("bytes=8-", (8, 2)),
            ("bytes=5-99", (5, 5)),
            ("bytes=-3", (7, 3)),
            ("Bytes=-30", (0, 10)),
        ):
            self.assertEqual(requested_range(text, 10), part, text)

    def test_ignored(self) -> None:
        for text in (
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "bytes=١-٢",
        ):
            self.assertIsNone(requested_range(text, 10), text)

    def test_outside(self) -> None:
        for text, size in (("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=0-", 0), ("bytes=-0", 10)):
            error = self.assertRaises(RangeNotSatisfiable, requested_range, text, size)
            self.assertEqual(error.headers, ((b"Content-Range", b"bytes */%d" % size),))


class FileTests(WebCase):
    def routes(self) -> tuple[Route, ...]:
        self.big = Path(self.mktemp())
        block = bytes(range(256)) * 4096
        with self.big.open("wb") as file:
            for number in range(BIG // len(block)):
                file.write(number.to_bytes(4, "big") + block[4:])
        self.small = Path(self.mktemp())
        self.small.write_bytes(b"0123456789")
        self.cut = Path(self.mktemp())
        self.cut.write_bytes(b"x" * 100)

        async def small(call: Call) -> Any:
            return FileAnswer(self.small, 10, headers=((b"Firmware-MD5", b"AB"),), etag="tag")

        async def big(call: Call) -> Any:
            return FileAnswer(self.big)

        async def cut(call: Call) -> Any:
            return FileAnswer(self.cut, 1000)

        async def gone(call: Call) -> Any:
            return FileAnswer(self.small.with_name("nothing"))

        return tuple(Route("GET", f"/{call.__name__}", call, ANYONE) for call in (small, big, cut, gone))

    async def test_whole(self) -> None:
        status, headers, body = await self.ask("GET /small")
        self.assertEqual((status, body), (200, b"0123456789"))
        self.assertEqual((headers["Firmware-MD5"], headers["ETag"], headers["Accept-Ranges"]), ("AB", '"tag"', "bytes"))
        self.assertEqual(headers["Content-Type"], "application/octet-stream")

    async def test_head(self) -> None:
        status, headers, body = await self.ask("HEAD /small", "Range: bytes=1-2")
        self.assertEqual((status, headers["Content-Length"], body), (200, "10", b""))
        status, headers, _ = await self.ask("HEAD /big")
        self.assertEqual((status, headers["Content-Length"]), (200, str(BIG)))

    async def test_parts(self) -> None:
        client = await self.connect()
        for asked, said, wanted in (
            ("bytes=2-5", "bytes 2-5/10", b"2345"),
            ("bytes=7-", "bytes 7-9/10", b"789"),
            ("bytes=-1", "bytes 9-9/10", b"9"),
        ):
            status, headers, body = await self.ask("GET /small", f"Range: {asked}", client=client)
            self.assertEqual((status, body, headers["Content-Range"]), (206, wanted, said))
            self.assertEqual(headers["Firmware-MD5"], "AB")
        status, headers, _ = await self.ask("GET /small", "Range: bytes=10-", client=client)
        self.assertEqual((status, headers["Content-Range"]), (416, "bytes */10"))
        status, _, body = await self.ask("GET /small", "Range: bytes=0-1,4-5", client=client)
        self.assertEqual((status, body), (200, b"0123456789"))

    async def test_conditions(self) -> None:
        for header, value, wanted in (
            ("If-None-Match", '"tag"', 304),
            ("If-None-Match", '"other", W/"tag"', 304),
            ("If-None-Match", "*", 304),
            ("If-None-Match", '"other"', 200),
        ):
            status, headers, _ = await self.ask("GET /small", f"{header}: {value}")
            self.assertEqual((status, headers["ETag"]), (wanted, '"tag"'))
        for tag, wanted in (('"tag"', 206), ('"older"', 200)):
            status, _, _ = await self.ask("GET /small", "Range: bytes=1-2", f"If-Range: {tag}")
            self.assertEqual(status, wanted)

    async def test_not_there(self) -> None:
        status, _, _ = await self.ask("GET /gone")
        self.assertEqual(status, 404)

    async def test_shorter_than_said(self) -> None:
        client = await self.connect()
        client.write(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.closed
        self.assertTrue(client.data.endswith(b"x" * 100))
        self.assertEqual(self.listener.stats.closed, {"unavailable": 1})

    async def test_a_slow_reader_is_waited_for(self) -> None:
        """A part of a large file: while the client does not read, next to nothing of it is in memory."""
        client = await self.connect()
        assert client.transport is not None
        transport: Any = client.transport
        transport.pauseProducing()
        first = 1_000_003
        client.write(f"GET /big HTTP/1.1\r\nHost: x\r\nRange: bytes={first}-\r\n\r\n".encode())
        await self.until(lambda: self.listener.connections)
        connection: Any = next(iter(self.listener.connections))
        await self.until(lambda: connection.outbox.blocked and self.listener.stats.bytes_out)
        sent = self.listener.stats.bytes_out
        # Neither the outbox nor the socket's own buffer holds more than one chunk.
        self.assertLess(connection.outbox.size + len(connection.socket.dataBuffer), 2 * CHUNK)
        self.assertLess(sent, BIG)
        status, _, _ = await self.ask("GET /small")  # others are served meanwhile
        self.assertEqual(status, 200)
        came = bytearray()
        collect: Any = came.extend
        client.dataReceived = collect  # type: ignore[method-assign]  # without copying all for every chunk
        transport.resumeProducing()
        length = BIG - first
        await self.until(lambda: len(came) > length)
        head, _, _ = came.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 206 "))
        await self.until(lambda: len(came) == len(head) + 4 + length)
        self.assertEqual(md5(came[len(head) + 4 :]).digest(), md5(self.big.read_bytes()[first:]).digest())
        del client.dataReceived
        status, _, _ = await self.ask("GET /small", client=client)  # and the connection goes on
        self.assertEqual(status, 200)

    async def test_over_tls(self) -> None:
        certificate: Any = Certificate(TlsTable(), Path(self.mktemp()))
        factory = TLSMemoryBIOFactory(certificate, False, self.listener, reactor)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def fetch() -> tuple[int, bytes]:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = HTTPSConnection("127.0.0.1", port.getHost().port, context=context, timeout=20)
            connection.request("GET", "/big")
            answer = connection.getresponse()
            digest = md5()
            while data := answer.read(100_000):
                digest.update(data)
            connection.close()
            return answer.status, digest.digest()

        self.assertEqual(await deferToThread(fetch), (200, md5(self.big.read_bytes()).digest()))
        await self.until(lambda: not self.listener.connections)

    async def test_one_that_never_reads_is_closed(self) -> None:
        client = await self.connect()
        transport: Any = client.transport
        transport.pauseProducing()
        client.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: self.listener.connections)
        (connection,) = self.listener.connections
        await self.until(lambda: connection.outbox.blocked)
        self.pass_time(61)
        await self.until(lambda: not self.listener.connections)
        self.assertEqual(self.listener.stats.closed, {"slow_reader": 1})

    async def test_a_client_that_goes_away(self) -> None:
        client = await self.connect()
        client.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(b"\r\n\r\n")
        client.transport.abortConnection()  # type: ignore[union-attr]  # a TCP transport has it
        await self.until(lambda: not self.listener.connections)
        self.assertEqual(self.listener.answers, {200: 1})
