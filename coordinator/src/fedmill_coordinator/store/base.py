# SPDX-License-Identifier: Apache-2.0
"""What every store promises; ``tests/contract/test_store.py`` holds each of them to it.

Every method is one transaction: when it returns, the change survives a kill and a power cut; when
it raises, nothing changed. Records are validated before anything is written: one with a field
outside its declared type or range MUST fail with StoreError. A row that names a job, version or
round that is not stored MUST fail with StoreError, unless its method says otherwise.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self, Unpack

from fedmill_coordinator.store.base_pki import PkiRows
from fedmill_coordinator.store.base_releases import ReleaseRows
from fedmill_coordinator.store.base_wishes import WishRows
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
    OrderRecord,
    RefusalRecord,
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
    Verb,
    VersionRecord,
)

KEPT_REFUSALS = 10_000
KEPT_TRAFFIC = 256
"""Rounds of a job whose bytes are kept apart; of those before them the sums are kept."""


class Store(ReleaseRows, WishRows, PkiRows):
    """The coordinator's rows.

    One object belongs to one thread. Several processes may have a store of the same rows: the
    coordinator, which writes all of them, and commands, which read them and give orders. Writers
    take turns, a reader never waits and sees the last commit.

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
        """Change the given fields of a job and leave the others as they are.

        Updates that wait go on waiting, also where the job ends: see `discard_waiting`.
        """

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
    def extend_round(
        self, job: str, number: int, deadline_ns: int, asked: Collection[str] = ()
    ) -> None:
        """Give an open round another deadline, and ask the agents ``asked``.

        MUST fail with StoreError if it is not open.
        """

    @abstractmethod
    def abandon_round(
        self,
        job: str,
        number: int,
        *,
        closed_ns: int,
        report: str,
        traffic: Sequence[TrafficRecord] = (),
        published_bytes: int = 0,
    ) -> None:
        """End an open round without a version.

        All updates of the job that wait, of whatever round, become ``late`` with the code
        ``abandoned``; the round's ``discarded`` is their number. Its bytes are the sums of
        ``traffic``, which unless it is empty is saved as by `save_traffic`. MUST fail with
        StoreError if the round is not open.
        """

    @abstractmethod
    def close_round(
        self,
        closed: RoundRecord,
        version: VersionRecord | None,
        *,
        included: Sequence[UpdateRecord],
        discarded: Sequence[UpdateRecord] = (),
        traffic: Sequence[TrafficRecord] = (),
        rule_state: bytes,
        downlink_residual: str | None,
        job_state: JobState,
    ) -> None:
        """End an open round with everything that follows from it, all or nothing.

        ``closed`` is the record of the open round with state ``closed``, ``closed_ns`` and the
        results filled in; its ``included`` are the agents of ``included``, sorted, each once.
        Updates in ``included``, of this round or of earlier ones, become ``included`` in this
        round; those in ``discarded`` get the state (``late`` or ``refused``), code and reason that
        they are given with; all others that wait go on waiting. ``traffic``, unless it is empty,
        is saved as by `save_traffic`, and ``closed`` names its sums. The version is added and
        ``candidate`` moves to it; the job gets ``rule_state``, ``downlink_residual`` and
        ``job_state``. ``version`` is None when the aggregate was zero: ``candidate`` stays.

        MUST fail with StoreError, and leave the round open, if the round is not open or has another
        base, if an update is given twice, is of another job or does not wait, if ``version`` is of
        another job or round, or where `add_version` or `save_traffic` would fail.
        """

    @abstractmethod
    def round(self, job: str, number: int) -> RoundRecord | None:
        """Round ``number`` of ``job``."""

    @abstractmethod
    def current_round(self, job: str) -> RoundRecord | None:
        """The open round of ``job``."""

    @abstractmethod
    def rounds(self, job: str, *, last: int | None = None) -> list[RoundRecord]:
        """Rounds of ``job`` by number: all, or at most the ``last`` ones."""

    # Bytes on the wire

    @abstractmethod
    def save_traffic(self, job: str, number: int, records: Sequence[TrafficRecord]) -> None:
        """Add or replace the bytes of round ``number`` of ``job``, which need not be open or known.

        The last ``KEPT_TRAFFIC`` rounds up to it are kept apart; those before are added up under
        the number 0, so that no byte is lost. MUST fail with StoreError if a record is of another
        job or round, or if an agent comes twice.
        """

    @abstractmethod
    def traffic(self, job: str, number: int) -> list[TrafficRecord]:
        """Bytes of round ``number`` of ``job`` by agent; none where they are not kept apart."""

    @abstractmethod
    def traffic_by_agent(self, job: str) -> dict[str, tuple[int, int]]:
        """Agent -> bytes up and down for ``job``, over all rounds."""

    # Updates

    @abstractmethod
    def add_update(self, record: UpdateRecord) -> bool:
        """Add an update; return whether it is new.

        The key is (job, round, agent, base). The same key with the same ``sha256`` changes nothing
        and returns False, whatever became of the stored one. A ``received`` one waits for the next
        close, also where its own round has ended. MUST fail with StoreError if the same key comes
        with another ``sha256``, if there is no such round, or if a new one is ``received`` for a
        job that is finished or stopped.
        """

    @abstractmethod
    def discard_update(
        self,
        job: str,
        number: int,
        agent: str,
        base: str,
        *,
        state: Discarded,
        reason: str,
        code: str = "",
    ) -> None:
        """Let a received update wait no longer. MUST fail with StoreError if none waits."""

    @abstractmethod
    def discard_waiting(self, job: str, *, code: str, reason: str) -> int:
        """Let all updates of ``job`` that wait become ``late``; return how many."""

    @abstractmethod
    def update(self, job: str, number: int, agent: str, base: str) -> UpdateRecord | None:
        """The update of ``agent`` for round ``number`` of ``job`` against ``base``."""

    @abstractmethod
    def pending(self, job: str) -> list[UpdateRecord]:
        """Updates of ``job`` that wait, of whatever round, by agent, round and base."""

    @abstractmethod
    def recent_updates(self, job: str, limit: int) -> list[UpdateRecord]:
        """At most ``limit`` updates of ``job``, the last received first.

        Those received at the same time are sorted by agent, round and base.
        """

    @abstractmethod
    def updates(self, job: str, number: int) -> list[UpdateRecord]:
        """Updates of round ``number`` of ``job`` by arrival, then agent."""

    # Orders of the operator

    @abstractmethod
    def give_order(
        self, job: str, verb: Verb, by: str, given_ns: int, *, argument: str = ""
    ) -> int:
        """Add an order for the coordinator, from any process; return its id."""

    @abstractmethod
    def open_orders(self) -> list[OrderRecord]:
        """Orders that nobody has dealt with, the oldest first."""

    @abstractmethod
    def finish_order(self, number: int, *, done_ns: int, outcome: str) -> None:
        """Note what came of order ``number``. MUST fail with StoreError if it is not open."""

    @abstractmethod
    def order(self, number: int) -> OrderRecord | None:
        """The order with the id ``number``."""

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

        Those of jobs and versions, and of updates that wait for a close.
        """
