# SPDX-License-Identifier: Apache-2.0
"""One record of an audit log, its line, and the head that fixes all lines before it."""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.errors import AuditError, UsageError
from fedmill_shared.files import sha256
from fedmill_shared.printable import printable

NAME_LENGTH: Final = 128
VALUE_LENGTH: Final = 1024
"""Characters that are kept of ``who``, ``what``, ``subject``, and of ``before``, ``after``."""
LONGEST_LINE: Final = 16_384
"""Bytes of a line with every field at its bound, and room to spare."""
NOTHING_BEFORE: Final = "0" * 64
_HEAD = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})\Z")


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what to what.

    Attributes:
        n: number of the record, from 1; none is left out.
        time_ns: when, ns since 1970-01-01 UTC by the clock of the machine.
        who: a person of the operating system, an agent, or ``daemon``.
        what: dotted name of the action.
        subject: what it was done to.
        before: what that was before: a state, a version, a digest; may be empty.
        after: what it is now.
        previous: SHA-256 of the line before, its line feed included; zeros before the first.
    """

    n: int
    time_ns: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
    who: str
    what: str
    subject: str
    before: str
    after: str
    previous: str


class Head(Struct, frozen=True):
    """How many records there are, and the SHA-256 of the last one's line.

    Who knows a head can tell whether anything up to it was changed, and whether it is still there.
    """

    n: int = 0
    digest: str = NOTHING_BEFORE

    def __str__(self) -> str:
        return f"{self.n}:{self.digest}"


_decoder = msgspec.json.Decoder(Entry)


def parse_head(text: str) -> Head:
    """The head that is written as ``N:HASH``.

    Raises:
        UsageError: it is written otherwise.
    """
    found = _HEAD.match(text)
    if found is None:
        raise UsageError(
            f"{printable(text[:100])!r} is no head of an audit log",
            remedy="write N:HASH as `audit verify` shows it",
        )
    return Head(int(found[1]), found[2])


def bounded(text: str, length: int) -> str:
    """``text`` without control characters and at most ``length`` long; what was cut is counted."""
    shown = printable(text)
    if len(shown) <= length:
        return shown
    tail = f"... ({len(shown)} characters)"
    return shown[: length - len(tail)] + tail


def line_of(entry: Entry) -> bytes:
    """The line of ``entry``, with its line feed."""
    return msgspec.json.encode(entry) + b"\n"


def entry_of(line: bytes) -> Entry:
    """The record in ``line``.

    Raises:
        AuditError: there is none.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise AuditError("this line is no record of an audit log") from error


def head_of(line: bytes) -> Head:
    """The head of a log whose last line is ``line``.

    Raises:
        AuditError: there is no record in it.
    """
    return Head(entry_of(line).n, sha256(line))
