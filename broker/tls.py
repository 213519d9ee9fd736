"""The broker's certificate: read from the files of ``[tls]``, or made at the first start, and read again on SIGHUP.

The self-signed one is for trying things out: EC P-256, for this host's name, localhost, 127.0.0.1 and ::1, valid for
ten years (devices that pin it cannot be visited to renew it). It lies in ``<data_dir>/tls/`` and is kept once made.

TLS 1.2 and 1.3, with Twisted's choice of ciphers. A connection keeps the certificate that it started with; a new file
is used for connections from then on, and one that cannot be used leaves the old one in place.

A client is asked for a certificate where a listener says so. Then ``client_ca`` is read along with the others, and a
certificate that is shown has to be good: signed by one of those, in its time, and for clients if it says what it is
for. Lists of revoked certificates are not read.

Where nobody is asked for a certificate, sessions are resumed with tickets, which nobody has to keep here: clients that
come back within two hours (`TICKETS_FOR`) are spared the signatures. What tickets are sealed with lives until the
certificate is read again; then, and after a restart, clients begin anew. Where certificates are asked for, nothing is
resumed: one that was good when the session began might not be so any more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer

from broker.listening.settings import ClientCertificates
from broker.settings.tables import TlsTable

#: The name of the self-signed certificate's key in the folder ``tls``.
PRIVATE_KEY = "private_key.pem"
VALID_FOR = timedelta(days=3650)
#: Seconds in which a session may be resumed.
TICKETS_FOR = 7_200
#: Seconds before the end of our certificate from which on it is worth a warning.
WARN_BEFORE = 30 * 86_400.0
#: A clock that is a little behind ours must not find the certificate of the future.
BACKDATED = timedelta(days=1)


class TlsError(Exception):
    """The certificate cannot be used; the text is one line."""


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """The present certificate; makes the TLS side of each connection. Raises TlsError when it cannot be read."""

    def __init__(self, table: TlsTable, data_dir: Path) -> None:
        self._made = data_dir / "tls"
        self._table = table
        #: UNIX seconds: when the first of our certificate and its chain ends.
        self.expires_at = 0.0
        #: By what is asked of clients, as far as somebody asks it.
        self._contexts: dict[ClientCertificates, SSL.Context] = {"off": self._read(table)}

    def asking(self, clients: ClientCertificates) -> Asking:
        """The same certificate, for listeners that ask their clients for theirs. Raises TlsError without a CA."""
        if clients not in self._contexts:
            self._contexts[clients] = self._read(self._table, clients)
        return Asking(self, clients)

    def reload(self, table: TlsTable) -> None:
        """Read the files again. Raises TlsError and keeps what there is if they cannot be used."""
        before = self.expires_at
        try:
            self._contexts = {clients: self._read(table, clients) for clients in self._contexts}
        except TlsError:
            self.expires_at = before
            raise
        self._table = table

    def warning(self, now: float) -> str:
        """What is to be said of the end of our certificate, ``now`` (UNIX seconds); empty while it is far away."""
        left = self.expires_at - now
        if left > WARN_BEFORE:
            return ""
        when = datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"it ends at {when}, in {left / 86_400:.1f} days" if left > 0 else f"it ended at {when}"

    def connection(self, clients: ClientCertificates) -> SSL.Connection:
        """The TLS side of a new connection."""
        return SSL.Connection(self._contexts[clients], None)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Twisted asks for each connection; see IOpenSSLServerConnectionCreator."""
        return self.connection("off")

    def _read(self, table: TlsTable, clients: ClientCertificates = "off") -> SSL.Context:
        if table.certificate:
            certificate, key = Path(table.certificate), Path(table.private_key)
        else:
            certificate, key = self_signed(self._made)
        chain = Path(table.chain) if table.chain else None
        try:
            context = context_of(certificate, key, chain, tickets=clients == "off")
            self.expires_at = end_of(certificate, chain)
            if clients != "off":
                if not table.client_ca:
                    raise TlsError("client_ca is needed where client certificates are asked for")
                ask_clients(context, Path(table.client_ca), clients == "required")
            return context
        except TlsError as error:
            raise TlsError(f"[tls]: {error}") from None


