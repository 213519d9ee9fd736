"""The gate before a listener behind proxies: whom it believes, what it refuses, and whom the listener then sees."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.proxy import ProxyFactory, ProxyGate, networks_of
from broker.listening.settings import Limits
from broker.listening.websocket import websocket_factory
from tests.listening.test_proxy_header import FOUR, GOOD, IPV4, IPV6, binary
from tests.listening.toy import ToyConnection, ToyListener, make_toy
from tests.transports import PeerTransport

PROXY = "10.1.2.3"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n"


class GateCase(SynchronousTestCase):
    limits = Limits(max_connections=5, max_connections_per_address=2)

    def setUp(self) -> None:
        self.clock = Clock()
        self.listener: ToyListener = make_toy(self.clock, self.limits)
        self.gate = self.gate_before(self.listener)

    def gate_before(self, behind: Any, listener: Any = None) -> ProxyFactory:
        proxies = networks_of(("10.0.0.0/8", "2001:db8:1::/48", "203.0.113.9"))
        return ProxyFactory(behind, listener or self.listener, "toy", proxies, self.limits, self.clock)

    def connect(self, data: bytes = b"", host: str = PROXY, gate: Any = None) -> PeerTransport | None:
        """A connection from this host that has sent this, in one piece; None if it was refused at once."""
        transport = PeerTransport(self.clock, host)
        protocol = (gate or self.gate).buildProtocol(transport.getPeer())
        if protocol is None:
            return None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if data:
            protocol.dataReceived(data)
        self.clock.advance(0)
        return transport

    def let_in(self, data: bytes, **arguments: Any) -> ToyConnection:
        transport = self.connect(data, **arguments)
        assert transport is not None
        connection = transport.protocol
        assert isinstance(connection, ToyConnection), connection
        return connection

    @property
    def refused(self) -> dict[str, int]:
        return self.listener.stats.refused


class AddressTests(GateCase):
    def test_the_client_is_whom_the_listener_sees(self) -> None:
        for data, host, port in (
            (LINE, *FOUR),
            (binary(0x21, 0x11, IPV4), *FOUR),
            (binary(0x21, 0x21, IPV6), "2001:db8::7", 50000),
        ):
            connection = self.let_in(data)
            self.assertEqual((connection.host, connection.port), (host, port))
            self.assertIn(connection, self.listener.connections)

    def test_without_an_address_it_is_the_proxy(self) -> None:
        for data, client in GOOD:
            if client is None:
                connection = self.let_in(data)
                self.assertEqual((connection.host, connection.port), (PROXY, 50000))
                connection.connectionLost()

    def test_what_follows_the_header_is_the_clients(self) -> None:
        connection = self.let_in(LINE + b"hello a\nsay")
        self.assertEqual((connection.identity, connection.waiting), ("a", b"say"))

    def test_a_header_in_pieces_and_data_later(self) -> None:
        for header in (LINE, binary(0x21, 0x11, IPV4 + b"\x01\0\x02h2")):
            transport = self.connect()
            assert transport is not None
            for one in header + b"hello b\n":
                transport.protocol.dataReceived(bytes([one]))
            self.assertEqual((transport.protocol.host, transport.protocol.identity), (FOUR[0], "b"))
            self.assertEqual(self.gate.waiting, set())

    def test_limits_are_the_clients(self) -> None:
        for _ in range(2):
            self.let_in(LINE)
        third = self.connect(LINE)
        assert third is not None
        self.assertFalse(third.connected)
        self.assertEqual(self.refused, {"too_many_per_address": 1})
        self.let_in(LINE.replace(b"2.7", b"2.8"))

    def test_a_connection_that_ends_itself_at_once(self) -> None:
        class Curt(ToyConnection):
            def opened(self) -> None:
                self.close("removed")

        self.listener.protocol = Curt
        transport = self.connect(LINE + b"hello a\n")
        assert transport is not None
        self.assertEqual((transport.value(), transport.connected), (b"bye removed\n", False))

    def test_a_websocket_behind_it(self) -> None:
        gate = self.gate_before(websocket_factory(self.listener, ["toy"]))
        self.connect(LINE + b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", gate=gate)
        self.assertEqual(self.listener.stats.closed, {"protocol_error": 1})

    def test_the_end_is_the_connections(self) -> None:
        connection = self.let_in(LINE)
        transport: Any = connection.transport
        transport.lose(ConnectionDone())
        self.assertEqual((connection.reason, self.listener.connections), ("client_closed", set()))


class RefusalTests(GateCase):
    def test_whoever_is_not_named(self) -> None:
        for host in ("192.0.2.1", "127.0.0.1", "11.0.0.1", "2001:db8:2::1", "fe80::1%lo"):
            self.assertIsNone(self.connect(host=host))
        self.assertEqual(self.refused, {"untrusted_proxy": 5})

    def test_whoever_is(self) -> None:
        for host in ("10.255.0.1", "2001:db8:1::5", "203.0.113.9", "::ffff:10.0.0.1"):
            self.assertIsNotNone(self.connect(host=host), host)

    def test_a_socket_without_addresses(self) -> None:
        self.assertIsInstance(self.gate.buildProtocol(UNIXAddress("/run/x")), ProxyGate)

    def test_no_header(self) -> None:
        for data in (b"hello a\n", b"\x16\x03\x01", b"PROXY TCP4 \r\n", b"P" * 10, b"PROXY UNKNOWN " + b"x" * 200):
            transport = self.connect(data)
            assert transport is not None
            self.assertFalse(transport.connected)
        self.assertEqual((self.refused, self.listener.stats.malformed), ({"malformed": 5}, 5))
        self.assertEqual((self.gate.waiting, self.clock.getDelayedCalls()), (set(), []))

    def test_nothing_is_read_after_a_refusal(self) -> None:
        transport = PeerTransport(self.clock, PROXY)
        gate = self.gate.buildProtocol(transport.getPeer())
        transport.protocol = gate
        gate.makeConnection(transport)
        gate.dataReceived(b"x")
        gate.dataReceived(LINE)
        self.clock.advance(0)
        self.assertEqual((self.refused, self.listener.stats.accepted), ({"malformed": 1}, 0))

    def test_it_takes_too_long(self) -> None:
        transport = self.connect(LINE[:-1])
        assert transport is not None
        self.clock.advance(self.limits.auth_timeout - 1)
        self.assertTrue(transport.connected)
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual((transport.connected, self.refused), (False, {"auth_timeout": 1}))

    def test_many_without_a_header(self) -> None:
        waiting = [self.connect() for _ in range(self.limits.max_connections)]
        self.assertIsNone(self.connect())
        self.assertEqual(self.refused, {"too_many_connections": 1})
        for transport in waiting:
            assert transport is not None
            transport.lose(ConnectionDone())
        self.assertEqual((self.gate.waiting, self.clock.getDelayedCalls()), (set(), []))
        self.let_in(LINE)

    def test_the_port_closes(self) -> None:
        self.gate.doStart()
        transport = self.connect()
        assert transport is not None
        self.gate.doStop()
        self.clock.advance(0)
        self.assertEqual((transport.connected, self.refused), (False, {"shutdown": 1}))
        self.assertEqual((self.listener.numPorts, self.clock.getDelayedCalls()), (0, []))


class OtherListenersTests(GateCase):
    def test_a_listener_without_figures_and_limits(self) -> None:
        gate = self.gate_before(self.listener, listener=object())
        self.assertIs(gate.limits, self.limits)
        self.assertIsNone(self.connect(host="192.0.2.1", gate=gate))
        self.assertEqual(self.refused, {})

    def test_limits_that_change(self) -> None:
        self.listener.limits = Limits(max_connections=1)
        self.connect()
        self.assertIsNone(self.connect())

    def test_networks(self) -> None:
        self.assertEqual(len(networks_of(("10.0.0.0/8", "::1"))), 2)
        for wrong in ("10.0.0.1/8", "host", ""):
            self.assertRaises(ValueError, networks_of, (wrong,))
