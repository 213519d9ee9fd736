"""TLS under a listener's connections, without what Twisted's does for protocols that write in small pieces.

A heartbeat over TLS is one record in and one record out. Twisted's transport waits with each write for another turn of
the reactor, in case more comes, and asks OpenSSL twice more than there are answers, which costs an exception each. Our
connections collect what they write themselves (`broker.routing.outbox`), and a chunk that is exactly one record holds
nothing more than that record, so `LeanTLS` hands writes on at once and asks once. Everything that is not the plain case
is left to Twisted: handshakes, renegotiations, half records, buffered writes, ends.

It calls OpenSSL by pyOpenSSL's own bindings, with one buffer for all connections: pyOpenSSL makes a new buffer for each
call, of as many bytes as there might be, and asks after each whether a callback has raised. Where OpenSSL does not say
yes, pyOpenSSL's way to tell why is taken.

The price: it looks at private names of `TLSMemoryBIOProtocol` and `OpenSSL.SSL`. `available` says whether they are
still there; without them Twisted's own is used. What it is worth is in NOTES.md.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IAddress
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

#: A record: type, version, length of what follows.
_HEAD: Final = 5
#: More than the longest record holds.
_MOST: Final = 32_768
#: Bytes that one record takes.
_RECORD: Final = 16_384

_ffi: Final[Any] = getattr(SSL, "_ffi", None)
_lib: Final[Any] = getattr(SSL, "_lib", None)
#: Where OpenSSL puts what it reads, for as long as it takes to copy that: there is one thread.
_BUFFER: Final[Any] = None if _ffi is None else _ffi.new("char[]", _MOST)
_VIEW: Final[Any] = None if _ffi is None else _ffi.buffer(_BUFFER)


class LeanTLS(TLSMemoryBIOProtocol):
    """`TLSMemoryBIOProtocol` with a short way for a chunk that is one record."""

    transport: Any
    #: Bytes that are missing of the record that has begun, and its head as far as that has come.
    _missing = 0
    _head = b""
    _wrote = False

    def dataReceived(self, data: bytes) -> None:
        """See `TLSMemoryBIOProtocol`."""
        single = not self._missing and not self._head and len(data) > _HEAD
        if single and _HEAD + (data[3] << 8 | data[4]) == len(data):
            if self._handshakeDone and not self._appSendBuffer:
                self._take_record(data)
                return
        else:
            self._follow(data)
        super().dataReceived(data)

    def _take_record(self, data: bytes) -> None:
        connection = self._tlsConnection
        _lib.BIO_write(connection._into_ssl, data, len(data))
        self._wrote = False
        size = _lib.SSL_read(connection._ssl, _BUFFER, _MOST)
        if size > 0:
            if not self._aborted:
                self.wrappedProtocol.dataReceived(_VIEW[:size])
            if self._wrote:
                return
        else:
            self._nothing_read(connection, size)
        self._flushSendBIO()

    def _nothing_read(self, connection: Any, result: int) -> None:
        """The record held nothing for us, or an end, or was none."""
        try:
            connection._raise_ssl_error(connection._ssl, result)
        except WantReadError:
            pass
        except ZeroReturnError:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        except Error:
            self._tlsShutdownFinished(Failure())

    def write(self, data: bytes) -> None:
        """See `TLSMemoryBIOProtocol`."""
        if self.disconnecting or self._lostTLSConnection or self._appSendBuffer or not 0 < len(data) <= _RECORD:
            super().write(data)
            return
        connection = self._tlsConnection
        sent = _lib.SSL_write(connection._ssl, data, len(data))
        if sent <= 0:
            try:
                connection._raise_ssl_error(connection._ssl, sent)  # which empties OpenSSL's list of errors
            except Error:  # it has to read first, or is broken
                super().write(data)
            return
        self._flushSendBIO()
        if sent < len(data):
            super().write(data[sent:])

    def _flushSendBIO(self) -> None:
        """Whatever OpenSSL had to say has been said with this."""
        self._wrote = True
        read_from = self._tlsConnection._from_ssl
        size = _MOST
        while size == _MOST:
            size = _lib.BIO_read(read_from, _BUFFER, _MOST)
            if size > 0:  # -1: it is empty
                self.transport.write(_VIEW[:size])

    def _follow(self, data: bytes) -> None:
        """Keep account of where records begin."""
        at, size = 0, len(data)
        while at < size:
            if self._missing:
                step = min(self._missing, size - at)
                self._missing -= step
            else:
                step = min(_HEAD - len(self._head), size - at)
                self._head += data[at : at + step]
                if len(self._head) == _HEAD:
                    self._missing = self._head[3] << 8 | self._head[4]
                    self._head = b""
            at += step


def available() -> bool:
    """Whether Twisted's protocol and pyOpenSSL's connection still have what `LeanTLS` looks at."""
    methods = ("_flushSendBIO", "_flushReceiveBIO", "_shutdownTLS", "_tlsShutdownFinished", "_checkHandshakeStatus")
    attributes = ("_handshakeDone", "_lostTLSConnection", "_aborted")
    made = TLSMemoryBIOProtocol.__init__.__code__.co_names + TLSMemoryBIOProtocol.makeConnection.__code__.co_names
    handles = SSL.Connection.__init__.__code__.co_names
    return (
        all(hasattr(TLSMemoryBIOProtocol, name) for name in methods + attributes)
        and "_appSendBuffer" in made
        and "_tlsConnection" in made
        and hasattr(tls, "TLSMemoryBIOFactory")
        and all(name in handles for name in ("_ssl", "_into_ssl", "_from_ssl"))
        and hasattr(SSL.Connection, "_raise_ssl_error")
        and _BUFFER is not None
        and all(hasattr(_lib, name) for name in ("SSL_read", "SSL_write", "BIO_read", "BIO_write"))
    )


class OverTLS(TLSMemoryBIOFactory):
    """TLS around a listener, which may refuse: Twisted's own would wrap the None and fall over it."""

    if available():
        protocol = LeanTLS

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Close the socket at once when the listener says so."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)
