"""The HTTP side behind TLS, for clients that offer application protocols (ALPN) as browsers and curl do."""

import ssl
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from broker.settings.tables import TlsTable
from broker.tls import Certificate
from tests.applications.http.site import SiteCase, reactor


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
