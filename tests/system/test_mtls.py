# SPDX-License-Identifier: Apache-2.0
"""A federation whose links prove who they are: real processes, the broker of the templates."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json
from tests.pki_fleet import SecureFleet, secure_federation
from tests.system.fleet import COORDINATOR, a_job, a_pair

from fedmill_shared.link.rights import RightsTold

pytestmark = pytest.mark.system
FLAG = ""
"""How the log shows what is true."""
AS_IT_SHOULD_BE = RightsTold(own="granted", foreign="refused", echoed=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureFleet]:
    """A federation at the end of its job, still running."""
    folder = tmp_path_factory.mktemp("mtls") / "fleet"
    with secure_federation(folder, a_job(), a_pair()) as fleet:
        fleet.finish()
        yield fleet


class TestFederation:
    def test_every_agent_took_part_in_every_round(self, finished: SecureFleet) -> None:
        """Statistics, versions, blocks and updates go both ways, within what the ACL lets them."""
        assert [record.round for record in finished.rounds()] == [1, 2, 3, 4, 5]
        assert {tuple(record.included) for record in finished.rounds()} == {tuple(finished.agents)}
        for name in (COORDINATOR, *finished.agents):
            for event in ("broker.refused", "broker.open", "broker.unreachable", "broker.unheard"):
                assert finished.events(name, event) == []

    def test_everybody_has_tried_what_the_broker_lets_them_do(self, finished: SecureFleet) -> None:
        """Their own topics, and not those of others; agents hear the coordinator."""
        for name in (COORDINATOR, *finished.agents):
            [told] = finished.events(name, "broker.tested")
            assert (told["own"], told["foreign"]) == ("granted", "refused")
        for agent in finished.agents:
            finished.wait("echo", lambda agent=agent: _rights(finished, agent) == AS_IT_SHOULD_BE)

    def test_status_shows_it(self, finished: SecureFleet) -> None:
        """For people, and for programs."""
        config = finished.layout.agents["agent-1"]
        finished.wait("echo", lambda: _rights(finished, "agent-1") == AS_IT_SHOULD_BE)
        told = finished.run("fedmill_agent", "status", config)
        assert "own topics granted, those of others refused" in told.stdout
        body = json.decode(finished.run("fedmill_agent", "status", config, "--json").stdout)
        assert body["rights"] == {"own": "granted", "foreign": "refused", "echoed": True}

    def test_check_leaves_the_daemon_alone(self, finished: SecureFleet) -> None:
        """With its certificate it would be the daemon to the broker, which has room for one."""
        before = len(finished.events("agent-1"))
        told = finished.run("fedmill_agent", "check", finished.layout.agents["agent-1"])
        assert told.returncode == 0, told.stdout
        assert "the agent runs with this certificate" in told.stdout
        assert finished.events("agent-1", "broker.unreachable") == []
        assert len(finished.events("agent-1")) >= before

    def test_the_broker_knows_each_by_its_certificate(self, finished: SecureFleet) -> None:
        """Whatever client id they ask for."""
        for name in (COORDINATOR, *finished.agents):
            assert f"as {name} (p5, c0, k30, u'{name}')" in finished.plant.log


class TestRenewal:
    def test_a_certificate_that_is_exchanged_is_taken_at_the_next_connection(
        self, tmp_path: Path
    ) -> None:
        """No restart; the broker comes back with its sessions and says that it knows everybody."""
        job = a_job(rounds=20, deadline_seconds=60.0)
        with secure_federation(tmp_path / "fleet", job, a_pair()) as fleet:
            fleet.wait("some rounds", lambda: fleet.closed() >= 3)
            old = dict(fleet.credentials)
            fleet.plant.stop()
            for name in old:
                fleet.certify(name, fleet.authority.issue(name))
            fleet.plant.revoke(*old.values())
            fleet.start_broker()
            fleet.finish()
            assert [record.round for record in fleet.rounds()] == list(range(1, 21))
            for name in (COORDINATOR, *fleet.agents):
                first, *later = fleet.events(name, "broker.connected")
                assert first["session_present"] == "false"
                assert [each["session_present"] for each in later] == [FLAG]


class TestStart:
    def test_without_its_files(self, tmp_path: Path) -> None:
        """The agent scores and tells the path; the coordinator ends with exit code 24."""
        with secure_federation(tmp_path / "fleet", a_job(), a_pair(), only=()) as fleet:
            key = fleet.identity("agent-1") / "key.pem"
            key.unlink()
            fleet.start("agent-1")
            fleet.wait("a word", lambda: fleet.events("agent-1", "broker.unreachable") != [])
            told = fleet.events("agent-1", "broker.unreachable")[0]
            assert f"{key}: the key cannot be read: No such file" in told["reason"]
            assert "enrol" in told["remedy"]
            ca = fleet.identity(COORDINATOR) / "ca.pem"
            ca.unlink()
            ended = fleet.run("fedmill_coordinator", "serve", fleet.layout.coordinator)
            assert ended.returncode == 24
            assert f"{ca}: the certificate of the plant's authority cannot be read" in ended.stderr

    def test_check_before_the_daemon(self, tmp_path: Path) -> None:
        """It tries what the daemon will, and takes none of what waits for it."""
        with secure_federation(tmp_path / "fleet", a_job(), a_pair(), only=()) as fleet:
            config = fleet.layout.agents["agent-1"]
            told = fleet.run("fedmill_agent", "check", config)
            assert told.returncode == 0, told.stdout
            assert (
                "connected as agent-1, own topics granted, those of others refused" in told.stdout
            )
            fleet.certify("agent-1", fleet.authority.expired("agent-1"))
            told = fleet.run("fedmill_agent", "check", config)
            assert told.returncode == 20
            assert "our certificate was valid until" in told.stdout

    def test_what_waits_for_the_daemon_is_still_there_after_a_check(self, tmp_path: Path) -> None:
        """A session has room for one, and what it holds is for the daemon."""
        job = a_job(rounds=3, deadline_seconds=60.0, minimum=2)
        with secure_federation(tmp_path / "fleet", job, a_pair()) as fleet:
            fleet.wait("a round", lambda: fleet.closed() >= 1)
            fleet.end("agent-1", signal.SIGTERM)
            told = fleet.run("fedmill_agent", "check", fleet.layout.agents["agent-1"])
            assert "connected as agent-1" in told.stdout
            fleet.start("agent-1")
            fleet.finish()
            [connected] = fleet.events("agent-1", "broker.connected")[-1:]
            assert connected["session_present"] == FLAG


def _rights(fleet: SecureFleet, agent: str) -> RightsTold | None:
    return fleet.status(agent).rights
