# SPDX-License-Identifier: Apache-2.0
"""How far a job is, from waiting for its agents to its end, and whether it is paused."""

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import JobState
from fedmill_shared.clock import Clock

ENDED = ("finished", "stopped")


class Stage:
    """Owns how far one job is; what it says is in the store already.

    Attributes:
        state: how far it is.
        paused: whether the operator has paused it.
        further: rounds that it has beyond those of the job file.
    """

    def __init__(self, job: str, store: Store, clock: Clock) -> None:
        """Where the store says that ``job`` is."""
        self._job = job
        self._store = store
        self._clock = clock
        record = store.job(job)
        self.state: JobState = record.state if record is not None else "waiting"
        self.paused = record is not None and record.paused
        self.further = record.further_rounds if record is not None else 0

    @property
    def ended(self) -> bool:
        """Whether the job is finished or stopped."""
        return self.state in ENDED

    def enter(self, state: JobState) -> None:
        """The job is in ``state`` from now on.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        self._store.update_job(self._job, updated_ns=self._clock.now_ns(), state=state)
        self.state = state

    def extend(self, rounds: int) -> None:
        """The job, which was finished, goes on for so many rounds.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        further = self.further + rounds
        self._store.update_job(
            self._job, updated_ns=self._clock.now_ns(), state="running", further_rounds=further
        )
        self.state, self.further = "running", further

    def hold(self, *, paused: bool) -> None:
        """The job is paused, or goes on.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        self._store.update_job(self._job, updated_ns=self._clock.now_ns(), paused=paused)
        self.paused = paused
