# SPDX-License-Identifier: Apache-2.0
"""The plant's certificate authority: one Ed25519 key that signs certificates and revocations.

Nothing that a request asks for is copied but its key: who issues decides the name, the times and
what the certificate is good for (RFC 5280).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.crypto.certificates import check_validity, read_certificate
from fedmill_shared.crypto.keys import make_key, public_bytes
from fedmill_shared.crypto.validity import LATEST_NS, Validity
from fedmill_shared.errors import IdentityError

CA_DAYS = 3650
BACKDATED = timedelta(minutes=5)
"""By how much the clock of a box may be behind ours."""
SERIAL_BYTES = 16
CRL_DAYS = 30
"""A broker whose list has run out turns everybody away: a coordinator must be away for long."""
LONGEST_NAME = 64
_RESTORE = "restore ca.pem and ca.key from the backup; a new authority means to enrol all again"


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate and the key; ``repr`` shows neither.

    Attributes:
        pem: its own certificate.
        fingerprint: SHA-256 of that (DER), hexadecimal.
    """

    pem: bytes
    fingerprint: str
    _certificate: x509.Certificate
    _key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.fingerprint[:16]})"

    @classmethod
    def make(cls, name: str, now_ns: int) -> Self:
        """A new authority called ``name``, good for ten years from ``now_ns``.

        Raises:
            IdentityError: the name is empty or too long.
        """
        if not 0 < len(name) <= LONGEST_NAME:
            raise IdentityError(
                f"the authority cannot be called {name[:LONGEST_NAME]!r}",
                remedy=f"choose 1 to {LONGEST_NAME} characters",
            )
        key, begin = make_key(), _moment(now_ns) - BACKDATED
        subject, life = _name(name), (begin, begin + timedelta(days=CA_DAYS))
        builder = (
            _builder(subject, subject, key.public_key(), life, x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
        )
        return cls._of(builder.sign(key, None), key)

    @classmethod
    def load(cls, pem: bytes, key: Ed25519PrivateKey) -> Self:
        """The authority with this certificate and ``key``.

        Raises:
            IdentityError: the certificate is damaged, none of an authority, or of another key.
        """
        facts = read_certificate(pem)
        if not facts.is_ca:
            raise IdentityError(
                f"the certificate of {facts.agent or 'nobody'} is none of an authority",
                remedy="name the file that `fedmill ca init` wrote",
            )
        if facts.public != public_bytes(key):
            raise IdentityError("the authority's key does not belong to it", remedy=_RESTORE)
        try:
            return cls._of(x509.load_pem_x509_certificate(pem), key)
        except (ValueError, UnsupportedAlgorithm) as error:  # pragma: no cover  it was read above
            raise IdentityError("the certificate is damaged", remedy=_RESTORE) from error

    @classmethod
    def _of(cls, certificate: x509.Certificate, key: Ed25519PrivateKey) -> Self:
        pem = certificate.public_bytes(Encoding.PEM)
        return cls(pem, read_certificate(pem).fingerprint, certificate, key)

    @property
    def key(self) -> Ed25519PrivateKey:
        """For whoever writes it to its file; for nobody else."""
        return self._key

    @property
    def not_after_ns(self) -> int:
        """When the authority itself ends."""
        return _ns(self._certificate.not_valid_after_utc)

    def issue_client(
        self,
        name: str,
        public: bytes,
        *,
        now_ns: int,
        days: int,
        random: Callable[[int], bytes],
    ) -> bytes:
        """A certificate (PEM) with which the key ``public`` may connect as ``name``.

        Raises:
            IdentityError: the authority is not valid now.
        """
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._leaf(name, public, now_ns, days, random)
        return self._signed(builder.add_extension(usage, critical=False))

    def issue_server(
        self,
        hosts: Sequence[str],
        public: bytes,
        *,
        now_ns: int,
        days: int,
        random: Callable[[int], bytes],
    ) -> bytes:
        """A certificate (PEM) of a broker that is reached under these names and addresses.

        Raises:
            IdentityError: one of them is no name, there is none, or the authority is not valid now.
        """
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        names = x509.SubjectAlternativeName([host_name(each) for each in hosts])
        if not hosts:
            raise IdentityError("the broker has no name", remedy="say how agents reach it")
        builder = self._leaf("broker", public, now_ns, days, random)
        builder = builder.add_extension(names, critical=False)
        return self._signed(builder.add_extension(usage, critical=False))

    def revocations(self, revoked: Iterable[CertificateRecord], now_ns: int) -> bytes:
        """The list of what is ``revoked`` (CRL, PEM), good for ``CRL_DAYS``."""
        now = _moment(now_ns)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(now_ns), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(each.serial, 16))
            entry = entry.revocation_date(_moment(each.revoked_ns))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, None).public_bytes(Encoding.PEM)

    def read_revocations(self, pem: bytes) -> tuple[frozenset[str], int]:
        """Serial numbers of a list that this authority made (hexadecimal), and when, ns.

        Raises:
            IdentityError: it is damaged, or of another authority.
        """
        try:
            crl = x509.load_pem_x509_crl(pem)
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            ours = crl.is_signature_valid(self._key.public_key())
        except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
            raise IdentityError("this is no list of revocations of ours") from error
        if not ours:
            raise IdentityError("this list of revocations is of another authority")
        return frozenset(f"{each.serial_number:x}" for each in crl), number

    def _leaf(
        self, name: str, public: bytes, now_ns: int, days: int, random: Callable[[int], bytes]
    ) -> x509.CertificateBuilder:
        check_validity(read_certificate(self.pem), now_ns)
        own, now = self._certificate, _moment(now_ns)
        begin = max(now - BACKDATED, own.not_valid_before_utc)
        end = min(now + timedelta(days=days), own.not_valid_after_utc)
        key = Ed25519PublicKey.from_public_bytes(public)
        # Positive, and never 0: RFC 5280, section 4.1.2.2.
        serial = int.from_bytes(random(SERIAL_BYTES)) or 1
        return (
            _builder(_name(name), own.subject, key, (begin, end), serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(self._key_identifier(), critical=False)
        )

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, None).public_bytes(Encoding.PEM)


def list_validity(pem: bytes) -> Validity:
    """From when to when a list of revocations is good, whoever made it.

    Raises:
        IdentityError: it is none.
    """
    try:
        found = x509.load_pem_x509_crl(pem)
    except ValueError as error:
        raise IdentityError("this is no list of revocations") from error
    begin, end = found.last_update_utc, found.next_update_utc
    return Validity(_ns(begin), _ns(end) if end is not None else LATEST_NS)


def host_name(host: str) -> x509.GeneralName:
    """``host`` as an address or a DNS name.

    Raises:
        IdentityError: it is neither.
    """
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    fine = all(part.replace("-", "a").isalnum() and len(part) <= 63 for part in labels)
    if not (host.isascii() and fine and len(host) <= 253):
        raise IdentityError(
            f"{host[:253]!r} is neither a name nor an address of a machine",
            remedy="write it as agents have it in broker.host",
        )
    return x509.DNSName(host.removesuffix("."))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: Ed25519PublicKey,
    life: tuple[datetime, datetime],
    serial: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(life[0])
        .not_valid_after(life[1])
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


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _ns(at: datetime) -> int:
    return round(at.timestamp()) * 1_000_000_000


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
