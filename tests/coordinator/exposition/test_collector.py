# SPDX-License-Identifier: Apache-2.0
"""Metrics of a fleet: what they are called, what they mean, and what they never do."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import json, structs
from tests.coordinator.exposition.reading import Told, read
from tests.pki import Authority

from fedmill_coordinator.config import CoordinatorConfig, CoordinatorSection, load
from fedmill_coordinator.counts import AUDIT_LOST, Counts
from fedmill_coordinator.exposition import jobs
from fedmill_coordinator.exposition.collector import METRICS, exposition
from fedmill_coordinator.exposition.metric import Live, Metric
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import AgentRecord, JobRecord, RoundRecord, VersionRecord
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_shared.audit import AuditLog
from fedmill_shared.audit.trail import Trail
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import sha256
from fedmill_shared.log import get_logger
from fedmill_shared.messages import InstallReport, InstallState, JobPhase, Reason

NOW = 1_800_000_000 * 10**9
BASE = "b" * 64
UNITS = ("seconds", "bytes", "total", "info")
UNITLESS = re.compile(
    r"(agents|windows|versions|rings|opened|included|waiting|raised|enrolments|denied|"
    r"online|paused|open|held|failed|connected|state|level|quality|problem)$"
)
"""What is a number of things, a yes or no, or one of a few states."""


class Fleet:
    """A store, what was counted, and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.counts = Counts()
        self.config = CoordinatorConfig(coordinator=CoordinatorSection(state=str(folder)))
        self.live: Live | None = None
        self.now_ns = NOW

    def text(self) -> str:
        """What is told."""
        told = exposition(self.config, self.store, self.counts, self.live, now_ns=self.now_ns)
        return told.decode()

    def told(self) -> Told:
        """Name -> values of its labels -> value."""
        return read(self.text())

    def agent(self, agent: str, phase: JobPhase | None = None, **fields: Any) -> None:
        """An agent is there."""
        phases = {} if phase is None else {"rig": phase}
        record = AgentRecord(
            agent=agent,
            online=True,
            last_seen_ns=NOW,
            software="0.2.0",
            jobs=json.encode(phases).decode(),
        )
        self.store.save_agent(structs.replace(record, **fields))

    def job(self) -> None:
        """A job with one version."""
        self.store.add_job(
            JobRecord(name="rig", text="", sha256=BASE, state="running", created_ns=1, updated_ns=1)
        )
        self.store.add_version(
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

    def round(self, number: int) -> RoundRecord:
        """A round is open."""
        record = RoundRecord(
            job="rig",
            round=number,
            base=BASE,
            state="open",
            opened_ns=NOW,
            deadline_ns=NOW + 60 * 10**9,
        )
        self.store.open_round(record)
        return record


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Nobody yet."""
    return Fleet(tmp_path)


class TestNames:
    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
    def test_follow_the_rules(self, metric: Metric) -> None:
        """One prefix, base units, no abbreviation; a sentence says what it is."""
        assert re.fullmatch(r"fedmill_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.split("_")[-1] in UNITS or UNITLESS.search(metric.name)
        assert metric.name.endswith("_timestamp_seconds") == ("When " in metric.help[:5])
        assert metric.help.endswith(".")
        assert len(metric.help) <= 100

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
    def test_labels_are_few(self, metric: Metric) -> None:
        """Of an agent, a job, or a word of a fixed set: no round, no digest, no text."""
        bounded = {
            "agent",
            "job",
            "state",
            "split",
            "fate",
            "reason",
            "role",
            "whose",
            "metric",
            "kind",
        }
        assert set(metric.labels) <= bounded | {"software"}
        assert ("software" in metric.labels) == metric.name.endswith("_info")

    def test_each_once(self) -> None:
        """No two mean the same."""
        assert len({metric.name for metric in METRICS}) == len(METRICS)


class TestAgents:
    def test_who_is_there(self, fleet: Fleet) -> None:
        """And since when not."""
        fleet.agent("press-1", resident_bytes=70 << 20, clock_skew_ms=-250.0)
        fleet.agent("press-2", online=False, disk_free_bytes=5)
        told = fleet.told()
        assert told["fedmill_agents"] == {("online",): 1, ("offline",): 1}
        assert told["fedmill_agent_online"] == {("press-1",): 1, ("press-2",): 0}
        assert told["fedmill_agent_info"]["press-1", "0.2.0"] == 1
        assert told["fedmill_agent_last_seen_timestamp_seconds"]["press-2",] == NOW / 1e9
        assert told["fedmill_agent_resident_bytes"]["press-1",] == 70 << 20
        assert told["fedmill_agent_clock_skew_seconds"] == {("press-1",): -0.25}
        assert told["fedmill_agent_disk_free_bytes"] == {("press-2",): 5}

    def test_where_each_stands_in_a_job(self, fleet: Fleet) -> None:
        """What it scored and could not, what waits, and what alarms."""
        phase = JobPhase(
            phase="joined",
            windows={"train": 9, "test": 4},
            windows_scored=100,
            windows_bad=7,
            windows_skipped=2,
            updates_waiting=1,
            alarms_raised=3,
            drift="alarmed",
            ineligible="training is switched off",
        )
        fleet.job()
        fleet.agent("press-1", phase)
        told, names = fleet.told(), ("press-1", "rig")
        assert told["fedmill_agent_windows"] == {(*names, "train"): 9, (*names, "test"): 4}
        assert told["fedmill_agent_predictions_total"] == {names: 100}
        assert told["fedmill_agent_windows_bad_total"] == {names: 7}
        assert told["fedmill_agent_windows_skipped_total"] == {names: 2}
        assert told["fedmill_agent_updates_waiting"] == {names: 1}
        assert told["fedmill_agent_alarms_raised"] == {names: 3}
        assert told["fedmill_agent_drift_level"] == {names: 2}
        assert told["fedmill_agent_training_held"] == {names: 1}

    @pytest.mark.parametrize("state", InstallState)
    def test_how_far_it_is_with_a_release(self, fleet: Fleet, state: InstallState) -> None:
        """One of the states is 1."""
        fleet.job()
        report = InstallReport(version=BASE, state=state, release=3)
        fleet.agent("press-1", JobPhase(phase="joined", install=report))
        told = fleet.told()
        states = told["fedmill_agent_install_state"]
        assert [names for names, value in states.items() if value] == [("press-1", "rig", state)]
        failed = told["fedmill_agent_install_failed"]["press-1", "rig"]
        assert failed == (state in ("rejected", "rolled_back"))

    def test_software_before_tells_less(self, fleet: Fleet) -> None:
        """What it does not know of is not made up."""
        fleet.job()
        fleet.agent("press-1", jobs='{"rig": {"phase": "joined"}}')
        told = fleet.told()
        assert "fedmill_agent_drift_level" not in told
        assert "fedmill_agent_disk_free_bytes" not in told
        assert told["fedmill_agent_predictions_total"] == {("press-1", "rig"): 0}

    @pytest.mark.parametrize("jobs", ["{", "[]", '{"rig": {"phase": "dancing"}}'])
    def test_what_cannot_be_read_hides_nothing_else(self, fleet: Fleet, jobs: str) -> None:
        """Other software wrote it, perhaps."""
        fleet.job()
        fleet.agent("press-1", jobs=jobs)
        fleet.agent("press-2", JobPhase(phase="joined"))
        told = fleet.told()
        assert set(told["fedmill_agent_online"]) == {("press-1",), ("press-2",)}
        assert set(told["fedmill_agent_predictions_total"]) == {("press-2", "rig")}

    def test_no_label_is_made_up(self, fleet: Fleet) -> None:
        """An agent that lies adds no series but its own: of jobs and splits that there are."""
        fleet.job()
        phase = JobPhase(phase="joined", windows={"train": 1, "x" * 32: 2})
        phases = {"rig": phase} | {f"job-{number}": phase for number in range(1000)}
        text = json.encode(phases).decode()
        fleet.agent("press-1", jobs=text, software="9" * 2000)
        told = fleet.told()
        assert told["fedmill_agent_windows"] == {("press-1", "rig", "train"): 1}
        assert set(told["fedmill_agent_predictions_total"]) == {("press-1", "rig")}
        [(_, software)] = told["fedmill_agent_info"]
        assert len(software) == 64
        assert len(fleet.text()) < 20_000

    def test_no_text_breaks_out(self, fleet: Fleet) -> None:
        """Whatever software an agent says that it runs."""
        fleet.agent("press-1", software='0"}\n# x\\')
        assert ("press-1", '0"}\n# x\\') in fleet.told()["fedmill_agent_info"]

    def test_what_is_wrong_with_one(self, fleet: Fleet) -> None:
        """Each kind is 0 or 1, and never absent."""
        fleet.agent("press-1", problems='{"rights": "may not publish its state"}')
        fleet.agent("press-2", problems="{")
        told = fleet.told()["fedmill_agent_problem"]
        assert {names for names, value in told.items() if value} == {("press-1", "rights")}
        kinds = {kind for agent, kind in told if agent == "press-2"}
        assert kinds == {"rights", "trust", "safe_mode", "certificate"}


class TestJobs:
    def test_an_open_round(self, fleet: Fleet) -> None:
        """Until when it is, and how many updates it has."""
        fleet.job()
        fleet.round(1)
        told = fleet.told()
        assert told["fedmill_job_state"]["rig", "running"] == 1
        assert sum(told["fedmill_job_state"].values()) == 1
        assert told["fedmill_rounds_total"] == {("rig",): 0}
        assert told["fedmill_round_open"] == {("rig",): 1}
        assert told["fedmill_round_updates_waiting"] == {("rig",): 0}
        assert told["fedmill_round_deadline_timestamp_seconds"] == {("rig",): NOW / 1e9 + 60}
        assert "fedmill_round_last_success_timestamp_seconds" not in told

    def test_the_last_that_closed(self, fleet: Fleet) -> None:
        """However many have come to nothing since."""
        fleet.job()
        opened = fleet.round(1)
        closed = structs.replace(
            opened, state="closed", closed_ns=NOW + 5 * 10**9, seconds=5.0, accepted=2
        )
        fleet.store.close_round(
            closed,
            None,
            included=[],
            traffic=[],
            rule_state=b"",
            downlink_residual=None,
            job_state="running",
        )
        for number in (2, 3):
            fleet.round(number)
            fleet.store.abandon_round("rig", number, closed_ns=NOW + 9 * 10**9, report="{}")
        told = fleet.told()
        assert told["fedmill_rounds_total"] == {("rig",): 3}
        assert told["fedmill_round_open"] == {("rig",): 0}
        assert told["fedmill_round_duration_seconds"] == {("rig",): 5.0}
        assert told["fedmill_round_last_success_timestamp_seconds"] == {("rig",): NOW / 1e9 + 5}
        assert "fedmill_round_deadline_timestamp_seconds" not in told

    def test_what_became_of_updates(self, fleet: Fleet) -> None:
        """By fate and reason, forged ones among them."""
        fleet.counts.add("updates", "rig", "refused", "forged", by=2)
        fleet.counts.add("updates", "rig", "received", "")
        fleet.counts.add("rounds_abandoned", "rig")
        told = fleet.told()
        assert told["fedmill_updates_total"] == {
            ("rig", "received", ""): 1,
            ("rig", "refused", "forged"): 2,
        }
        assert told["fedmill_rounds_abandoned_total"] == {("rig",): 1}

    def test_begin_at_nothing(self, fleet: Fleet) -> None:
        """A counter that appears with its first forged update shows Prometheus no increase."""
        fleet.job()
        told = fleet.told()
        assert told["fedmill_updates_total"]["rig", "refused", "forged"] == 0
        assert told["fedmill_updates_total"]["rig", "late", "too_stale"] == 0
        assert set(told["fedmill_updates_total"].values()) == {0}
        assert {reason for _, _, reason in told["fedmill_updates_total"]} == {"", *Reason}
        assert told["fedmill_rounds_abandoned_total"] == {("rig",): 0}

    def test_the_newest_version_and_release(self, fleet: Fleet) -> None:
        """Numbers are values: a label for each version would never end."""
        fleet.job()
        fleet.store.add_release(
            ReleaseRecord(
                job="rig",
                release=1,
                version=BASE,
                before=None,
                why="better",
                rings=["canary", "100%"],
                created_ns=NOW,
            )
        )
        told = fleet.told()
        assert told["fedmill_versions"] == {("rig",): 0}
        assert told["fedmill_version_timestamp_seconds"] == {("rig",): NOW / 1e9}
        assert told["fedmill_release_state"]["rig", "open"] == 1
        assert told["fedmill_release_rings"] == {("rig",): 2}
        assert told["fedmill_release_rings_opened"] == {("rig",): 0}

    def test_when_releases_ended(self, fleet: Fleet) -> None:
        """The last of each kind: how many there were is forgotten with the oldest."""
        fleet.job()
        for number, state in enumerate(("aborted", "done", "aborted", "open"), start=1):
            release = ReleaseRecord(
                job="rig",
                release=number,
                version=BASE,
                before=None,
                why="better",
                rings=["100%"],
                created_ns=NOW,
            )
            fleet.store.add_release(release)
            if state != "open":
                ended_ns = NOW + number * 10**9
                fleet.store.save_release(structs.replace(release, state=state, ended_ns=ended_ns))
        assert fleet.told()["fedmill_release_ended_timestamp_seconds"] == {
            ("rig", "aborted"): NOW / 1e9 + 3,
            ("rig", "done"): NOW / 1e9 + 2,
        }

    def test_versions_that_nobody_scored(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many there are, only the newest are asked for."""
        fleet.job()
        for number in range(1, 40):
            first = fleet.store.versions("rig")[0]
            name = sha256(str(number).encode())
            fleet.store.add_version(structs.replace(first, number=number, version=name))
        asked = list[str]()
        monkeypatch.setattr(jobs, "metric_of", lambda *each: asked.append(each[2]))
        assert "fedmill_model_quality" not in fleet.told()
        assert len(asked) == jobs.LOOK_BACK


class TestCoordinator:
    def test_while_it_runs(self, fleet: Fleet) -> None:
        """What only the daemon knows."""
        fleet.live = Live(NOW, connected=True, counts=fleet.counts)
        told = fleet.told()
        assert told["fedmill_broker_connected"] == {(): 1}
        assert told["fedmill_coordinator_start_timestamp_seconds"] == {(): NOW / 1e9}

    def test_what_it_would_not_take(self, fleet: Fleet) -> None:
        """A number that is 0 can be watched, one that is absent cannot."""
        fleet.counts.add("messages_denied", by=4)
        told = fleet.told()
        assert told["fedmill_messages_refused_total"] == {(): 0}
        assert told["fedmill_messages_denied_total"] == {(): 4}
        assert told["fedmill_store_failures_total"] == {(): 0}
        assert told["fedmill_audit_records_lost_total"] == {(): 0}

    def test_what_is_missing_in_the_audit_log(self, fleet: Fleet, tmp_path: Path) -> None:
        """As the daemon counts it, from its start on."""
        trail = Trail(AuditLog(tmp_path / "none" / "audit.jsonl", ManualClock()), get_logger())
        trail.record(who="daemon", what="job.taken_up", subject="press")
        trail.count(partial(fleet.counts.add, AUDIT_LOST))
        trail.record(who="daemon", what="coordinator.started", subject="coordinator")
        assert fleet.told()["fedmill_audit_records_lost_total"] == {(): 2}

    def test_its_disk(self, fleet: Fleet) -> None:
        """The database with its log."""
        fleet.config.database.write_bytes(b"x" * 10)
        fleet.config.database.with_name("fedmill.sqlite-wal").write_bytes(b"x" * 5)
        told = fleet.told()
        assert told["fedmill_store_bytes"] == {(): 15}
        assert told["fedmill_disk_free_bytes"][()] > 0


class TestSecurity:
    def certificate(self, fleet: Fleet, agent: str, serial: str, end: int, **fields: Any) -> None:
        """A certificate of ``agent`` that is valid until ``end``, s since 1970."""
        record = CertificateRecord(
            serial=serial,
            agent=agent,
            public_key=bytes(32),
            fingerprint=sha256(serial.encode()),
            request=sha256(b"request"),
            certificate=b"DER",
            not_before_ns=1,
            not_after_ns=end * 10**9,
            issued_ns=int(serial, 16),
        )
        fleet.store.add_certificate(structs.replace(record, **fields))

    def test_when_certificates_end(self, fleet: Fleet) -> None:
        """The newest of an agent counts, and none that is revoked."""
        self.certificate(fleet, "press-1", "1", 100)
        self.certificate(fleet, "press-1", "2", 200)
        self.certificate(fleet, "press-2", "3", 300, revoked_ns=5)
        self.certificate(fleet, "broker", "4", 400, role="broker")
        told = fleet.told()
        expiry = told["fedmill_agent_certificate_expiry_timestamp_seconds"]
        assert expiry == {("press-1",): 200}
        assert told["fedmill_agents_denied"] == {(): 1}
        assert told["fedmill_agent_denied"] == {("press-2",): 1}

    def test_when_the_brokers_ends(self, fleet: Fleet) -> None:
        """That which was issued last."""
        self.certificate(fleet, "broker", "4", 400, role="broker")
        self.certificate(fleet, "broker", "5", 300, role="broker")
        told = fleet.told()["fedmill_certificate_expiry_timestamp_seconds"]
        assert told == {("broker",): 300}

    def test_who_waits_for_an_operator(self, fleet: Fleet) -> None:
        """Codes that are over no longer count, from that moment on."""
        for number, expires_ns in ((1, NOW), (2, NOW + 60)):
            fleet.store.add_enrolment(
                EnrolmentRecord(
                    proof=bytes([number]) * 32,
                    agent=f"press-{number}",
                    created_ns=1,
                    expires_ns=expires_ns,
                )
            )
        for fleet.now_ns, count in ((NOW - 1, 2), (NOW, 1), (NOW + 59, 1), (NOW + 60, 0)):
            told = fleet.told()["fedmill_enrolments"]
            assert told == {("open",): count, ("pending",): 0, ("accepted",): 0}

    def test_what_became_of_requests(self, fleet: Fleet, tmp_path: Path) -> None:
        """From nought, so that the first that is refused is a change."""
        path = tmp_path / "coordinator.toml"
        path.write_text("[pki]\n")
        fleet.config = load(path)
        fleet.counts.add("certificate_requests", "enrolment", "refused")
        told = fleet.told()["fedmill_certificate_requests_total"]
        assert {labels: count for labels, count in told.items() if count} == {
            ("enrolment", "refused"): 1
        }
        assert len(told) == 8

    def test_files_with_certificates(self, fleet: Fleet, tmp_path: Path) -> None:
        """Our own, the authority's, and the list of those that are revoked."""
        authority = Authority()
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        (tmp_path / "crl.pem").write_bytes(b"list")
        path = tmp_path / "coordinator.toml"
        path.write_text('[pki]\nca_certificate = "ca.pem"\ncrl = "crl.pem"\n')
        fleet.config = load(path)
        told = fleet.told()
        end = authority.certificate.not_valid_after_utc.timestamp()
        assert told["fedmill_certificate_expiry_timestamp_seconds"] == {("ca",): end}
        written = told["fedmill_crl_written_timestamp_seconds"][()]
        assert written == (tmp_path / "crl.pem").stat().st_mtime

    @pytest.mark.parametrize("content", [b"", b"none", b"-----BEGIN CERTIFICATE-----\n"])
    def test_a_file_that_is_no_certificate(
        self, fleet: Fleet, tmp_path: Path, content: bytes
    ) -> None:
        """Whoever needs it tells that; all else is told."""
        (tmp_path / "ca.pem").write_bytes(content)
        path = tmp_path / "coordinator.toml"
        path.write_text('[pki]\nca_certificate = "ca.pem"\n')
        fleet.config = load(path)
        assert "fedmill_certificate_expiry_timestamp_seconds" not in fleet.told()

    def test_signed_metadata(self, fleet: Fleet, tmp_path: Path) -> None:
        """The newest version of each role counts."""
        folder = tmp_path / "trust" / "metadata"
        folder.mkdir(parents=True)
        for name, expires in {
            "9.root.json": "2027-01-01T00:00:00Z",
            "10.root.json": "2028-01-01T00:00:00Z",
            "timestamp.json": "2026-12-01T00:00:00Z",
            "3.snapshot.json": "never",
            "2.not-targets.json": "2026-12-01T00:00:00Z",
            "4.targets.json": "2026-12-31T12:00:00Z",
        }.items():
            (folder / name).write_text(f'{{"signed": {{"expires": "{expires}"}}}}')
        path = tmp_path / "coordinator.toml"
        path.write_text("[trust]\n")
        fleet.config = load(path)
        told = fleet.told()["fedmill_trust_metadata_expiry_timestamp_seconds"]
        assert told == {
            ("root",): 1830297600,
            ("targets",): 1798718400,
            ("timestamp",): 1796083200,
        }

    def test_nothing_is_told_of_what_is_off(self, fleet: Fleet) -> None:
        """A plant without certificates and signed metadata has no alarms of them."""
        told = fleet.told()
        assert "fedmill_trust_metadata_expiry_timestamp_seconds" not in told
        assert "fedmill_certificate_expiry_timestamp_seconds" not in told
        assert told["fedmill_agents_denied"] == {(): 0}


class TestMany:
    def test_a_thousand_agents(self, fleet: Fleet) -> None:
        """Lines grow with agents and jobs, with nothing else."""
        fleet.job()
        phase = JobPhase(phase="joined", windows={"train": 1, "test": 1}, drift="quiet")
        for number in range(1000):
            fleet.agent(f"press-{number}", phase)
        lines = [line for line in fleet.text().splitlines() if not line.startswith("#")]
        assert len(lines) < 20 * 1000
