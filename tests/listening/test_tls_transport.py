"""TLS in memory, over our own transport and over Twisted's: the same bytes come out of both."""

from __future__ import annotations

import ssl
from functools import partial
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.tls_transport import LeanTLS, OverTLS, available
from broker.settings.tables import TlsTable
from broker.tls import Certificate

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Far(Protocol):
    """The server's side of the application: it answers with what `answer` makes of each chunk."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None
        self.greeting = b""
        self.answer: Any = lambda data: b""

    def connectionMade(self) -> None:
        if self.greeting:
            self.transport.write(self.greeting)  # type: ignore[union-attr]  # it is connected

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if reply := self.answer(data):
            self.transport.write(reply)  # type: ignore[union-attr]  # as above

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Pair:
    """A client of the standard library and our server; `carry` brings what one has written to the other."""

    def __init__(
        self, creator: Any, protocol: type[TLSMemoryBIOProtocol], version: ssl.TLSVersion, greeting: bytes = b""
    ) -> None:
        self.far = Far()
        self.far.greeting = greeting
        factory = Factory.forProtocol(Far)
        factory.buildProtocol = lambda addr: self.far  # type: ignore[method-assign]
        over: Any = OverTLS(creator, False, factory)
        over.protocol = protocol
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._in, self._out)
        self.heard = b""
        self.transport = StringTransport()
        self.server = over.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        self.server.makeConnection(self.transport)
        for _ in range(6):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.carry()

    def carry(self, sizes: Any = None) -> None:
        """``sizes`` gives how long each chunk is that the server reads."""
        data = self._out.read()
        while data:
            size = next(sizes) if sizes is not None else len(data)
            self.server.dataReceived(data[:size])
            data = data[size:]
        if written := self.transport.value():
            self.transport.clear()
            self._in.write(written)
        while True:
            try:
                got = self.client.read(1 << 20)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return
            if not got:
                return
            self.heard += got


class TransportBehaviour:
    """Mixed into a test case; ``protocol`` is under test."""

    protocol: type[TLSMemoryBIOProtocol]

    def setUp(self) -> None:
        self.certificate = Certificate(TlsTable(), Path(self.mktemp()))  # type: ignore[attr-defined]  # a test case

    def pairs(self, **more: Any) -> list[Pair]:
        return [Pair(self.certificate, self.protocol, version, **more) for version in VERSIONS]

    def test_any_sizes_in_any_pieces(self: Any) -> None:
        for seed in range(10):
            for pair in self.pairs():
                random = Random(seed)
                pair.far.answer = lambda data: data[::-1][:7]
                sent = b""
                for _ in range(30):
                    for _ in range(random.randrange(1, 4)):
                        data = random.randbytes(random.choice((1, 2, 20, 300, 5_000, 40_000)))
                        sent += data
                        pair.client.write(data)
                    pair.carry(iter(partial(random.choice, (1, 4, 5, 6, 100, 20_000)), None))
                self.assertEqual(pair.far.heard, sent)
                self.assertTrue(pair.heard)

    def test_one_record_at_a_time(self: Any) -> None:
        for pair in self.pairs():
            pair.far.answer = lambda data: b"<" + data + b">"
            for number in range(50):
                pair.client.write(b"%d" % number)
                pair.carry()
            self.assertEqual(pair.heard, b"".join(b"<%d>" % number for number in range(50)))

    def test_long_answers(self: Any) -> None:
        for pair in self.pairs():
            for size in (0, 1, 16_383, 16_384, 16_385, 100_000, 1_000_000):
                pair.heard = b""
                pair.far.answer = lambda data, size=size: b"x" * size
                pair.client.write(b"go")
                pair.carry()
                self.assertEqual(len(pair.heard), size)

    def test_what_is_written_before_the_handshake(self: Any) -> None:
        for greeting in (b"hello", b"x" * 50_000):
            for pair in self.pairs(greeting=greeting):
                pair.carry()
                self.assertEqual(pair.heard, greeting)

    def test_goodbye(self: Any) -> None:
        for pair in self.pairs():
            pair.client.write(b"last words")
            try:
                pair.client.unwrap()
            except ssl.SSLWantReadError:
                pass
            pair.carry()
            self.assertEqual(pair.far.heard, b"last words")
            self.assertTrue(pair.transport.disconnecting)

    def test_damage(self: Any) -> None:
        """A record that was changed on its way ends the connection, and nothing of it is delivered."""
        for pair in self.pairs():
            pair.client.write(b"good")
            pair.carry()
            pair.client.write(b"bad")
            record = bytearray(pair._out.read())
            record[-1] ^= 1
            pair.server.dataReceived(bytes(record))
            self.assertEqual(pair.far.heard, b"good")
            self.assertTrue(pair.transport.disconnecting)
            pair.server.connectionLost(Failure(connectionDone.value))
            self.assertIsNotNone(pair.far.lost)

    def test_damage_of_one_is_no_matter_to_others(self: Any) -> None:
        """OpenSSL's list of errors is one for all connections."""
        for bad, good in zip(self.pairs(), self.pairs(), strict=True):
            good.far.answer = lambda data: data * 2
            bad.client.write(b"bad")
            record = bytearray(bad._out.read())
            record[-1] ^= 1
            bad.server.dataReceived(bytes(record))
            bad.server.write(b"too late")
            for _ in range(3):
                good.client.write(b"good")
                good.carry(repeat(7))
            self.assertEqual((good.far.heard, good.heard), (b"good" * 3, b"good" * 6))
            self.assertFalse(good.transport.disconnecting)


class LeanTests(TransportBehaviour, SynchronousTestCase):
    protocol = LeanTLS


class TwistedsOwnTests(TransportBehaviour, SynchronousTestCase):
    protocol = TLSMemoryBIOProtocol


class AvailableTests(SynchronousTestCase):
    def test_this_twisted_has_what_is_looked_at(self) -> None:
        self.assertTrue(available())
        self.assertIs(OverTLS.protocol, LeanTLS)
