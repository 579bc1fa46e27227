# SPDX-License-Identifier: Apache-2.0
"""What the daemon counts of what it lives through and no row remembers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import json

from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.messages import UNREADABLE

FILE = "counts.json"
AUDIT_LOST = "audit_records_lost"
"""Records of the audit log that could not be written."""
MOST_SERIES = 10_000
"""Kinds of things that are counted at most: labels are a few words for each job."""


class Counts:
    """Counters that only go up, by name and labels."""

    def __init__(self, counted: Mapping[str, int] | None = None) -> None:
        """Go on from what was ``counted`` before."""
        self._counted = Counter[str](counted or {})
        self._saved = dict(self._counted)

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """``by`` more of ``name``, of the kind that ``labels`` say."""
        key = "|".join((name, *labels))
        if key in self._counted or len(self._counted) < MOST_SERIES:
            self._counted[key] += by

    def of(self, name: str) -> Iterator[tuple[tuple[str, ...], int]]:
        """Labels and count of each kind of ``name``."""
        for key, count in sorted(self._counted.items()):
            found, *labels = key.split("|")
            if found == name:
                yield tuple(labels), count

    def copy(self) -> "Counts":
        """What has been counted so far, for another thread."""
        return Counts(dict(self._counted))

    def save(self, folder: Path) -> None:
        """Keep them in ``folder``, if any has changed since.

        Raises:
            StoreError: it cannot be written.
        """
        if self._counted != self._saved:
            write_atomic(folder / FILE, json.encode(self._counted))
            self._saved = dict(self._counted)


def load_counts(folder: Path) -> Counts:
    """What was counted by the coordinator with this state folder; nothing where that is damaged.

    Raises:
        StoreError: the folder cannot be read.
    """
    path = folder / FILE
    try:
        return Counts(json.decode(path.read_bytes(), type=dict[str, int]))
    except FileNotFoundError:
        return Counts()
    except UNREADABLE:
        return Counts()
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read: {error.strerror or error}",
            remedy="run this as the coordinator's user",
        ) from error
