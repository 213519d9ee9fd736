"""Bodies that are read while they come: bounds, back-pressure, multipart cut anywhere, clients that go away."""

import random
from hashlib import sha256
from typing import Any, ClassVar, cast

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from broker.core import Core
from broker.model.errors import BrokerError, Conflict, Invalid
from broker.model.jsontext import decode, encode
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.web.listener import WebListener
from broker.web.multipart import MAX_FIELDS_SIZE, MAX_PARTS, FormReader, boundary_of
from broker.web.problems import TooLarge
from broker.web.routes import ADMIN, ANYONE, Call, Route
from broker.web.settings import WebSettings
from broker.web.surface import Surface
from broker.web.uploads import HIGH_WATER, Upload, UploadAborted
from tests.web.site import WebCase, limited

MEGABYTE = 1024 * 1024
FILE = b"\r\n--x\r\n--boundar\r\n--boundary-\r--" + bytes(range(256))
FORM = (
    b'preamble to be ignored\r\n--boundary\r\nContent-Disposition: form-data; name="version"\r\n\r\n2.1\r\n'
    b'--boundary\r\nContent-Disposition: form-data; name="f"; filename="a b.bin"\r\nContent-Type: image/x\r\n\r\n'
    + FILE
    + b'\r\n--boundary\r\nContent-Disposition: form-data; name="late"\r\n\r\nno\r\n--boundary--\r\nepilogue'
).removeprefix(b"preamble to be ignored\r\n")
FORM_TYPE = "multipart/form-data; boundary=boundary"


PIECES = some.sampled_from(
    (
        b"Content-Length: 40\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Type: multipart/form-data; boundary=b\r\n",
        b"Content-Type: multipart/form-data\r\n",
        b"\r\n",
        b"5\r\n--b\r\n\r\n",
        b"0\r\n\r\n",
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n',
        b"\r\n--b--\r\n",
        b"PUT /f HTTP/1.1\r\nHost: x\r\n",
    )
)


def _in_chunks(body: bytes) -> bytes:
    """The end of a head, and the body in chunks of at most 50 bytes."""
    parts = [body[at : at + 50] for at in range(0, len(body), 50)]
    return (
        b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )


class Reading:
    """An upload, and what its reader has got."""

    def __init__(self, content_type: str = "", limit: int = 10_000) -> None:
        self.held: list[str] = []
        self.upload = Upload(
            content_type, None, limit, lambda: self.held.append("pause"), lambda: self.held.append("resume")
        )
        self.got = b""
        self.error: BrokerError | None = None
        self.done = False

    def read_all(self) -> None:
        async def read() -> None:
            try:
                while data := await self.upload.read():
                    self.got += data
                self.done = True
            except BrokerError as error:
                self.error = error

        ensureDeferred(read())


