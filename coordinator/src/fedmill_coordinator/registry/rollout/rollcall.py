# SPDX-License-Identifier: Apache-2.0
"""Who is asked for the newest release of a job, and what they answer."""

from collections.abc import Mapping

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.registry.rollout.book import Book
from fedmill_coordinator.registry.rollout.hearing import heard
from fedmill_coordinator.registry.rollout.rings import Labels, newcomers
from fedmill_coordinator.registry.rollout.telling import log_word
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_shared.log import Logger
from fedmill_shared.messages import InstallReport

HEARD = ("open", "paused", "done")
"""States of a release that agents are still heard of."""


class RollCall:
    """Takes down who came with the rings that are open, and how far they are."""

    def __init__(self, job: str, book: Book, fleet: Fleet, log: Logger) -> None:
        """Nobody was heard."""
        self._job = job
        self._book = book
        self._fleet = fleet
        self._log = log
        self._seen: dict[str, InstallReport] = {}

    def begin(self) -> None:
        """There is another release: what was said before may be about it."""
        self._seen = {}

    def hear(self, there: Mapping[str, Labels], now_ns: int) -> bool:
        """Take in what agents said, and who came, durably; whether the release has to be told them.

        Raises:
            StoreError: it cannot be stored; nothing was heard.
        """
        release = self._book.release
        if release is None or not release.opened or release.state not in HEARD:
            return False
        told, known = self._fleet.installs(self._job), self._book.installs
        spoke = {a: each for a, each in told.items() if each is not self._seen.get(a)}
        said = [heard(known[a], each, release, now_ns) for a, each in spoke.items() if a in known]
        changed = [each for each in said if each is not known[each.agent]]
        new = self.joining(release, there, now_ns) if release.state != "paused" else []
        new = [heard(each, told.get(each.agent), release, now_ns) for each in new]
        if changed or new:
            self._book.change([*changed, *new])
        self._seen = told
        for each in changed:
            log_word(self._log, release, each)
        return bool(new) and release.state == "open"

    def joining(
        self,
        release: ReleaseRecord,
        there: Mapping[str, Labels],
        now_ns: int,
        opened: int | None = None,
    ) -> list[InstallRecord]:
        """Agents that come with the rings that are open now, asked and not yet stored.

        ``opened`` are so many rings instead.
        """
        if there.keys() <= self._book.installs.keys():
            return []
        came = newcomers(
            release.rings[: opened or release.opened],
            there,
            self._book.installs,
            release=(release.job, release.release),
            last_canary="" if release.opened else self._book.last_canary(),
        )
        return [
            InstallRecord(
                job=release.job,
                release=release.release,
                agent=agent,
                ring=ring,
                asked_ns=now_ns,
                heard_ns=now_ns,
            )
            for agent, ring in came.items()
        ]
