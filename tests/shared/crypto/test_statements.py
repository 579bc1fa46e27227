# SPDX-License-Identifier: Apache-2.0
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.crypto.keys import make_key, public_bytes
from fedmill_shared.crypto.statements import SIGNATURE_BYTES, sign, verify
from fedmill_shared.errors import TrustError

# RFC 8032, section 7.1, test 2: secret key, public key, message, signature.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
MESSAGE = bytes([0x72])
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
KEY = Ed25519PrivateKey.from_private_bytes(SECRET)
OTHER = make_key()


class TestVector:
    def test_the_algorithm_is_that_of_the_standard(self) -> None:
        """Key and signature of RFC 8032, digit by digit."""
        assert public_bytes(KEY) == PUBLIC
        assert KEY.sign(MESSAGE) == SIGNATURE

    def test_a_bare_signature_is_no_statement(self) -> None:
        """What was signed elsewhere with this key says nothing here."""
        with pytest.raises(TrustError):
            verify(PUBLIC, "update", MESSAGE, SIGNATURE)

    def test_what_is_signed(self) -> None:
        """Purpose and statement behind a word of ours: other programs can make the same."""
        signature = sign(KEY, "update", MESSAGE)
        assert signature == KEY.sign(b"fedmill/v1 update\x00" + MESSAGE)


class TestStatements:
    @given(purpose=st.from_regex(r"[a-z-]{1,20}", fullmatch=True), statement=st.binary())
    def test_round_trip(self, purpose: str, statement: bytes) -> None:
        """64 bytes that fit."""
        signature = sign(KEY, purpose, statement)
        assert len(signature) == SIGNATURE_BYTES
        verify(PUBLIC, purpose, statement, signature)

    def test_another_purpose(self) -> None:
        """A renewal is no update, whatever its bytes."""
        with pytest.raises(TrustError, match="this update does not fit"):
            verify(PUBLIC, "update", b"words", sign(KEY, "renewal", b"words"))

    def test_no_purpose_slips_into_another_statement(self) -> None:
        """Where the purpose ends is signed too."""
        with pytest.raises(TrustError):
            verify(PUBLIC, "a", b"b\x00words", sign(KEY, "ab", b"words"))

    def test_another_key(self) -> None:
        """Of whom the signature is not."""
        with pytest.raises(TrustError):
            verify(public_bytes(OTHER), "update", b"words", sign(KEY, "update", b"words"))

    @given(place=st.integers(0, 8 * SIGNATURE_BYTES - 1))
    def test_one_bit_of_the_signature(self, place: int) -> None:
        """Any of them."""
        signature = bytearray(sign(KEY, "update", b"words"))
        signature[place // 8] ^= 1 << place % 8
        with pytest.raises(TrustError):
            verify(PUBLIC, "update", b"words", bytes(signature))

    @pytest.mark.parametrize("length", [0, 1, 63, 65])
    def test_cut_or_padded(self, length: int) -> None:
        """64 bytes, no more and no less."""
        signature = (sign(KEY, "update", b"words") + b"\x00")[:length]
        with pytest.raises(TrustError):
            verify(PUBLIC, "update", b"words", signature)

    @pytest.mark.parametrize("public", [b"", PUBLIC[:31], PUBLIC + b"\x00", bytes(32)])
    def test_no_public_key(self, public: bytes) -> None:
        """Also the key of all zeros, a point of small order, proves nothing."""
        with pytest.raises(TrustError):
            verify(public, "update", b"words", sign(KEY, "update", b"words"))

    def test_is_never_what_tls_signs(self) -> None:
        """64 spaces begin what TLS 1.3 signs with the same key (RFC 8446, section 4.4.3)."""
        tls = b" " * 64 + b"TLS 1.3, client CertificateVerify" + b"\x00" + bytes(32)
        with pytest.raises(TrustError):
            verify(PUBLIC, "update", tls, KEY.sign(tls))
