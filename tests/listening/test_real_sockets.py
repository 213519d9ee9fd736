"""Connections over real sockets, plain and TLS, on loopback: closing completes though the peer does not read.

A producer is registered on every connection, and Twisted does not end one that has a producer; nor does it end one
whose peer takes nothing, except by cutting it off. Both are ours to see to, and neither shows in memory.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.listening.settings import Limits
from broker.listening.tls_transport import OverTLS
from broker.routing.outbox import Turn
from broker.settings.tables import TlsTable
from broker.tls import Certificate
from tests.listening.toy import ToyConnection, ToyListener

#: More than the two sockets between them can hold.
FAR_TOO_MUCH = b"x" * 16_000_000

the_reactor: Any = reactor


class Watched(ToyConnection):
    """Tells when it is up, when somebody logs in, and when it has ended."""

    def opened(self) -> None:
        super().opened()
        self.up: Deferred[None] = Deferred()
        self.over: Deferred[str] = Deferred()
        self.home.came.callback(self)  # type: ignore[attr-defined]  # of the listener below

    def authenticated(self, identity: str) -> None:
        super().authenticated(identity)
        self.up.callback(None)

    def ended(self, reason: str) -> None:
        super().ended(reason)
        self.over.callback(reason)


class WatchedListener(ToyListener):
    protocol = Watched

    def expect(self) -> None:
        self.came: Deferred[Watched] = Deferred()


class PlainSocketTests(TestCase):
    limits = Limits(close_timeout=0.3, slow_reader_timeout=0.3, max_connections=1)

    def setUp(self) -> None:
        turn = Turn(lambda flush: the_reactor.callLater(0, flush))
        self.listener = WatchedListener("toy", self.limits, turn, the_reactor, the_reactor.seconds, the_reactor.seconds)
        self.listener.expect()
        self.port: IListeningPort = the_reactor.listenTCP(0, self.on_top(), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        ticking = LoopingCall(self.listener.tick)
        ticking.start(0.05)
        self.addCleanup(ticking.stop)

    def on_top(self) -> Any:
        return self.listener

    def client(self) -> socket.socket:
        """A connected client, from another thread's point of view: it may block."""
        address: Any = self.port.getHost()
        client = socket.create_connection((address.host, address.port), timeout=20)
        self.addCleanup(client.close)
        return client

    def log_in(self) -> socket.socket:
        client = self.client()
        client.sendall(b"hello a\n")
        return client

    async def logged_in(self) -> tuple[socket.socket, Watched]:
        client = await deferToThread(self.log_in)
        connection = await self.listener.came
        await connection.up
        return client, connection

    async def test_the_goodbye_arrives(self) -> None:
        client, connection = await self.logged_in()
        connection.send(b"ok\n")
        connection.close("idle")
        got = await deferToThread(read_all, client)
        self.assertEqual(got, b"ok\nbye idle\n")
        client.close()
        reason = await connection.over
        self.assertEqual((reason, self.listener.connections), ("idle", set()))

    async def test_a_peer_that_does_not_read_is_cut_off(self) -> None:
        _, connection = await self.logged_in()
        connection.send(FAR_TOO_MUCH)
        await deferLater(the_reactor, 0)
        connection.close("removed")
        reason = await connection.over
        self.assertEqual((reason, self.listener.connections), ("removed", set()))

    async def test_a_slow_reader_is_cut_off(self) -> None:
        _, connection = await self.logged_in()
        connection.send(FAR_TOO_MUCH)
        reason = await connection.over
        self.assertEqual((reason, self.listener.stats.closed), ("slow_reader", {"slow_reader": 1}))

    async def test_a_jam_that_ends_loses_nothing(self) -> None:
        self.listener.limits = Limits(slow_reader_timeout=60)
        client, connection = await self.logged_in()
        connection.send(FAR_TOO_MUCH)
        await deferLater(the_reactor, 0)
        connection.send(b"the end")
        got = await deferToThread(read_count, client, len(FAR_TOO_MUCH) + 7)
        self.assertEqual((len(got), got[-8:]), (len(FAR_TOO_MUCH) + 7, b"xthe end"))
        connection.close("idle")
        rest = await deferToThread(read_all, client)
        client.close()
        await connection.over
        self.assertEqual(rest, b"bye idle\n")

    async def test_a_paused_connection_closes(self) -> None:
        client, connection = await self.logged_in()
        connection.pause("mine")
        connection.close("idle")
        await deferToThread(read_all, client)
        client.close()
        self.assertEqual((await connection.over), "idle")

    async def test_aborted_at_once(self) -> None:
        _, connection = await self.logged_in()
        connection.send(FAR_TOO_MUCH)
        connection.abort("slow_reader")
        self.assertEqual((await connection.over), "slow_reader")

    async def test_one_too_many_is_closed_at_once_and_without_a_fault(self) -> None:
        client, connection = await self.logged_in()
        refused = await deferToThread(self.refused)
        self.assertTrue(refused)
        self.assertEqual(self.listener.stats.refused, {"too_many_connections": 1})
        client.close()
        await connection.over

    def refused(self) -> bool:
        try:
            return self.client().recv(10) == b""
        except OSError:
            return True


class TlsSocketTests(PlainSocketTests):
    """The same through TLS, whose layer has buffers and a goodbye of its own."""

    def on_top(self) -> Any:
        return OverTLS(Certificate(TlsTable(), Path(self.mktemp())), False, self.listener)

    def client(self) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client = context.wrap_socket(super().client())
        self.addCleanup(client.close)
        return client

    async def test_somebody_who_never_begins_with_tls(self) -> None:
        self.listener.limits = Limits(auth_timeout=0.2, close_timeout=0.2)
        client = await deferToThread(PlainSocketTests.client, self)
        connection = await self.listener.came
        self.assertEqual((await connection.over), "auth_timeout")
        client.close()


def read_all(client: socket.socket) -> bytes:
    got = bytearray()
    while data := client.recv(1_000_000):
        got += data
    return bytes(got)


def read_count(client: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        data = client.recv(1_000_000)
        assert data, len(got)
        got += data
    return bytes(got)
