# SPDX-License-Identifier: Apache-2.0
"""Memory and database as each other's oracle: the same calls, the same answers."""

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec import structs

from fedmill_coordinator.store.base import KEPT_TRAFFIC, Store
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import (
    EvaluationRecord,
    JobRecord,
    RoundRecord,
    TrafficRecord,
    UpdateRecord,
    VersionRecord,
)
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.store.records_wishes import WishRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

JOBS = st.sampled_from(["bearings", "fans"])
AGENTS = st.sampled_from(["press-1", "press-2"])
NUMBERS = st.integers(0, 3)
NAMES = st.integers(0, 3).map(lambda number: sha256(bytes([number])))
STATES: st.SearchStrategy[Any] = st.sampled_from(["received", "late", "refused"])
ALIASES: st.SearchStrategy[Any] = st.sampled_from(["canary", "stable", "previous"])


class Twins(RuleBasedStateMachine):
    """Does everything to both stores."""

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[Store] = [MemoryStore(), SqlStore("sqlite://")]

    def teardown(self) -> None:
        """Every listing is the same on both."""
        assert listings(self.stores[0]) == listings(self.stores[1])
        for store in self.stores:
            store.close()

    def both(self, call: Callable[[Store], object]) -> None:
        """Make one call on each; both refuse, or both give the same answer."""
        answers: list[object] = []
        for store in self.stores:
            try:
                answers.append(call(store))
            except StoreError:
                answers.append(StoreError)
        assert answers[0] == answers[1]

    @initialize()
    def begin(self) -> None:
        """A job, a version, a round and a release, so that most calls have something to meet."""
        self.add_job("bearings")
        first = sha256(bytes([0]))
        self.add_version("bearings", 0, first, None)
        self.open_round("bearings", 0, first)
        self.add_release("bearings", 1, first, None)

    @rule(job=JOBS)
    def add_job(self, job: str) -> None:
        """A job with all defaults."""
        text = sha256(b"text")
        record = JobRecord(
            name=job, text="text", sha256=text, state="waiting", created_ns=1, updated_ns=1
        )
        self.both(lambda store: store.add_job(record))

    @rule(job=JOBS, number=NUMBERS, version=NAMES, base=st.none() | NAMES)
    def add_version(self, job: str, number: int, version: str, base: str | None) -> None:
        """Any version, on any base."""
        record = a_version(job, number, version, base)
        self.both(lambda store: store.add_version(record))

    @rule(job=JOBS, alias=ALIASES, version=NAMES)
    def set_alias(self, job: str, alias: Any, version: str) -> None:
        """Any alias to any version."""
        self.both(lambda store: store.set_alias(job, alias, version, updated_ns=2))

    @rule(job=JOBS, keep=st.sets(NAMES))
    def forget_weights(self, job: str, keep: set[str]) -> None:
        """Any set of versions to keep."""
        self.both(lambda store: store.forget_weights(job, keep))

    @rule(job=JOBS, number=NUMBERS, base=NAMES)
    def open_round(self, job: str, number: int, base: str) -> None:
        """Any round on any base."""
        record = RoundRecord(
            job=job, round=number, base=base, state="open", opened_ns=3, deadline_ns=9
        )
        self.both(lambda store: store.open_round(record))

    @rule(job=JOBS, number=NUMBERS, agents=st.lists(AGENTS, max_size=2))
    def abandon_round(self, job: str, number: int, agents: list[str]) -> None:
        """Any round, with bytes or without."""
        traffic = a_traffic(job, number, agents)
        self.both(
            lambda store: store.abandon_round(
                job, number, closed_ns=8, report="{}", traffic=traffic
            )
        )

    @rule(
        job=JOBS,
        number=NUMBERS | st.sampled_from([KEPT_TRAFFIC + 1, KEPT_TRAFFIC + 2]),
        agents=st.lists(AGENTS, max_size=2),
    )
    def save_traffic(self, job: str, number: int, agents: list[str]) -> None:
        """Bytes of any round, near the beginning or long after it."""
        self.both(lambda store: store.save_traffic(job, number, a_traffic(job, number, agents)))

    @rule(
        job=JOBS,
        parts=st.lists(st.sampled_from(["include", "discard", "leave"]), max_size=6),
        number=NUMBERS,
        version=NAMES,
        changes=st.booleans(),
    )
    def close_round(
        self, job: str, parts: list[str], number: int, version: str, *, changes: bool
    ) -> None:
        """The open round with any result, and any part of what waits."""
        current = self.stores[0].current_round(job)
        if current is None:
            return
        waiting = list(zip(parts, self.stores[0].pending(job), strict=False))
        used = [update for part, update in waiting if part == "include"]
        late = [
            structs.replace(update, state="late", code="stale")
            for part, update in waiting
            if part == "discard"
        ]
        included = sorted({update.agent for update in used})
        made = a_version(job, number, version, current.base)
        result = structs.replace(made, round=current.round) if changes else None
        traffic = a_traffic(job, current.round, sorted(set(included)))
        closed = structs.replace(
            current,
            state="closed",
            closed_ns=8,
            included=included,
            uplink_bytes=3 * len(traffic),
            downlink_bytes=4 * len(traffic),
        )
        self.both(
            lambda store: store.close_round(
                closed,
                result,
                included=used,
                discarded=late,
                traffic=traffic,
                rule_state=b"m",
                downlink_residual=None,
                job_state="running",
            )
        )

    @rule(job=JOBS, number=NUMBERS, agent=AGENTS, names=st.tuples(NAMES, NAMES), state=STATES)
    def add_update(
        self, job: str, number: int, agent: str, names: tuple[str, str], state: Any
    ) -> None:
        """Any update for any round."""
        base, frame = names
        record = UpdateRecord(
            job=job,
            round=number,
            agent=agent,
            base=base,
            blob=frame,
            sha256=frame,
            examples=1,
            loss=0.5,
            wire_bytes=1,
            seconds=1.0,
            received_ns=4,
            state=state,
        )
        self.both(lambda store: store.add_update(record))

    @rule(job=JOBS, number=NUMBERS, agent=AGENTS, base=NAMES)
    def discard_update(self, job: str, number: int, agent: str, base: str) -> None:
        """Any update."""
        self.both(
            lambda store: store.discard_update(
                job, number, agent, base, state="refused", reason="test"
            )
        )

    @rule(job=JOBS)
    def discard_waiting(self, job: str) -> None:
        """All that wait."""
        self.both(lambda store: store.discard_waiting(job, code="aborted", reason="test"))

    @rule(job=JOBS, state=st.sampled_from(["running", "finished"]))
    def update_job(self, job: str, state: Any) -> None:
        """A job that is over, and goes on after all."""
        self.both(lambda store: store.update_job(job, updated_ns=6, state=state))

    @rule(job=JOBS, verb=st.sampled_from(["pause", "close"]))
    def give_order(self, job: str, verb: Any) -> None:
        """Any order."""
        self.both(lambda store: store.give_order(job, verb, "anna", 7, argument=verb))

    @rule(number=NUMBERS)
    def finish_order(self, number: int) -> None:
        """Any outcome."""
        self.both(lambda store: store.finish_order(number, done_ns=8, outcome="done"))

    @rule(job=JOBS, number=st.integers(1, 4), version=NAMES, before=st.none() | NAMES)
    def add_release(self, job: str, number: int, version: str, before: str | None) -> None:
        """Any version, in place of whatever is under way."""
        record = ReleaseRecord(
            job=job,
            release=number,
            version=version,
            before=before,
            why="promoted",
            rings=["canary", "fleet"],
            created_ns=10 + number,
        )
        self.both(lambda store: store.add_release(record))

    @rule(
        job=JOBS,
        back=st.integers(1, 2),
        state=st.sampled_from(["open", "paused", "done", "aborted", "superseded"]),
        agents=st.lists(AGENTS, max_size=2, unique=True),
        word=st.sampled_from(["asked", "shadowing", "committed", "timed_out"]),
    )
    def save_release(self, job: str, back: int, state: Any, agents: list[str], word: str) -> None:
        """The newest release or the one before goes on or ends, and agents say something."""
        found = self.stores[0].releases(job)[-back:]
        if not found:
            return
        over = state in ("done", "aborted", "superseded")
        changed = structs.replace(found[0], state=state, ended_ns=30 if over else None)
        told = [
            InstallRecord(
                job=job,
                release=changed.release,
                agent=agent,
                ring=1,
                state=word,
                asked_ns=1,
                heard_ns=2,
            )
            for agent in agents
        ]
        self.both(lambda store: store.save_release(changed, told))

    @rule(job=JOBS, agent=AGENTS, settled=st.none() | NUMBERS)
    def save_wish(self, job: str, agent: str, settled: int | None) -> None:
        """Any wish, which waits or does not."""
        record = WishRecord(job=job, agent=agent, kind="round", heard_ns=3, settled_ns=settled)
        self.both(lambda store: store.save_wish(record))

    @rule(job=JOBS, rounds=NUMBERS)
    def settle_wishes(self, job: str, rounds: int) -> None:
        """Those that wait."""
        self.both(lambda store: store.settle_wishes(job, settled_ns=9, rounds=rounds))

    @rule(job=JOBS, version=NAMES, agent=AGENTS)
    def save_evaluation(self, job: str, version: str, agent: str) -> None:
        """A result for any version."""
        record = EvaluationRecord(
            job=job,
            version=version,
            agent=agent,
            split="test",
            statistic=b"",
            windows=1,
            received_ns=5,
        )
        self.both(lambda store: store.save_evaluation(record))

    @rule(agent=AGENTS, proof=NUMBERS)
    def add_enrolment(self, agent: str, proof: int) -> None:
        """Any agent with any code."""
        record = EnrolmentRecord(
            proof=bytes([proof]) * 32, agent=agent, created_ns=proof, expires_ns=9
        )
        self.both(lambda store: store.add_enrolment(record))

    @rule(
        proof=NUMBERS,
        state=st.sampled_from(["pending", "accepted", "issued", "rejected", "expired"]),
        request=st.sampled_from([b"a", b"b"]),
        serial=st.none() | NUMBERS,
    )
    def save_enrolment(self, proof: int, state: Any, request: bytes, serial: int | None) -> None:
        """Any word on any code, with a certificate or without."""
        found = [e for e in self.stores[0].enrolments() if e.proof == bytes([proof]) * 32]
        if not found:
            return
        named = "" if serial is None else f"{serial:x}"
        changed = structs.replace(found[0], state=state, request=request, serial=named)
        made = None if serial is None else a_certificate(named, changed.agent)
        self.both(lambda store: store.save_enrolment(changed, made))

    @rule(agent=AGENTS, serial=NUMBERS)
    def add_certificate(self, agent: str, serial: int) -> None:
        """Any certificate."""
        record = a_certificate(f"{serial:x}", agent)
        self.both(lambda store: store.add_certificate(record))

    @rule(agent=AGENTS, serial=st.none() | NUMBERS)
    def revoke(self, agent: str, serial: int | None) -> None:
        """Any agent, of one certificate or all."""
        named = None if serial is None else f"{serial:x}"
        self.both(lambda store: store.revoke(agent, revoked_ns=7, reason="lost", serial=named))


