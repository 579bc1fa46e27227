# SPDX-License-Identifier: Apache-2.0
"""From when to when a certificate is valid, and what to say where a clock is outside.

Here without ``cryptography``: the agent's daemon, which does without it, must know both times
before it connects, since OpenSSL tells neither.
"""

import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedmill_shared.errors import IdentityError

LARGEST_CERTIFICATE_FILE = 65_536
"""Bytes of the largest file of certificates that is read: a dozen of them."""
LATEST_NS = 2**63 - 1
CLOCK_REMEDY = "set the clock of this machine, and let it follow a time server"
_SEQUENCE, _CONTEXT_0, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s(?P<body>[A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----"
)
_DIGITS = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")


@dataclass(frozen=True, slots=True)
class Validity:
    """The first and the last moment of a certificate, in nanoseconds since 1970 UTC."""

    not_before_ns: int
    not_after_ns: int


def read_file(path: Path, what: str) -> bytes:
    """The bytes of ``path``, of which ``what`` ("certificate") tells the use.

    Raises:
        IdentityError: it is missing, unreadable, empty or larger than any such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_CERTIFICATE_FILE + 1)
    except OSError as error:
        raise IdentityError(
            f"{path}: the {what} cannot be read: {error.strerror or error}",
            remedy="enrol this machine, or correct the path below [broker.tls]",
        ) from error
    if not 0 < len(data) <= LARGEST_CERTIFICATE_FILE:
        raise IdentityError(
            f"{path}: {len(data) or 'no'} bytes are no {what}",
            remedy="restore it from a backup, or enrol again",
        )
    return data


def read_validity(pem: bytes) -> Validity:
    """Both times of the first certificate of ``pem`` (RFC 5280, section 4.1.2.5).

    Raises:
        IdentityError: there is none, or it is damaged.
    """
    found = _PEM.search(pem)
    try:
        return der_validity(binascii.a2b_base64(found["body"] if found else b""))
    except ValueError as error:
        raise IdentityError(
            f"this is no certificate: {error}", remedy="restore it from a backup, or enrol again"
        ) from error


def der_validity(der: bytes) -> Validity:
    """Both times of a certificate.

    Raises:
        ValueError: ``der`` is none.
    """
    at, _ = _inside(der, 0, _SEQUENCE)  # the certificate
    at, _ = _inside(der, at, _SEQUENCE)  # what is signed
    if der[at : at + 1] == bytes([_CONTEXT_0]):
        _, at = _inside(der, at, _CONTEXT_0)  # version
    for _field in ("serial", "algorithm", "issuer"):
        _, at = _inside(der, at)
    at, _ = _inside(der, at, _SEQUENCE)
    begin, at = _time(der, at)
    end, _ = _time(der, at)
    return Validity(begin, end)


def check_validity(validity: Validity, now_ns: int, *, whose: str = "the certificate") -> None:
    """Return if ``now_ns`` is within ``validity``.

    Raises:
        IdentityError: it is before or after, in a sentence that names both times.
    """
    if now_ns < validity.not_before_ns:
        raise IdentityError(
            f"this machine's clock says {moment(now_ns)}, {whose} is valid from "
            f"{moment(validity.not_before_ns)}",
            remedy=CLOCK_REMEDY,
        )
    if now_ns > validity.not_after_ns:
        raise IdentityError(
            f"{whose} was valid until {moment(validity.not_after_ns)}, this machine's clock says "
            f"{moment(now_ns)}",
            remedy="enrol again; if the clock is wrong, set it",
        )


def moment(at_ns: int) -> str:
    """A time to the minute, as people write it: ``2026-11-22 20:49 UTC``."""
    return f"{datetime.fromtimestamp(at_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M} UTC"


def nanoseconds(at: datetime) -> int:
    """Since 1970; what is before that or after 2262 ("for ever" is the year 9999) is cut off."""
    return min(max(0, int(at.timestamp()) * 1_000_000_000), LATEST_NS)


def _inside(der: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
    """Where the content of the element at ``at`` begins and ends (X.690, section 8.1)."""
    if len(der) < at + 2 or (tag is not None and der[at] != tag):
        raise ValueError("its structure is damaged")
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        if not 1 <= digits <= 3:
            raise ValueError("its structure is damaged")
        length, begin = int.from_bytes(der[begin : begin + digits], "big"), begin + digits
    if begin + length > len(der):
        raise ValueError("it is cut short")
    return begin, begin + length


def _time(der: bytes, at: int) -> tuple[int, int]:
    """Nanoseconds since 1970 of the time at ``at``, and where it ends."""
    begin, end = _inside(der, at)
    text = der[begin:end]
    if der[at] == _UTC_TIME:
        text = (b"19" if text[:2] >= b"50" else b"20") + text
    elif der[at] != _GENERALIZED_TIME:
        raise ValueError("it has no times")
    found = _DIGITS.fullmatch(text)
    if found is None:
        raise ValueError("it has no times")
    year, month, day, hour, minute, second = map(int, found.groups())
    made = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return nanoseconds(made), end
