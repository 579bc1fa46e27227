# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes: typed as people type, and proving what they must prove."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.crypto import codes
from fedmill_shared.crypto.codes import (
    EnrolmentCode,
    check_proof,
    check_renewal,
    make_code,
    parse_code,
    prove,
    sign_renewal,
)
from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.errors import IdentityError, TrustError
from fedmill_shared.files import sha256

CODES = st.builds(
    EnrolmentCode, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)
)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE = EnrolmentCode(bytes(range(16)), bytes(range(100, 116)))
CSR = b"-----BEGIN CERTIFICATE REQUEST-----"


class TestText:
    def test_literal(self) -> None:
        """A code that was printed once is read for good, and gives the same key."""
        printed = "000G-40R4-0M30-E209-185G-R38E-1XJ6-ASK7-D1MP-MTVC-DNQ6-YW3H-E9SN-CGSX"
        assert str(CODE) == printed
        assert parse_code(printed) == CODE
        assert CODE.proof_key().hex() == (
            "9a0394078bb6b87e299d875e81f0cf5b1643f4848324e6e37b179e42fd17cf43"
        )

    @given(code=CODES)
    def test_comes_back(self, code: EnrolmentCode) -> None:
        """As it was printed: 14 groups of four, 69 characters."""
        assert parse_code(str(code)) == code
        assert [len(group) for group in str(code).split("-")] == [4] * 14

    @given(code=CODES, data=st.data())
    def test_people_type_it_in_many_ways(self, code: EnrolmentCode, data: st.DataObject) -> None:
        """Lower case, gaps anywhere, O for 0, I or L for 1."""
        ways = {"0": "0Oo", "1": "1IiLl"}
        typed = ""
        for letter in str(code):
            typed += data.draw(st.sampled_from(ways.get(letter, letter + letter.lower())))
            typed += data.draw(st.sampled_from(["", "", "", " ", "-"]))
        assert parse_code(f" {typed}\n") == code

    @given(code=CODES, at=st.integers(0, 55), letter=st.sampled_from(LETTERS))
    def test_one_wrong_letter(self, code: EnrolmentCode, at: int, letter: str) -> None:
        """Is told as a slip, and the code is not in the sentence."""
        letters = str(code).replace("-", "")
        typed = letters[:at] + letter + letters[at + 1 :]
        if typed == letters:
            return
        with pytest.raises(IdentityError, match="mistyped somewhere") as error:
            parse_code(typed)
        assert letters[:8] not in str(error.value)

    @given(code=CODES, at=st.integers(0, 54))
    def test_two_letters_swapped(self, code: EnrolmentCode, at: int) -> None:
        """As fingers do."""
        letters = str(code).replace("-", "")
        typed = letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]
        if typed != letters:
            with pytest.raises(IdentityError, match="mistyped"):
                parse_code(typed)

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            ("", "56 letters and digits, 0 letters and digits were typed"),
            (str(CODE)[:-5], "52 letters and digits were typed"),
            (str(CODE) + "A", "57 letters and digits were typed"),
            (str(CODE) * 9, "more were typed"),
            (str(CODE).replace("G", "U"), "a character that no code has"),
            (str(CODE)[:-1] + "é", "a character that no code has"),
            ("gw7", "3 letters and digits were typed"),
        ],
    )
    def test_what_is_no_code(self, typed: str, told: str) -> None:
        """With what to do."""
        with pytest.raises(IdentityError, match=told) as error:
            parse_code(typed)
        assert "fedmill enrol new" in error.value.remedy

    @given(text=st.text(max_size=300))
    def test_any_text(self, text: str) -> None:
        """A code or a sentence, nothing else."""
        with suppress(IdentityError):
            assert parse_code(str(parse_code(text))) == parse_code(text)


class TestSecrecy:
    def test_repr_has_no_secret(self) -> None:
        """A log or a traceback that quotes the object gives nothing away."""
        assert CODE.secret.hex() not in repr(CODE)
        assert str(CODE)[:9] not in repr(CODE)
        assert repr(CODE.secret) not in repr(CODE)

    def test_no_two_alike(self) -> None:
        """Randomness is the system's unless a test brings its own."""
        pin = sha256(b"ca")
        assert make_code(pin) != make_code(pin)
        assert make_code(pin, lambda size: b"r" * size).secret == b"r" * 16

    def test_another_plant_gives_another_key(self) -> None:
        """A secret is worth nothing at a plant that it was not made for."""
        other = EnrolmentCode(CODE.secret, bytes(16))
        assert other.proof_key() != CODE.proof_key()


class TestPin:
    def test_fits_the_plant_that_made_it(self) -> None:
        """And no other: the box finds out before it says anything."""
        code = make_code(sha256(b"ca"))
        assert code.fits(sha256(b"ca"))
        assert not code.fits(sha256(b"another ca"))
        assert not code.fits("")


class TestProof:
    def test_of_who_knows_the_code(self) -> None:
        """For one agent and one request."""
        proof = prove(CODE, "gw7", CSR)
        assert len(proof) == 64
        check_proof(CODE.proof_key(), "gw7", CSR, proof)

    @pytest.mark.parametrize(
        ("agent", "csr"), [("gw8", CSR), ("gw7", CSR + b"\n"), ("gw7\0", CSR), ("", CSR)]
    )
    def test_of_something_else(self, agent: str, csr: bytes) -> None:
        """Another agent or another request is not what was proven."""
        with pytest.raises(TrustError):
            check_proof(CODE.proof_key(), agent, csr, prove(CODE, "gw7", CSR))

    @given(code=CODES, proof=st.binary(max_size=70))
    def test_of_nobody(self, code: EnrolmentCode, proof: bytes) -> None:
        """Random bytes and proofs with another code."""
        with pytest.raises(TrustError):
            check_proof(CODE.proof_key(), "gw7", CSR, proof)
        if code != CODE:
            with pytest.raises(TrustError):
                check_proof(CODE.proof_key(), "gw7", CSR, prove(code, "gw7", CSR))

    def test_is_no_renewal(self) -> None:
        """What a key says for one purpose is not said for another."""
        key = Ed25519PrivateKey.generate()
        signature = sign_renewal(key, "gw7", CSR)
        check_renewal(public_bytes(key), "gw7", CSR, signature)
        for agent, csr in (("gw8", CSR), ("gw7", CSR[1:])):
            with pytest.raises(TrustError):
                check_renewal(public_bytes(key), agent, csr, signature)
        with pytest.raises(TrustError):
            check_proof(public_bytes(key), "gw7", CSR, signature)
        assert codes.ENROLMENT != codes.RENEWAL
