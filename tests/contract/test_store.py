# SPDX-License-Identifier: Apache-2.0
"""What `Store` promises, held against every store."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import (
    AgentRecord,
    AliasRecord,
    EvaluationRecord,
    MomentsRecord,
    OrderRecord,
    RefusalRecord,
)
from fedmill_shared.files import sha256

JOB = "bearings"


def name(text: str) -> str:
    """The SHA-256 that stands for ``text``."""
    return sha256(text.encode())


def a_refusal(number: int, job: str = JOB) -> RefusalRecord:
    """Refusal ``number``."""
    return RefusalRecord(job=job, agent="press-1", reason="unit", text="°C", received_ns=number)


class TestJobs:
    def test_keeps_every_field_and_lists_by_name(self, store: Store, kit: SimpleNamespace) -> None:
        """A job comes back as it went in; listings are sorted."""
        full = kit.job(
            "pumps",
            normaliser=b"\x00\xff",
            manifest=b"{}",
            template=name("template"),
            canary_inputs=name("canary"),
            rule_state=b"state",
            downlink_residual=name("residual"),
            paused=True,
            quantised=name("int8"),
        )
        store.add_job(full)
        store.add_job(kit.job())
        assert store.job("pumps") == full
        assert store.jobs() == [kit.job(), full]
        assert store.job("fans") is None

    def test_refuses_a_second_of_the_name(self, store: Store, kit: SimpleNamespace) -> None:
        """The first job of a name stays."""
        store.add_job(kit.job())
        kit.refused(store, lambda: store.add_job(kit.job(text="other")), "already a job 'bearings'")

    def test_update_changes_only_what_is_named(self, store: Store, kit: SimpleNamespace) -> None:
        """Fields that are not named keep their value; None is a value."""
        store.add_job(kit.job(manifest=b"{}", template=name("template")))
        store.update_job(JOB, updated_ns=5, state="running", template=None)
        assert store.job(JOB) == kit.job(manifest=b"{}", state="running", updated_ns=5)

    def test_pause_and_go_on(self, store: Store, kit: SimpleNamespace) -> None:
        """A job is held and let go without a word about its state."""
        store.add_job(kit.job(state="running"))
        store.update_job(JOB, updated_ns=5, paused=True)
        assert store.job(JOB) == kit.job(state="running", updated_ns=5, paused=True)
        store.update_job(JOB, updated_ns=6, paused=False)
        assert store.job(JOB) == kit.job(state="running", updated_ns=6)
        wrong: Any = "long"
        kit.refused(store, lambda: store.update_job(JOB, updated_ns=7, paused=wrong), "paused")

    def test_update_refuses_unknown_jobs_and_values(
        self, store: Store, kit: SimpleNamespace
    ) -> None:
        """Neither a job that is not there nor a state that is none."""
        store.add_job(kit.job())
        kit.refused(store, lambda: store.update_job("fans", updated_ns=5), "no job 'fans'")
        wrong: Any = "sleeping"
        kit.refused(store, lambda: store.update_job(JOB, updated_ns=5, state=wrong), "sleeping")


class TestAgentsAndStatistics:
    def test_agent_is_replaced(self, store: Store) -> None:
        """The last word about an agent counts; listings are sorted."""
        first = AgentRecord(agent="press-2", online=True, last_seen_ns=1, clock_skew_ms=-2.5)
        last = structs.replace(first, online=False, windows_scored=2**40, clock_skew_ms=None)
        other = AgentRecord(
            agent="press-1", online=True, last_seen_ns=3, model_version="v", labels='{"line": "3"}'
        )
        for record in (first, last, other):
            store.save_agent(record)
        assert store.agents() == [other, last]
        assert store.agent("press-2") == last
        assert store.agent("press-9") is None

    def test_moments_are_replaced_by_job_and_agent(self, job: Store, kit: SimpleNamespace) -> None:
        """A repeated statistic replaces the one before, of that agent only."""
        record = MomentsRecord(job=JOB, agent="press-2", payload=b"1", received_ns=1)
        again = structs.replace(record, payload=b"2", received_ns=2)
        other = structs.replace(record, agent="press-1")
        for each in (record, again, other):
            job.save_moments(each)
        assert job.moments(JOB) == [other, again]
        assert job.moments("fans") == []
        kit.refused(job, lambda: job.save_moments(structs.replace(record, job="fans")))


class TestVersions:
    def test_come_back_by_number(self, job: Store, kit: SimpleNamespace) -> None:
        """Versions come back as they went in, sorted by number."""
        job.add_version(kit.version(1, round=None))
        assert job.versions(JOB) == [kit.version(0), kit.version(1, round=None)]
        assert job.version(JOB, name("version 0")) == kit.version(0)
        assert job.version(JOB, name("version 9")) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"number": 0},
            {"version": name("version 0")},
            {"base": name("nowhere")},
            {"job": "fans", "base": None},
        ],
        ids=["number", "name", "base", "job"],
    )
    def test_refuses_contradictions(
        self, job: Store, wrong: dict[str, Any], kit: SimpleNamespace
    ) -> None:
        """Numbers and names are unique in a job; base and job must exist."""
        kit.refused(job, lambda: job.add_version(kit.version(1, **wrong)))

    def test_forget_weights_spares_what_is_in_use(self, job: Store, kit: SimpleNamespace) -> None:
        """Kept, aliased and open bases keep their weights; other rows lose theirs once."""
        for number in range(1, 5):
            job.add_version(kit.version(number))
        job.set_alias(JOB, "stable", name("version 1"), updated_ns=1)
        job.open_round(kit.round(3))
        assert job.forget_weights(JOB, {name("version 4")}) == 2
        assert job.forget_weights(JOB, {name("version 4")}) == 0
        left = [version.number for version in job.versions(JOB) if version.weights]
        assert left == [1, 2, 4]
        assert job.versions(JOB)[3] == kit.version(3, weights=None, delta=None)
        assert job.forget_weights(JOB, set()) == 1


class TestAliases:
    def test_previous_follows_stable(self, job: Store, kit: SimpleNamespace) -> None:
        """Moving stable leaves previous behind; setting it where it is does not."""
        job.add_version(kit.version(1))
        zero, one = name("version 0"), name("version 1")
        job.set_alias(JOB, "stable", zero, updated_ns=1)
        assert job.alias(JOB, "previous") is None
        job.set_alias(JOB, "stable", one, updated_ns=2)
        job.set_alias(JOB, "stable", one, updated_ns=3)
        previous = AliasRecord(job=JOB, alias="previous", version=zero, updated_ns=2)
        stable = AliasRecord(job=JOB, alias="stable", version=one, updated_ns=3)
        assert job.aliases(JOB) == [previous, stable]
        assert job.alias(JOB, "stable") == stable

    def test_other_aliases_leave_previous_alone(self, job: Store, kit: SimpleNamespace) -> None:
        """Only stable has a previous."""
        job.add_version(kit.version(1))
        for version in ("version 0", "version 1"):
            job.set_alias(JOB, "canary", name(version), updated_ns=1)
        assert [record.alias for record in job.aliases(JOB)] == ["canary"]

    def test_refuses_unknown_versions_and_names(self, job: Store, kit: SimpleNamespace) -> None:
        """An alias points at a version of its job and has one of four names."""
        nowhere = name("nowhere")
        kit.refused(job, lambda: job.set_alias(JOB, "stable", nowhere, updated_ns=1))
        wrong: Any = "newest"
        kit.refused(
            job, lambda: job.set_alias(JOB, wrong, name("version 0"), updated_ns=1), "newest"
        )


class TestOrders:
    def test_wait_until_they_are_dealt_with(self, store: Store, kit: SimpleNamespace) -> None:
        """Given in turn, dealt with in any turn, remembered with what came of them."""
        store.add_job(kit.job())
        store.add_job(kit.job("fans"))
        first = store.give_order(JOB, "pause", "anna", 5)
        second = store.give_order("fans", "close", "ben", 4)
        given = OrderRecord(id=first, job=JOB, verb="pause", by="anna", given_ns=5)
        assert store.open_orders() == [given, store.order(second)]
        assert second > first
        store.finish_order(first, done_ns=9, outcome="paused")
        assert store.order(first) == structs.replace(given, done_ns=9, outcome="paused")
        assert [order.id for order in store.open_orders()] == [second]
        assert store.give_order(JOB, "resume", "anna", 10) > second

    def test_refuses_what_nobody_can_do(self, store: Store, kit: SimpleNamespace) -> None:
        """A job that is not there, and a verb that is none."""
        store.add_job(kit.job())
        kit.refused(store, lambda: store.give_order("fans", "pause", "anna", 5), "no job 'fans'")
        wrong: Any = "explode"
        kit.refused(store, lambda: store.give_order(JOB, wrong, "anna", 5), "explode")
        assert store.open_orders() == []

    def test_are_dealt_with_once(self, store: Store, kit: SimpleNamespace) -> None:
        """An order has one outcome; an unknown one has none."""
        store.add_job(kit.job())
        number = store.give_order(JOB, "abort", "anna", 5)
        store.finish_order(number, done_ns=9, outcome="stopped")
        done = store.order(number)
        for unknown, match in ((number, "has one already"), (number + 1, "no order")):

            def finish(unknown: int = unknown) -> None:
                store.finish_order(unknown, done_ns=10, outcome="again")

            kit.refused(store, finish, match)
        assert store.order(number) == done
        assert store.order(number + 1) is None
        assert store.order(2**63) is None


class TestEvaluationsAndRefusals:
    def test_evaluation_is_replaced_and_sorted(self, job: Store, kit: SimpleNamespace) -> None:
        """One result for each version, agent and split, by version number first."""
        job.add_version(kit.version(1))

        def result(version: int, agent: str, split: str, statistic: bytes) -> EvaluationRecord:
            return EvaluationRecord(
                job=JOB,
                version=name(f"version {version}"),
                agent=agent,
                split=split,
                statistic=statistic,
                windows=7,
                received_ns=1,
            )

        wanted = [
            result(0, "press-2", "test", b"new"),
            result(1, "press-1", "test", b""),
            result(1, "press-1", "validation", b""),
        ]
        for record in (*reversed(wanted), result(0, "press-2", "test", b"old"), wanted[0]):
            job.save_evaluation(record)
        assert job.evaluations(JOB) == wanted
        assert job.evaluations(JOB, name("version 1")) == wanted[1:]
        assert job.evaluations("fans") == []
        kit.refused(job, lambda: job.save_evaluation(result(9, "press-1", "test", b"")))

    def test_refusals_newest_first_and_limited(self, store: Store) -> None:
        """Refusals need no job; a listing gives the last ones first, as many as asked."""
        for number in range(5):
            store.add_refusal(a_refusal(number, job="fans" if number % 2 else JOB))
        assert [record.received_ns for record in store.refusals()] == [4, 3, 2, 1, 0]
        assert [record.received_ns for record in store.refusals(limit=2)] == [4, 3]
        assert store.refusals("fans") == [a_refusal(3, job="fans"), a_refusal(1, job="fans")]
