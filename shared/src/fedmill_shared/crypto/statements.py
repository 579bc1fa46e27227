# SPDX-License-Identifier: Apache-2.0
"""Signed statements: bytes, what they are for, and an Ed25519 signature over both.

What a statement is for is part of what is signed, so that no signature over one kind of statement
is a signature over another; and no statement begins as what TLS 1.3 signs does (64 spaces, RFC
8446 section 4.4.3), so that one key may serve both.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedmill_shared.errors import TrustError

SIGNATURE_BYTES = 64
_DOMAIN = b"fedmill/v1 "


def sign(key: Ed25519PrivateKey, purpose: str, statement: bytes) -> bytes:
    """64 bytes of signature over ``statement`` as one of ``purpose``, a word without NUL."""
    return key.sign(_covered(purpose, statement))


def verify(public: bytes, purpose: str, statement: bytes, signature: bytes) -> None:
    """Return if ``signature`` over ``statement`` was made with the key whose public half this is.

    Raises:
        TrustError: it was not.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _covered(purpose, statement))
    except (InvalidSignature, ValueError) as error:
        raise TrustError(f"the signature of this {purpose} does not fit") from error


def _covered(purpose: str, statement: bytes) -> bytes:
    return _DOMAIN + purpose.encode() + b"\0" + statement