class FormReaderTests(SynchronousTestCase):
    def test_cut_at_every_byte(self) -> None:
        for cut in range(len(FORM) + 1):
            reading = Reading(FORM_TYPE)
            reading.read_all()
            reading.upload.feed(FORM[:cut])
            reading.upload.feed(FORM[cut:])
            reading.upload.end()
            self.assertEqual((reading.got, reading.done), (FILE, True), cut)
            upload = reading.upload
            self.assertEqual((upload.name, upload.filename, upload.content_type), ("f", "a b.bin", "image/x"))
            self.assertEqual(upload.fields, {"version": "2.1"})

    def test_byte_by_byte(self) -> None:
        reading = Reading(FORM_TYPE)
        reading.read_all()
        for number in range(len(FORM)):
            reading.upload.feed(FORM[number : number + 1])
        reading.upload.end()
        self.assertEqual((reading.got, reading.done), (FILE, True))

    def test_refused(self) -> None:
        part = b'--boundary\r\nContent-Disposition: form-data; name="a"'
        end = b"\r\n--boundary--\r\n"
        for body, words in (
            (b"", "early"),
            (FORM[:-30], "early"),
            (b"--other\r\n", "not multipart"),
            (b"--boundary--\r\n", "file name"),
            (part + b"\r\n\r\n1" + end, "file name"),
            (b"--boundary\r\nX: y\r\n\r\n1" + end, "Content-Disposition"),
            (b"--boundary\r\n" + b"x" * 9_000, "not multipart"),
            (part + b"\r\n\r\n\xff" + end, "UTF-8"),
            (part + b"\r\n\r\n" + b"x" * (MAX_FIELDS_SIZE + 1) + end, "fields"),
            ((part + b'; filename="f"\r\n\r\n1\r\n') * (MAX_PARTS + 1) + b"--boundary--", "parts"),
        ):
            reading = Reading(FORM_TYPE, limit=1_000_000)
            reading.read_all()
            reading.upload.feed(body)
            reading.upload.end()
            self.assertIsInstance(reading.error, Invalid, body[:60])
            self.assertIn(words, str(reading.error))

    def test_boundaries(self) -> None:
        for content_type, boundary in (
            ("", None),
            ("application/octet-stream", None),
            ('Multipart/Form-Data; Boundary="a b"', b"a b"),
        ):
            self.assertEqual(boundary_of(content_type), boundary)
        self.assertRaises(Invalid, boundary_of, "multipart/form-data")
        self.assertRaises(Invalid, Upload, f"multipart/form-data; boundary={'x' * 5_000}", None, 1, print, print)

    @hypothesis_settings(max_examples=200, deadline=None)
    @given(some.lists(some.binary(max_size=60) | some.sampled_from((b"--b", b"\r\n", b"--b--", FORM)), max_size=20))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        reader = FormReader(b"b", lambda *head: None, lambda data: None)
        try:
            for chunk in chunks:
                reader.feed(chunk)
            reader.end()
        except Invalid:
            pass

    @hypothesis_settings(max_examples=200, deadline=None)
    @given(some.text(max_size=80))
    def test_any_content_type(self, text: str) -> None:
        header = ("multipart/form-data;" + text).encode("latin-1", "ignore").decode("latin-1")
        try:
            boundary_of(header)
        except Invalid:
            pass


class UploadTests(SynchronousTestCase):
    def test_the_client_is_held_back(self) -> None:
        reading = Reading(limit=10 * HIGH_WATER)
        for _ in range(3):
            reading.upload.feed(b"x" * HIGH_WATER)
        self.assertEqual(reading.held, ["pause"])
        reading.read_all()
        self.assertEqual((len(reading.got), reading.held), (3 * HIGH_WATER, ["pause", "resume"]))

    def test_over_the_limit(self) -> None:
        reading = Reading(limit=10)
        reading.upload.feed(b"x" * 10)
        reading.upload.feed(b"x")
        reading.read_all()
        self.assertIsInstance(reading.error, TooLarge)
        self.assertEqual(reading.got, b"")

    def test_into(self) -> None:
        class Slow:
            def __init__(self) -> None:
                self.paused = False
                self.data = b""
                self.waiting: Deferred[None] = Deferred()

            def write(self, data: bytes) -> None:
                self.data += data
                self.paused = True

            def drained(self) -> Deferred[None]:
                self.waiting = Deferred()
                return self.waiting

            def drain(self) -> None:
                self.paused = False
                self.waiting.callback(None)

        reading, slow = Reading(), Slow()
        done: Deferred[int] = ensureDeferred(reading.upload.into(slow))
        reading.upload.feed(b"one")
        reading.upload.feed(b"two")
        self.assertEqual(slow.data, b"one")
        slow.drain()
        self.assertEqual(slow.data, b"onetwo")
        reading.upload.end()
        self.assertNoResult(done)
        slow.drain()
        self.assertEqual(self.successResultOf(done), 6)


