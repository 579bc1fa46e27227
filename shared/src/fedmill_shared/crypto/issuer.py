# SPDX-License-Identifier: Apache-2.0
"""Whether a certificate was issued by an authority that is trusted."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from fedmill_shared.crypto.validity import LARGEST_CERTIFICATE_FILE
from fedmill_shared.errors import IdentityError

_DAMAGED = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def check_issued(certificate: bytes, authorities: bytes) -> None:
    """Return if one of ``authorities`` signed ``certificate``; both are PEM.

    Nothing is said of the times of either, nor of what the certificate is for.

    Raises:
        IdentityError: none of them did, or one of both is no certificate.
    """
    try:
        issued = x509.load_pem_x509_certificate(certificate)
        known = x509.load_pem_x509_certificates(authorities[: LARGEST_CERTIFICATE_FILE + 1])
    except _DAMAGED as error:
        raise IdentityError("this is no certificate in PEM, or damaged") from error
    if not any(_signed(issued, authority) for authority in known):
        names = " or ".join(repr(each.subject.rfc4514_string()) for each in known)
        raise IdentityError(
            f"the certificate was not issued by the authority {names}",
            remedy="give the certificate of the authority that issued it",
        )


def _signed(issued: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        issued.verify_directly_issued_by(authority)
    except (x509.ExtensionNotFound, InvalidSignature, *_DAMAGED):
        return False
    return constraints.value.ca
