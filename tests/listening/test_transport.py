"""`DirectServer` beside Twisted's own transport: the same scenarios over real sockets, the same outcome.

Run by `tests.test_reactor` under the broker's own reactor as well.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, ClassVar

from twisted.internet import reactor as default_reactor
from twisted.internet import tcp
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from broker.listening import transport

reactor: Any = default_reactor

#: More than the kernel's buffers of a loopback connection take while nobody reads.
LARGE = 16 * 1024 * 1024


class Recording(Protocol):
    """Tells the test when it is up, what it got and when it ended."""

    def __init__(self) -> None:
        self.up: Deferred[Recording] = Deferred()
        self.down: Deferred[str] = Deferred()
        self.got = b""

    def connectionMade(self) -> None:
        self.up.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.down.callback(reason.type.__name__)


@implementer(IPushProducer)
class Throttled:
    """Counts what a transport asks of its producer."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.resumed: Deferred[None] = Deferred()

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        if not self.resumed.called:
            self.resumed.callback(None)

    def stopProducing(self) -> None:
        self.calls.append("stop")


def read_all(client: socket.socket) -> bytes:
    """Everything until the end of the stream (run in a thread)."""
    parts = []
    while part := client.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


class Scenarios:
    """What has to hold for both."""

    port_class: ClassVar[type[tcp.Port]]

    @inlineCallbacks
    def connected(self: Any) -> Any:
        """A server's connection and the blocking client socket at its other end."""
        protocol = Recording()
        factory = Factory.forProtocol(lambda: protocol)
        port = self.port_class(0, factory, 5, "127.0.0.1", reactor)
        port.startListening()
        self.addCleanup(port.stopListening)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20)
        self.addCleanup(client.close)
        yield protocol.up
        return protocol, client

    @inlineCallbacks
    def test_small_writes_arrive_in_order(self: Any) -> Any:
        protocol, client = yield self.connected()
        for number in range(1000):
            protocol.transport.write(b"%d\n" % number)
        protocol.transport.loseConnection()
        got = yield deferToThread(read_all, client)
        self.assertEqual(got.split(), [b"%d" % number for number in range(1000)])
        self.assertEqual((yield protocol.down), "ConnectionDone")

    @inlineCallbacks
    def test_what_the_socket_does_not_take_follows_in_order(self: Any) -> Any:
        protocol, client = yield self.connected()
        body = bytes(range(256)) * (LARGE // 256)
        protocol.transport.write(b"first")
        protocol.transport.write(body)
        protocol.transport.write(b"last")
        protocol.transport.loseConnection()
        got = yield deferToThread(read_all, client)
        self.assertEqual(len(got), LARGE + 9)
        self.assertEqual(got, b"first" + body + b"last")
        yield protocol.down

    @inlineCallbacks
    def test_writes_after_lose_connection_with_a_full_buffer(self: Any) -> Any:
        protocol, client = yield self.connected()
        protocol.transport.write(b"x" * LARGE)
        protocol.transport.loseConnection()
        protocol.transport.write(b"tail")
        got = yield deferToThread(read_all, client)
        self.assertEqual(got[-8:], b"xxxxtail")
        yield protocol.down

    @inlineCallbacks
    def test_a_producer_is_paused_and_resumed(self: Any) -> Any:
        protocol, client = yield self.connected()
        producer = Throttled()
        protocol.transport.registerProducer(producer, True)
        protocol.transport.write(b"small")
        self.assertEqual(producer.calls, [])
        protocol.transport.write(b"x" * LARGE)
        self.assertEqual(producer.calls, ["pause"])
        reading = deferToThread(read_all, client)
        yield producer.resumed
        self.assertEqual(producer.calls, ["pause", "resume"])
        protocol.transport.unregisterProducer()
        protocol.transport.loseConnection()
        got = yield reading
        self.assertEqual(len(got), LARGE + 5)
        yield protocol.down

    @inlineCallbacks
    def test_abort_throws_away_what_waits(self: Any) -> Any:
        protocol, _ = yield self.connected()
        protocol.transport.write(b"x" * LARGE)
        protocol.transport.abortConnection()
        self.assertEqual((yield protocol.down), "ConnectionAborted")
        protocol.transport.write(b"too late")

    @inlineCallbacks
    def test_echo(self: Any) -> Any:
        protocol, client = yield self.connected()

        def talk() -> bytes:
            got = b""
            for number in range(200):
                client.sendall(b"%03d" % number)
                while len(got) < 3 * (number + 1):
                    got += client.recv(100)
            return got

        got = yield deferToThread(talk)
        self.assertEqual(got, b"".join(b"%03d" % number for number in range(200)))
        client.close()
        self.assertEqual((yield protocol.down), "ConnectionDone")

    @inlineCallbacks
    def test_a_reset_by_the_peer_is_reported_once_and_writes_are_harmless(self: Any) -> Any:
        protocol, client = yield self.connected()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        for _ in range(5):
            protocol.transport.write(b"into the void")
        self.assertEqual((yield protocol.down), "ConnectionLost")
        protocol.transport.write(b"and after")

    @inlineCallbacks
    def test_only_bytes(self: Any) -> Any:
        protocol, client = yield self.connected()
        self.assertRaises(TypeError, protocol.transport.write, "text")
        protocol.transport.loseConnection()
        yield deferToThread(read_all, client)
        yield protocol.down


class TwistedTransportTests(Scenarios, TestCase):
    """The original behaviour."""

    port_class = tcp.Port


class DirectTransportTests(Scenarios, TestCase):
    """Ours."""

    port_class = transport.DirectPort

    @inlineCallbacks
    def test_a_small_write_is_gone_at_once(self) -> Any:
        protocol, client = yield self.connected()
        client.setblocking(False)
        protocol.transport.write(b"now")
        self.assertEqual(client.recv(100), b"now")
        self.assertNotIn(protocol.transport, reactor.getWriters())
        protocol.transport.loseConnection()
        yield protocol.down


class AdoptTests(TestCase):
    """Which kind of port a socket is given."""

    def adopted(self, **patches: Any) -> Any:
        for name, value in patches.items():
            self.patch(transport, name, value)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        port = transport.adopt(reactor, listening.fileno(), socket.AF_INET, Factory.forProtocol(Protocol))
        listening.close()
        self.addCleanup(port.stopListening)
        return port

    def test_direct(self) -> None:
        self.assertTrue(transport.available())
        self.assertIsInstance(self.adopted(), transport.DirectPort)

    def test_fallback_when_twisted_has_changed(self) -> None:
        self.assertNotIsInstance(self.adopted(available=lambda: False), transport.DirectPort)