def listings(store: Store) -> list[object]:
    """All that the calls above can change."""
    told: list[object] = [store.jobs(), store.live_blobs(), store.open_orders()]
    told += [store.order(number) for number in range(9)]
    for job in ("bearings", "fans"):
        told += [store.versions(job), store.aliases(job), store.rounds(job)]
        told += [store.evaluations(job), store.current_round(job)]
        told += [store.updates(job, number) for number in range(4)]
        told += [store.traffic(job, number) for number in (*range(4), KEPT_TRAFFIC + 1)]
        told.append(store.traffic_by_agent(job))
        told += [store.pending(job), store.recent_updates(job, 5)]
        told += [store.releases(job), store.releases(job, last=1)]
        told += [store.installs(job, number) for number in range(5)]
        told.append(store.wishes(job))
    return [*told, store.certificates(), store.enrolments(), store.revoked(), store.denied()]


def a_certificate(serial: str, agent: str) -> CertificateRecord:
    """A certificate of ``agent``."""
    return CertificateRecord(
        serial=serial,
        agent=agent,
        public_key=bytes(32),
        fingerprint=sha256(serial.encode()),
        request=sha256(b"request"),
        certificate=b"",
        not_before_ns=1,
        not_after_ns=9,
        issued_ns=1,
    )


def a_traffic(job: str, number: int, agents: list[str]) -> list[TrafficRecord]:
    """Three bytes up and four down of each."""
    return [
        TrafficRecord(job=job, round=number, agent=agent, uplink_bytes=3, downlink_bytes=4)
        for agent in agents
    ]


def a_version(job: str, number: int, version: str, base: str | None) -> VersionRecord:
    """A version with weights and delta."""
    return VersionRecord(
        job=job,
        number=number,
        version=version,
        base=base,
        weights=version,
        delta=base,
        canary_outputs=b"",
        round=None,
        created_ns=1,
    )


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40)
