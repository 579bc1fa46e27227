# SPDX-License-Identifier: Apache-2.0
"""Labels on their way from the command line to the daemon: files in a folder of its state.

Each is there whole or not at all, and is removed only when its labels are on the disk elsewhere. So
it makes no difference whether the daemon runs.
"""

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from fedmill_agent.labels.decode import LARGEST, Decoded, from_json
from fedmill_agent.labels.record import Label
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.files import make_folder, write_atomic

PORTION = 10_000
"""Labels in one file."""
_numbers = itertools.count()


def hand_over(folder: Path, labels: Sequence[Label], now_ns: int) -> None:
    """Leave ``labels`` for the daemon.

    Raises:
        StoreError: the folder cannot be written.
    """
    make_folder(folder)
    for first in range(0, len(labels), PORTION):
        name = f"{now_ns:020d}-{os.getpid()}-{next(_numbers):06d}.json"
        write_atomic(folder / name, msgspec.json.encode(labels[first : first + PORTION]))


def waiting(folder: Path) -> list[Path]:
    """Files that were left, the oldest first."""
    return sorted(path for path in folder.glob("*.json") if path.is_file())


def read(path: Path) -> Decoded:
    """What is in a file; it never raises."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        told = f"{path}: cannot be read: {error.strerror}"
        found = Decoded()
        found.refuse(DataError(told, remedy="give the service user the right to"))
        return found
    return from_json(data, str(path))


def done(path: Path, *, damaged: bool) -> None:
    """Remove a file whose labels were taken; a damaged one is set aside, the newest only.

    Raises:
        StoreError: the folder does not allow it.
    """
    try:
        _remove(path, damaged=damaged)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be removed: {error.strerror}",
            remedy="give the service user the right to write its state folder",
        ) from error


def _remove(path: Path, *, damaged: bool) -> None:
    if damaged:
        for old in path.parent.glob("*.damaged"):
            old.unlink(missing_ok=True)
        with suppress(OSError):
            path.rename(path.with_name(f"{path.name}.damaged"))
        return
    path.unlink(missing_ok=True)
