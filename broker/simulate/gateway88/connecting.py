"""TLS as gateways have it: the server's certificate is not checked, and a session is resumed where one is at hand."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

#: pyOpenSSL has no method that says whether a session was resumed.
_lib: Any = vars(SSL)["_lib"]


@implementer(IOpenSSLClientConnectionCreator)
class Resuming:
    """The TLS side of one gateway's connections. ``context`` is shared by all gateways of a fleet."""

    def __init__(self, context: SSL.Context, resume: bool = True) -> None:
        self._context = context
        self._resume = resume
        self._session: SSL.Session | None = None
        self._noted: SSL.Connection | None = None

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLClientConnectionCreator."""
        connection = SSL.Connection(self._context, None)
        if self._session is not None:
            connection.set_session(self._session)
        return connection

    def note(self, transport: Any) -> bool:
        """Keep the session of a connection that has received something; whether it was itself resumed."""
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        if not isinstance(handle, SSL.Connection):
            return False
        if self._resume:
            self._session = handle.get_session()
            self._noted = handle
        return bool(_lib.SSL_session_reused(handle._ssl))

    def ended(self) -> None:
        """The connection is gone. OpenSSL would not resume the session of one that ended without a goodbye."""
        if self._noted is not None:
            self._noted.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
            self._noted = None


@implementer(IPolicyForHTTPS)
class Unchecked:
    """The same for a `twisted.web.client.Agent`."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def creatorForNetloc(self, hostname: bytes, port: int) -> Resuming:
        """See IPolicyForHTTPS."""
        return Resuming(self._context, resume=False)


def unchecked_context() -> SSL.Context:
    """For a whole fleet."""
    return CertificateOptions(enableSessionTickets=True).getContext()
