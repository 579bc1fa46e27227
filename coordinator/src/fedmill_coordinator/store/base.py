# SPDX-License-Identifier: Apache-2.0
"""What every store promises; ``tests/contract/test_store.py`` holds each of them to it.

Every method is one transaction: when it returns, the change survives a kill and a power cut; when
it raises, nothing changed. Records are validated before anything is written: one with a field
outside its declared type or range MUST fail with StoreError. A row that names a job, version or
round that is not stored MUST fail with StoreError, unless its method says otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from types import TracebackType
from typing import Self, Unpack

from fedmill_coordinator.store.records import (
    AgentRecord,
    Alias,
    AliasRecord,
    Discarded,
    EvaluationRecord,
    JobChanges,
    JobRecord,
    JobState,
    MomentsRecord,
    RefusalRecord,
    RoundRecord,
    UpdateRecord,
    VersionRecord,
)

KEPT_REFUSALS = 10_000


class Store(ABC):
    """The coordinator's rows: one process and thread writes, others may read at the same time.

    Nothing is opened before the first use. A store is a context manager that closes itself.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; closing twice is harmless."""

    # Jobs

    @abstractmethod
    def add_job(self, record: JobRecord) -> None:
        """Add a job. MUST fail with StoreError if there is one of that name."""

    @abstractmethod
    def update_job(self, name: str, *, updated_ns: int, **changes: Unpack[JobChanges]) -> None:
        """Change the given fields of a job and leave the others as they are."""

    @abstractmethod
    def job(self, name: str) -> JobRecord | None:
        """The job called ``name``."""

    @abstractmethod
    def jobs(self) -> list[JobRecord]:
        """All jobs by name."""

    # Agents

    @abstractmethod
    def save_agent(self, record: AgentRecord) -> None:
        """Add or replace what is known of an agent."""

    @abstractmethod
    def agent(self, agent: str) -> AgentRecord | None:
        """What is known of ``agent``."""

    @abstractmethod
    def agents(self) -> list[AgentRecord]:
        """All agents by name."""

    # Statistics

    @abstractmethod
    def save_moments(self, record: MomentsRecord) -> None:
        """Add or replace the statistics of an agent for a job."""

    @abstractmethod
    def moments(self, job: str) -> list[MomentsRecord]:
        """Statistics of ``job`` by agent."""

    # Versions and aliases

    @abstractmethod
    def add_version(self, record: VersionRecord) -> None:
        """Add a version.

        MUST fail with StoreError if the job has one of that number or of that name, or if its
        base is unknown.
        """

    @abstractmethod
    def version(self, job: str, version: str) -> VersionRecord | None:
        """The version of ``job`` called ``version``."""

    @abstractmethod
    def versions(self, job: str) -> list[VersionRecord]:
        """Versions of ``job`` by number."""

    @abstractmethod
    def forget_weights(self, job: str, keep: Collection[str]) -> int:
        """Drop the weights and delta of versions not in ``keep``; return how many lost them.

        The rows stay. Versions with an alias, and the base of an open round, are kept in any case.
        """

    @abstractmethod
    def set_alias(self, job: str, alias: Alias, version: str, *, updated_ns: int) -> None:
        """Set or move an alias.

        When ``stable`` moves to another version, ``previous`` MUST move to the one it left, in
        the same transaction.
        """

    @abstractmethod
    def alias(self, job: str, alias: Alias) -> AliasRecord | None:
        """Where ``alias`` of ``job`` points."""

    @abstractmethod
    def aliases(self, job: str) -> list[AliasRecord]:
        """Aliases of ``job`` by name."""

    # Rounds

    @abstractmethod
    def open_round(self, record: RoundRecord) -> None:
        """Open a round.

        MUST fail with StoreError if its state is not ``open``, if the job has an open round or one
        of that number, or if its base is unknown.
        """

    @abstractmethod
    def extend_round(self, job: str, number: int, deadline_ns: int) -> None:
        """Give an open round another deadline. MUST fail with StoreError if it is not open."""

    @abstractmethod
    def abandon_round(self, job: str, number: int, *, closed_ns: int, report: str) -> None:
        """End an open round without a version; its received updates become ``late``.

        MUST fail with StoreError if it is not open.
        """

    @abstractmethod
    def close_round(
        self,
        closed: RoundRecord,
        version: VersionRecord | None,
        *,
        rule_state: bytes,
        downlink_residual: str | None,
        job_state: JobState,
    ) -> None:
        """End an open round with everything that follows from it, all or nothing.

        ``closed`` is the record of the open round with state ``closed``, ``closed_ns`` and the
        results filled in. Received updates against the round's base by ``closed.included`` become
        ``included``, its other received updates ``late``; the version is added and ``candidate``
        moves to it; the job gets ``rule_state``, ``downlink_residual`` and ``job_state``.
        ``version`` is None when the aggregate was zero: ``candidate`` stays.

        MUST fail with StoreError, and leave the round open, if the round is not open or has another
        base, if an included agent has no received update against that base, if ``version`` is of
        another job or round, or where `add_version` would fail.
        """

    @abstractmethod
    def round(self, job: str, number: int) -> RoundRecord | None:
        """Round ``number`` of ``job``."""

    @abstractmethod
    def current_round(self, job: str) -> RoundRecord | None:
        """The open round of ``job``."""

    @abstractmethod
    def rounds(self, job: str) -> list[RoundRecord]:
        """Rounds of ``job`` by number."""

    # Updates

    @abstractmethod
    def add_update(self, record: UpdateRecord) -> bool:
        """Add an update; return whether it is new.

        The key is (job, round, agent, base). The same key with the same ``sha256`` changes nothing
        and returns False, whatever became of the stored one. MUST fail with StoreError if the same
        key comes with another ``sha256``, or if a new one is ``received`` for a round that is not
        open.
        """

    @abstractmethod
    def discard_update(
        self, job: str, number: int, agent: str, base: str, *, state: Discarded, reason: str
    ) -> None:
        """Take a received update out of its round. MUST fail with StoreError if none waits."""

    @abstractmethod
    def updates(self, job: str, number: int) -> list[UpdateRecord]:
        """Updates of round ``number`` of ``job`` by arrival, then agent."""

    # Evaluations and refusals

    @abstractmethod
    def save_evaluation(self, record: EvaluationRecord) -> None:
        """Add or replace an agent's result for (job, version, agent, split)."""

    @abstractmethod
    def evaluations(self, job: str, version: str | None = None) -> list[EvaluationRecord]:
        """Results of ``job``, of one version or all, by version number, agent and split."""

    @abstractmethod
    def add_refusal(self, record: RefusalRecord) -> None:
        """Append a refusal; the job need not exist. The newest ``KEPT_REFUSALS`` are kept."""

    @abstractmethod
    def refusals(self, job: str | None = None, *, limit: int = 100) -> list[RefusalRecord]:
        """At most ``limit`` refusals of one job or all, the last added first."""

    # Blobs

    @abstractmethod
    def live_blobs(self) -> set[str]:
        """Blobs that a row still needs: what `Blobs.prune` must keep.

        Those of jobs and versions, and of updates that wait for the close of an open round.
        """
