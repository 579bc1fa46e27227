# SPDX-License-Identifier: Apache-2.0
"""A bundle that was checked and handed over: its notices are heard as if the broker had them.

So are its blobs: what an installation asks for comes out of the folder, block by block, through the
same checks as from the network.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Block, check_index, parse_block, read_blocks
from fedmill_shared.messages import (
    MESSAGE_LIMIT,
    BlobRequest,
    InstallReport,
    InstallState,
    JobNotice,
    ReleaseNotice,
    decode,
)

OVER = (InstallState.COMMITTED, InstallState.REJECTED, InstallState.ROLLED_BACK)
MOST_NOTICES = 512
JOB, RELEASE = ".job", ".release"


class Imports:
    """Owns the bundle that is being installed."""

    def __init__(self, places: TrustPlaces) -> None:
        """None is known before ``look``."""
        self._places = places
        self._folder: Path | None = None
        self._wanted: dict[str, int] = {}

    @property
    def folder(self) -> Path | None:
        """The bundle; None where there is none."""
        return self._folder

    def look(self) -> Path | None:
        """A bundle that was handed over since; None if there is no new one."""
        try:
            found = sorted(each for each in self._places.imports.iterdir() if each.name[0] != ".")
        except OSError:
            return None
        newest = max(found, key=lambda each: each.stat().st_mtime_ns, default=None)
        if newest is None or newest == self._folder:
            return None
        self._folder, self._wanted = newest, {}
        for other in found:
            if other != newest:
                remove(other)
        return newest

    def notices(self) -> Iterator[JobNotice | ReleaseNotice]:
        """What the bundle says: its jobs, then its releases.

        Raises:
            StoreError: it cannot be read.
            FrameError: it is damaged.
        """
        if self._folder is None:
            return
        for notice in read_notices(self._folder):
            if isinstance(notice, ReleaseNotice):
                self._wanted[notice.job] = notice.release
            yield notice

    def blocks(self, request: BlobRequest) -> list[Block]:
        """Blocks of a blob that the bundle has; for any thread.

        Raises:
            StoreError: it cannot be read.
            FrameError: it has no such block.
        """
        path = self._blob(request.blob)
        if path is None:
            return []
        window = request.missing[:TRANSFER_WINDOW]
        for index in window:
            check_index(index, path.stat().st_size)
        return [parse_block(each) for each in read_blocks(path, request.blob, window)]

    def has(self, blob: str) -> bool:
        """Whether ``blob`` is in the bundle."""
        return self._blob(blob) is not None

    def finish(self, reports: Mapping[str, InstallReport | None]) -> bool:
        """Remove the bundle once each of its releases has a last word; True if that is so now."""
        if self._folder is None:
            return False
        for job, release in self._wanted.items():
            report = reports.get(job)
            if report is None or report.release < release:
                return False
            if report.release == release and report.state not in OVER:
                return False
        remove(self._folder)
        self._folder, self._wanted = None, {}
        return True

    def _blob(self, blob: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / "blobs" / blob
        return path if path.is_file() else None


def read_notices(folder: Path) -> Iterator[JobNotice | ReleaseNotice]:
    """The notices of a bundle: its jobs, then its releases.

    Raises:
        StoreError: one cannot be read.
        FrameError: one is damaged, or there are too many.
    """
    found = sorted((folder / "notices").glob("*"))
    if len(found) > MOST_NOTICES:
        raise FrameError(f"{folder}: {len(found)} notices, at most {MOST_NOTICES} are taken")
    for kind in (JOB, RELEASE):
        for path in found:
            if path.suffix == kind:
                yield _read(path)


def remove(folder: Path) -> None:
    """Remove ``folder`` and what is in it, as far as the disk lets us."""
    with suppress(OSError):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        folder.rmdir()


def _read(path: Path) -> JobNotice | ReleaseNotice:
    try:
        with path.open("rb") as file:
            data = file.read(MESSAGE_LIMIT + 1)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode(data, JobNotice) if path.suffix == JOB else decode(data, ReleaseNotice)
