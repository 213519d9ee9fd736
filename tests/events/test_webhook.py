"""Webhooks over real sockets: what is sent, and what becomes of every kind of answer."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from broker.events.event import Event
from broker.events.settings import EventsTable
from broker.events.sinks import Outcome, Sink
from broker.events.webhook import Webhooks, idempotency_key, signature
from broker.settings.tables import TlsTable
from broker.tls import Certificate
from tests.events.receiver import SECRET, Answer, Receiver, is_signed

reactor: Any = reactor_module


def event(id: str = "e1", **details: Any) -> Event:
    return Event(id=id, kind="backup_failed", at=1_763_700_000.1234, device="A", protocol="gateway88", details=details)


class SignatureTests(SynchronousTestCase):
    def test_a_known_one(self) -> None:
        # printf '1763700000.{"a":1}' | openssl dgst -sha256 -hmac 'secret'
        self.assertEqual(
            signature("secret", 1_763_700_000, b'{"a":1}'),
            "t=1763700000,v1=aeda4b96ad7484ccb3e34e59454640c50849967c5b827c23d2b00237a059c5dd",
        )

    def test_what_receivers_check(self) -> None:
        header = signature(SECRET, int(time.time()), b"body")
        self.assertTrue(is_signed(b"body", header))
        self.assertFalse(is_signed(b"Body", header))
        self.assertFalse(is_signed(b"body", signature("other", int(time.time()), b"body")))
        self.assertFalse(is_signed(b"body", signature(SECRET, int(time.time()) - 900, b"body")))

    def test_keys(self) -> None:
        self.assertEqual(idempotency_key([event("e1")]), "e1")
        two = idempotency_key([event("e1"), event("e2")])
        self.assertEqual(len(two), 32)
        self.assertNotEqual(two, idempotency_key([event("e2"), event("e1")]))


class WebhookCase(TestCase):
    timeout = 60
    settings = EventsTable(delivery_timeout=5.0)

    def setUp(self) -> None:
        self.webhooks = Webhooks(self.settings, reactor, time.time)
        self.addCleanup(self.webhooks.close)

    def receiver(self, answer: Answer | None = None) -> Receiver:
        receiver = Receiver(lambda request: answer or Answer())
        self.addCleanup(deferToThread, receiver.stop)
        return receiver

    async def send(self, url: str, *events: Event, **fields: Any) -> Outcome:
        sink = Sink(id="sink-1", kind="webhook", url=url, secret=SECRET, **fields)
        return await self.webhooks.deliver(sink, events or (event(),))


class DeliveryTests(WebhookCase):
    async def test_what_arrives(self) -> None:
        receiver = self.receiver()
        outcome = await self.send(
            receiver.url, event("e1", n=1, text="grün"), event("e2"), headers={"Authorization": "Bearer x"}
        )
        self.assertEqual((outcome.delivered, outcome.status), (True, 200))
        (request,) = receiver.requests
        self.assertEqual(request.body["sink"], "sink-1")
        self.assertEqual(
            request.body["events"][0],
            {
                "id": "e1",
                "kind": "backup_failed",
                "severity": "warning",
                "at": 1_763_700_000.123,
                "device": "A",
                "protocol": "gateway88",
                "details": {"n": 1, "text": "grün"},
            },
        )
        self.assertEqual(request.headers["content-type"], "application/json")
        self.assertEqual(request.headers["authorization"], "Bearer x")
        self.assertEqual(request.headers["idempotency-key"], idempotency_key([event("e1"), event("e2")]))
        self.assertEqual(receiver.forged, 0)

    async def test_without_a_secret_nothing_is_signed(self) -> None:
        receiver = self.receiver()
        outcome = await self.webhooks.deliver(Sink(id="s", kind="webhook", url=receiver.url), (event(),))
        self.assertEqual((outcome.status, receiver.forged), (401, 1))

    async def test_answers(self) -> None:
        for status, delivered, final in (
            (200, True, False),
            (202, True, False),
            (204, True, False),
            (301, False, False),
            (307, False, False),
            (400, False, True),
            (401, False, True),
            (404, False, True),
            (408, False, False),
            (410, False, True),
            (425, False, False),
            (429, False, False),
            (500, False, False),
            (503, False, False),
        ):
            receiver = self.receiver(Answer(status, b"" if status == 204 else b"because\nof me", Location="/elsewhere"))
            outcome = await self.send(receiver.url)
            self.assertEqual((outcome.delivered, outcome.final, outcome.status), (delivered, final, status))
            self.assertEqual(len(receiver.requests), 1, "a redirect was followed")
            if final:
                self.assertEqual(outcome.detail, f"answered {status}: because of me")

    async def test_an_echo_tells_no_secret(self) -> None:
        """Some receivers answer with what they were sent."""
        echo = f"you sent Bearer hunter22 with {SECRET} and x".encode()
        receiver = self.receiver(Answer(500, echo))
        outcome = await self.send(receiver.url, headers={"Authorization": "Bearer hunter22", "X": "x"})
        self.assertEqual(outcome.detail, "answered 500: you sent *** *** with *** and x")

    async def test_retry_after(self) -> None:
        at = time.time()
        for text, wanted in (("120", 120.0), (formatdate(at + 300, usegmt=True), 300.0), ("soon", None), ("-5", None)):
            receiver = self.receiver(Answer(503, Retry_After=text))
            outcome = await self.send(receiver.url)
            if wanted is None:
                self.assertIsNone(outcome.retry_after, text)
            else:
                assert outcome.retry_after is not None
                self.assertApproximates(outcome.retry_after, wanted, 5.0)

    async def test_nobody_there(self) -> None:
        receiver = self.receiver()
        await deferToThread(receiver.stop)
        outcome = await self.send(receiver.url)
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertIn("cannot connect", outcome.detail)

    async def test_a_name_that_does_not_exist(self) -> None:
        outcome = await self.send("http://nobody.invalid/")
        self.assertEqual((outcome.delivered, outcome.final), (False, False))

    async def test_an_answer_that_never_comes(self) -> None:
        self.webhooks = Webhooks(EventsTable(delivery_timeout=0.2), reactor, time.time)
        receiver = self.receiver(Answer(hang=30.0))
        outcome = await self.send(receiver.url)
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertIn("0.2 s", outcome.detail)

    async def test_a_connection_that_breaks(self) -> None:
        receiver = self.receiver(Answer(cut=True))
        outcome = await self.send(receiver.url)
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertEqual(len(receiver.requests), 1, "it was sent again behind our back")

    async def test_a_long_answer_is_not_read(self) -> None:
        receiver = self.receiver(Answer(400, b"x" * 10_000_000))
        outcome = await self.send(receiver.url)
        self.assertEqual(outcome.detail, "answered 400: " + "x" * 200)
        # The next one is not kept waiting by what is left of it.
        receiver.answer = lambda request: Answer(200, b"y" * 10_000_000)
        self.assertTrue((await self.send(receiver.url)).delivered)

    async def test_a_server_that_is_none(self) -> None:
        class Nonsense(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"220 mail.invalid ESMTP\r\n")
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Nonsense), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        outcome = await self.send(f"http://127.0.0.1:{port.getHost().port}/")
        self.assertEqual((outcome.delivered, outcome.final), (False, False))


class TlsTests(WebhookCase):
    async def serve(self) -> tuple[int, str]:
        """An HTTPS server with a certificate that it has made for itself; its port, and the certificate's file."""

        class Yes(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                return b"yes"

        folder = Path(self.mktemp())
        folder.mkdir()
        Certificate(TlsTable(), folder)
        pem = (folder / "tls" / "certificate.pem").read_bytes() + (folder / "tls" / "private_key.pem").read_bytes()
        site = Site(Yes())
        port = reactor.listenSSL(0, site, PrivateCertificate.loadPEM(pem).options(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port, str(folder / "tls" / "certificate.pem")

    async def test_certificates_are_verified(self) -> None:
        port, _ = await self.serve()
        outcome = await self.send(f"https://localhost:{port}/")
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertIn("certificate verify failed", outcome.detail)

    async def test_with_its_authority_and_its_name(self) -> None:
        port, pem = await self.serve()
        self.webhooks = Webhooks(EventsTable(webhook_ca=pem, delivery_timeout=5.0), reactor, time.time)
        self.assertTrue((await self.send(f"https://localhost:{port}/")).delivered)
        self.assertTrue((await self.send(f"https://127.0.0.1:{port}/")).delivered)
        outcome = await self.send(f"https://127.0.0.2:{port}/")
        self.assertFalse(outcome.delivered)
        closing: Deferred[None] = self.webhooks.close()
        await closing

    def test_a_file_that_cannot_be_used(self) -> None:
        nothing = Path(self.mktemp())
        with self.assertRaises(OSError):
            Webhooks(EventsTable(webhook_ca=str(nothing)), reactor, time.time)
        nothing.write_text("no certificate")
        with self.assertRaises(ValueError):
            Webhooks(EventsTable(webhook_ca=str(nothing)), reactor, time.time)