class RequestTests(SynchronousTestCase):
    """Whole requests, on a transport in memory."""

    def answer_to(self, *chunks: bytes) -> bytes:
        async def take(call: Call) -> Any:
            size = 0
            while data := await call.upload.read():
                size += len(data)
            return {"size": size, "name": call.upload.filename, "fields": call.upload.fields}

        clock, nothing = Clock(), cast(Any, None)
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
        )
        route = Route("PUT", "/f", take, ANYONE, upload=True)
        listener = WebListener("web", core, WebSettings(), Surface(), lambda: (route,))
        protocol, transport = listener.buildProtocol(None), StringTransport()
        assert protocol is not None
        protocol.makeConnection(transport)
        for chunk in chunks:
            protocol.dataReceived(chunk)
            listener.turn.flush()
        self.assertNotEqual(protocol.reason, "internal_error")
        self.assertEqual(self.flushLoggedErrors(), [])
        return bytes(transport.value())

    def test_cut_at_every_byte(self) -> None:
        for length in (b"Content-Length: %d\r\n\r\n%b" % (len(FORM), FORM), _in_chunks(FORM)):
            whole = b"PUT /f HTTP/1.1\r\nHost: x\r\nContent-Type: " + FORM_TYPE.encode() + b"\r\n" + length
            wanted = encode({"size": len(FILE), "name": "a b.bin", "fields": {"version": "2.1"}})
            for cut in range(len(whole) + 1):
                answer = self.answer_to(whole[:cut], whole[cut:])
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(wanted), (cut, answer))

    @hypothesis_settings(max_examples=200, deadline=None)
    @given(some.lists(PIECES | some.binary(max_size=30), max_size=12))
    def test_almost_uploads(self, chunks: list[bytes]) -> None:
        answer = self.answer_to(b"PUT /f HTTP/1.1\r\nHost: x\r\n", *chunks)
        self.assertRegex(answer, rb"^(HTTP/1\.1 \d\d\d |$)")
        self.assertNotIn(b"HTTP/1.1 500 ", answer)


