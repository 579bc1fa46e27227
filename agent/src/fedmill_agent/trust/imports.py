# SPDX-License-Identifier: Apache-2.0
"""A bundle that was checked and handed over: its notices are heard as if the broker had them.

So are its blobs: what an installation asks for comes out of the folder, block by block, through the
same checks as from the network.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Block, check_index, parse_block, read_blocks
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    MESSAGE_LIMIT,
    BlobRequest,
    InstallReport,
    InstallState,
    JobNotice,
    ReleaseNotice,
    decode,
)
from fedmill_shared.trust import METADATA_LIMIT, version_in

OVER = (InstallState.COMMITTED, InstallState.REJECTED, InstallState.ROLLED_BACK)
MOST_NOTICES = 512
JOB, RELEASE = ".job", ".release"
NOTICE = re.compile(r"^[a-z0-9_-]{1,32}\.(?:job|release)\Z")
"""What a notice in a bundle is called, after its job."""


class Imports:
    """Owns the bundle that is being installed."""

    def __init__(self, places: TrustPlaces, log: Logger) -> None:
        """None is known before ``look``."""
        self._places = places
        self._log = log
        self._folder: Path | None = None
        self._wanted: dict[str, int] = {}
        self._stuck: set[Path] = set()

    @property
    def folder(self) -> Path | None:
        """The bundle; None where there is none."""
        return self._folder

    def look(self) -> Path | None:
        """A bundle that was handed over since; None if there is no new one."""
        try:
            found = {
                each: each.stat().st_mtime_ns
                for each in self._places.imports.iterdir()
                if each.name[0] != "." and each not in self._stuck and each.is_dir()
            }
        except OSError:
            return None
        new = [each for each in found if each != self._folder]
        if not new:
            return None
        newest = max(new, key=lambda each: (_timestamp(each), found[each]))
        if self._folder in found and _timestamp(newest) < _timestamp(self._folder):
            known, came = _timestamp(self._folder), _timestamp(newest)
            for older in new:
                self._remove(older)
            self._log.warning("bundle.passed_over", bundles=len(new), timestamp=came, known=known)
            return None
        self._folder, self._wanted = newest, {}
        for other in found:  # what was there before, whatever the clock said then
            if other != newest:
                self._remove(other)
        return newest

    def again(self) -> None:
        """Let ``look`` find the bundle once more: it could not be taken."""
        self._folder, self._wanted = None, {}

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

    def finish(
        self, reports: Mapping[str, InstallReport | None], wants: Callable[[str], bool]
    ) -> bool:
        """Remove the bundle once each release has a last word; True if that is so now.

        ``wants`` says which jobs the agent takes part in: nothing is said of the others.
        """
        if self._folder is None:
            return False
        for job, release in self._wanted.items():
            if not wants(job):
                continue
            report = reports.get(job)
            if report is None or report.release < release:
                return False
            if report.release == release and report.state not in OVER:
                return False
        self.drop()
        return True

    def drop(self) -> None:
        """Remove the bundle, whatever became of it."""
        if self._folder is not None:
            self._remove(self._folder)
        self.again()

    def _remove(self, folder: Path) -> None:
        """Remove ``folder``, or never look at it again: it would be taken for a new one."""
        remove(folder)
        if folder.exists():
            self._stuck.add(folder)

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


def _timestamp(folder: Path) -> int:
    """Version of a bundle's timestamp, which says better than a clock which one is newer; or 0."""
    with suppress(OSError, FrameError), (folder / "metadata" / "timestamp.json").open("rb") as file:
        return version_in(file.read(METADATA_LIMIT + 1))
    return 0


def _read(path: Path) -> JobNotice | ReleaseNotice:
    try:
        with path.open("rb") as file:
            data = file.read(MESSAGE_LIMIT + 1)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return decode(data, JobNotice) if path.suffix == JOB else decode(data, ReleaseNotice)
    except FrameError as error:
        told = f"notices/{path.name}: {error.message}"
        raise FrameError(told, remedy=error.remedy or "write the bundle anew") from error
