# SPDX-License-Identifier: Apache-2.0
"""Vectors that stay on the agent, in files of their own: checked as they are read, replaced whole.

What is in such a file makes models better and can be made again. So one that is damaged, or of
another layout of the model, is set aside and nothing else happens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_agent import sealed
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.messages import UNREADABLE

Vector = NDArray[np.float32]


class Kept(Struct, frozen=True, kw_only=True):
    """What one file holds.

    Attributes:
        layout: digest of the manifest that the vectors belong to.
        vectors: float32 numbers by name, little-endian.
    """

    layout: str
    vectors: dict[str, bytearray] = {}

    def __post_init__(self) -> None:
        for name, data in self.vectors.items():
            if len(data) % 4:
                raise DataError(f"vector {name!r} of {len(data)} bytes is no float32 numbers")

    def vector(self, name: str) -> Vector | None:
        """The vector with this name, a view of its bytes; None where there is none."""
        data = self.vectors.get(name)
        return None if data is None else np.frombuffer(data, dtype="<f4")


K = TypeVar("K", bound=Kept)


@dataclass(frozen=True, slots=True)
class Found(Generic[K]):
    """What a file held: nothing where there was none, or where it had to be ``set_aside``."""

    kept: K | None
    set_aside: Path | None = None


def bytes_of(vectors: Mapping[str, Vector | None]) -> dict[str, bytearray]:
    """Vectors as a file holds them; those that are None are left out."""
    return {
        name: bytearray(vector.astype("<f4", copy=False).tobytes())
        for name, vector in vectors.items()
        if vector is not None
    }


def keep(path: Path, kept: Kept) -> None:
    """Replace the file with ``kept``.

    Raises:
        StoreError: the disk fails; the file is unchanged.
    """
    sealed.write(path, kept)


def find(path: Path, kind: type[K], layout: str) -> Found[K]:
    """What the file holds; it is renamed where it is damaged or for another layout.

    Only whoever writes the file may call this: another might rename what was just replaced.

    Raises:
        StoreError: the disk fails.
    """
    try:
        kept = _read(path, kind)
        if kept is None or kept.layout == layout:
            return Found(kept)
    except UNREADABLE:
        pass
    aside = path.with_suffix(".damaged")
    try:
        path.replace(aside)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be set aside: {error.strerror}",
            remedy="give the service user the right to write the folder",
        ) from error
    return Found(None, aside)


def look(path: Path, kind: type[K], layout: str) -> K | None:
    """What the file holds; None where it is of no use, or not readable.

    Raises:
        DataError: it is damaged.
        StoreError: the disk fails.
    """
    kept = peek(path, kind)
    return kept if kept is not None and kept.layout == layout else None


def peek(path: Path, kind: type[K]) -> K | None:
    """What the file holds, for whichever layout; None where there is none.

    Raises:
        DataError: it is damaged.
        StoreError: the disk fails.
    """
    try:
        return _read(path, kind)
    except UNREADABLE as error:
        raise DataError(f"{path}: damaged: {error}", remedy="it is made again") from error


def _read(path: Path, kind: type[K]) -> K | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read: {error.strerror}",
            remedy="give the service user the right to read it",
        ) from error
    return sealed.opened(path, data, kind)
