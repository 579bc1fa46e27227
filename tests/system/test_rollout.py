# SPDX-License-Identifier: Apache-2.0
"""A release among real agents: ring by ring, refused where it is worse or poisoned, and a kill -9.

What a broken or captured coordinator might send is caught at its gate by one agent, the canary; the
operator sees which, where and why, and the fleet keeps its model.
"""

from collections.abc import Iterator

import pytest
from msgspec import json, structs
from tests.system.fleet import CLASSES, COORDINATOR, Fleet, a_job, a_plant, federation, recording
from tests.system.poison import (
    Poison,
    not_a_number,
    of_another_canary,
    of_other_units,
    of_other_weights,
)

from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_shared.job import Job, Rollout

pytestmark = pytest.mark.system


def rolling() -> Job:
    """Three rounds; what comes of them is released to one agent, and then to all."""
    job = a_job(rounds=3)
    return structs.replace(
        job,
        rollout=Rollout(release="last", rings=["canary", "fleet"]),
        learning=structs.replace(job.learning, steps=20, learning_rate=0.1),
        evaluation=structs.replace(job.evaluation, validation=0.2),
    )


def plants() -> list[Plant]:
    """Agents that also keep windows aside for choices."""
    found = [a_plant(number) for number in (1, 2, 3)]
    for number, plant in enumerate(found):
        plant.sources.extend(
            recording(f"{fault}-validation", fault=fault, split="validation", seed=50 + number)
            for fault in CLASSES
        )
    return found


def newest(fleet: Fleet) -> ReleaseRecord:
    """The newest release."""
    return fleet.store.releases(fleet.job.name, last=1)[0]


def ended(fleet: Fleet, release: int) -> bool:
    """Whether this release is over."""
    found = fleet.store.release(fleet.job.name, release)
    return found is not None and found.state not in ("open", "paused")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation whose last version is on all agents."""
    with federation(tmp_path_factory.mktemp("rollout") / "fleet", rolling(), plants()) as fleet:
        fleet.finish()
        fleet.wait("release", lambda: ended(fleet, 1))
        yield fleet


class TestRelease:
    def test_goes_to_one_agent_and_then_to_all(self, released: Fleet) -> None:
        """Each says that it serves the version that is stable now."""
        release = released.store.release(released.job.name, 1)
        assert release is not None
        assert (release.state, release.opened, release.why) == ("done", 2, "last")
        installs = released.store.installs(released.job.name, 1)
        assert {each.agent: each.state for each in installs} == dict.fromkeys(
            released.agents, "committed"
        )
        assert sorted(each.ring for each in installs) == [1, 2, 2]
        assert released.stable() == release.version
        config = released.layout.coordinator
        shown = released.run("fedmill_coordinator", "models", "show", config, "--json")
        assert {row["serving"] for row in json.decode(shown.stdout)} == {release.version}

    def test_no_agent_scored_with_what_was_only_trained_from(self, released: Fleet) -> None:
        """Versions before it were followed, and never served."""
        for agent in released.agents:
            served = {each["version"] for each in released.events(agent, "version.installed")}
            assert {version[:12] for version in served} == {released.stable()[:12]}

    def test_a_worse_version_ends_with_the_canary(self, released: Fleet) -> None:
        """Version 0 has learned nothing: one agent finds out where somebody insists."""
        words = ("models", "promote", released.layout.coordinator, "--version", "0")
        number = newest(released).release + 1
        refused = released.run("fedmill_coordinator", *words)
        assert refused.returncode == 1
        assert "version 0 does worse than version 3, which is served" in refused.stderr
        told = released.run("fedmill_coordinator", *words, "--force")
        assert told.returncode == 0, told.stderr
        released.wait("release", lambda: ended(released, number))
        watched = released.run(
            "fedmill_coordinator", "models", "watch", released.layout.coordinator
        )
        release = released.store.release(released.job.name, number)
        assert release is not None
        assert (release.state, release.opened) == ("aborted", 1)
        [install] = released.store.installs(released.job.name, number)
        assert (install.agent, install.state) == (release.canary, "rejected")
        assert install.gate
        assert install.reason in release.reason
        assert watched.returncode == 1
        assert "aborted" in watched.stderr


class TestPoison:
    @pytest.mark.parametrize(
        ("poison", "gate", "words"),
        [
            (not_a_number, "numbers", "finite"),
            (of_another_canary, "canary", "canary"),
            (of_other_weights, "hash", "SHA-256"),
            (of_other_units, "schema", "unit"),
        ],
    )
    def test_is_caught_at_its_gate(
        self, released: Fleet, poison: Poison, gate: str, words: str
    ) -> None:
        """The canary refuses it, the release ends there, and every agent serves what it served."""
        serves = released.stable()
        job = released.store.job(released.job.name)
        assert job is not None
        record = poison(released)
        released.store.add_version(record)
        number = newest(released).release + 1
        config = released.layout.coordinator
        told = released.run(
            "fedmill_coordinator", "models", "promote", config, "--version", str(record.number)
        )
        assert told.returncode == 0, told.stderr
        released.wait("release", lambda: ended(released, number))
        released.store.update_job(job.name, updated_ns=job.updated_ns, template=job.template)

        shown = released.run(
            "fedmill_coordinator", "models", "show", config, "--release", str(number), "--json"
        )
        rows = json.decode(shown.stdout)
        [refused] = [row for row in rows if row["state"] == "rejected"]
        assert refused["gate"] == gate
        assert words in refused["reason"]
        assert {row["serving"] for row in rows} == {serves}
        release = released.store.release(released.job.name, number)
        assert release is not None
        assert release.state == "aborted"
        assert refused["agent"] in release.reason
        table = released.run(
            "fedmill_coordinator", "models", "show", config, "--release", str(number)
        )
        assert refused["agent"] in table.stdout
        assert gate in table.stdout


def test_kill_9_of_the_coordinator_in_mid_release(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The next process goes on with the ring that was open, and all agents come to serve it."""
    folder = tmp_path_factory.mktemp("rollout-kill") / "fleet"
    with federation(folder, rolling(), plants()) as fleet:
        fleet.wait("canary", lambda: fleet.heard("release.ring_opened"))
        fleet.kill(COORDINATOR)
        fleet.start(COORDINATOR)
        fleet.wait("release", lambda: ended(fleet, 1))
        assert newest(fleet).state == "done"
        states = [each.state for each in fleet.store.installs(fleet.job.name, 1)]
        assert states == ["committed"] * 3
