# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes: what a person carries from the coordinator to a box, and what is proven with it.

A code is a secret of 16 bytes, the first 16 bytes of the SHA-256 of the CA's certificate, and a
checksum, as 14 groups of four letters and digits (Crockford's base 32, which has no I, L, O or U).
The secret gives an Ed25519 key: the coordinator keeps its public half only, with which nobody can
enrol, and the box signs its request with the private half. The pin tells the box that it speaks to
this plant before it says anything.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.crypto.statements import sign, verify
from fedmill_shared.errors import IdentityError

SECRET_BYTES = 16
PIN_BYTES = 16
CHECK_BYTES = 3
LETTERS = 8 * (SECRET_BYTES + PIN_BYTES + CHECK_BYTES) // 5
GROUP = 4
LONGEST_TYPED = 200
"""Characters of the longest text that is looked at as a code."""
ENROLMENT, RENEWAL = "enrolment", "renewal"

_TYPE_AGAIN = "type it as `fedmill enrol new` printed it, or let it print another one"
_STANDARD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_CROCKFORD = str.maketrans(_STANDARD, _CROCKFORD)
_TO_STANDARD = str.maketrans(_CROCKFORD, _STANDARD)
_MEANT = str.maketrans({"O": "0", "I": "1", "L": "1"})
_GAPS = " \t\r\n-_.\u00a0\u2010\u2011\u2012\u2013\u2014\u2212"
_WITHOUT_GAPS = str.maketrans("", "", _GAPS)


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """A code; ``str`` prints the whole of it, ``repr`` none of its secret.

    Attributes:
        secret: 16 random bytes.
        pin: the first 16 bytes of the SHA-256 of the CA's certificate (DER).
    """

    secret: bytes = field(repr=False)
    pin: bytes

    def __str__(self) -> str:
        body = self.secret + self.pin
        text = base64.b32encode(body + _checksum(body)).decode().translate(_TO_CROCKFORD)
        return "-".join(text[at : at + GROUP] for at in range(0, LETTERS, GROUP))

    def key(self) -> Ed25519PrivateKey:
        """The key that the code gives (HKDF-SHA256 of the secret, bound to the pin)."""
        derived = HKDF(SHA256(), 32, salt=self.pin, info=b"fedmill/v1 enrolment key")
        return Ed25519PrivateKey.from_private_bytes(derived.derive(self.secret))

    def proof_key(self) -> bytes:
        """The public half of `key`, 32 bytes: all that the coordinator keeps."""
        return public_bytes(self.key())

    def fits(self, ca_fingerprint: str) -> bool:
        """Whether the CA whose certificate has this SHA-256 (hexadecimal) is the one meant."""
        return hmac.compare_digest(ca_fingerprint[: 2 * PIN_BYTES], self.pin.hex())


def make_code(
    ca_fingerprint: str, random: Callable[[int], bytes] = secrets.token_bytes
) -> EnrolmentCode:
    """A new code for the plant whose CA's certificate has this SHA-256, hexadecimal."""
    return EnrolmentCode(random(SECRET_BYTES), bytes.fromhex(ca_fingerprint)[:PIN_BYTES])


def parse_code(text: str) -> EnrolmentCode:
    """The code that a person typed; case, gaps and confusions of 0 and O, 1, I and L are forgiven.

    Raises:
        IdentityError: too short or too long, of other letters, or mistyped; never quotes it.
    """
    letters = text[: LONGEST_TYPED + 1].translate(_WITHOUT_GAPS).upper().translate(_MEANT)
    if any(letter not in _CROCKFORD for letter in letters):
        raise IdentityError(
            "the enrolment code has a character that no code has", remedy=_TYPE_AGAIN
        )
    if len(text) > LONGEST_TYPED or len(letters) != LETTERS:
        typed = f"{len(letters)} letters and digits" if len(text) <= LONGEST_TYPED else "more"
        raise IdentityError(
            f"the enrolment code has {LETTERS} letters and digits, {typed} were typed",
            remedy=_TYPE_AGAIN,
        )
    whole = base64.b32decode(letters.translate(_TO_STANDARD))
    body, check = whole[:-CHECK_BYTES], whole[-CHECK_BYTES:]
    if not hmac.compare_digest(check, _checksum(body)):
        raise IdentityError("the enrolment code is mistyped somewhere", remedy=_TYPE_AGAIN)
    return EnrolmentCode(body[:SECRET_BYTES], body[SECRET_BYTES:])


def prove(code: EnrolmentCode, agent: str, csr: bytes) -> bytes:
    """Proof of 64 bytes that who knows ``code`` asks with ``csr`` to become ``agent``."""
    return sign(code.key(), ENROLMENT, _bound(agent, csr))


def check_proof(proof_key: bytes, agent: str, csr: bytes, proof: bytes) -> None:
    """Return if ``proof`` is of who knows the code with this public half.

    Raises:
        TrustError: it is not, or is of another agent or request.
    """
    verify(proof_key, ENROLMENT, _bound(agent, csr), proof)


def sign_renewal(key: Ed25519PrivateKey, agent: str, csr: bytes) -> bytes:
    """Signature of 64 bytes of the ``key`` that ``agent`` has now over ``csr`` for its next."""
    return sign(key, RENEWAL, _bound(agent, csr))


def check_renewal(public: bytes, agent: str, csr: bytes, signature: bytes) -> None:
    """Return if the key with this public half asks with ``csr`` for the next key of ``agent``.

    Raises:
        TrustError: it does not.
    """
    verify(public, RENEWAL, _bound(agent, csr), signature)


def _bound(agent: str, csr: bytes) -> bytes:
    return agent.encode() + b"\0" + hashlib.sha256(csr).digest()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"fedmill/v1 enrolment code" + body).digest()[:CHECK_BYTES]
