# SPDX-License-Identifier: Apache-2.0
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import DAY, Authority

from fedmill_shared.crypto.certificates import (
    LARGEST_REQUEST,
    check_pair,
    check_validity,
    make_request,
    read_certificate,
    read_request,
)
from fedmill_shared.crypto.keys import make_key, public_bytes
from fedmill_shared.crypto.validity import LARGEST_CERTIFICATE_FILE
from fedmill_shared.errors import IdentityError
from fedmill_shared.files import sha256

AnyKey = Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741  as X.509 has it
BEGIN = datetime(2026, 11, 22, 20, 49, tzinfo=UTC)
AUTHORITY = Authority()


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _request(*subject: tuple[x509.ObjectIdentifier, str], key: AnyKey | None = None) -> bytes:
    """A request as another program could write it."""
    key = key or make_key()
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    digest = None if isinstance(key, Ed25519PrivateKey) else SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


def _with(pem: bytes, old: bytes, new: bytes) -> bytes:
    """The request with a change that its signature does not know of."""
    der = x509.load_pem_x509_csr(pem).public_bytes(Encoding.DER)
    assert der.count(old) == 1
    changed = x509.load_der_x509_csr(der.replace(old, new))
    return changed.public_bytes(Encoding.PEM)


class TestReadCertificate:
    def test_of_an_agent(self) -> None:
        """All that the coordinator stores and a person is shown."""
        key = make_key()
        issued = AUTHORITY.issue("gw-7", begin=BEGIN, life=90 * DAY, key=key)
        facts = read_certificate(issued.pem)
        assert facts.agent == "gw-7"
        assert facts.serial == f"{issued.certificate.serial_number:x}"
        assert facts.public == public_bytes(key)
        assert facts.fingerprint == sha256(issued.certificate.public_bytes(Encoding.DER))
        assert facts.not_before_ns == _nanoseconds(BEGIN)
        assert facts.not_after_ns == _nanoseconds(BEGIN + 90 * DAY)
        assert not facts.is_ca
        assert facts.hosts == ()

    def test_of_a_server(self) -> None:
        """Names first, addresses behind them."""
        issued = AUTHORITY.server("10.0.0.5", "broker.plant", "::1")
        assert read_certificate(issued.pem).hosts == ("broker.plant", "10.0.0.5", "::1")

    def test_of_the_authority(self) -> None:
        """It may issue others."""
        facts = read_certificate(AUTHORITY.pem)
        assert facts.is_ca
        assert facts.agent == "Plant CA"

    def test_two_names_are_none(self) -> None:
        """Whoever reads the first and whoever reads the last would know two agents."""
        key = make_key()
        name = x509.Name([x509.NameAttribute(CN, "gw-1"), x509.NameAttribute(CN, "gw-2")])
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 7, BEGIN, BEGIN + DAY)
            .sign(key, None)
            .public_bytes(Encoding.PEM)
        )
        facts = read_certificate(made)
        assert facts.agent == ""
        assert facts.serial == "7"
        assert not facts.is_ca

    def test_another_kind_of_key_is_no_public_half(self) -> None:
        """It is read, and no signature of ours fits it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(CN, "gw-1")])
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 1, BEGIN, BEGIN + DAY)
            .sign(key, SHA256())
            .public_bytes(Encoding.PEM)
        )
        facts = read_certificate(made)
        assert facts.public == b""
        with pytest.raises(IdentityError, match="do not belong together"):
            check_pair(facts, make_key())

    def test_the_first_of_several(self) -> None:
        """A file may hold the chain behind it."""
        issued = AUTHORITY.issue("gw-7")
        assert read_certificate(issued.pem + AUTHORITY.pem).agent == "gw-7"

    @pytest.mark.parametrize(
        "damage",
        [
            lambda pem: b"",
            lambda pem: b"no certificate",
            lambda pem: pem[: len(pem) // 2],
            lambda pem: pem.replace(b"CERTIFICATE", b"CERTIFICAT"),
            lambda pem: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            lambda pem: pem + bytes(LARGEST_CERTIFICATE_FILE),
        ],
    )
    def test_damaged(self, damage: Callable[[bytes], bytes]) -> None:
        """One error with a remedy."""
        with pytest.raises(IdentityError, match="no certificate") as caught:
            read_certificate(damage(AUTHORITY.pem))
        assert caught.value.remedy
        assert caught.value.exit_code == 24

    @given(data=st.data())
    def test_nothing_else_is_ever_raised(self, data: st.DataObject) -> None:
        """Whatever bytes of a certificate are changed."""
        der = bytearray(AUTHORITY.certificate.public_bytes(Encoding.DER))
        for _ in range(data.draw(st.integers(1, 4))):
            der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers that RFC 5280 would not have
            with suppress(IdentityError):
                read_certificate(_pem("CERTIFICATE", bytes(der)))


class TestRequest:
    def test_round_trip(self) -> None:
        """Who asks and for which key."""
        key = make_key()
        assert read_request(make_request(key, "gw-7")) == ("gw-7", public_bytes(key))

    def test_is_small(self) -> None:
        """It fits one message many times."""
        assert len(make_request(make_key(), "a" * 32)) < 400

    @pytest.mark.parametrize(
        "subject",
        [
            (),
            ((O, "gw-7"),),
            ((CN, "gw-7"), (CN, "gw-8")),
            ((CN, "gw-7"), (O, "Mill")),
            ((CN, "all"),),
            ((CN, "GW-7"),),
            ((CN, "gw-7\n"),),
            ((CN, "gw/7"),),
            ((CN, "+"),),
            ((CN, "ｇw-7"),),
            ((CN, "a" * 33),),
        ],
    )
    def test_of_nobody(self, subject: tuple[tuple[x509.ObjectIdentifier, str], ...]) -> None:
        """Its subject is one agent's id and nothing beside it."""
        with pytest.raises(IdentityError, match="not one agent's id"):
            read_request(_request(*subject))

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(public_exponent=65537, key_size=2048),
            ec.generate_private_key(ec.SECP256R1()),
        ],
    )
    def test_with_another_kind_of_key(self, key: AnyKey) -> None:
        """Ed25519 and no other."""
        with pytest.raises(IdentityError, match="no Ed25519 key"):
            read_request(_request((CN, "gw-7"), key=key))

    def test_for_a_key_that_others_have(self) -> None:
        """A public half is known to many; who asks for it must show that it is theirs."""
        mine, theirs = make_key(), make_key()
        forged = _with(make_request(mine, "gw-7"), public_bytes(mine), public_bytes(theirs))
        with pytest.raises(IdentityError, match="not signed with its own key"):
            read_request(forged)

    def test_with_another_name_than_was_signed(self) -> None:
        """A name that was changed on the way is found."""
        with pytest.raises(IdentityError, match="not signed with its own key"):
            read_request(_with(make_request(make_key(), "gw-7"), b"gw-7", b"gw-8"))

    def test_too_large_is_not_parsed(self) -> None:
        """Bytes are counted before they are looked at."""
        padded = make_request(make_key(), "gw-7") + b"\n" * LARGEST_REQUEST
        with pytest.raises(IdentityError, match=r"\d+ bytes are no certificate request"):
            read_request(padded)

    @given(st.binary(max_size=200))
    def test_of_any_bytes(self, data: bytes) -> None:
        """Never another error."""
        for text in (data, _pem("CERTIFICATE REQUEST", data)):
            with pytest.raises(IdentityError, match="certificate request"):
                read_request(text)

    def test_unused_bits_of_the_signature(self) -> None:
        """Zeros at its end may be called unused, and are no other request: that has one form."""
        der = bytearray(b"\1")
        while der[-1] % 2:
            request = x509.load_pem_x509_csr(make_request(make_key(), "gw7"))
            der = bytearray(request.public_bytes(Encoding.DER))
        der[-65] = 1
        with pytest.raises(IdentityError, match="not encoded as DER"):
            read_request(_pem("CERTIFICATE REQUEST", bytes(der)))

    @given(data=st.data())
    def test_changed_anywhere(self, data: st.DataObject) -> None:
        """One bit of another request is none: nothing is left that its signature does not cover."""
        der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER))
        place = data.draw(st.integers(0, len(der) - 1))
        der[place] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(IdentityError):
            read_request(_pem("CERTIFICATE REQUEST", bytes(der)))


