# SPDX-License-Identifier: Apache-2.0
"""Limits of the last versions on disk."""

from math import inf
from pathlib import Path

from msgspec import Struct

from fedmill_agent import known

FILE = "limits.msgpack"


class Limit(Struct, frozen=True):
    """What a version's scores of normal windows say.

    Attributes:
        value: score that counts as 1; positive.
        windows: validation windows behind it.
        generation: of these windows.
    """

    value: float
    windows: int
    generation: int


class _File(known.Versions[Limit], frozen=True):
    """The file."""


class KnownLimits(known.Known[Limit]):
    """Owns the limits of one job."""

    def __init__(self, path: Path) -> None:
        """``path`` need not exist; what is no limit in it counts as not there."""
        super().__init__(path, _File)
        versions = self._versions.items()
        self._versions = {name: each for name, each in versions if 0 < each.value < inf}
