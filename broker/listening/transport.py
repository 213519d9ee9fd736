"""A TCP transport that sends at once when nothing is waiting to be sent, and reads without a detour.

Twisted's own ``write`` only buffers: it arms the poller for writing, waits for another turn, sends, and disarms it
again. For a small answer on an idle socket that is two system calls and a turn too many. `DirectServer` tries ``send``
first and leaves to Twisted whatever the socket did not take, so all that is said about buffering, producers and closing
stays as it is. The price: it looks at ``dataBuffer``, ``_tempDataBuffer`` and ``_dataReceived``, which Twisted does not
promise to keep.
`available` says whether this Twisted still has them; without them plain ports are used.

What it is worth is in NOTES.md.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort, IReactorFDSet
from twisted.internet.main import CONNECTION_LOST


class DirectServer(tcp.Server):
    """`tcp.Server` whose ``write`` goes to the socket when nothing is buffered before it."""

    def doRead(self) -> Any:
        """Like Twisted's, without the calls in between."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return self._dataReceived(data)
        self.protocol.dataReceived(data)
        return None

    def write(self, data: bytes) -> None:
        if self._tempDataBuffer or self.dataBuffer or not self.connected or self.disconnecting or self.TLS:
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Broken. The system tells that once only, and a read after it would look like a clean end.
            self.doRead = _connection_lost  # type: ignore[method-assign]  # for this one object
            sent = 0
        if sent < len(data):
            super().write(data[sent:])


def _connection_lost() -> ConnectionLost:
    return CONNECTION_LOST


class DirectPort(tcp.Port):
    """A listening port whose connections are `DirectServer`."""

    transport = DirectServer


def available() -> bool:
    """Whether Twisted's transports still have what `DirectServer` looks at."""
    needed = ("write", "dataBuffer", "connected", "disconnecting", "TLS", "doRead", "_dataReceived")
    return (
        hasattr(tcp.Port, "transport")
        and all(hasattr(tcp.Server, name) for name in needed)
        and "_tempDataBuffer" in FileDescriptor.__init__.__code__.co_names
    )


def adopt(reactor: Any, descriptor: int, family: int, factory: Any) -> IListeningPort:
    """Like ``reactor.adoptStreamPort``, with `DirectServer` connections where this Twisted and reactor allow it."""
    if not available() or not IReactorFDSet.providedBy(reactor):
        plain: IListeningPort = reactor.adoptStreamPort(descriptor, family, factory)
        return plain
    port: DirectPort = DirectPort._fromListeningDescriptor(reactor, descriptor, family, factory)
    port.startListening()
    return port
