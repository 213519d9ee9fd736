"""Bind strings, and what listens because of them. Real sockets on loopback."""

import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.listening.binding import Bind, BindError, address_of, parse_bind, reserve
from broker.listening.served import Served
from broker.listening.settings import ListenerSettings
from broker.settings.tables import TlsTable
from broker.tls import Certificate

reactor: Any = default_reactor


def number_of(port: IListeningPort) -> int:
    address: Any = port.getHost()
    return int(address.port)


class ParseTests(SynchronousTestCase):
    def test_ours(self) -> None:
        cases = {
            "tcp:1883": ("tcp", 1883, ""),
            "tls:0": ("tls", 0, ""),
            "ws:65535:interface=127.0.0.1": ("ws", 65535, "127.0.0.1"),
            "wss:1:interface=::1": ("wss", 1, "::1"),
            "udp:1700:interface=::": ("udp", 1700, "::"),
            "tcp:1:interface=[fe80::1%lo]": ("tcp", 1, "fe80::1%lo"),
            r"tcp:1:interface=\:\:1": ("tcp", 1, "::1"),
        }
        for text, (kind, port, interface) in cases.items():
            self.assertEqual(parse_bind(text), Bind(text, kind, port, interface))

    def test_those_of_twisted(self) -> None:
        for text in ("unix:/run/x.sock", "systemd:domain=INET:index=0", "tcp6:1883", "ssl:1:privateKey=x"):
            self.assertEqual(parse_bind(text), Bind(text))

    def test_wrong_ones(self) -> None:
        port = "must be tcp:PORT or tcp:PORT:interface=ADDRESS with a port of 0 to 65535"
        option = "after tcp:1 only :interface=ADDRESS is allowed, with an IPv4 or IPv6 address"
        cases = {
            "tcp": port,
            "tcp:": port,
            "tcp:x": port,
            "tcp:-1": port,
            "tcp:65536": port,
            "tcp:\u0661": port,
            "tcp:1:interface=": option,
            "tcp:1:interface=localhost": option,
            "tcp:1:backlog=5": option,
            "": "must be tcp, tls, ws, wss, udp with :PORT, or an endpoint string of Twisted",
            "1883": "must be tcp, tls, ws, wss, udp with :PORT, or an endpoint string of Twisted",
        }
        for text, allowed in cases.items():
            error = self.assertRaises(ValueError, parse_bind, text)
            self.assertEqual(str(error), allowed, text)


class Greeter(Protocol):
    """Says a word to whoever connects."""

    def connectionMade(self) -> None:
        factory: Any = self.factory
        assert self.transport is not None
        self.transport.write(factory.word)


class Echo(Factory):
    """A listener of the simplest kind: a factory and no more."""

    noisy = False
    protocol = Greeter

    def __init__(self, word: bytes = b"plain") -> None:
        self.word = word


