"""Bindings of every kind as the service serves them, on real sockets: TLS, client certificates, proxies, WebSocket."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request

from broker.listening.served import Served
from broker.listening.settings import Limits, ListenerSettings
from broker.listening.websocket import websocket_factory
from broker.routing.outbox import Turn
from broker.settings.tables import TlsTable
from broker.tls import Certificate, TlsError
from tests.client_certificates import Authority
from tests.listening.toy import ToyConnection, ToyListener

the_reactor: Any = reactor
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n"
LOOPBACK = ":0:interface=127.0.0.1"
#: More than the sockets between them can hold.
FAR_TOO_MUCH = 16_000_000


class Telling(ToyConnection):
    """Answers ``who`` with what it knows of its peer, ``much`` with a lot."""

    def line(self, line: bytes) -> None:
        if line == b"who":
            self.send(f"{self.host} {self.certificate_subject}\n".encode())
        elif line == b"much":
            self.send(b"x" * FAR_TOO_MUCH)
        else:
            super().line(line)

    def ended(self, reason: str) -> None:
        super().ended(reason)
        over: Deferred[str] = self.home.over  # type: ignore[attr-defined]  # of the listener below
        if not over.called:
            over.callback(reason)


class TellingListener(ToyListener):
    protocol = Telling
    over: Deferred[str]

    def websocket_factory(self) -> Factory:
        return websocket_factory(self, ("toy",))


class Client:
    """A blocking client, for threads."""

    def __init__(self, port: int, header: bytes = b"", tls: bool = False, certificate: Path | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if header:
            self.socket.sendall(header)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if certificate is not None:
                context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket)

    def ask(self, line: bytes) -> bytes:
        self.send(line)
        return self.read_line()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_line(self) -> bytes:
        got = b""
        while not got.endswith(b"\n"):
            data = self.receive()
            if not data:
                break
            got += data
        return got

    def receive(self) -> bytes:
        return self.socket.recv(1_000_000)

    def close(self) -> None:
        self.socket.close()


class WebClient(Client):
    """The same over a WebSocket."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.frames = WSConnection(ConnectionType.CLIENT)
        self.code = 0
        self.socket.sendall(self.frames.send(Request(host="x", target="/mqtt", subprotocols=["toy"])))
        self.frames.receive_data(self.socket.recv(65536))
        (accepted,) = self.frames.events()
        assert isinstance(accepted, AcceptConnection), accepted

    def send(self, data: bytes) -> None:
        self.socket.sendall(self.frames.send(BytesMessage(data=data)))

    def receive(self) -> bytes:
        got = b""
        while not got:
            data = self.socket.recv(1_000_000)
            if not data:
                break
            self.frames.receive_data(data)
            for event in self.frames.events():
                if isinstance(event, BytesMessage):
                    got += event.data
                elif isinstance(event, CloseConnection):
                    self.code = int(event.code)
                    self.socket.sendall(self.frames.send(event.response()))
        return got


class ServedCase(TestCase):
    limits = Limits(close_timeout=2, slow_reader_timeout=0.3, auth_timeout=20)

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.authority = Authority(self.folder, "ca")
        self.table = TlsTable(client_ca=str(self.authority.file))
        self.certificate = Certificate(self.table, self.folder)
        turn = Turn(lambda flush: the_reactor.callLater(0, flush))
        seconds = the_reactor.seconds
        self.listener = TellingListener("toy", self.limits, turn, the_reactor, seconds, seconds)
        self.listener.over = Deferred()
        ticking = LoopingCall(self.listener.tick)
        ticking.start(0.05)
        self.addCleanup(ticking.stop)

    async def serve(self, *kinds: str, **settings: Any) -> list[int]:
        """Port numbers."""
        bind = tuple(kind + LOOPBACK for kind in kinds)
        served = Served("toy", ListenerSettings(bind=bind, **settings), the_reactor, self.certificate)
        served.reserve()
        await served.serve(self.listener)
        self.addCleanup(served.stop_listening)
        return [port.getHost().port for port in served.ports]  # type: ignore[attr-defined]  # an IPv4 address

    async def ask(self, port: int, line: bytes, kind: type[Client] = Client, **arguments: Any) -> bytes:
        """The answer to one line, empty if there was none; returns when the connection has ended."""
        self.listener.over = Deferred()

        def run() -> bytes:
            client = None
            try:
                client = kind(port, **arguments)
                return client.ask(line)
            except OSError:
                return b""
            finally:
                if client is not None:
                    client.close()

        answer = await deferToThread(run)
        if self.listener.connections:
            await self.listener.over
        return answer


