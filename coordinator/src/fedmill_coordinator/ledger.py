# SPDX-License-Identifier: Apache-2.0
"""Takes what is counted through restarts: bytes by agent, and what no row remembers.

What a kill can lose of them is of the last half minute. What the broker was given is counted anew.
"""

from collections.abc import Iterable
from pathlib import Path

from fedmill_coordinator.counts import Counts
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.clock import Clock

SAVE_SECONDS = 30.0


class Ledger:
    """Saves the counts of jobs under the round that is open or would be the next."""

    def __init__(
        self, traffic: Traffic, store: Store, clock: Clock, counts: Counts, folder: Path
    ) -> None:
        """Nothing is saved or resumed yet; ``folder`` is where ``counts`` are kept."""
        self._counts = counts
        self._folder = folder
        self._traffic = traffic
        self._store = store
        self._clock = clock
        self._due = clock.monotonic() + SAVE_SECONDS
        self._saved: dict[str, tuple[int, tuple[int, int]]] = {}

    def resume(self, job: str) -> None:
        """Go on from what was saved of ``job``.

        Raises:
            StoreError: the database cannot be read.
        """
        self._traffic.resume(job, self._store.traffic(job, self._round(job)))

    def save_due(self, jobs: Iterable[str]) -> None:
        """Save the counts of ``jobs`` if the last time was long ago.

        Raises:
            StoreError: the disk fails; it is tried again after the same time.
        """
        if self._clock.monotonic() >= self._due:
            self.save(jobs)

    def save(self, jobs: Iterable[str]) -> None:
        """Save what has changed: counts of those of ``jobs``, and those of no job.

        Raises:
            StoreError: the disk fails.
        """
        self._due = self._clock.monotonic() + SAVE_SECONDS
        self._counts.save(self._folder)
        for job in jobs:
            number = self._round(job)
            stand = (number, self._traffic.total(job))
            if stand != self._saved.get(job):
                self._store.save_traffic(job, number, self._traffic.records(job, number))
                self._saved[job] = stand

    def _round(self, job: str) -> int:
        newest = self._store.rounds(job, last=1)
        if not newest:
            return 1
        return newest[0].round + (newest[0].state != "open")
