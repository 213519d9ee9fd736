"""The HTTP side behind TLS, for clients that offer application protocols (ALPN) as browsers and curl do."""

import json
import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from broker.settings.tables import TlsTable
from broker.tls import Certificate
from tests.applications.http.site import ADMIN_TOKEN, SiteCase, reactor


class TlsTests(SiteCase):
    async def test_offered_protocols(self) -> None:
        certificate: Any = Certificate(TlsTable(), Path(self.mktemp()))
        factory = TLSMemoryBIOFactory(certificate, False, self.listener, reactor)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def ask(offered: list[str]) -> tuple[int, str | None]:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(offered)
            connection = HTTPSConnection("127.0.0.1", port.getHost().port, context=context, timeout=5)
            connection.request("GET", "/healthz")
            chosen = connection.sock.selected_alpn_protocol()
            status = connection.getresponse().status
            connection.close()
            return status, chosen

        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), (["other"], None)):
            self.assertEqual(await deferToThread(ask, offered), (200, chosen))
        await self.until(lambda: not self.listener.connections)

    async def test_the_cookie_is_for_tls_alone(self) -> None:
        certificate: Any = Certificate(TlsTable(), Path(self.mktemp()))
        factory = TLSMemoryBIOFactory(certificate, False, self.listener, reactor)
        secured = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(secured.stopListening)
        plain = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.addCleanup(plain.stopListening)

        def cookie(connection: HTTPConnection) -> list[str]:
            body = json.dumps({"token": ADMIN_TOKEN})
            connection.request("POST", "/api/v1/session", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            response.read()
            connection.close()
            return str(response.getheader("Set-Cookie")).split("; ")

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        over_tls = HTTPSConnection("127.0.0.1", secured.getHost().port, context=context, timeout=5)
        self.assertIn("Secure", await deferToThread(cookie, over_tls))
        in_clear = HTTPConnection("127.0.0.1", plain.getHost().port, timeout=5)
        self.assertNotIn("Secure", await deferToThread(cookie, in_clear))
        await self.until(lambda: not self.listener.connections)