class ProxyTests(ServedCase):
    async def test_before_each_kind_of_binding(self) -> None:
        ports = await self.serve("tcp", "tls", "ws", "wss", proxy_protocol=True)
        for port, kind, tls in zip(ports, (Client, Client, WebClient, WebClient), (False, True) * 2, strict=True):
            answer = await self.ask(port, b"who\n", kind, header=LINE, tls=tls)
            self.assertEqual(answer, b"192.0.2.7 None\n")

    async def test_refused_without(self) -> None:
        ports = await self.serve("tcp", "tls", proxy_protocol=True)
        for port, tls in zip(ports, (False, True), strict=True):
            self.assertEqual(await self.ask(port, b"who\n", tls=tls), b"")
        self.assertEqual(self.listener.stats.refused, {"malformed": 2})

    async def test_refused_from_elsewhere(self) -> None:
        (port,) = await self.serve("tcp", proxy_protocol=True, proxy_from=("192.0.2.0/24",))
        self.assertEqual(await self.ask(port, b"who\n", header=LINE), b"")
        self.assertEqual(self.listener.stats.refused, {"untrusted_proxy": 1})

    async def test_an_endpoint_of_twisted(self) -> None:
        path = Path("p.sock").absolute()
        settings = ListenerSettings(bind=(f"unix:{path}",), proxy_protocol=True)
        served = Served("toy", settings, the_reactor, self.certificate)
        served.reserve()
        await served.serve(self.listener)
        self.addCleanup(served.stop_listening)

        def run() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(str(path))
                client.sendall(LINE + b"who\n")
                return client.recv(1000)

        self.assertEqual(await deferToThread(run), b"192.0.2.7 None\n")
        await self.listener.over


class CertificateTests(ServedCase):
    async def test_its_name_is_known(self) -> None:
        certificate = self.authority.sign("device-7")
        for mode in ("optional", "required"):
            ports = await self.serve("tls", "wss", client_certificates=mode)
            for port, kind in zip(ports, (Client, WebClient), strict=True):
                answer = await self.ask(port, b"who\n", kind, tls=True, certificate=certificate)
                self.assertEqual(answer, b"127.0.0.1 device-7\n")

    async def test_without_one(self) -> None:
        for mode, expected in (("off", b"127.0.0.1 None\n"), ("optional", b"127.0.0.1 None\n"), ("required", b"")):
            (port,) = await self.serve("tls", client_certificates=mode)
            self.assertEqual(await self.ask(port, b"who\n", tls=True), expected, mode)

    async def test_one_that_nobody_asked_for(self) -> None:
        (port,) = await self.serve("tls")
        certificate = self.authority.sign("device-7")
        self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=certificate), b"127.0.0.1 None\n")

    async def test_bad_ones(self) -> None:
        (port,) = await self.serve("tls", client_certificates="optional")
        stranger = Authority(self.folder / "stranger", "ca")
        for bad in (
            stranger.sign("device-7"),
            self.authority.sign("device-7", valid=-timedelta(days=1)),
            self.authority.sign("device-7", use=ExtendedKeyUsageOID.SERVER_AUTH),
        ):
            self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=bad), b"")
        self.assertEqual(self.listener.stats.closed, {"connection_lost": 3})

    async def test_names_that_are_none(self) -> None:
        (port,) = await self.serve("tls", client_certificates="required")
        for names in ((), ("a", "b"), ("a\nb",), (" \x7f",)):
            answer = await self.ask(port, b"who\n", tls=True, certificate=self.authority.sign(*names))
            self.assertEqual(answer, b"127.0.0.1 None\n", names)
        answer = await self.ask(port, b"who\n", tls=True, certificate=self.authority.sign("设备 7"))
        self.assertEqual(answer, "127.0.0.1 设备 7\n".encode())

    async def test_behind_a_proxy(self) -> None:
        (port,) = await self.serve("wss", client_certificates="required", proxy_protocol=True)
        certificate = self.authority.sign("device-7")
        answer = await self.ask(port, b"who\n", WebClient, header=LINE, tls=True, certificate=certificate)
        self.assertEqual(answer, b"192.0.2.7 device-7\n")

    async def test_an_authority_below_another_and_a_clients_own(self) -> None:
        below = Authority(self.folder / "below", "below", self.authority)
        pinned, other = self.authority.sign("pinned"), self.authority.sign("other")
        both = self.folder / "both.pem"
        both.write_bytes(
            below.file.read_bytes()
            + pinned.read_bytes().partition(b"-----BEGIN CERT")[2].join([b"-----BEGIN CERT", b""])
        )
        self.certificate.reload(TlsTable(client_ca=str(both)))
        (port,) = await self.serve("tls", client_certificates="required")
        for certificate, expected in ((below.sign("mine"), b"mine"), (pinned, b"pinned"), (other, b"")):
            answer = await self.ask(port, b"who\n", tls=True, certificate=certificate)
            self.assertEqual(answer, b"127.0.0.1 %b\n" % expected if expected else b"")

    async def test_reload(self) -> None:
        (port,) = await self.serve("tls", client_certificates="required")
        fresh = Authority(self.folder / "fresh", "fresh")
        old, new = self.authority.sign("old"), fresh.sign("new")
        self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=new), b"")
        self.certificate.reload(TlsTable(client_ca=str(fresh.file)))
        self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=new), b"127.0.0.1 new\n")
        self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=old), b"")
        for table in (TlsTable(), TlsTable(client_ca="/none")):
            self.assertRaises(TlsError, self.certificate.reload, table)
        self.assertEqual(await self.ask(port, b"who\n", tls=True, certificate=new), b"127.0.0.1 new\n")

    async def test_nothing_is_resumed(self) -> None:
        """Or a certificate would be good for longer than the authority that signed it."""
        (port,) = await self.serve("tls", client_certificates="required")
        certificate = self.authority.sign("device-7")

        def run() -> list[tuple[bytes, bool | None]]:
            found = []
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.maximum_version = version
                context.load_cert_chain(certificate)
                session = None
                for _ in range(2):
                    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
                    with context.wrap_socket(plain, session=session) as client:
                        client.sendall(b"who\n")
                        found.append((client.recv(100), client.session_reused))
                        session = client.session
            return found

        self.assertEqual(await deferToThread(run), [(b"127.0.0.1 device-7\n", False)] * 4)
        while self.listener.connections:
            await deferLater(the_reactor, 0.01)

    def test_without_an_authority(self) -> None:
        self.certificate = Certificate(TlsTable(), self.folder)
        settings = ListenerSettings(bind=("tls" + LOOPBACK,), client_certificates="required")
        error = self.assertRaises(TlsError, Served("toy", settings, the_reactor, self.certificate).reserve)
        self.assertEqual(str(error), "[tls]: client_ca is needed where client certificates are asked for")


