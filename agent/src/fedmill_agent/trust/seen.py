# SPDX-License-Identifier: Apache-2.0
"""The highest release of each job that was heard of and signed: nothing goes back below it."""

from contextlib import suppress
from pathlib import Path

import msgspec

from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.log import Logger
from fedmill_shared.messages import UNREADABLE, ReleaseNotice
from fedmill_shared.protocol import MOST_AHEAD
from fedmill_shared.trust import release_statement

MOST = 1024


class Seen:
    """Owns a small file; each job has a ledger besides."""

    def __init__(self, path: Path) -> None:
        """Read ``path``."""
        self._path = path
        self._seen: dict[str, tuple[int, str]] = {}
        self._told: dict[tuple[str, bool], int] = {}
        with suppress(OSError, *UNREADABLE):
            self._seen = msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[int, str]])

    def number(self, job: str) -> int:
        """The highest release of ``job``; 0 before the first."""
        return self._seen.get(job, (0, ""))[0]

    def is_highest(self, notice: ReleaseNotice) -> bool:
        """Whether ``notice`` is the highest release, as it was signed."""
        return self._seen.get(notice.job) == _mark(notice)

    def passes_over(self, notice: ReleaseNotice, log: Logger) -> bool:
        """Whether it is an old release, or so far ahead that no true one would come after it.

        Said once of each job, until a higher release was taken: a flood of them floods no log.
        """
        job, number, known = notice.job, notice.release, self.number(notice.job)
        ahead = bool(known) and number > known + MOST_AHEAD
        if number >= known and not ahead:
            return False
        if self._told.get((job, ahead)) != known:
            self._told[job, ahead] = known
            if ahead:
                reason = f"its number is far beyond {known}, the highest known here"
                log.warning("release.ignored", job=job, release=number, reason=reason)
            else:
                log.warning("release.replayed", job=job, release=number, known=known)
        return True

    def note(self, notice: ReleaseNotice) -> None:
        """``notice`` is signed: nothing lower counts any more.

        Raises:
            StoreError: the disk fails; it counts until a restart.
        """
        if self.is_highest(notice) or len(self._seen) >= MOST:
            return
        self._seen[notice.job] = _mark(notice)
        make_folder(self._path.parent)
        write_atomic(self._path, msgspec.json.encode(self._seen))


def _mark(notice: ReleaseNotice) -> tuple[int, str]:
    return notice.release, sha256(release_statement(notice))