class WithEverything(Echo):
    """A listener that also has something for ws: and udp: bindings."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: Deferred[bytes] = Deferred()

    def websocket_factory(self) -> Factory:
        return Echo(b"socket")

    def datagram_protocol(self) -> DatagramProtocol:
        heard = self.datagrams

        class Heard(DatagramProtocol):
            noisy = False

            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                heard.callback(datagram)

        return Heard()


class FirstWord(Protocol):
    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class BindingCase(TestCase):
    def setUp(self) -> None:
        self.contexts = Certificate(TlsTable(), Path(self.mktemp()))

    async def bind(self, text: str, listener: Any) -> IListeningPort:
        reserved = reserve("echo", parse_bind(text), reactor, self.contexts)
        port = await reserved.serve(listener)
        assert port is not None
        self.addCleanup(port.stopListening)
        return port

    async def first_word(self, endpoint: Any, secure: bool = False) -> bytes:
        client = FirstWord()
        if secure:
            factory = TLSMemoryBIOFactory(CertificateOptions(), True, Factory.forProtocol(lambda: client))
            factory.noisy = False
            await endpoint.connect(factory)
        else:
            await connectProtocol(endpoint, client)
        word = await client.heard
        assert client.transport is not None
        client.transport.loseConnection()
        await client.lost
        return word


class ServeTests(BindingCase):
    async def test_tcp(self) -> None:
        port = await self.bind("tcp:0:interface=127.0.0.1", Echo())
        host, _, number = address_of(port).rpartition(":")
        self.assertEqual(host, "127.0.0.1")
        word = await self.first_word(TCP4ClientEndpoint(reactor, "127.0.0.1", int(number)))
        self.assertEqual(word, b"plain")

    async def test_every_ipv4_address_without_an_interface(self) -> None:
        port = await self.bind("tcp:0", Echo())
        self.assertTrue(address_of(port).startswith("0.0.0.0:"))

    async def test_ipv6(self) -> None:
        port = await self.bind("tcp:0:interface=::1", Echo())
        host, _, number = address_of(port).rpartition(":")
        self.assertEqual(host, "[::1]")
        word = await self.first_word(TCP6ClientEndpoint(reactor, "::1", int(number)))
        self.assertEqual(word, b"plain")

    async def test_tls(self) -> None:
        port = await self.bind("tls:0:interface=127.0.0.1", Echo())
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", number_of(port))
        self.assertEqual(await self.first_word(endpoint, secure=True), b"plain")

    async def test_a_listener_that_refuses(self) -> None:
        class Full(Echo):
            def buildProtocol(self, addr: Any) -> None:
                return None

        for text in ("tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"):
            port = await self.bind(text, Full())
            client = FirstWord()
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", number_of(port)), client)
            await client.lost
            self.assertFalse(client.heard.called)

    async def test_websocket_bindings_get_the_websocket_factory(self) -> None:
        for text in ("ws:0:interface=127.0.0.1", "wss:0:interface=127.0.0.1"):
            port = await self.bind(text, WithEverything())
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", number_of(port))
            self.assertEqual(await self.first_word(endpoint, secure=text.startswith("wss")), b"socket")

    async def test_udp(self) -> None:
        listener = WithEverything()
        port = await self.bind("udp:0:interface=127.0.0.1", listener)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("127.0.0.1", number_of(port)))
        self.assertEqual(await listener.datagrams, b"hello")

    async def test_an_endpoint_of_twisted(self) -> None:
        path = Path("s.sock").absolute()
        port = await self.bind(f"unix:{path}", Echo())
        self.assertIn("s.sock", address_of(port))

    async def test_what_connects_before_it_is_served(self) -> None:
        reserved = reserve("echo", parse_bind("tcp:0:interface=127.0.0.1"), reactor, self.contexts)
        with socket.create_connection(reserved.address(), timeout=5) as early:
            port = await reserved.serve(Echo())
            assert port is not None
            self.addCleanup(port.stopListening)
            early.setblocking(False)
            heard = b""
            while not heard:
                await deferLater(reactor, 0)
                try:
                    heard = early.recv(100)
                except BlockingIOError:
                    continue
        self.assertEqual(heard, b"plain")

    async def test_nothing_for_such_a_binding(self) -> None:
        for text in ("ws:0", "wss:0", "udp:0"):
            reserved = reserve("echo", parse_bind(text), reactor, self.contexts)
            self.assertIsNone(await reserved.serve(Echo()))


class RefusedTests(BindingCase):
    async def test_a_port_that_is_taken(self) -> None:
        port = await self.bind("tcp:0:interface=127.0.0.1", Echo())
        text = f"tls:{number_of(port)}:interface=127.0.0.1"
        error = self.assertRaises(BindError, reserve, "echo", parse_bind(text), reactor, self.contexts)
        hint = "(by another broker, or its demo? any other port will do)"
        self.assertEqual(str(error), f'listeners.echo.bind = "{text}": cannot listen: Address already in use {hint}')

    async def test_an_address_that_is_not_ours(self) -> None:
        text = "udp:0:interface=192.0.2.1"
        error = self.assertRaises(BindError, reserve, "echo", parse_bind(text), reactor, self.contexts)
        self.assertEqual(str(error), f'listeners.echo.bind = "{text}": cannot listen: Cannot assign requested address')

    async def test_endpoints_of_twisted_that_fail(self) -> None:
        for text in ("unix:/no/such/folder/x", "nonsense:1", "unix:"):
            reserved = reserve("echo", parse_bind(text), reactor, self.contexts)
            try:
                await reserved.serve(Echo())
            except BindError as error:
                self.assertTrue(str(error).startswith(f'listeners.echo.bind = "{text}": cannot listen: '), error)
                self.assertNotIn("\n", str(error))
            else:
                self.fail(f"{text} listens")

    def test_a_released_address_is_free(self) -> None:
        reserved = reserve("echo", parse_bind("tcp:0:interface=127.0.0.1"), reactor, self.contexts)
        number = reserved.address()[1]
        reserved.release()
        reserved.release()
        reserve("echo", parse_bind(f"tcp:{number}:interface=127.0.0.1"), reactor, self.contexts).release()


class Connection:
    def __init__(self) -> None:
        self.cut: list[str] = []

    def abort(self, reason: str) -> None:
        self.cut.append(reason)


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    colour: str = "red"
    size: int = 1


class ServedTests(BindingCase):
    """Whatever a protocol built is served, with as much of a listener as it has."""

    def served(self, *bind: str, listener: Any = None) -> Served:
        served = Served("echo", Settings(bind=bind), reactor, self.contexts)
        served.listener = listener
        self.addCleanup(served.stop_listening)
        return served

    async def test_a_factory_and_no_more(self) -> None:
        served = self.served("tcp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1")
        served.reserve()
        await served.serve(Echo())
        served.tick()
        served.shut_down()
        served.abort()
        self.assertEqual((len(served.ports), served.connection_count, served.stats), (1, 0, None))

    async def test_a_failure_gives_every_address_back(self) -> None:
        served = self.served("tcp:0:interface=127.0.0.1", "unix:/no/such/folder/x")
        served.reserve()
        with self.assertRaises(BindError):
            await served.serve(Echo())
        self.assertEqual(len(served.ports), 1)
        number = number_of(served.ports[0])
        await served.stop_listening()
        reserve("echo", parse_bind(f"tcp:{number}:interface=127.0.0.1"), reactor, self.contexts).release()

    def test_everything_that_there_is_is_called(self) -> None:
        calls: list[str] = []
        connection = Connection()

        class Full(Echo):
            connections = {connection}
            stats = object()

            def tick(self) -> None:
                calls.append("tick")

            def shut_down(self) -> None:
                calls.append("shut_down")

        full = Full()
        served = self.served(listener=full)
        served.tick()
        served.shut_down()
        served.abort()
        self.assertEqual(calls, ["tick", "shut_down"])
        self.assertEqual((connection.cut, served.connection_count), (["shutdown"], 1))
        self.assertIs(served.stats, full.stats)

    def test_a_fault_of_one_listener_stays_its_own(self) -> None:
        class Faulty(Echo):
            def tick(self) -> None:
                raise KeyError("ours")

        self.served(listener=Faulty()).tick()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_reload_without_a_word_of_the_listener(self) -> None:
        class Limited(Echo):
            limits: Any = None

        served = self.served(listener=Limited())
        fresh = Settings(bind=("tcp:1",), colour="blue")
        self.assertEqual(served.reload(fresh), ["listeners.echo.bind", "listeners.echo.colour"])
        self.assertIs(served.listener.limits, fresh.limits)
        self.assertEqual(served.reload(fresh), [])

    def test_reload_by_the_listener_itself(self) -> None:
        class Clever(Echo):
            settings: Any = None

            def reload(self, settings: Any) -> list[str]:
                self.settings = settings
                return ["size"]

        served = self.served(listener=Clever())
        fresh = Settings(colour="blue", size=2, bind=("tcp:1",))
        self.assertEqual(served.reload(fresh), ["listeners.echo.bind", "listeners.echo.size"])
        self.assertIs(served.listener.settings, fresh)
