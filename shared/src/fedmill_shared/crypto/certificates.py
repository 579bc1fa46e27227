# SPDX-License-Identifier: Apache-2.0
"""What X.509 certificates say, and requests for new ones.

The common name is the agent's id: the broker takes it for the user name, and the coordinator for
the name under which updates are signed. Who issues certificates is the coordinator's to know.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedmill_shared.crypto import validity
from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.crypto.validity import LARGEST_CERTIFICATE_FILE, Validity
from fedmill_shared.errors import IdentityError
from fedmill_shared.topics import valid_agent_id

LARGEST_REQUEST = 4096
"""Bytes of the largest request that is parsed; ours have under 400."""
_AGAIN = "restore it from a backup, or enrol again"
_DAMAGED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that cryptography raises over bytes that are no certificate, or one beyond it."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        agent: its common name; empty where it has none or several.
        serial: its number in hexadecimal digits, without leading zeros.
        public: the 32 raw bytes of its Ed25519 key; empty where the key is of another kind.
        fingerprint: SHA-256 of the certificate (DER) in hexadecimal digits.
        not_before_ns: first moment of its validity, nanoseconds since 1970 UTC.
        not_after_ns: the last.
        is_ca: whether it may issue others.
        hosts: names and addresses of the machine that it proves.
    """

    agent: str
    serial: str
    public: bytes
    fingerprint: str
    not_before_ns: int
    not_after_ns: int
    is_ca: bool
    hosts: tuple[str, ...]


def read_certificate(pem: bytes) -> CertificateFacts:
    """What the first certificate in ``pem`` says; nothing is said of who signed it.

    Raises:
        IdentityError: there is none, it is damaged, or it is larger than any certificate.
    """
    if len(pem) > LARGEST_CERTIFICATE_FILE:
        raise IdentityError(f"{len(pem)} bytes are no certificate", remedy=_AGAIN)
    try:
        return _facts(x509.load_pem_x509_certificate(pem))
    except _DAMAGED as error:
        raise IdentityError("this is no certificate in PEM, or damaged", remedy=_AGAIN) from error


def make_request(key: Ed25519PrivateKey, agent: str) -> bytes:
    """A request (PKCS 10, PEM) for a certificate of ``agent`` with the public half of ``key``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, agent)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    return request.public_bytes(Encoding.PEM)


def read_request(pem: bytes) -> tuple[str, bytes]:
    """Agent and public key (32 bytes) of a request, which its private half has signed.

    Whatever else the request asks for is left unread: who issues decides it.

    Raises:
        IdentityError: it is larger than any of ours, damaged, of another kind of key, not signed
            with its own, or its subject is not one common name that is an agent's id.
    """
    if len(pem) > LARGEST_REQUEST:
        raise IdentityError(f"{len(pem)} bytes are no certificate request")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise IdentityError("the key of this certificate request is no Ed25519 key")
        if not request.is_signature_valid:
            raise IdentityError("this certificate request is not signed with its own key")
        # 64 bytes and no unused bits (X.690 8.6.2.2): the same request has no second form
        if not request.public_bytes(Encoding.DER).endswith(b"\x03\x41\x00" + request.signature):
            raise IdentityError("the signature of this certificate request is not encoded as DER")
        subject = list(request.subject)
    except _DAMAGED as error:
        raise IdentityError("this is no certificate request in PEM, or damaged") from error
    names = [str(each.value) for each in subject if each.oid == NameOID.COMMON_NAME]
    if len(subject) != 1 or len(names) != 1 or not valid_agent_id(names[0]):
        raise IdentityError("the subject of this certificate request is not one agent's id")
    return names[0], key.public_bytes_raw()


def check_pair(certificate: CertificateFacts, key: Ed25519PrivateKey) -> None:
    """Return if ``certificate`` was issued for ``key``.

    Raises:
        IdentityError: it was issued for another key.
    """
    if certificate.public != public_bytes(key):
        raise IdentityError(
            f"the certificate {certificate.serial} of {certificate.agent or 'nobody'} and the key "
            "do not belong together",
            remedy=_AGAIN,
        )


def check_validity(certificate: CertificateFacts, now_ns: int) -> None:
    """Return if ``certificate`` is valid at ``now_ns``.

    Raises:
        IdentityError: it is not yet, or no longer, in a sentence that names both times.
    """
    between = Validity(certificate.not_before_ns, certificate.not_after_ns)
    whose = f"the certificate of {certificate.agent}" if certificate.agent else "the certificate"
    validity.check_validity(between, now_ns, whose=whose)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key = certificate.public_key()
    return CertificateFacts(
        agent=str(names[0].value) if len(names) == 1 else "",
        serial=f"{certificate.serial_number:x}",
        public=key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b"",
        fingerprint=certificate.fingerprint(SHA256()).hex(),
        not_before_ns=validity.nanoseconds(certificate.not_valid_before_utc),
        not_after_ns=validity.nanoseconds(certificate.not_valid_after_utc),
        is_ca=_is_ca(certificate),
        hosts=_hosts(certificate),
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)
