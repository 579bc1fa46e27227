# SPDX-License-Identifier: Apache-2.0
"""What is known of a certificate without reading it: who, until when, under which number."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.errors import IdentityError
from fedmill_shared.messages import UNREADABLE, Agent, Digest, Nanoseconds

LARGEST_FACTS = 4096

Serial = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,40}\Z")]
"""A certificate's number in hexadecimal: at most 20 bytes (RFC 5280, section 4.1.2.2)."""


class Facts(Struct, frozen=True, kw_only=True):
    """One certificate of the agent.

    Attributes:
        agent: whom it names.
        serial: its number.
        not_before_ns: when it begins to hold, ns UTC.
        not_after_ns: when it ends to hold, ns UTC.
        fingerprint: SHA-256 of it.
        key: short name of the key that it is for.
        authority: SHA-256 of the certificate of the authority that issued it.
    """

    agent: Agent
    serial: Serial
    not_before_ns: Nanoseconds
    not_after_ns: Nanoseconds
    fingerprint: Digest
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    authority: Digest

    @property
    def life_ns(self) -> int:
        """How long it holds in all, in ns."""
        return max(0, self.not_after_ns - self.not_before_ns)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def parse_facts(data: bytes, place: str) -> Facts:
    """The facts in ``data``, JSON that was found at ``place``.

    Raises:
        IdentityError: they are damaged.
    """
    try:
        if len(data) <= LARGEST_FACTS:
            return msgspec.json.decode(data, type=Facts)
        told = f"more than {LARGEST_FACTS} bytes"
    except UNREADABLE as error:
        told = str(error)
    raise IdentityError(f"{place}: damaged: {told}", remedy="enrol this agent again")


def read_facts(path: Path) -> Facts | None:
    """The facts in the file ``path``; None where there is none.

    Raises:
        IdentityError: they cannot be read, or are damaged.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FACTS + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(
            f"{path}: cannot be read: {error.strerror or error}",
            remedy="the files of an identity belong to the service user",
        ) from error
    return parse_facts(data, str(path))
