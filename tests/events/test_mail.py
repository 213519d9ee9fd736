"""E-mail through a real SMTP server, which is somebody else's (aiosmtpd, in a thread)."""

from __future__ import annotations

import email
import email.policy
import logging
import ssl
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from twisted.internet import reactor as reactor_module
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.events.event import Event
from broker.events.mail import Mails
from broker.events.settings import EventsTable, MailTable
from broker.events.sinks import Outcome, Sink
from broker.settings.tables import TlsTable
from broker.tls import Certificate

reactor: Any = reactor_module
PASSWORD = "the mail server's password"


def event(id: str = "e1", kind: str = "device_offline", **details: Any) -> Event:
    return Event(id=id, kind=kind, at=1_763_700_000.0, device="A", protocol="gateway88", details=details)


class Inbox:
    """What aiosmtpd calls. ``refuse``: addresses that it does not know; ``busy``: no message is taken now."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.refuse: set[str] = set()
        self.busy = False
        self.logins: list[str] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refuse:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.busy:
            return "451 not now"
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 taken"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(mechanism)
        good = data.login == b"broker" and data.password == PASSWORD.encode()
        return AuthResult(success=good, handled=False)


class AnyPort(Controller):
    """On a port that is free: aiosmtpd itself wants to know it before."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd's


class MailCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        quiet = logging.getLogger("mail.log")  # aiosmtpd's, of handshakes that we break off and the like
        self.addCleanup(quiet.setLevel, quiet.level)
        quiet.setLevel(logging.CRITICAL + 1)
        folder = Path(self.mktemp())
        folder.mkdir()
        Certificate(TlsTable(), folder)
        self.pem = str(folder / "tls" / "certificate.pem")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.pem, folder / "tls" / "private_key.pem")
        self.inbox = Inbox()

    def server(self, **options: Any) -> int:
        """The port of a server."""
        controller = AnyPort(self.inbox, hostname="127.0.0.1", port=0, authenticator=self.inbox.authenticate, **options)
        controller.start()
        self.addCleanup(deferToThread, controller.stop)
        return int(controller.port)

    def starttls_server(self) -> int:
        return self.server(tls_context=self.context, require_starttls=True, auth_required=True)

    def mails(self, port: int, **settings: Any) -> Mails:
        table = MailTable(
            **{
                "host": "localhost",
                "port": port,
                "username": "broker",
                "password": PASSWORD,
                "sender": "Broker <broker@example.org>",
                "ca": self.pem,
                **settings,
            }
        )
        return Mails(table, EventsTable(delivery_timeout=5.0), reactor, time.time)

    async def send(self, mails: Mails, *events: Event, **fields: Any) -> Outcome:
        sink = Sink(id="sink-1", kind="email", **{"to": ("ops@example.org",), **fields})
        return await mails.deliver(sink, events or (event(),))


