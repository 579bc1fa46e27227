# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import Authority

from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.crypto.validity import (
    LARGEST_CERTIFICATE_FILE,
    LATEST_NS,
    Validity,
    check_validity,
    der_validity,
    moment,
    read_file,
    read_validity,
)
from fedmill_shared.errors import IdentityError

AUTHORITY = Authority()
GMT = "%b %d %H:%M:%S %Y GMT"


class TestReading:
    @given(
        seconds=st.integers(-20 * 365 * 86_400, 230 * 365 * 86_400),
        days=st.integers(0, 100_000),
    )
    def test_agrees_with_who_knows_all_of_x509(self, seconds: int, days: int) -> None:
        """Before and after 2050, where the notation of years changes."""
        begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        pem = AUTHORITY.issue("gw-7", begin=begin, life=timedelta(days)).pem
        facts = read_certificate(pem)
        assert read_validity(pem) == Validity(facts.not_before_ns, facts.not_after_ns)

    def test_for_ever_is_as_long_as_we_count(self) -> None:
        """The year 9999 means no end (RFC 5280, section 4.1.2.5); nothing began before 1970."""
        begin, end = (
            datetime(1955, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        )
        pem = AUTHORITY.issue("gw-7", begin=begin, life=end - begin).pem
        found = read_validity(pem)
        assert found == Validity(0, LATEST_NS)
        facts = read_certificate(pem)
        assert (facts.not_before_ns, facts.not_after_ns) == (0, LATEST_NS)
        assert moment(found.not_after_ns).startswith("2262-04-11")

    def test_agrees_with_openssl(self, tmp_path: Path) -> None:
        """Whose word the broker goes by."""
        (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
        told = subprocess.run(
            ["openssl", "x509", "-in", tmp_path / "ca.pem", "-noout", "-dates"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        dates = [line.partition("=")[2].replace("  ", " 0") for line in told]
        found = read_validity(AUTHORITY.pem)
        assert dates == [
            datetime.fromtimestamp(at // 10**9, UTC).strftime(GMT)
            for at in (found.not_before_ns, found.not_after_ns)
        ]

    def test_the_first_of_a_chain(self) -> None:
        """As TLS sends it; what stands before is for people."""
        issued = AUTHORITY.issue("gw-7").pem
        found = read_validity(b"issued for gw-7\n" + issued + AUTHORITY.pem)
        assert found == read_validity(issued)

    def test_needs_no_library(self) -> None:
        """A daemon that has 75 MiB reads it."""
        code = (
            "import sys, fedmill_shared.crypto.validity\n"
            "print(*{'cryptography', 'ssl', '_strptime'} & set(sys.modules))"
        )
        child = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert child.stdout == "\n"

    @pytest.mark.parametrize(
        "pem",
        [
            b"",
            b"no certificate",
            AUTHORITY.pem[:200],
            b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_none(self, pem: bytes) -> None:
        """One error with a remedy."""
        with pytest.raises(IdentityError, match="no certificate") as caught:
            read_validity(pem)
        assert caught.value.remedy

    @given(st.binary(max_size=300))
    def test_of_any_bytes(self, data: bytes) -> None:
        """A short sequence of nested lengths is no certificate, and nothing else is raised."""
        with pytest.raises(ValueError, match=r"."):
            der_validity(data)

    @given(data=st.data())
    def test_cut_or_changed(self, data: st.DataObject) -> None:
        """It is read, or refused as what it is."""
        der = bytearray(AUTHORITY.certificate.public_bytes(Encoding.DER))
        der[data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
        cut = der[: data.draw(st.integers(0, len(der)))]
        try:
            found = der_validity(bytes(cut))
        except ValueError:
            return
        assert found.not_before_ns % 10**9 == 0

    @pytest.mark.parametrize(
        "time",
        [
            b"\x17\x0d261322204900Z",
            b"\x17\x0b2611222049Z",
            b"\x18\x0d261122204900Z",
            b"\x02\x01\x01",
        ],
    )
    def test_a_time_that_is_none(self, time: bytes) -> None:
        """Month 13, no seconds, a year of two digits, a number."""
        with pytest.raises(ValueError, match=r"."):
            der_validity(_certificate(time))

    def test_the_smallest_that_is_one(self) -> None:
        """With and without a version, by hand."""
        time = b"\x17\x0d700101000001Z"
        for version in (b"", b"\xa0\x03\x02\x01\x02"):
            assert der_validity(_certificate(time, version)) == Validity(10**9, 10**9)


class TestFile:
    def test_the_bytes(self, tmp_path: Path) -> None:
        """As they are."""
        (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
        assert read_file(tmp_path / "ca.pem", "certificate") == AUTHORITY.pem

    @pytest.mark.parametrize("size", [0, LARGEST_CERTIFICATE_FILE + 1])
    def test_of_a_size_that_none_has(self, tmp_path: Path, size: int) -> None:
        """A power cut left it empty, or the path is another file's."""
        (tmp_path / "ca.pem").write_bytes(bytes(size))
        with pytest.raises(IdentityError, match=r"ca\.pem: .* bytes are no CA certificate"):
            read_file(tmp_path / "ca.pem", "CA certificate")

    def test_missing(self, tmp_path: Path) -> None:
        """The path, and what to do."""
        with pytest.raises(
            IdentityError, match=r"ca\.pem: the certificate cannot be read"
        ) as caught:
            read_file(tmp_path / "ca.pem", "certificate")
        assert "enrol" in caught.value.remedy


class TestChecking:
    BETWEEN = Validity(1_000 * 10**9, 2_000 * 10**9)

    @pytest.mark.parametrize("now", [1_000 * 10**9, 1_500 * 10**9, 2_000 * 10**9])
    def test_within(self, now: int) -> None:
        """Nothing is said."""
        check_validity(self.BETWEEN, now)

    def test_before(self) -> None:
        """Both times, and the remedy."""
        with pytest.raises(IdentityError, match=r"1970-01-01 00:00 UTC.*from 1970-01-01 00:16 UTC"):
            check_validity(self.BETWEEN, 0)

    def test_whose(self) -> None:
        """The broker's, say."""
        with pytest.raises(IdentityError, match="the broker's certificate was valid until"):
            check_validity(self.BETWEEN, 3_000 * 10**9, whose="the broker's certificate")


def test_moment() -> None:
    """To the minute, and in which zone."""
    assert moment(1_795_380_599_999_999_999) == "2026-11-22 20:49 UTC"
    assert moment(-1) == "1969-12-31 23:59 UTC"


def _certificate(time: bytes, version: bytes = b"") -> bytes:
    empty = b"\x30\x00"
    dates = b"\x30" + bytes([2 * len(time)]) + time + time
    inner = version + b"\x02\x01\x01" + empty + empty + dates
    signed = b"\x30" + bytes([len(inner)]) + inner
    return b"\x30" + bytes([len(signed)]) + signed