class SocketTests(WebCase):
    settings: ClassVar[WebSettings] = limited(WebSettings(max_upload=128 * MEGABYTE), max_message_size=1_000)

    def routes(self) -> tuple[Route, ...]:
        self.errors: list[BrokerError] = []
        self.go_on: Deferred[None] | None = None

        async def take(call: Call) -> Any:
            digest, size, most = sha256(), 0, 0
            try:
                while data := await call.upload.read():
                    digest.update(data)
                    size += len(data)
                    most = max(most, len(data))
                    if self.go_on is not None:
                        await self.go_on
            except BrokerError as error:
                self.errors.append(error)
                raise
            return {"size": size, "sha256": digest.hexdigest(), "most": most, "name": call.upload.filename}

        async def refuse(call: Call) -> Any:
            raise Conflict("it is there already")

        async def fail(call: Call) -> Any:
            await call.upload.read()
            raise ZeroDivisionError("not to be seen")

        return (
            Route("PUT", "/take", take, ADMIN, upload=True, lenient=True),
            Route("PUT", "/open", take, ANYONE, upload=True),
            Route("PUT", "/refuse", refuse, ANYONE, upload=True),
            Route("PUT", "/fail", fail, ANYONE, upload=True),
        )

    async def test_small_ones(self) -> None:
        client = await self.connect()
        for body in (b"", b"x", b"y" * 5_000):
            for token in ("admin", "late"):
                status, _, answer = await self.ask("PUT /take?a=1", f"X-Token: {token}", body=body, client=client)
                self.assertEqual(status, 200, answer)
                self.assertEqual(decode(answer)["sha256"], sha256(body).hexdigest())

    async def test_chunked(self) -> None:
        client = await self.connect()
        client.write(b"PUT /open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            client.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
        client.write(b"0\r\n\r\n")
        status, _, answer = await self.answer(client)
        self.assertEqual((status, decode(answer)["size"]), (200, 409_600))

    async def test_multipart(self) -> None:
        status, _, answer = await self.ask("PUT /open", f"Content-Type: {FORM_TYPE}", body=FORM)
        self.assertEqual((status, decode(answer)["name"]), (200, "a b.bin"))
        self.assertEqual(decode(answer)["sha256"], sha256(FILE).hexdigest())
        for content_type, body in (("multipart/form-data", FORM), (FORM_TYPE, FORM[:-100]), (FORM_TYPE, b"nonsense")):
            status, _, _ = await self.ask("PUT /open", f"Content-Type: {content_type}", body=body)
            self.assertEqual(status, 400)

    async def test_a_hundred_megabytes(self) -> None:
        """The handler is slower than the client: what waits stays bounded."""
        block = random.Random(1).randbytes(MEGABYTE)
        client = await self.connect()
        transport: Any = client.transport
        self.go_on = Deferred()
        client.write(b"PUT /open HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (100 * MEGABYTE))
        for _ in range(100):
            transport.write(block)
        await self.until(lambda: self.listener.connections)
        (connection,) = self.listener.connections
        await self.until(lambda: "upload" in connection._paused_for)
        self.assertLess(self.listener.stats.bytes_in, 2 * HIGH_WATER)
        self.pass_time(1_000)  # the client waits for us, so its time does not run
        self.go_on.callback(None)
        status, _, answer = await self.answer(client)
        told = decode(answer)
        self.assertEqual((status, told["size"]), (200, 100 * MEGABYTE))
        self.assertEqual(told["sha256"], sha256(block * 100).hexdigest())
        self.assertLess(told["most"], 2 * HIGH_WATER)
        status, _, _ = await self.ask("PUT /open", body=b"again", client=client)
        self.assertEqual(status, 200)

    async def test_too_large_is_refused_by_the_head(self) -> None:
        client = await self.connect()
        client.write(
            b"PUT /open HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % (128 * MEGABYTE + 1)
        )
        status, headers, _ = await self.answer(client)
        self.assertEqual((status, headers["Connection"]), (413, "close"))
        self.pass_time(6)
        await client.closed
        self.assertEqual(self.listener.stats.closed, {"too_long": 1})

    async def test_too_large_in_chunks(self) -> None:
        self.listener.settings = limited(WebSettings(max_upload=100_000), max_message_size=1_000)
        client = await self.connect()
        client.write(b"PUT /open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(30):
            client.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
        status, headers, _ = await self.answer(client)
        self.assertEqual((status, headers["Connection"]), (413, "close"))

    async def test_refused_before_the_body(self) -> None:
        for path, token, wanted in (("/take", "wrong", 401), ("/take", "app", 403), ("/refuse", "", 409)):
            client = await self.connect()
            client.write(
                f"PUT {path} HTTP/1.1\r\nHost: x\r\nX-Token: {token}\r\nExpect: 100-continue\r\n"
                "Content-Length: 50000\r\n\r\n".encode()
            )
            status, headers, _ = await self.answer(client)
            self.assertEqual((status, headers["Connection"]), (wanted, "close"))

    async def test_told_to_go_on_once_the_caller_is_proven(self) -> None:
        for token in ("admin", "late"):
            client = await self.connect()
            client.write(
                f"PUT /take HTTP/1.1\r\nHost: x\r\nX-Token: {token}\r\nExpect: 100-continue\r\n"
                "Content-Length: 5000\r\n\r\n".encode()
            )
            await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
            client.data = b""
            client.write(b"x" * 5000)
            status, _, _ = await self.answer(client)
            self.assertEqual(status, 200)

    async def test_a_client_that_goes_away(self) -> None:
        client = await self.connect()
        client.write(b"PUT /open HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"x" * 100)
        await self.until(lambda: self.listener.stats.bytes_in > 100)
        client.transport.abortConnection()  # type: ignore[union-attr]  # a TCP transport has it
        await self.until(lambda: self.errors)
        self.assertIsInstance(self.errors[0], UploadAborted)
        self.assertEqual(self.listener.answers, {})

    async def test_one_that_stops_sending(self) -> None:
        client = await self.connect()
        client.write(b"PUT /open HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"x" * 100)
        await self.until(lambda: self.listener.stats.bytes_in > 100)
        self.pass_time(31)
        status, _, _ = await self.answer(client)
        self.assertEqual(status, 408)
        self.pass_time(6)
        await client.closed
        await self.until(lambda: self.errors)
        self.assertIsInstance(self.errors[0], UploadAborted)

    async def test_a_fault_of_ours(self) -> None:
        client = await self.connect()
        client.write(b"PUT /fail HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"x" * 100)
        status, headers, _ = await self.answer(client)
        self.assertEqual((status, headers["Connection"]), (500, "close"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