@implementer(IOpenSSLServerConnectionCreator)
class Asking:
    """What `Certificate.asking` gives."""

    def __init__(self, certificate: Certificate, clients: ClientCertificates) -> None:
        self._certificate = certificate
        self._clients = clients

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Twisted asks for each connection; see IOpenSSLServerConnectionCreator."""
        return self._certificate.connection(self._clients)


def ask_clients(context: SSL.Context, client_ca: Path, required: bool) -> None:
    """Have clients asked for a certificate that one of those in the file has signed, or is. Raises TlsError."""
    certificates = _certificates(client_ca)
    store = context.get_cert_store()
    assert store is not None
    # What the operator names is trusted as it stands, whether or not a root is above it.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    ours = [crypto.X509.from_cryptography(one) for one in certificates]
    for one in ours:
        store.add_cert(one)
    context.set_client_ca_list([one.get_subject() for one in ours])
    context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0))


def context_of(certificate: Path, private_key: Path, chain: Path | None, tickets: bool = True) -> SSL.Context:
    """The TLS context for these PEM files; the first may hold the chain behind its own. Raises TlsError."""
    certificates = _certificates(certificate)
    if chain is not None:
        certificates += _certificates(chain)
    ours, *others = (crypto.X509.from_cryptography(one) for one in certificates)
    try:
        key = serialization.load_pem_private_key(_bytes(private_key), password=None)
    except (ValueError, TypeError) as error:
        raise TlsError(f"{private_key}: not a PEM private key without a password: {_first_line(error)}") from None
    try:
        options = CertificateOptions(
            privateKey=crypto.PKey.from_cryptography_key(key),  # type: ignore[arg-type]  # any other kind raises TypeError
            certificate=ours,
            extraCertChain=others,
            raiseMinimumTo=TLSVersion.TLSv1_2,
            enableSessionTickets=tickets,
        )
        context = options.getContext()
        context.set_timeout(TICKETS_FOR)
        # Twisted's own wants to know the connection's protocol, and picks an empty name when nothing fits.
        context.set_alpn_select_callback(_choose_protocol)
        return context
    except (SSL.Error, TypeError) as error:
        raise TlsError(f"{certificate} and {private_key} do not belong together: {_first_line(error)}") from None


def end_of(certificate: Path, chain: Path | None) -> float:
    """When the first of the certificates in these files ends, in UNIX seconds. Raises TlsError."""
    certificates = _certificates(certificate) + (_certificates(chain) if chain is not None else [])
    return min(one.not_valid_after_utc for one in certificates).timestamp()


def _choose_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """What is answered to a client that offers application protocols (ALPN): HTTP/1.1, or nothing."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Paths of the certificate and key in ``folder``, made now if they are not there. Raises TlsError."""
    certificate, private_key = folder / "certificate.pem", folder / PRIVATE_KEY
    if not (certificate.exists() and private_key.exists()):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            certificate_pem, key_pem = make_self_signed(socket.gethostname())
            _write(private_key, key_pem, 0o600)
            _write(certificate, certificate_pem, 0o644)
        except OSError as error:
            raise TlsError(f"{folder}: cannot keep a certificate there: {error.strerror}") from None
    return certificate, private_key


def make_self_signed(hostname: str, now: datetime | None = None) -> tuple[bytes, bytes]:
    """PEM texts of a new certificate and its key."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    names = list(dict.fromkeys(["localhost", hostname]))
    alternatives = [
        *(x509.DNSName(name) for name in names if name.isascii() and name),
        *(x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", "::1")),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_bytes(path))
    except ValueError as error:
        raise TlsError(f"{path}: not a PEM certificate: {_first_line(error)}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: cannot be read: {error.strerror}") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than ``mode`` says."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    os.replace(fresh, path)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
