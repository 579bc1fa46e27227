# SPDX-License-Identifier: Apache-2.0
"""What a backup says of itself: its first member, which names every other one by its digest."""

from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.errors import StoreError

FORMAT: Final = 1
NAME: Final = "manifest.json"
LONGEST: Final = 64 << 20
"""Bytes of a manifest: some hundred thousand blobs."""
Place = Literal[
    "state",
    "config",
    "job",
    "golden",
    "identity",
    "ca_certificate",
    "ca_key",
    "trust",
    "trust_keys",
]
"""Whose file it is: its path is below the folder that the configuration names for it."""


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """One file.

    Attributes:
        place: where it belongs.
        path: below that; of ``job`` and ``golden`` relative to the configuration's folder.
        size: bytes.
        sha256: digest of its bytes.
    """

    place: Place
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]

    @property
    def name(self) -> str:
        """Its name in the archive."""
        return f"{self.place}/{self.path}"


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a backup.

    Attributes:
        format: version of this layout.
        made_ns: when, ns since 1970-01-01 UTC.
        software: version of fedmill that made it.
        coordinator: whose it is.
        keys: whether it holds private keys.
        members: every file, in the order of the archive.
    """

    format: int
    made_ns: int
    software: str
    coordinator: str
    keys: bool
    members: list[Member]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(member.size for member in self.members)


def decode(data: bytes, origin: str) -> Manifest:
    """The manifest in ``data``; no path in it leads out of its place.

    Raises:
        StoreError: it is none, of a newer format, or names a file twice or elsewhere.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise damaged(origin, f"its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise StoreError(
            f"{origin}: is a backup of format {manifest.format}, this fedmill knows {FORMAT}",
            remedy="restore it with the fedmill that made it",
        )
    for member in manifest.members:
        parts = PurePosixPath(member.path).parts
        if member.path.startswith("/") or ".." in parts or "\0" in member.path:
            raise damaged(origin, f"{member.path!r} leads elsewhere")
    names = [member.name for member in manifest.members]
    if len(set(names)) != len(names):
        raise damaged(origin, "it names a file twice")
    return manifest


def damaged(origin: str, problem: str) -> StoreError:
    """The error of a backup that is not as it was made."""
    return StoreError(f"{origin}: {problem}", remedy="nothing was changed; take another backup")
