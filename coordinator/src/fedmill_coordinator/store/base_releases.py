# SPDX-License-Identifier: Apache-2.0
"""What every store promises about releases, and how far each agent is with them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord

KEPT_RELEASES = 256
"""Releases of a job that are kept, the newest."""
KEPT_INSTALLS = 32
"""Releases of a job of which it is kept how far each agent was, the newest."""


class ReleaseRows(ABC):
    """The part of `Store` that is about releases.

    Aliases follow: while a release is ``open`` or ``paused``, ``canary`` is its version; with
    ``done`` the alias ``stable`` moves to it as by `set_alias`; when it ends, ``canary`` goes. All
    of it happens in the transaction that changes the release.
    """

    @abstractmethod
    def add_release(self, record: ReleaseRecord) -> None:
        """Begin a release.

        One that is open or paused ends as ``superseded`` when this one was created, and those of
        its agents that have no last word become ``withdrawn``. Releases beyond the newest
        ``KEPT_RELEASES`` go, installs beyond those of the newest ``KEPT_INSTALLS``. MUST fail with
        StoreError if the state is not ``open``, if the number is not greater than that of the job's
        last release, or if its version, or the one before it, is unknown.
        """

    @abstractmethod
    def save_release(self, record: ReleaseRecord, installs: Sequence[InstallRecord] = ()) -> None:
        """Replace a release, and add or replace how far ``installs`` are with it, all or nothing.

        When it ends as ``aborted`` or ``superseded``, all of its agents that have no last word
        then become ``withdrawn``. MUST fail with StoreError if there is no such release, if it is
        over and the new state is another one, if its version would change, or if an install is of
        another release.
        """

    @abstractmethod
    def release(self, job: str, number: int) -> ReleaseRecord | None:
        """Release ``number`` of ``job``."""

    @abstractmethod
    def releases(self, job: str, *, last: int | None = None) -> list[ReleaseRecord]:
        """Releases of ``job`` by number: all, or at most the ``last`` ones."""

    @abstractmethod
    def installs(self, job: str, release: int) -> list[InstallRecord]:
        """How far agents are with a release of ``job``, by agent."""
