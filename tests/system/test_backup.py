# SPDX-License-Identifier: Apache-2.0
"""A plant server is lost in the middle of a round: from its backup, the agents finish the job."""

import shutil

import pytest
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, a_job

from fedmill_coordinator.config import load

pytestmark = pytest.mark.system


def test_restored_coordinator_finishes_the_round(launch: Launch) -> None:
    """Saved with two of three updates, it has both after the disk was lost, and goes on."""
    fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
    held = fleet.hold("agent-3")
    fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-2"])
    config = fleet.layout.coordinator
    out = fleet.folder / "backup.tar.gz"
    made = fleet.run("fedmill_coordinator", "backup", "--config", config, "--out", out)
    assert made.returncode == 0, made.stderr

    fleet.kill(COORDINATOR)
    fleet.store.close()
    shutil.rmtree(load(config).coordinator.state)
    back = fleet.run("fedmill_coordinator", "restore", out, "--config", config)
    assert back.returncode == 0, back.stderr
    assert fleet.received(1) == ["agent-1", "agent-2"]

    fleet.start(COORDINATOR)
    fleet.wait("the restart", lambda: len(fleet.events(COORDINATOR, "broker.connected")) == 2)
    held.resume()
    fleet.finish()
    assert [record.round for record in fleet.rounds()] == [1, 2, 3]
    assert {tuple(record.included) for record in fleet.rounds()} == {tuple(fleet.agents)}
    for agent in fleet.agents:
        sent = [event["round"] for event in fleet.events(agent, "update.sent")]
        assert sent == ["1", "2", "3"]


def test_what_came_after_the_backup_is_asked_for_again(launch: Launch) -> None:
    """An agent that has its receipt delivers once more: nothing is lost, nothing counts twice."""
    fleet = launch(a_job(rounds=3, deadline_seconds=60.0))
    second, third = fleet.hold("agent-2"), fleet.hold("agent-3")
    fleet.wait("an update", lambda: fleet.received(1) == ["agent-1"])
    config = fleet.layout.coordinator
    out = fleet.folder / "backup.tar.gz"
    made = fleet.run("fedmill_coordinator", "backup", "--config", config, "--out", out)
    assert made.returncode == 0, made.stderr
    second.resume()
    fleet.wait("another", lambda: fleet.received(1) == ["agent-1", "agent-2"])

    fleet.kill(COORDINATOR)
    fleet.store.close()
    shutil.rmtree(load(config).coordinator.state)
    back = fleet.run("fedmill_coordinator", "restore", out, "--config", config)
    assert back.returncode == 0, back.stderr
    assert fleet.received(1) == ["agent-1"]

    fleet.start(COORDINATOR)
    fleet.wait("the restart", lambda: len(fleet.events(COORDINATOR, "broker.connected")) == 2)
    third.resume()
    fleet.finish()
    assert {tuple(record.included) for record in fleet.rounds()} == {tuple(fleet.agents)}
    sent = [event["round"] for event in fleet.events("agent-2", "update.sent")]
    assert sent == ["1", "2", "3"]