class WebSocketTests(ServedCase):
    async def test_back_and_forth(self) -> None:
        ports = await self.serve("ws", "wss")
        for port, tls in zip(ports, (False, True), strict=True):
            self.assertEqual(await self.ask(port, b"who\n", WebClient, tls=tls), b"127.0.0.1 None\n")

    async def test_our_close_arrives_behind_the_last_data(self) -> None:
        for port, tls in zip(await self.serve("ws", "wss"), (False, True), strict=True):
            self.listener.over = Deferred()

            def run(port: int = port, tls: bool = tls) -> tuple[bytes, int]:
                client = WebClient(port, tls=tls)
                client.ask(b"hello a\nsay x\n")
                client.send(b"say y\nend it\n" + b"x" * 100_000)
                got = client.read_line() + client.read_line()
                while client.receive():
                    continue
                client.close()
                return got, client.code

            self.assertEqual(await deferToThread(run), (b"ok\nbye protocol_error\n", 1002))
            self.assertEqual(await self.listener.over, "protocol_error")

    async def test_one_that_does_not_read(self) -> None:
        for port, tls in zip(await self.serve("ws", "wss"), (False, True), strict=True):
            self.listener.over = Deferred()
            client = await deferToThread(WebClient, port, tls=tls)
            await deferToThread(client.send, b"much\n")
            self.assertEqual(await self.listener.over, "slow_reader")
            client.close()

    async def test_one_that_reads_slowly(self) -> None:
        self.listener.limits = Limits(slow_reader_timeout=60)
        for port, tls in zip(await self.serve("ws", "wss"), (False, True), strict=True):
            self.listener.over = Deferred()

            def run(port: int = port, tls: bool = tls) -> int:
                client = WebClient(port, tls=tls)
                client.send(b"hello a\nmuch\n")
                client.send(b"say x\n")
                count, end = 0, b""
                while not end.endswith(b"xok\n"):
                    data = client.receive()
                    assert data, count
                    count += len(data)
                    end = end[-3:] + data[-4:]
                client.close()
                return count

            self.assertEqual(await deferToThread(run), FAR_TOO_MUCH + 3)
            self.assertEqual(await self.listener.over, "connection_lost")

    async def test_a_plain_request(self) -> None:
        (port,) = await self.serve("ws")
        answer = await self.ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n"), answer)
        self.assertEqual(self.listener.stats.closed, {"protocol_error": 1})
