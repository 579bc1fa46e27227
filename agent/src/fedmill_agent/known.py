# SPDX-License-Identifier: Apache-2.0
"""What was found of the last versions, on disk, so that a restart finds none of it again."""

from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from fedmill_agent import sealed
from fedmill_shared.messages import UNREADABLE

KEPT = 4
"""Versions that are remembered: the one that serves, and those that may be gone back to."""
LARGEST = 1 << 16


class Aged(Protocol):
    """Something that was found of a version."""

    @property
    def generation(self) -> int:
        """Of the stored windows that it was found by."""


Finding = TypeVar("Finding", bound=Aged)


class Versions(Struct, Generic[Finding], frozen=True):
    """The file: digest of the weights -> what was found, the newest last."""

    versions: dict[str, Finding]


class Known(Generic[Finding]):
    """Owns the file of one job. What is lost with it is made again."""

    def __init__(self, path: Path, kind: type[Versions[Finding]]) -> None:
        """``path`` need not exist; one that cannot be read, or is of no such ``kind``, is none."""
        self._path = path
        self._kind = kind
        self._versions: dict[str, Finding] = {}
        try:
            found = sealed.read(path, kind, LARGEST)
        except (OSError, *UNREADABLE):
            return
        self._versions = found.versions if found is not None else {}

    def get(self, version: str) -> Finding | None:
        """What is known of ``version``."""
        return self._versions.get(version)

    def generation(self, version: str) -> int | None:
        """By which stored windows it was found; None where nothing is known of ``version``."""
        found = self.get(version)
        return None if found is None else found.generation

    def newest(self) -> Finding | None:
        """What was found last, of whichever version."""
        return next(reversed(self._versions.values()), None)

    def put(self, version: str, found: Finding) -> None:
        """Remember it, and what is known of the ``KEPT`` newest.

        Raises:
            StoreError: the disk fails; it is known until the restart.
        """
        self._versions.pop(version, None)
        self._versions[version] = found
        for old in list(self._versions)[:-KEPT]:
            del self._versions[old]
        sealed.write(self._path, self._kind(self._versions))
