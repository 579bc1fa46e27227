# SPDX-License-Identifier: Apache-2.0
"""The highest release of each job that was heard of and signed: nothing goes back below it."""

from contextlib import suppress
from pathlib import Path

import msgspec

from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.messages import UNREADABLE, ReleaseNotice
from fedmill_shared.trust import release_statement

MOST = 1024


class Seen:
    """Owns a small file; each job has a ledger besides."""

    def __init__(self, path: Path) -> None:
        """Read ``path``."""
        self._path = path
        self._seen: dict[str, tuple[int, str]] = {}
        with suppress(OSError, *UNREADABLE):
            self._seen = msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[int, str]])

    def number(self, job: str) -> int:
        """The highest release of ``job``; 0 before the first."""
        return self._seen.get(job, (0, ""))[0]

    def is_highest(self, notice: ReleaseNotice) -> bool:
        """Whether ``notice`` is the highest release, as it was signed."""
        return self._seen.get(notice.job) == _mark(notice)

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
