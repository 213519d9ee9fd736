"""A certificate authority and what it signs, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; files are made in ``folder``. ``above`` has signed this one."""

    def __init__(self, folder: Path, name: str, above: Authority | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = above or self
        self.certificate = self._sign(signer, self.name, self.key, [], DAY, is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        *names: str,
        valid: timedelta = DAY,
        use: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        hosts: Sequence[str] = (),
    ) -> Path:
        """A PEM file with key and certificate of a client with these common names, or of a server at these hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Devices"),
                *(x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names),
            ]
        )
        certificate = self._sign(self, subject, key, [use], valid, hosts=hosts)
        file = self.folder / f"client-{certificate.serial_number:x}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    @staticmethod
    def _sign(
        signer: Authority,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        uses: list[x509.ObjectIdentifier],
        valid: timedelta,
        is_authority: bool = False,
        hosts: Sequence[str] = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if hosts:
            found = [x509.IPAddress(ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
        return builder.sign(signer.key, hashes.SHA256())
