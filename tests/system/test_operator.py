# SPDX-License-Identifier: Apache-2.0
"""The operator steers a running federation from another process."""

import subprocess

import pytest
from msgspec import json
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_pair

pytestmark = pytest.mark.system


def order(fleet: Fleet, *words: str) -> "subprocess.CompletedProcess[str]":
    """Give an order as the operator does."""
    what, verb, *more = words
    config = fleet.layout.coordinator
    return fleet.run("fedmill_coordinator", what, verb, config, fleet.job.name, *more)


class TestPause:
    def test_nobody_trains_until_it_goes_on(self, launch: Launch) -> None:
        """A paused job survives a restart as paused; then it runs to its end."""
        fleet = launch(a_job(rounds=30), a_pair())
        fleet.wait("some rounds", lambda: fleet.closed() >= 3)
        held = fleet.trainer("agent-2")
        held.suspend()  # however long the order takes, the job is not over by then
        assert order(fleet, "jobs", "pause").returncode == 0
        held.resume()
        closed = fleet.closed()
        fleet.kill(COORDINATOR)
        fleet.start(COORDINATOR)
        fleet.wait("the restart", lambda: len(fleet.events(COORDINATOR, "broker.connected")) == 2)
        again = order(fleet, "jobs", "pause")
        assert again.returncode == 0, again.stdout
        assert fleet.closed() <= closed + 1
        assert order(fleet, "jobs", "resume").returncode == 0
        fleet.finish()
        assert [record.state for record in fleet.rounds()] == ["closed"] * 30


class TestClose:
    def test_a_round_closes_with_what_there_is(self, launch: Launch) -> None:
        """Two of three updates are enough for the operator; the third is used by the next round."""
        fleet = launch(a_job(rounds=3, minimum=3, deadline_seconds=300.0))
        held = fleet.hold("agent-3")
        fleet.wait("two updates", lambda: fleet.received(1) == ["agent-1", "agent-2"])
        result = order(fleet, "rounds", "close", "--json")
        assert result.returncode == 0, result.stderr
        assert "closed" in json.decode(result.stdout.strip().splitlines()[-1])["outcome"]
        assert fleet.rounds()[0].included == ["agent-1", "agent-2"]
        held.resume()
        fleet.finish()
        late = next(u for u in fleet.store.updates(fleet.job.name, 1) if u.agent == "agent-3")
        assert (late.state, late.included_in) == ("included", 2)

    def test_nothing_to_close(self, launch: Launch) -> None:
        """It is refused with a reason, and an exit code that a script sees."""
        fleet = launch(a_job(rounds=3), only=[COORDINATOR])
        fleet.wait("the job", lambda: fleet.store.job(fleet.job.name) is not None)
        result = order(fleet, "rounds", "close")
        assert result.returncode == 1
        assert "no round is open" in result.stdout + result.stderr


class TestAbort:
    def test_the_job_ends_and_nobody_waits_for_ever(self, launch: Launch) -> None:
        """Updates on their way are told that they are late; the last version stays in use."""
        fleet = launch(a_job(rounds=1000), a_pair())
        fleet.wait("some rounds", lambda: fleet.closed() >= 3)
        assert order(fleet, "jobs", "abort").returncode == 2
        assert order(fleet, "jobs", "abort", "--yes").returncode == 0
        fleet.wait("settled", lambda: not any(fleet.parcels(agent) for agent in fleet.agents))
        record = fleet.store.job(fleet.job.name)
        assert record is not None
        assert record.state == "stopped"
        assert fleet.rounds()[-1].state == "abandoned"
        assert not fleet.store.pending(fleet.job.name)
        newest = fleet.store.versions(fleet.job.name)[-1].version
        fleet.wait(
            "the last version",
            lambda: (
                {fleet.status(a).state.jobs[fleet.job.name].version for a in fleet.agents}
                == {newest}
            ),
        )
