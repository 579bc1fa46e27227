# SPDX-License-Identifier: Apache-2.0
"""A file system of a few MiB that tests fill up, and that is gone afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


class SmallDisk:
    """A file system of its own at a folder; it can be filled and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Use up all space, also while others write."""
        with self._ballast.open("ab") as file:
            step = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
            while step:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError:  # somebody was faster
                    step //= 2

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def protect(self, *, read_only: bool) -> None:
        """Let nothing be written from now on, or again."""
        _mount("-o", f"remount,{'ro' if read_only else 'rw'}", str(self.folder))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A file system of ``size`` bytes at ``folder``; who may mount none skips the test."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
