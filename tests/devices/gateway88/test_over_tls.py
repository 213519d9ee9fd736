"""Gateways over TLS: handshakes that end and those that do not, certificates of clients, sessions that are resumed."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88 import Settings
from broker.listening.settings import ClientCertificates
from broker.settings.tables import TlsTable
from broker.tls import Certificate
from tests.client_certificates import Authority
from tests.devices.gateway88.bed import NOW, Bed
from tests.devices.gateway88.tls_gateway import TlsGateway, client_context
from tests.devices.gateway88.vectors import ACK_A, GATEWAY, HB_FRAME, INFO, MAC, NEWDEVICES
from tests.transports import ADDRESS

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class TlsTestCase(SynchronousTestCase):
    clients: ClientCertificates = "off"
    settings = Settings()

    def setUp(self) -> None:
        self.bed = Bed(self.settings)
        self.folder = Path(self.mktemp())
        self.authority = Authority(self.folder / "ca", "ours")
        self.certificate = Certificate(TlsTable(client_ca=str(self.authority.file)), self.folder)
        self.contexts: Any = self.certificate.asking(self.clients)

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def gateway(
        self,
        certificate: Path | None = None,
        mac: bytes = MAC,
        version: ssl.TLSVersion | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        address: str = ADDRESS,
    ) -> TlsGateway:
        context = context or client_context(certificate, version)
        return TlsGateway(self.bed, self.contexts, mac, context, session, address)

    def met(self, *arguments: Any, **more: Any) -> TlsGateway:
        gateway = self.gateway(*arguments, **more)
        gateway.shake_hands()
        return gateway


class HandshakeTests(TlsTestCase):
    def test_both_versions(self) -> None:
        for version in (V12, V13):
            gateway = self.met(version=version)
            gateway.send(HB_FRAME)
            self.assertEqual(gateway.received, ACK_A)
            self.bed.tick(21)

    def test_cut_anywhere(self) -> None:
        """Records in pieces of any size, and several in one piece."""
        for size in (1, 2, 5, 6, 50, 1_000):
            self.bed.tick(21)
            gateway = self.met()
            for frame in (HB_FRAME, NEWDEVICES, HB_FRAME + NEWDEVICES):
                gateway.client.write(frame)
            data = gateway.take_outgoing()
            for at in range(0, len(data), size):
                gateway.give(data[at : at + size])
            self.assertEqual(len(gateway.received), 4 * len(ACK_A), size)
            gateway.send(NEWDEVICES)
            self.assertEqual(len(gateway.received), 5 * len(ACK_A), size)

    def test_it_says_goodbye(self) -> None:
        gateway = self.met()
        gateway.send(HB_FRAME)
        try:
            gateway.client.unwrap()
        except ssl.SSLWantReadError:
            pass
        gateway.pump()
        self.assertFalse(gateway.transport.connected)
        self.assertEqual(self.bed.heard.presences[-1][:2], (GATEWAY, False))

    def test_it_ends_without_a_handshake(self) -> None:
        for sent in (b"", b"\x16\x03\x01"):
            gateway = self.gateway()
            gateway.give(sent)
            gateway.transport.lose()
            self.assertEqual(gateway.reason, "tls_failed")

    def test_what_is_no_tls(self) -> None:
        for data in (HB_FRAME, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            gateway = self.gateway()
            gateway.give(data)
            self.bed.tick(1)
            self.assertEqual(gateway.reason, "tls_failed")
        self.assertEqual(self.bed.listener.stats.closed, {"tls_failed": 3})

    def test_a_handshake_has_its_time(self) -> None:
        silent, half = self.gateway(), self.gateway()
        try:
            half.client.do_handshake()
        except ssl.SSLWantReadError:
            half.give(half.take_outgoing()[:50])
        met = self.met()
        self.bed.tick(14)
        self.assertEqual([one.reason for one in (silent, half, met)], ["", "", ""])
        self.bed.tick(20)
        self.assertEqual([one.reason for one in (silent, half, met)], ["handshake_timeout", "handshake_timeout", ""])
        self.bed.tick(17)
        self.assertEqual(met.reason, "auth_timeout")

    def test_thousands_of_half_open_handshakes(self) -> None:
        """They end in time, and whoever comes meanwhile is served."""
        crowd = [self.gateway(address=f"198.51.100.{number % 250}") for number in range(1_000)]
        gateway = self.met()
        gateway.send(HB_FRAME)
        self.assertEqual(gateway.received, ACK_A)
        self.bed.tick(22)
        self.assertEqual({one.reason for one in crowd}, {"handshake_timeout"})
        self.assertEqual(len(self.bed.listener.connections), 1)
        self.assertEqual(gateway.reason, "")

    def test_sessions_are_resumed(self) -> None:
        for version in (V12, V13):
            context = client_context(version=version)
            first = self.met(context=context)
            first.send(HB_FRAME)
            again = self.met(context=context, session=first.client.session)
            again.say(INFO, 1)
            self.assertEqual((first.client.session_reused, again.client.session_reused), (False, True))
            self.assertEqual(again.connection.identity, GATEWAY)

    def test_a_new_certificate_is_for_new_connections(self) -> None:
        old = self.met()
        files = Authority(self.folder / "new", "new")
        pem = files.sign("broker", use=ExtendedKeyUsageOID.SERVER_AUTH)
        self.certificate.reload(TlsTable(certificate=str(pem), private_key=str(pem), client_ca=str(files.file)))
        old.send(HB_FRAME)
        self.assertEqual(old.received, ACK_A)
        shown = self.met().client.getpeercert(binary_form=True)
        assert shown is not None
        self.assertEqual(x509.load_der_x509_certificate(shown), x509.load_pem_x509_certificates(pem.read_bytes())[0])


class OptionalTests(TlsTestCase):
    clients = "optional"

    def test_without_a_certificate(self) -> None:
        gateway = self.met()
        gateway.send(HB_FRAME)
        self.assertEqual(gateway.received, ACK_A)

    def test_a_certificate_of_somebody_else(self) -> None:
        stranger = Authority(self.folder / "other", "other").sign("gw")
        gateway = self.met(stranger)
        self.bed.tick(1)
        self.assertIn(gateway.reason, ("tls_failed", "connection_lost"))
        self.assertIsNotNone(gateway.alert)

    def test_bound_to_a_subject(self) -> None:
        self.bed.registry.records[GATEWAY].attributes["certificate"] = "gw 7"
        for names, version, admitted in (
            (("gw 7",), V12, True),
            (("gw 7",), V13, True),
            (("gw 8",), V13, False),
            (("gw 7", "gw 8"), V13, False),
            ((), V13, False),
        ):
            gateway = self.met(self.authority.sign(*names), version=version)
            gateway.say(INFO, 1)
            self.assertEqual(bool(gateway.connection.identity), admitted, names)
            if not admitted:
                self.bed.tick(1)
                self.assertEqual(gateway.reason, "auth_failed")
        without = self.met()
        without.say(INFO, 2)
        self.bed.tick(1)
        self.assertEqual(without.reason, "auth_failed")

    def test_bound_to_a_fingerprint(self) -> None:
        mine, other = self.authority.sign("gw"), self.authority.sign("gw")
        fingerprint = x509.load_pem_x509_certificates(mine.read_bytes())[0].fingerprint(hashes.SHA256()).hex()
        self.bed.registry.records[GATEWAY].attributes["certificate"] = f"sha256:{fingerprint}"
        for file, admitted in ((mine, True), (other, False)):
            gateway = self.met(file)
            gateway.say(INFO, 1)
            self.assertEqual(bool(gateway.connection.identity), admitted)

    def test_a_session_with_a_certificate_is_not_resumed(self) -> None:
        """The certificate might not be good any more."""
        for version in (V12, V13):
            context = client_context(self.authority.sign("gw"), version)
            first = self.met(context=context)
            first.say(INFO, 1)
            again = self.met(context=context, session=first.client.session)
            again.say(INFO, 1)
            self.assertFalse(again.client.session_reused)
            self.assertEqual(again.connection.identity, GATEWAY)


class RequiredTests(TlsTestCase):
    clients = "required"

    def test_without_a_certificate(self) -> None:
        for version in (V12, V13):
            gateway = self.met(version=version)
            self.bed.tick(1)
            self.assertEqual(gateway.reason, "tls_failed")

    def test_with_one(self) -> None:
        gateway = self.met(self.authority.sign("anything"))
        gateway.say(INFO, 1)
        self.assertEqual(gateway.connection.identity, GATEWAY)


class PinnedTests(TlsTestCase):
    clients = "optional"
    settings = Settings(pin_certificates=True)

    def test_the_first_that_it_shows(self) -> None:
        without = self.met()
        without.send(HB_FRAME)
        self.assertEqual(without.received, ACK_A)
        mine = self.authority.sign("gw")
        for file, admitted in ((mine, True), (self.authority.sign("gw"), False), (mine, True), (None, False)):
            gateway = self.met(file)
            gateway.say(INFO, 1)
            self.assertEqual(bool(gateway.connection.identity), admitted)
        self.assertRegex(self.bed.registry.records[GATEWAY].attributes["certificate"], "^sha256:[0-9a-f]{64}$")
        self.assertEqual(self.bed.clock.seconds(), NOW)
