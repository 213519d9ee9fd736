"""What stands before a listener whose connections come through proxies: reads the PROXY header, then steps aside.

::

    socket ──> ProxyGate ── header ──> (TLS, WebSocket and) the connection, which has the client's address
                   └ in the clear, before TLS

Only proxies that are named (``proxy_from``) may speak for others; whoever else connects is refused, and so is a
connection that does not begin with a header. A connection over a UNIX socket has no address, and is believed: the
rights of the socket's file decide there. Once the header is read the connection itself is the socket's protocol and
nothing is left in between; its transport's ``getPeer`` is still the proxy.

A header has the time of a login, and there may be as many without one as the listener may have connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from twisted.internet.address import IPv4Address as TwistedIPv4
from twisted.internet.address import IPv6Address as TwistedIPv6
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.listening.proxy_header import ProxyHeaderError, parse
from broker.listening.settings import Limits
from broker.listening.stats import ListenerStats

Networks = Sequence[IPv4Network | IPv6Network]


def networks_of(texts: Sequence[str]) -> Networks:
    """Parsed addresses and networks. Raises ValueError, naming the wrong one."""
    return [ip_network(text) for text in texts]


class ProxyFactory(Factory):
    """Before ``behind``, which makes the connections of ``listener``; ``limits`` for a listener that has none."""

    noisy = False
    log = Logger(namespace="broker.listener")

    def __init__(
        self, behind: Factory, listener: Any, name: str, proxies: Networks, limits: Limits, reactor: Any
    ) -> None:
        self.behind = behind
        self.reactor = reactor
        #: Those whose header has not come.
        self.waiting: set[ProxyGate] = set()
        self._listener = listener
        self._name = name
        self._proxies = proxies
        self._limits = limits
        self._stats: ListenerStats = getattr(listener, "stats", None) or ListenerStats()

    @property
    def limits(self) -> Limits:
        limits: Limits = getattr(self._listener, "limits", None) or self._limits
        return limits

    def startFactory(self) -> None:
        self.behind.doStart()

    def stopFactory(self) -> None:
        """Nobody is accepted any more: neither are those who have not said where they come from."""
        for gate in list(self.waiting):
            gate.refuse("shutdown")
        self.behind.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, which closes the socket, for those who may not speak for others."""
        host = str(getattr(addr, "host", ""))
        if not self._believes(host):
            return self.refused(host, "untrusted_proxy")
        if len(self.waiting) >= self.limits.max_connections:
            return self.refused(host, "too_many_connections")
        return ProxyGate(self, addr, host)

    def refused(self, host: str, reason: str) -> None:
        """Count and log it."""
        self._stats.refuse(reason)
        self.log.info("{listener} {host} refused: {reason}", listener=self._name, host=host, reason=reason)

    def malformed(self) -> None:
        self._stats.malformed += 1

    def _believes(self, host: str) -> bool:
        if not host:
            return True
        address = ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return any((mapped or address) in network for network in self._proxies)


class ProxyGate(Protocol):
    """A connection until its header has come."""

    def __init__(self, home: ProxyFactory, addr: IAddress | None, host: str) -> None:
        self._home = home
        self._addr = addr
        self._host = host
        self._head = b""
        self._timer: Any = None

    @property
    def _socket(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        home = self._home
        home.waiting.add(self)
        self._timer = home.reactor.callLater(home.limits.auth_timeout, self._overdue)

    def dataReceived(self, data: bytes) -> None:
        if self not in self._home.waiting:
            return
        self._head += data
        try:
            header = parse(self._head)
        except ProxyHeaderError:
            self._home.malformed()
            self.refuse("malformed")
            return
        if header is not None:
            rest, self._head = self._head[header.size :], b""
            addr = self._addr
            if header.source is not None:
                address, port = header.source
                kind = TwistedIPv4 if address.version == 4 else TwistedIPv6
                addr = kind("TCP", str(address), port)
            self._step_aside(addr, rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()

    def refuse(self, reason: str) -> None:
        """Close the socket."""
        self._leave()
        self._home.refused(self._host, reason)
        self._socket.abortConnection()

    def _overdue(self) -> None:
        self._timer = None
        self.refuse("auth_timeout")

    def _leave(self) -> None:
        self._home.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step_aside(self, addr: IAddress | None, rest: bytes) -> None:
        self._leave()
        socket = self._socket
        behind: Any = self._home.behind.buildProtocol(addr)
        if behind is None:  # for reasons of its own, which it has counted
            socket.loseConnection()
            return
        socket.protocol = behind
        behind.makeConnection(socket)
        if rest and not socket.disconnecting:
            behind.dataReceived(rest)
