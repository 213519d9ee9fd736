"""Who the certificate of a TLS client says it is."""

from __future__ import annotations

from typing import Any

from cryptography.x509.oid import NameOID
from OpenSSL import SSL


def verified_name(transport: Any) -> str | None:
    """The common name (2.5.4.3) of the subject of the certificate that the client has shown, or None.

    A certificate that TLS could not verify ends the handshake, so whatever is shown has been verified. One with no
    common name or several has none that could be relied on, nor has one that cannot be printed.
    """
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if not isinstance(handle, SSL.Connection):
        return None
    certificate = handle.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return None
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:  # read only now, and not to be read
        return None
    name = names[0].value if len(names) == 1 else ""
    return name if isinstance(name, str) and name and name.isprintable() else None
