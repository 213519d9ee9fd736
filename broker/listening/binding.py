"""Where a listener listens: bind strings, the sockets behind them, and the factory on top.

::

    tcp:PORT   tls:PORT   ws:PORT   wss:PORT   udp:PORT      each with an optional :interface=ADDRESS
    anything else: a server endpoint string of Twisted (unix:/run/broker.sock, systemd:domain=INET:index=0 ...)

Without an interface that is every IPv4 address; ``interface=::`` is every address of both families. An IPv6 address may
stand bare, in brackets, or with its colons escaped as Twisted wants them. Port 0 takes any free port.

Two steps, so that a port that is taken is known before anything else is done: `reserve` binds the socket and lets the
system queue what connects, `Reserved.serve` puts the listener's factory behind it. ``tls`` and ``wss`` use the
broker's certificate. For ``ws`` and ``wss`` the listener gives a ``websocket_factory()``, for ``udp`` a
``datagram_protocol()``, for the others it is a factory itself; a binding whose listener has none is not served.

Where connections come through proxies, their PROXY header is read before anything else, also before the TLS of ``tls``
and ``wss``; an endpoint string with a TLS of its own has it inside that. Datagrams have none.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from broker.listening.tls_transport import OverTLS
from broker.listening.transport import adopt

OURS = ("tcp", "tls", "ws", "wss", "udp")
#: Connections that may wait to be accepted; the system may allow fewer.
BACKLOG = 4096
#: The largest datagram of any protocol here fits with room to spare.
MAX_DATAGRAM = 65_535


#: From what is served, and the listener that it belongs to, to what is served instead.
Before = Callable[[Any, Any], Any]


class BindError(Exception):
    """A binding cannot be had; the text is one line."""


@dataclass(frozen=True, slots=True)
class Bind:
    """One parsed bind string. ``kind`` is of `OURS`, or empty for an endpoint string of Twisted."""

    text: str
    kind: str = ""
    port: int = 0
    interface: str = ""

    @property
    def secure(self) -> bool:
        return self.kind in ("tls", "wss")


def parse_bind(text: str) -> Bind:
    """Raises ValueError with what is allowed."""
    kind, colon, rest = text.partition(":")
    if kind not in OURS:
        if not colon:
            raise ValueError(f"must be {', '.join(OURS)} with :PORT, or an endpoint string of Twisted")
        return Bind(text)
    port, _, option = rest.partition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"must be {kind}:PORT or {kind}:PORT:interface=ADDRESS with a port of 0 to 65535")
    if not option:
        return Bind(text, kind, int(port))
    name, _, address = option.partition("=")
    address = address.replace("\\", "").removeprefix("[").removesuffix("]")
    try:
        ip_address(address.partition("%")[0])
    except ValueError:
        address = ""
    if name != "interface" or not address:
        raise ValueError(f"after {kind}:{port} only :interface=ADDRESS is allowed, with an IPv4 or IPv6 address")
    return Bind(text, kind, int(port), address)


class Reserved:
    """A binding whose address is ours already, if it is one of ours. `serve` or `release` it."""

    def __init__(self, listener: str, bind: Bind, reactor: Any, contexts: Any, before: Before | None = None) -> None:
        self.listener = listener
        self.bind = bind
        self._before = before
        self._reactor = reactor
        self._contexts = contexts
        self._socket: socket.socket | None = None

    def serve(self, listener: Any) -> Deferred[IListeningPort | None]:
        """Put a listener behind the binding; None if it has nothing for this kind. Fails with BindError."""
        on_top = _on_top(listener, self.bind)
        if on_top is None:
            self.release()
        serving: Deferred[IListeningPort | None] = maybeDeferred(self._serve, on_top, listener)
        return serving.addErrback(self._refused)

    def _serve(self, on_top: Any, listener: Any) -> Any:
        if on_top is None:
            return None
        if self.bind.secure:
            on_top = OverTLS(self._contexts, False, on_top)
        if self._before is not None and self.bind.kind != "udp":
            on_top = self._before(on_top, listener)
        if self._socket is None:
            return serverFromString(self._reactor, self.bind.text).listen(on_top)
        family, number = self._socket.family, self._socket.fileno()
        try:
            if self.bind.kind == "udp":
                return self._reactor.adoptDatagramPort(number, family, on_top, MAX_DATAGRAM)
            return adopt(self._reactor, number, family, on_top)
        finally:
            self.release()  # the reactor has its own duplicate

    def _refused(self, failure: Failure) -> None:
        raise _refusal(self.listener, self.bind, failure.value)

    def address(self) -> tuple[str, int]:
        """The host and port that are ours until it is served or released."""
        if self._socket is None:
            raise ValueError(f"{self.bind.text} is not reserved")
        host, port, *_ = self._socket.getsockname()
        return host, port

    def release(self) -> None:
        """Give the address back; harmless twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def reserve(
    listener: str,
    bind: Bind,
    reactor: Any,
    contexts: Any,
    before: Before | None = None,
    *,
    share: bool = False,
    listen: bool = True,
) -> Reserved:
    """Take the address of ``bind`` for the listener of that name. Raises BindError.

    ``contexts`` (of `broker.tls.Certificate`) makes the TLS side of each connection; ``before`` the factory that is put
    before what is served, if there is to be one. ``share``: other processes may have the same address, and the system
    shares what comes among them; without ``listen`` nothing comes here.
    """
    reserved = Reserved(listener, bind, reactor, contexts, before)
    if bind.kind:
        try:
            reserved._socket = _open(bind, share, listen)
        except OSError as error:
            raise _refusal(listener, bind, error) from None
    return reserved


def address_of(port: IListeningPort) -> str:
    """The address that a port really has, for log lines: ``127.0.0.1:1883``, ``[::1]:1883``, or a path."""
    address: Any = port.getHost()
    if not hasattr(address, "port"):
        return str(getattr(address, "name", address))
    host = address.host
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _open(bind: Bind, share: bool, listen: bool) -> socket.socket:
    """A socket at the address of ``bind``, listening unless it is for datagrams."""
    interface = bind.interface or "0.0.0.0"  # nosec B104 # what operators write
    six = isinstance(ip_address(interface.partition("%")[0]), IPv6Address)
    family = socket.AF_INET6 if six else socket.AF_INET
    kind = socket.SOCK_DGRAM if bind.kind == "udp" else socket.SOCK_STREAM
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = socket.getaddrinfo(interface, bind.port, family, kind, flags=socket.AI_NUMERICHOST)[0][4]
        opened.bind(address)
        if kind == socket.SOCK_STREAM and listen:
            opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _on_top(listener: Any, bind: Bind) -> Any:
    """What of the listener goes onto such a binding, or None."""
    needed = {"ws": "websocket_factory", "wss": "websocket_factory", "udp": "datagram_protocol"}.get(bind.kind)
    if needed is None:
        return listener if hasattr(listener, "buildProtocol") else None
    make: Callable[[], Any] | None = getattr(listener, needed, None)
    return None if make is None else make()


#: What a newcomer should look at.
_HINTS: Final = {
    errno.EADDRINUSE: " (by another broker, or its demo? any other port will do)",
    errno.EACCES: " (ports below 1024 need a right that this user has not)",
}


def _refusal(listener: str, bind: Bind, error: BaseException | None) -> BindError:
    """The line for a binding that failed."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    hint = _HINTS.get(getattr(error, "errno", None) or 0, "")
    return BindError(f'listeners.{listener}.bind = "{bind.text}": cannot listen: {why}{hint}')
