# SPDX-License-Identifier: Apache-2.0
"""What was announced of jobs, kept for those whose text comes later."""

from collections.abc import Collection, Iterator

from fedmill_shared.messages import ReleaseNotice, RoundNotice, VersionNotice

Notice = VersionNotice | ReleaseNotice | RoundNotice

KINDS = ("version", "release", "round")
"""In the order in which they are passed on."""

STRANGERS_LIMIT = 16
"""Jobs without a seat, and without a place in the configuration, whose notices are kept."""


class Announcements:
    """Owns the newest notice of each kind."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Notice] = {}

    def remember(self, kind: str, notice: Notice, known: Collection[str]) -> None:
        """Keep ``notice``; of jobs that are not ``known``, of the newest few jobs."""
        self._newest.pop((notice.job, kind), None)
        self._newest[notice.job, kind] = notice
        strangers = dict.fromkeys(job for job, _ in self._newest if job not in known)
        for job in list(strangers)[:-STRANGERS_LIMIT]:
            for each in KINDS:
                self._newest.pop((job, each), None)

    def of(self, job: str) -> Iterator[Notice]:
        """The newest of ``job``: a version, a release, then a round."""
        for kind in KINDS:
            if (job, kind) in self._newest:
                yield self._newest[job, kind]
