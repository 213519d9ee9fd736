"""Whose signature makes the certificate of a receiver good."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from OpenSSL import crypto
from twisted.internet.ssl import Certificate


def authorities(path: str) -> list[Certificate] | None:
    """Those of a PEM file; None without a path: the system's. Raises OSError, ValueError."""
    if not path:
        return None
    found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return [Certificate(crypto.X509.from_cryptography(one)) for one in found]