class TestPair:
    def test_belongs_together(self) -> None:
        """The key that the certificate was issued for."""
        issued = AUTHORITY.issue("gw-7")
        check_pair(read_certificate(issued.pem), issued.key)

    def test_a_foreign_key(self) -> None:
        """Named, with what to do."""
        facts = read_certificate(AUTHORITY.issue("gw-7").pem)
        with pytest.raises(IdentityError, match="of gw-7 and the key do not belong together"):
            check_pair(facts, make_key())


class TestValidity:
    FACTS = read_certificate(AUTHORITY.issue("gw-7", begin=BEGIN, life=90 * DAY).pem)

    @pytest.mark.parametrize("after", [timedelta(), 45 * DAY, 90 * DAY])
    def test_within(self, after: timedelta) -> None:
        """Both ends belong to it."""
        check_validity(self.FACTS, _nanoseconds(BEGIN + after))

    def test_a_clock_of_another_year(self) -> None:
        """Both times in one sentence, for this is the most frequent fault in the field."""
        with pytest.raises(IdentityError) as caught:
            check_validity(self.FACTS, _nanoseconds(datetime(2019, 3, 1, 7, 5, tzinfo=UTC)))
        assert caught.value.message == (
            "this machine's clock says 2019-03-01 07:05 UTC, "
            "the certificate of gw-7 is valid from 2026-11-22 20:49 UTC"
        )
        assert "set the clock" in caught.value.remedy

    def test_expired(self) -> None:
        """Since when, and by which clock."""
        with pytest.raises(IdentityError) as caught:
            check_validity(self.FACTS, _nanoseconds(BEGIN + 90 * DAY) + 1)
        assert "was valid until 2027-02-20 20:49 UTC" in caught.value.message
        assert "enrol again" in caught.value.remedy


def _pem(label: str, der: bytes) -> bytes:
    from base64 import encodebytes

    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (
        label.encode(),
        encodebytes(der),
        label.encode(),
    )


REQUEST = make_request(make_key(), "gw-7")