class SendingTests(MailCase):
    async def test_starttls_with_a_login(self) -> None:
        outcome = await self.send(
            self.mails(self.starttls_server()), event(name="Grüner Turm", reason="idle", children={"known": 3})
        )
        self.assertEqual((outcome.delivered, outcome.detail), (True, ""))
        (message,) = self.inbox.messages
        self.assertEqual(self.inbox.envelopes, [("broker@example.org", ["ops@example.org"])])
        self.assertEqual(message["Subject"], "[warning] device_offline A")
        self.assertEqual(message["From"], "Broker <broker@example.org>")
        self.assertEqual(message["Message-ID"], "<e1.sink-1@broker.invalid>")
        text = message.get_content()
        for line in ("device: A (gateway88)", "name: Grüner Turm", "reason: idle", 'children: {"known":3}'):
            self.assertIn(line, text.splitlines())

    async def test_tls_from_the_first_byte(self) -> None:
        port = self.server(ssl_context=self.context, auth_require_tls=False)
        self.assertTrue((await self.send(self.mails(port, tls="tls"))).delivered)
        self.assertEqual(len(self.inbox.messages), 1)

    async def test_without_tls_and_login(self) -> None:
        port = self.server()
        self.assertTrue((await self.send(self.mails(port, tls="none", username=""))).delivered)
        self.assertEqual(self.inbox.logins, [])

    async def test_several_events_and_a_subject_of_ones_own(self) -> None:
        mails = self.mails(self.starttls_server())
        await self.send(
            mails, event("e1"), event("e2", "device_online"), subject="$count news: $name$$", to=("a@x.org", "b@x.org")
        )
        await self.send(mails, event("e1", name="Turm"), event("e2"))
        first, second = self.inbox.messages
        self.assertEqual(first["Subject"], "2 news: $")
        self.assertEqual(second["Subject"], "[warning] device_offline A (and 1 more)")
        self.assertEqual(self.inbox.envelopes[0][1], ["a@x.org", "b@x.org"])
        text = first.get_content()
        self.assertLess(text.index("event: e1"), text.index("event: e2"))

    async def test_what_a_device_says_of_itself_is_no_header(self) -> None:
        outcome = await self.send(
            self.mails(self.starttls_server()),
            event(name="x\r\nBcc: everybody@example.org\r\n\r\n.\r\nQUIT", text="\r\n.\r\nMAIL FROM:<x@y.z>"),
            subject="$name",
        )
        self.assertTrue(outcome.delivered)
        (message,) = self.inbox.messages
        self.assertIsNone(message["Bcc"])
        self.assertEqual(self.inbox.envelopes, [("broker@example.org", ["ops@example.org"])])
        self.assertIn(".\nMAIL FROM:<x@y.z>", message.get_content().replace("\r\n", "\n"))

    async def test_long_details(self) -> None:
        outcome = await self.send(self.mails(self.starttls_server()), event(text="\n.".join(["z" * 900] * 60)))
        self.assertTrue(outcome.delivered)
        self.assertEqual(self.inbox.messages[0].get_content().count("z"), 900 * 60)


class RefusalTests(MailCase):
    async def test_some_of_the_addresses(self) -> None:
        self.inbox.refuse = {"gone@example.org"}
        mails = self.mails(self.starttls_server())
        outcome = await self.send(mails, to=("gone@example.org", "ops@example.org"))
        self.assertEqual((outcome.delivered, outcome.detail), (True, "not taken for gone@example.org"))
        outcome = await self.send(mails, to=("gone@example.org",))
        self.assertEqual((outcome.delivered, outcome.final, outcome.status), (False, True, 550))

    async def test_not_now(self) -> None:
        self.inbox.busy = True
        outcome = await self.send(self.mails(self.starttls_server()))
        self.assertEqual((outcome.delivered, outcome.final, outcome.status), (False, False, 451))

    async def test_a_wrong_password_is_in_no_detail(self) -> None:
        outcome = await self.send(self.mails(self.starttls_server(), password="not the right one"))
        self.assertEqual((outcome.delivered, outcome.final, outcome.status), (False, False, 535))
        self.assertNotIn("right one", outcome.detail)
        self.assertNotIn("AUTH PLAIN", outcome.detail)

    async def test_a_server_without_starttls_hears_no_password(self) -> None:
        outcome = await self.send(self.mails(self.server(auth_require_tls=False)))
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertEqual((self.inbox.logins, self.inbox.messages), ([], []))

    async def test_a_certificate_of_nobody(self) -> None:
        for tls, options in (("starttls", {"tls_context": self.context}), ("tls", {"ssl_context": self.context})):
            outcome = await self.send(self.mails(self.server(**options), tls=tls, ca=""))
            self.assertEqual((outcome.delivered, outcome.final), (False, False))
            self.assertEqual(self.inbox.messages, [])

    async def test_nobody_there(self) -> None:
        outcome = await self.send(self.mails(1))
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
        self.assertEqual((await self.send(self.mails(1, host=""))).delivered, False)

    async def test_a_server_that_says_nothing(self) -> None:
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        table = MailTable(host="localhost", port=port.getHost().port, sender="a@b.c", tls="none")
        mails = Mails(table, EventsTable(delivery_timeout=0.3), reactor, time.time)
        outcome = await self.send(mails)
        self.assertEqual((outcome.delivered, outcome.final), (False, False))

    async def test_a_server_that_hangs_up(self) -> None:
        class Rude(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"220 hello\r\n")
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Rude), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        outcome = await self.send(self.mails(port.getHost().port, tls="none", username=""))
        self.assertEqual((outcome.delivered, outcome.final), (False, False))
