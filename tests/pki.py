# SPDX-License-Identifier: Apache-2.0
"""A plant's certificate authority for tests: certificates as good and as bad as they come."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")


def now() -> datetime:
    """This second; certificates know no smaller time."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Credential:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Ed25519PrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def serial(self) -> str:
        """The certificate's number as fedmill writes it."""
        return f"{self.certificate.serial_number:x}"

    def write(self, folder: Path, ca: bytes = b"") -> Path:
        """Put ``certificate.pem``, ``key.pem`` and, where given, ``ca.pem`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in {"certificate": self.pem, "key": self.key_pem, "ca": ca}.items():
            if data:
                path = folder / f"{name}.pem"
                path.touch(0o600)
                path.write_bytes(data)
        return folder


class Authority:
    """The CA of a plant; owns its key."""

    def __init__(self, name: str = "Plant CA") -> None:
        """One that is valid since yesterday, for ten years."""
        self._key = Ed25519PrivateKey.generate()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            _builder(self._name, self._name, self._key.public_key(), now() - DAY, 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, None)
        )

    @property
    def pem(self) -> bytes:
        """The CA's own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        begin: datetime | None = None,
        life: timedelta = 90 * DAY,
        key: Ed25519PrivateKey | None = None,
    ) -> Credential:
        """A certificate of an agent or, where ``hosts`` are named, of a server."""
        key = key or Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        begin = begin or now() - timedelta(minutes=5)
        use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        authority = self._key.public_key()
        builder = (
            _builder(subject, self._name, key.public_key(), begin, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(each) for each in hosts])
            builder = builder.add_extension(names, critical=False)
        return Credential(builder.sign(self._key, None), key)

    def server(self, *hosts: str, life: timedelta = 90 * DAY) -> Credential:
        """A certificate of a broker on this machine, or of one with other names."""
        return self.issue("broker", hosts=hosts or LOOPBACK, life=life)

    def expired(self, name: str, *, hosts: Sequence[str] = ()) -> Credential:
        """A certificate that was valid until an hour ago."""
        begin = now() - 2 * DAY
        return self.issue(name, hosts=hosts, begin=begin, life=2 * DAY - timedelta(hours=1))

    def early(self, name: str, *, hosts: Sequence[str] = ()) -> Credential:
        """A certificate that is valid from tomorrow on."""
        return self.issue(name, hosts=hosts, begin=now() + DAY)

    def stale(self) -> bytes:
        """A list of revoked certificates that should have been replaced an hour ago."""
        return self.revocations(until=now() - timedelta(hours=1))

    def revocations(self, *revoked: Credential, until: datetime | None = None) -> bytes:
        """The list of the certificates that are revoked (CRL, PEM)."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now() - DAY)
            .next_update(until or now() + 30 * DAY)
        )
        for each in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(each.certificate.serial_number)
                .revocation_date(now() - timedelta(minutes=1))
                .build()
            )
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, None).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: Ed25519PublicKey,
    begin: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
