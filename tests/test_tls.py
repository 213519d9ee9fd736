"""The certificate: made, read, reloaded; handshakes over an in-memory pair."""

import os
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from broker.settings.tables import TlsTable
from broker.tls import VALID_FOR, Certificate, TlsError, make_self_signed, self_signed
from tests.client_certificates import Authority


def shake_hands(
    certificate: Certificate, method: int = SSL.TLS_CLIENT_METHOD, offered: Sequence[bytes] = ()
) -> SSL.Connection:
    """A client's end after the handshake with what the broker would use for one connection."""
    context = SSL.Context(method)
    if offered:
        context.set_alpn_protos(list(offered))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    server = certificate.serverConnectionForTLS(None)
    server.set_accept_state()
    ends = [client, server]
    for _ in range(10):
        for one, other in (ends, ends[::-1]):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass
    return client


def meet(certificate: Certificate, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """A client of the standard library after the handshake, and after the tickets that follow it have come."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, session=session)
    server = certificate.serverConnectionForTLS(None)
    server.set_accept_state()
    for _ in range(10):
        for step in (client.do_handshake, lambda: client.read(1)):
            try:
                step()
            except ssl.SSLWantReadError:
                pass
        if outgoing.pending:
            server.bio_write(outgoing.read())
        try:
            server.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            incoming.write(server.bio_read(65536))
        except SSL.WantReadError:
            pass
    return client


def served(certificate: Certificate) -> int:
    """The serial number that a client sees."""
    peer = shake_hands(certificate).get_peer_certificate(as_cryptography=True)
    assert peer is not None
    return peer.serial_number


def serial_of(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


class SelfSignedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_what_it_says(self) -> None:
        pem, _ = make_self_signed("box.example")
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost", "box.example"])
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        self.assertEqual(addresses, ["127.0.0.1", "::1"])
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        self.assertTrue(timedelta(days=3649) < left <= timedelta(days=3650))
        self.assertLess(certificate.not_valid_before_utc, datetime.now(UTC))

    def test_made_once_and_the_key_for_us_alone(self) -> None:
        certificate, key = self_signed(self.folder)
        first = certificate.read_bytes()
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self_signed(self.folder), (certificate, key))
        self.assertEqual(certificate.read_bytes(), first)
        self.assertEqual(sorted(os.listdir(self.folder)), ["certificate.pem", "private_key.pem"])

    def test_a_folder_that_cannot_be_made(self) -> None:
        self.folder.write_text("a file")
        error = self.assertRaises(TlsError, self_signed, self.folder)
        self.assertEqual(str(error), f"{self.folder}: cannot keep a certificate there: File exists")


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.data_dir = Path(self.mktemp())

    def files(self, name: str) -> tuple[Path, Path]:
        return self_signed(self.data_dir / name)

    def table(self, name: str) -> TlsTable:
        certificate, key = self.files(name)
        return TlsTable(certificate=str(certificate), private_key=str(key))

    def test_self_signed_without_a_table(self) -> None:
        certificate = Certificate(TlsTable(), self.data_dir)
        self.assertEqual(served(certificate), serial_of(self.data_dir / "tls" / "certificate.pem"))

    def test_configured_files(self) -> None:
        certificate = Certificate(self.table("ours"), self.data_dir)
        self.assertEqual(served(certificate), serial_of(self.files("ours")[0]))
        self.assertFalse((self.data_dir / "tls").exists())

    def test_a_chain_of_its_own_and_one_behind_ours(self) -> None:
        table = self.table("ours")
        behind = self.files("behind")[0]
        third = self.files("third")[0]
        both = self.data_dir / "both.pem"
        both.write_bytes(Path(table.certificate).read_bytes() + behind.read_bytes())
        given = TlsTable(certificate=str(both), private_key=table.private_key, chain=str(third))
        client = shake_hands(Certificate(given, self.data_dir))
        sent = client.get_peer_cert_chain(as_cryptography=True)
        assert sent is not None
        expected = [serial_of(path) for path in (Path(table.certificate), behind, third)]
        self.assertEqual([certificate.serial_number for certificate in sent], expected)

    def test_nothing_older_than_tls_1_2(self) -> None:
        certificate = Certificate(TlsTable(), self.data_dir)
        self.assertEqual(shake_hands(certificate).get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(shake_hands(certificate, SSL.TLSv1_2_METHOD).get_protocol_version_name(), "TLSv1.2")
        self.assertRaises(SSL.Error, shake_hands, certificate, SSL.TLSv1_1_METHOD)

    def test_application_protocols(self) -> None:
        certificate = Certificate(TlsTable(), self.data_dir)
        cases = {(): b"", (b"h2", b"http/1.1"): b"http/1.1", (b"h2", b"mqtt"): b""}
        for offered, chosen in cases.items():
            self.assertEqual(shake_hands(certificate, offered=offered).get_alpn_proto_negotiated(), chosen)

    def test_sessions_are_resumed(self) -> None:
        certificate = Certificate(TlsTable(), self.data_dir)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = version
            first = meet(certificate, context)
            again = meet(certificate, context, first.session)
            self.assertEqual((first.session_reused, again.session_reused), (False, True), version)
        certificate.reload(TlsTable())
        self.assertFalse(meet(certificate, context, first.session).session_reused)

    def test_when_it_ends(self) -> None:
        certificate = Certificate(TlsTable(), self.data_dir)
        now = time.time()
        self.assertLess(abs(certificate.expires_at - now - VALID_FOR.total_seconds()), 60)
        day = 86_400.0
        self.assertEqual(certificate.warning(certificate.expires_at - 30 * day - 1), "")
        self.assertRegex(
            certificate.warning(certificate.expires_at - 30 * day), r"^it ends at \d{4}-.* UTC, in 30.0 days$"
        )
        self.assertRegex(certificate.warning(certificate.expires_at + 1), r"^it ended at \d{4}-")

    def test_the_first_of_the_chain_to_end(self) -> None:
        table = self.table("ours")
        authority = Authority(self.data_dir / "ca", "short")
        given = TlsTable(certificate=table.certificate, private_key=table.private_key, chain=str(authority.file))
        certificate = Certificate(given, self.data_dir)
        self.assertLess(certificate.expires_at, time.time() + 2 * 86_400)
        ends = certificate.expires_at
        Path(table.private_key).write_text("nonsense")
        self.assertRaises(TlsError, certificate.reload, table)
        self.assertEqual(certificate.expires_at, ends)

    def test_reload(self) -> None:
        certificate = Certificate(self.table("one"), self.data_dir)
        certificate.reload(self.table("two"))
        self.assertEqual(served(certificate), serial_of(self.files("two")[0]))

    def test_a_broken_file_leaves_the_old_one(self) -> None:
        table = self.table("one")
        certificate = Certificate(table, self.data_dir)
        before = served(certificate)
        Path(table.certificate).write_text("-----BEGIN CERTIFICATE-----\nnonsense")
        self.assertRaises(TlsError, certificate.reload, table)
        self.assertEqual(served(certificate), before)

    def test_what_cannot_be_used_is_one_line(self) -> None:
        good = self.table("good")
        other = self.table("other")
        broken = self.data_dir / "broken.pem"
        broken.write_text("nonsense")
        cases = {
            TlsTable(certificate="/none", private_key=good.private_key): "/none: cannot be read: No such file",
            TlsTable(certificate=str(broken), private_key=good.private_key): f"{broken}: not a PEM certificate: ",
            TlsTable(certificate=good.certificate, private_key=str(broken)): f"{broken}: not a PEM private key ",
            TlsTable(
                certificate=good.certificate, private_key=other.private_key
            ): f"{good.certificate} and {other.private_key} do not belong together: ",
        }
        for table, start in cases.items():
            line = str(self.assertRaises(TlsError, Certificate, table, self.data_dir))
            self.assertTrue(line.startswith(f"[tls]: {start}"), line)
            self.assertNotIn("\n", line)
