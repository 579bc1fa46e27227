# SPDX-License-Identifier: Apache-2.0
"""A whole daemon with and without [trust]: what it takes on, and what it leaves alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.agent.kit import Journal, Versions
from tests.agent.trust.test_desk import signing
from tests.agent.whole import JOB, Agent, Plant, joined, whole_plant

from fedmill_agent import config as configuration
from fedmill_agent.config import TrustSection
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import write_verified
from fedmill_shared.clock import ManualClock
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import JobNotice, ReleaseNotice

YEAR = 365 * 86_400 * 10**9


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A plant in memory."""
    with whole_plant(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def signed(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> tuple[Plant, Versions]:
    """The same where agents trust nobody but a root, and the job and a first release are signed."""
    root = plant.folder / "root.json"
    root.write_bytes(b"{}")
    made = configuration.AgentConfig

    def trusting(**fields: Any) -> configuration.AgentConfig:
        return made(trust=TrustSection(root=str(root)), **fields)

    monkeypatch.setattr("tests.agent.whole.AgentConfig", trusting)
    versions = Versions(JOB)
    job = JobNotice(job=JOB.name, text=canonical(JOB), state="running")
    until = ManualClock().now_ns() + YEAR
    found = signing(job, release_of(versions), until_ns=until)
    write_verified(TrustPlaces(plant.folder / "state").verified, found)
    return plant, versions


def release_of(versions: Versions, number: int = 1) -> ReleaseNotice:
    """A release of the newest version."""
    return ReleaseNotice(job=JOB.name, release=number, notice=versions.notice())


def serving(agent: Agent) -> str:
    """The version that scores."""
    install = agent.word().jobs[JOB.name].install
    return install.serving if install is not None else ""


def events(agent: Agent, name: str) -> list[dict[str, Any]]:
    """What was logged of one kind."""
    journal: Journal = agent.journal
    return journal.of(name)


class TestWithout:
    def test_metadata_is_passed_over_in_silence(self, plant: Plant) -> None:
        """And versions serve as they come, as ever."""
        agent, versions = joined(plant)
        plant.coordinator.tell("trust", b"anything", job="timestamp.json")
        agent.run()
        assert events(agent, "message.refused") == []
        assert not (agent.state / "trust").exists()
        assert serving(agent) == versions.newest.version


class TestWith:
    def test_a_version_is_trained_from_and_a_signed_release_serves(
        self, signed: tuple[Plant, Versions]
    ) -> None:
        """Whatever the version says of itself."""
        plant, versions = signed
        agent = plant.agent()
        plant.coordinator.versions = {JOB.name: versions}
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: plant.said("join"))
        plant.coordinator.tell("version", versions.notice())
        version = versions.newest.version
        agent.until(lambda: agent.word().jobs[JOB.name].version == version)
        agent.run()
        assert serving(agent) == ""
        plant.coordinator.tell("release", release_of(versions))
        agent.until(lambda: serving(agent) == version)

    def test_what_nobody_signed_is_refused_at_its_gate(
        self, signed: tuple[Plant, Versions]
    ) -> None:
        """What serves goes on; the coordinator hears why."""
        plant, versions = signed
        self.test_a_version_is_trained_from_and_a_signed_release_serves(signed)
        (agent,) = plant._agents
        version = serving(agent)
        plant.coordinator.tell("release", release_of(versions, 2))
        agent.until(lambda: events(agent, "release.unsigned"))

        def refused() -> bool:
            install = agent.word().jobs[JOB.name].install
            return install is not None and (install.release, install.gate) == (2, "signature")

        agent.until(refused)
        assert serving(agent) == version

    def test_a_job_that_nobody_signed_gets_no_seat(self, signed: tuple[Plant, Versions]) -> None:
        """And no byte on the disk."""
        plant, _ = signed
        agent = plant.agent()
        other = structs.replace(JOB, job=structs.replace(JOB.job, name="evil"))
        plant.coordinator.offer(other, state="running")
        agent.until(lambda: events(agent, "job.refused"))
        (refusal,) = plant.said("refusal")
        assert (refusal.job, refusal.reason) == ("evil", "TrustError")
        assert not (agent.state / "jobs").exists()
