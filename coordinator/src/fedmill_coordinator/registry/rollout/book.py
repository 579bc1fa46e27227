# SPDX-License-Identifier: Apache-2.0
"""The releases of one job as they are stored, and the newest of them in hand."""

from collections.abc import Iterable, Sequence
from typing import Unpack

from msgspec import structs

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import VersionRecord
from fedmill_coordinator.store.records_releases import (
    LAST_WORDS,
    InstallRecord,
    ReleaseChanges,
    ReleaseRecord,
    Why,
)
from fedmill_coordinator.store.rules_releases import (
    GIVEN_UP,
    GOING,
    SUPERSEDED_REASON,
    WITHDRAWN,
)
from fedmill_shared.job import Job
from fedmill_shared.protocol import MOST_AHEAD


class Book:
    """Owns the newest release of one job, and how far each agent is with it.

    Attributes:
        release: the newest release; None before the first.
        installs: how far agents are with it, by name.
    """

    def __init__(self, job: Job, store: Store) -> None:
        """Take up what the store holds."""
        self._job = job
        self._store = store
        self.release = next(iter(store.releases(job.name, last=1)), None)
        self.installs: dict[str, InstallRecord] = {}
        if self.release is not None:
            told = store.installs(job.name, self.release.release)
            self.installs = {each.agent: each for each in told}

    @property
    def going(self) -> ReleaseRecord | None:
        """The release that is under way or held; None if there is none."""
        release = self.release
        return release if release is not None and release.state in GOING else None

    def begin(
        self,
        version: VersionRecord,
        why: Why,
        now_ns: int,
        *,
        rings: Sequence[str],
        before: str | None,
        by: str = "",
        reason: str = "",
        known: Iterable[int] = (),
        order_id: int = 0,
        newest: int = 0,
    ) -> ReleaseRecord:
        """A new release of ``version``, which agents know no higher one than: ``known`` of them.

        ``newest`` is the number of the job's newest version.

        Raises:
            StoreError: it cannot be stored; no release has begun.
        """
        last = self.release.release if self.release is not None else 0
        ahead = max((each for each in known if each <= last + MOST_AHEAD), default=0)
        release = ReleaseRecord(
            job=self._job.name,
            release=max(last, ahead) + 1,
            version=version.version,
            before=before if before != version.version else None,
            why=why,
            by=by,
            order_id=order_id,
            newest=newest,
            rings=list(rings),
            created_ns=now_ns,
            reason=reason,
        )
        self._withdraw_latecomers()
        self._store.add_release(release)
        self.release, self.installs = release, {}
        return release

    def _withdraw_latecomers(self) -> None:
        """Who came when the newest release was done, and has no last word, is not waited for."""
        if self.release is None or self.release.state != "done":
            return
        late = [each for each in self.installs.values() if each.state not in LAST_WORDS]
        if late:
            words = {"state": WITHDRAWN, "reason": SUPERSEDED_REASON}
            self.change([structs.replace(each, **words) for each in late])

    def change(
        self, installs: Sequence[InstallRecord] = (), **fields: Unpack[ReleaseChanges]
    ) -> ReleaseRecord:
        """Replace fields of the newest release, and add or replace ``installs``.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        if self.release is None:
            raise RuntimeError("no release to change")
        changed = structs.replace(self.release, **fields)
        self._store.save_release(changed, installs)
        self.release = changed
        self.installs.update({each.agent: each for each in installs})
        if changed.state in GIVEN_UP:  # the store has withdrawn what was open
            told = self._store.installs(self._job.name, changed.release)
            self.installs = {each.agent: each for each in told}
        return changed

    def told(self) -> ReleaseRecord | None:
        """The newest release that agents were told of: one with a ring that is open."""
        release = self.release
        if release is None or release.opened:
            return release
        earlier = (each for each in reversed(self._store.releases(self._job.name)) if each.opened)
        return next(earlier, None)

    def last_canary(self) -> str:
        """Who was the canary of the last release that had one."""
        past = reversed(self._store.releases(self._job.name))
        return next((each.canary for each in past if each.canary), "")

    def tried(self) -> set[str]:
        """Versions that were given up or gone back from; nothing releases them again by itself."""
        past = self._store.releases(self._job.name)
        found = {each.version for each in past if each.state in GIVEN_UP}
        return found | {each.before for each in past if each.why == "rollback" and each.before}

    def last_ns(self) -> int:
        """The latest time that is stored of the newest release, ns; 0 if there is none."""
        if self.release is None:
            return 0
        times = [each.heard_ns for each in self.installs.values()]
        own = (self.release.created_ns, self.release.ring_ns, self.release.resumed_ns)
        return max(*times, *own)
