# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in ReleaseRows
"""Releases in memory."""

from collections.abc import Sequence

from fedmill_coordinator.store import rules, rules_releases
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.base_releases import KEPT_INSTALLS, KEPT_RELEASES
from fedmill_coordinator.store.records import AliasRecord
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord


class MemoryReleases(Store):
    """The part of the store in memory that is about releases."""

    def __init__(self) -> None:
        """No release."""
        super().__init__()
        self._releases: dict[tuple[str, int], ReleaseRecord] = {}
        self._installs: dict[tuple[str, int, str], InstallRecord] = {}
        self._aliases: dict[tuple[str, str], AliasRecord] = {}

    def add_release(self, record: ReleaseRecord) -> None:
        last = next(iter(self.releases(record.job, last=1)), None)
        added = rules_releases.new_release(record, last)
        for version in (record.version, record.before):
            if version is not None and self.version(record.job, version) is None:
                raise rules.unknown(f"version {version} of job {record.job!r}")
        for stored in self.releases(record.job):
            ended = rules_releases.superseded(stored, added)
            if ended is not None:
                self._keep(ended)
        self._keep(added)
        self._forget(record.job)

    def save_release(self, record: ReleaseRecord, installs: Sequence[InstallRecord] = ()) -> None:
        stored = self.release(record.job, record.release)
        changed = rules_releases.changed_release(record, stored)
        told = list(rules_releases.of_release(changed, installs))
        self._installs.update({(i.job, i.release, i.agent): i for i in told})
        self._keep(changed)

    def release(self, job: str, number: int) -> ReleaseRecord | None:
        return self._releases.get((job, number))

    def releases(self, job: str, *, last: int | None = None) -> list[ReleaseRecord]:
        found = [record for key, record in sorted(self._releases.items()) if key[0] == job]
        return found if last is None else found[max(0, len(found) - last) :]

    def installs(self, job: str, release: int) -> list[InstallRecord]:
        return [
            record for key, record in sorted(self._installs.items()) if key[:2] == (job, release)
        ]

    def _forget(self, job: str) -> None:
        """Only the newest are kept."""
        numbers = [each.release for each in self.releases(job)]
        for number in numbers[:-KEPT_RELEASES]:
            del self._releases[job, number]
        over = {(job, number) for number in numbers[:-KEPT_INSTALLS]}
        for key in [key for key in self._installs if key[:2] in over]:
            del self._installs[key]

    def _keep(self, record: ReleaseRecord) -> None:
        """Keep ``record`` with all that follows from it."""
        before = self._releases.get((record.job, record.release))
        self._releases[record.job, record.release] = record
        for install in rules_releases.withdrawn(record, self.installs(record.job, record.release)):
            self._installs[install.job, install.release, install.agent] = install
        if before is not None and before.state == record.state:
            return
        moved = rules_releases.stable(record, record.ended_ns or record.created_ns)
        if moved is not None:
            self.set_alias(moved.job, moved.alias, moved.version, updated_ns=moved.updated_ns)
        canary = rules_releases.canary(record)
        if canary is not None:
            self._aliases[record.job, "canary"] = canary
        else:
            self._aliases.pop((record.job, "canary"), None)
