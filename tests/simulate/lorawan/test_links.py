"""A forwarder's sockets, over loopback."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from broker.simulate.lorawan.links import UdpLink

reactor: Any = global_reactor
#: Seconds between two sends to whoever may be there.
AGAIN = 0.01


class Server(DatagramProtocol):
    """Answers what it gets with the same and an "!"."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        transport: Any = self.transport
        transport.write(datagram + b"!", addr)


class LinkTests(TestCase):
    timeout = 20

    async def test_a_broker_that_is_started_again(self) -> None:
        """While nobody listens, the system says so for each datagram."""
        port = reactor.listenUDP(0, Server(), interface="127.0.0.1")
        number = port.getHost().port
        up: list[bytes] = []
        down: list[bytes] = []
        link = UdpLink(reactor, ("127.0.0.1", number))
        link.open(up.append, down.append)
        self.addCleanup(link.close)
        await self.until_answered(link, up, down)
        await port.stopListening()
        for _ in range(10):
            link.send(False, b"lost")
            link.send(True, b"lost")
            await deferLater(reactor, AGAIN)
        up.clear()
        down.clear()
        port = reactor.listenUDP(number, Server(), interface="127.0.0.1")
        await self.until_answered(link, up, down)
        await port.stopListening()

    async def until_answered(self, link: UdpLink, up: list[bytes], down: list[bytes]) -> None:
        while not (up and down):
            link.send(False, b"up")
            link.send(True, b"down")
            await deferLater(reactor, AGAIN)
        self.assertEqual((set(up), set(down)), ({b"up!"}, {b"down!"}))

    async def test_what_others_say_is_not_heard(self) -> None:
        port = reactor.listenUDP(0, Server(), interface="127.0.0.1")
        other = reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        heard: list[bytes] = []
        link = UdpLink(reactor, ("127.0.0.1", port.getHost().port))
        link.open(heard.append, heard.append)
        where = link._ports[0].getHost().port
        other.write(b"forged", ("127.0.0.1", where))
        await self.until_heard(link, heard)
        self.assertEqual(set(heard), {b"up!"})
        link.close()
        await port.stopListening()
        await other.stopListening()

    async def until_heard(self, link: UdpLink, heard: list[bytes]) -> None:
        while not heard:
            link.send(False, b"up")
            await deferLater(reactor, AGAIN)
