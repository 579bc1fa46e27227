# SPDX-License-Identifier: Apache-2.0
"""What is signed, as the child leaves it for the daemon: one file, whole or not there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.messages.fields import DigestOrNone

Word = Literal["", "incomplete", "expired", "refused"]
RUNNING = ("timestamp", "snapshot", "targets", "models")
"""Roles that must not be over for anything new to be taken."""
LARGEST_BYTES = 8 << 20


class Custom(Struct, frozen=True, kw_only=True):
    """What is signed with a target besides its bytes.

    Attributes:
        canonical: of a job file: digests of the texts that each of its jobs may have.
        quantised: of a release: digest of its template's int8 form.
        job: of a release.
        release: its number.
    """

    canonical: Annotated[dict[str, list[str]], Meta(max_length=256)] = {}
    quantised: DigestOrNone = ""
    job: str = ""
    release: int = 0


class Target(Struct, frozen=True, kw_only=True):
    """A signed file: its size in bytes, its digest, and what is signed with it."""

    length: int
    sha256: str
    custom: Custom = Custom()


class SignedText(Struct, frozen=True, kw_only=True):
    """A signed remote configuration."""

    path: str
    sha256: str
    text: str


class Verified(Struct, frozen=True, kw_only=True):
    """What was checked last.

    Attributes:
        checked_ns: when; by the agent's clock.
        versions: of each role.
        expires_ns: when each role's metadata is over.
        targets: what is signed, by path.
        configs: remote configurations for this agent, ``all`` first.
        word: what came of the last check: nothing to say, or why the rest is from before.
        error: the same in words.
        attempted_ns: when that was.
    """

    checked_ns: int = 0
    versions: dict[str, int] = {}
    expires_ns: dict[str, int] = {}
    targets: dict[str, Target] = {}
    configs: list[SignedText] = []
    word: Word = ""
    error: str = ""
    attempted_ns: int = 0

    @property
    def expires(self) -> tuple[int, str]:
        """When the first of the roles that count is over, ns, and which that is; 0 before any."""
        found = [(at, role) for role, at in self.expires_ns.items() if role in RUNNING]
        return min(found, default=(0, "timestamp"))

    def texts(self, job: str) -> Iterator[str]:
        """Digests of the texts that ``job`` may have."""
        for path, target in self.targets.items():
            if path.startswith("jobs/"):
                yield from target.custom.canonical.get(job, ())

    def graphs(self, job: str) -> Iterator[str]:
        """Digests of the int8 forms that releases of ``job`` are signed with."""
        for path, target in self.targets.items():
            if path.startswith("releases/") and target.custom.job == job:
                yield target.custom.quantised

    def below(self, floors: Mapping[str, int]) -> str:
        """The first role whose version is lower than in ``floors``; empty if none is."""
        lower = (role for role, floor in floors.items() if self.versions.get(role, floor) < floor)
        return next(lower, "")


def read_verified(path: Path) -> Verified:
    """What is in ``path``; nothing is signed where there is no such file, or it is damaged.

    The next check writes it anew, from metadata that has floors of its own.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return Verified()
        return msgspec.json.decode(path.read_bytes(), type=Verified)
    except (OSError, *UNREADABLE):
        return Verified()


def write_verified(path: Path, verified: Verified) -> None:
    """Replace what is in ``path``.

    Raises:
        StoreError: the disk fails; it is unchanged.
    """
    make_folder(path.parent)
    write_atomic(path, msgspec.json.encode(verified))


def readable(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes of a plain file.

    Raises:
        StoreError: it is none, larger, or cannot be read.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{path}: is no plain file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise StoreError(f"{path}: is larger than {limit} bytes")
    return data
