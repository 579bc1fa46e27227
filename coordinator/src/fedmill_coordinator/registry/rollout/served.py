# SPDX-License-Identifier: Apache-2.0
"""Which version the agents of a job are to serve at present, and which they served before."""

from typing import Protocol

from fedmill_coordinator.registry.rollout.book import Book
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import Alias, VersionRecord
from fedmill_coordinator.store.records_releases import BACK, ReleaseRecord
from fedmill_coordinator.store.rules_releases import GOING
from fedmill_shared.job import Job


class Newest(Protocol):
    """Knows the newest version of a job."""

    @property
    def newest(self) -> VersionRecord | None:
        """It; None before the first."""


class Served:
    """Reads it from releases, aliases and, where each version is served, the newest one."""

    def __init__(self, job: Job, store: Store, book: Book, versions: Newest) -> None:
        """Of ``job``; nothing is read yet."""
        self._job = job.name
        self._each = job.rollout.release == "each"
        self._store = store
        self._book = book
        self._versions = versions

    @property
    def newest(self) -> bool:
        """Whether agents score with the newest version as it comes."""
        return self.outlived(self._book.release)

    def outlived(self, release: ReleaseRecord | None) -> bool:
        """Whether ``release`` counts for nothing any more: newer versions are served as they come.

        The same where there was none.
        """
        return self._each and came_later(self._versions.newest, release)

    @property
    def outdated(self) -> ReleaseRecord | None:
        """The release under way that the next version has taken the place of; None if none is."""
        return self._book.going if self.newest else None

    def now(self) -> str | None:
        """The version that the fleet was to serve before what is under way."""
        stable = self._alias("stable")
        return standing(self._book.release, self._versions.newest, stable, each=self._each)

    def before(self) -> str | None:
        """The version that a roll-back leads to; None where there is none.

        Of a release under way what it replaces; otherwise the alias ``previous``.
        """
        going = self._book.going
        return going.before if going is not None else self._alias("previous")

    def gone_back(self) -> ReleaseRecord | None:
        """The way back that agents are in the midst of, or the roll-back behind them; else None.

        What served before a roll-back is what was gone back from.
        """
        release = self._book.release
        if release is None or release.why not in BACK or self.newest:
            return None
        behind = release.why == "rollback" and release.state == "done"
        return release if behind or release.state in GOING else None

    def ever(self, version: str) -> bool:
        """Whether ``version`` has served the fleet, as far as that is remembered."""
        if self._each or version in (self._alias("stable"), self._alias("previous")):
            return True
        past = self._store.releases(self._job)
        return any(each.version == version and each.state == "done" for each in past)

    def _alias(self, alias: Alias) -> str | None:
        found = self._store.alias(self._job, alias)
        return found.version if found is not None else None


def came_later(newest: VersionRecord | None, release: ReleaseRecord | None) -> bool:
    """Whether a job's ``newest`` version came after its last ``release``; also without either."""
    return newest is None or release is None or newest.number > release.newest


def standing(
    release: ReleaseRecord | None, newest: VersionRecord | None, stable: str | None, *, each: bool
) -> str | None:
    """The version that a fleet is to serve but for its last ``release``, if that is under way.

    ``newest`` is the job's newest version, ``stable`` what that alias names; ``each``: versions are
    served as they come.
    """
    if each and came_later(newest, release):
        return newest.version if newest is not None else None
    if each and release is not None and release.state != "done":
        # `stable` is older than what was served as it came until this release began.
        return release.before or release.version
    return stable
