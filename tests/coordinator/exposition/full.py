# SPDX-License-Identifier: Apache-2.0
"""A plant of which everything can be told: each metric has a value."""

from pathlib import Path

from msgspec import json, msgpack, structs
from tests.pki import Authority

from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import (
    AgentRecord,
    EvaluationRecord,
    JobRecord,
    RoundRecord,
    TrafficRecord,
    VersionRecord,
)
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_shared.files import sha256
from fedmill_shared.messages import InstallReport, InstallState, JobPhase
from fedmill_shared.metrics.classification import ClassificationStatistic

NOW = 1_800_000_000 * 10**9
BASE = "b" * 64
PHASE = JobPhase(
    phase="joined",
    windows={"train": 9},
    windows_scored=100,
    drift="warned",
    install=InstallReport(version=BASE, state=InstallState.COMMITTED, release=1),
)


def configured(folder: Path, *, port: int = 0) -> CoordinatorConfig:
    """A configuration with all that is optional, on a free port unless told otherwise."""
    (folder / "trust" / "metadata").mkdir(parents=True)
    (folder / "trust" / "metadata" / "timestamp.json").write_text(
        '{"signed": {"expires": "2026-12-01T00:00:00Z"}}'
    )
    (folder / "ca.pem").write_bytes(Authority().pem)
    (folder / "crl.pem").write_bytes(b"list")
    path = folder / "coordinator.toml"
    path.write_text(
        f'[metrics]\nport = {port}\n[trust]\n[pki]\nca_certificate = "ca.pem"\ncrl = "crl.pem"\n'
    )
    (folder / "state").mkdir()
    return load(path)


def fill(store: Store) -> None:
    """Rows of every kind that is told of."""
    store.add_job(
        JobRecord(name="rig", text="", sha256=BASE, state="running", created_ns=1, updated_ns=1)
    )
    store.add_version(
        VersionRecord(
            job="rig",
            number=0,
            version=BASE,
            base=None,
            weights=None,
            delta=None,
            canary_outputs=b"",
            round=None,
            created_ns=NOW,
        )
    )
    _rounds(store)
    _agents(store)
    release = ReleaseRecord(
        job="rig",
        release=1,
        version=BASE,
        before=None,
        why="better",
        rings=["100%"],
        created_ns=NOW,
    )
    store.add_release(release)
    store.save_release(structs.replace(release, state="aborted", ended_ns=NOW))


def _rounds(store: Store) -> None:
    """One that closed, one that is open, and an evaluation."""
    for number in (1, 2):
        opened = RoundRecord(
            job="rig", round=number, base=BASE, state="open", opened_ns=NOW, deadline_ns=NOW
        )
        store.open_round(opened)
        if number == 1:
            store.close_round(
                RoundRecord(
                    job="rig",
                    round=1,
                    base=BASE,
                    state="closed",
                    opened_ns=NOW,
                    deadline_ns=NOW,
                    closed_ns=NOW,
                    seconds=1.0,
                ),
                None,
                included=[],
                traffic=[],
                rule_state=b"",
                downlink_residual=None,
                job_state="running",
            )
    store.save_traffic(
        "rig",
        2,
        [TrafficRecord(job="rig", round=2, agent="press-1", uplink_bytes=1, downlink_bytes=1)],
    )
    store.save_evaluation(
        EvaluationRecord(
            job="rig",
            version=BASE,
            agent="press-1",
            split="test",
            statistic=_statistic(),
            windows=8,
            received_ns=NOW,
        )
    )


def _statistic() -> bytes:
    return msgpack.encode(ClassificationStatistic(2, (3, 1, 0, 4), 1.25))


def _agents(store: Store) -> None:
    """One at work, and one that is denied."""
    store.save_agent(
        AgentRecord(
            agent="press-1",
            online=True,
            last_seen_ns=NOW,
            software="0.2.0",
            jobs=json.encode({"rig": PHASE}).decode(),
            clock_skew_ms=1.0,
            disk_free_bytes=5,
        )
    )
    for agent, revoked_ns in (("press-1", 0), ("press-2", 5)):
        store.add_certificate(
            CertificateRecord(
                serial=sha256(agent.encode())[:16],
                agent=agent,
                public_key=bytes(32),
                fingerprint=sha256(agent.encode()),
                request=sha256(b"request"),
                certificate=b"DER",
                not_before_ns=1,
                not_after_ns=NOW,
                issued_ns=1,
                revoked_ns=revoked_ns,
            )
        )
