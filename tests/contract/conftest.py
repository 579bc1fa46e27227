# SPDX-License-Identifier: Apache-2.0
"""The stores that must all keep one contract, and records to put into them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, RoundRecord, UpdateRecord, VersionRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

JOB = "bearings"


def name(text: str) -> str:
    """The SHA-256 that stands for ``text``."""
    return sha256(text.encode())


def a_job(job: str = JOB, **fields: Any) -> JobRecord:
    """A waiting job."""
    defaults = {"text": "[job]", "sha256": name("[job]"), "state": "waiting"}
    return JobRecord(**{"name": job, "created_ns": 1, "updated_ns": 1, **defaults, **fields})


def a_version(number: int, /, **fields: Any) -> VersionRecord:
    """Version ``number`` of the job, made by the round of that number on the version before."""
    defaults = {
        "job": JOB,
        "number": number,
        "version": name(f"version {number}"),
        "base": name(f"version {number - 1}") if number else None,
        "weights": name(f"weights {number}"),
        "delta": name(f"delta {number}") if number else None,
        "canary_outputs": b"canary",
        "round": number or None,
        "created_ns": 10 + number,
    }
    return VersionRecord(**{**defaults, **fields})


def a_round(number: int = 1, /, **fields: Any) -> RoundRecord:
    """Open round ``number`` on the version before."""
    defaults = {"job": JOB, "round": number, "base": name(f"version {number - 1}")}
    times = {"state": "open", "opened_ns": 100, "deadline_ns": 200}
    return RoundRecord(**{**defaults, **times, **fields})


def an_update(agent: str = "press-1", **fields: Any) -> UpdateRecord:
    """A received update of ``agent`` for round 1."""
    defaults = {
        "job": JOB,
        "round": 1,
        "agent": agent,
        "base": name("version 0"),
        "blob": name(f"blob of {agent}"),
        "sha256": name(f"frame of {agent}"),
        "examples": 640,
        "loss": 0.25,
        "wire_bytes": 4096,
        "seconds": 1.5,
        "received_ns": 150,
    }
    return UpdateRecord(**{**defaults, **fields})


def closed_round(included: list[str], **fields: Any) -> RoundRecord:
    """Round 1, closed with ``included``."""
    results = {"closed_ns": 180, "seconds": 8e-8, "uplink_bytes": 9, "report": '{"norm": 1}'}
    return a_round(**{"state": "closed", "included": included, **results, **fields})


def close_round(
    store: Store,
    included: list[str],
    version: VersionRecord | None = None,
    *,
    discarded: Sequence[UpdateRecord] = (),
) -> None:
    """Close round 1 with the usual consequences."""
    store.close_round(
        closed_round(included),
        version,
        included=[an_update(agent) for agent in included],
        discarded=discarded,
        rule_state=b"momentum",
        downlink_residual=name("residual"),
        job_state="running",
    )


def everything(store: Store) -> list[object]:
    """All that a store can say about the job."""
    return [
        *(store.jobs(), store.agents(), store.moments(JOB), store.versions(JOB)),
        *(store.aliases(JOB), store.rounds(JOB), store.updates(JOB, 1)),
        *(store.updates(JOB, 2), store.pending(JOB), store.open_orders()),
        *(store.evaluations(JOB), store.refusals(), store.live_blobs()),
        *(store.traffic_by_agent(JOB), store.traffic(JOB, 0), store.traffic(JOB, 1)),
        *(store.releases(JOB), store.installs(JOB, 1), store.wishes(JOB)),
        *(store.certificates(), store.enrolments(), store.denied()),
    ]


def assert_refused(store: Store, call: Callable[[], object], match: str | None = None) -> None:
    """``call`` must raise StoreError and leave everything as it was."""
    before = everything(store)
    with pytest.raises(StoreError, match=match):
        call()
    assert everything(store) == before


@pytest.fixture
def kit() -> SimpleNamespace:
    """The functions above, for tests of stores."""
    return SimpleNamespace(
        job=a_job,
        version=a_version,
        round=a_round,
        update=an_update,
        closed=closed_round,
        close=close_round,
        everything=everything,
        refused=assert_refused,
    )


@pytest.fixture(params=["memory", "sql-memory", "sql-file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    match request.param:
        case "memory":
            made: Store = MemoryStore()
        case "sql-memory":
            made = SqlStore("sqlite://")
        case _:
            made = SqlStore.in_file(tmp_path / "coordinator.db")
    with made:
        yield made


@pytest.fixture
def job(store: Store) -> Store:
    """A store with the job and its version 0."""
    store.add_job(a_job())
    store.add_version(a_version(0))
    return store


@pytest.fixture
def opened(job: Store) -> Store:
    """A store whose round 1 is open with updates of three agents."""
    job.open_round(a_round())
    for agent in ("press-1", "press-2", "press-3"):
        job.add_update(an_update(agent))
    return job
