# SPDX-License-Identifier: Apache-2.0
"""What was true once, played again by whoever holds the broker: an old release, old metadata.

All of it is signed, and comes on the coordinator's own topics. It is refused and logged by agents
that run, and by agents that start and find nothing else at the broker.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.system.fleet import COORDINATOR, Fleet
from tests.system.signed import Attacker, Signed, committed, released

from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_shared import topics
from fedmill_shared.trust import TrustRole

pytestmark = [pytest.mark.system, pytest.mark.drill]
OLD, NEW = 1, 2


@dataclass(frozen=True)
class Replay:
    """A plant whose second release serves, and all that its broker kept of the first.

    Attributes:
        signed: the plant.
        attacker: who holds its broker.
        old: by topic, what the coordinator had said when the first release was the newest.
    """

    signed: Signed
    attacker: Attacker
    old: dict[str, bytes]

    @property
    def fleet(self) -> Fleet:
        """Its processes."""
        return self.signed.fleet

    def verified(self, agent: str) -> Verified:
        """What an agent has checked last."""
        return read_verified(TrustPlaces(self.fleet.state(agent)).verified)

    def versions(self, agent: str) -> dict[str, int]:
        """Versions of the metadata that counts at an agent."""
        return dict(self.verified(agent).versions)

    def play(self, *kinds: str) -> None:
        """Say again what was said of these kinds, and have the broker keep it."""
        for topic, payload in self.old.items():
            if topic.split("/")[3] in kinds:
                self.attacker.link.publish(topic, payload, retain=True)

    def serves(self, agent: str) -> tuple[int, str, str]:
        """Release, state, and the version that scores, as an agent said last."""
        install = self.fleet.status(agent).state.jobs[self.fleet.job.name].install
        assert install is not None
        return install.release, install.state, install.serving

    def replayed(self, agent: str) -> int:
        """How often an agent has told that the old release came again."""
        wanted = {"job": self.fleet.job.name, "release": OLD, "known": NEW}
        return len(self.fleet.events(agent, "release.replayed", **wanted))

    def scored(self, agent: str) -> int:
        """Windows that an agent has scored since its start, as it said last."""
        return self.fleet.status(agent).state.jobs[self.fleet.job.name].windows_scored

    def scores_on(self, agent: str) -> None:
        """Return once an agent has said that it has scored more than it had by now."""
        scored = self.scored(agent)
        self.fleet.wait(f"{agent} scores on", lambda: self.scored(agent) > scored)

    def restart(self, agent: str) -> None:
        """Kill -9, and another start: the broker tells it what it keeps."""
        self.fleet.kill(agent)
        self.fleet.start(agent)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """The first release has been everywhere; the second is now, and that is another version."""
    with released(tmp_path_factory.mktemp("stale")) as signed:
        fleet = signed.fleet
        attacker = Attacker(fleet.port)
        try:
            notice = topics.broadcast("release", fleet.job.name)
            metadata = topics.broadcast("trust", "timestamp.json")
            fleet.wait("what is kept", lambda: {notice, metadata} <= attacker.heard.keys())
            first = signed.repository.timestamp().signed.version
            old = {topic: data for topic, data in attacker.heard.items() if "/all/" in topic}
            config = fleet.layout.coordinator
            words = ("models", "promote", config, "--version", "1", "--force")
            done = fleet.run("fedmill_coordinator", *words)
            assert done.returncode == 0, done.stderr
            fleet.wait("the second release", lambda: committed(fleet, NEW))
            made = Replay(signed, attacker, old)
            newest = signed.repository.timestamp().signed.version
            assert newest > first
            for agent in fleet.agents:
                fleet.wait(
                    f"metadata at {agent}",
                    lambda agent=agent: made.versions(agent)["timestamp"] == newest,
                )
            fleet.wait("its word", lambda: {made.serves(each)[0] for each in fleet.agents} == {NEW})
            yield made
        finally:
            attacker.link.stop()


class TestRunning:
    def test_an_old_release(self, replay: Replay) -> None:
        """Still signed, and passed over: its number is lower. The newest serves and scores on."""
        fleet = replay.fleet
        before = {agent: replay.serves(agent) for agent in fleet.agents}
        assert {release for release, _, _ in before.values()} == {NEW}
        for agent in fleet.agents:
            assert f"releases/{fleet.job.name}/{OLD}.json" in replay.verified(agent).targets
        replay.play("release")
        for agent in fleet.agents:
            fleet.wait(f"{agent} notices", lambda agent=agent: replay.replayed(agent) == 1)
            replay.scores_on(agent)
            assert replay.serves(agent) == before[agent]
            assert fleet.events(agent, "release.unsigned") == []

    def test_old_metadata(self, replay: Replay) -> None:
        """Signed with the true keys, good for days yet, and refused: versions only go up."""
        fleet = replay.fleet
        before = {agent: replay.versions(agent) for agent in fleet.agents}
        served = {agent: replay.serves(agent) for agent in fleet.agents}
        replay.play("trust")
        for agent in fleet.agents:
            fleet.wait(
                f"{agent} notices", lambda agent=agent: bool(fleet.events(agent, "trust.refused"))
            )
            newest = f"must be >= {before[agent]['timestamp']}"
            assert newest in fleet.events(agent, "trust.refused")[-1]["error"]
            assert replay.versions(agent) == before[agent]
            fleet.wait(
                f"{agent} says so", lambda agent=agent: fleet.status(agent).state.trust != ""
            )
            replay.scores_on(agent)
            assert replay.serves(agent) == served[agent]


class TestStarting:
    def test_the_broker_tells_nothing_but_what_is_old(self, replay: Replay) -> None:
        """After kill -9 the agent knows by its disk what it has had, and serves that from there."""
        fleet, agent = replay.fleet, replay.fleet.agents[0]
        served, versions = replay.serves(agent), replay.versions(agent)
        replay.play("release", "trust")
        fleet.wait("it is known", lambda: replay.replayed(agent) == 1)
        before = fleet.status(agent).pid
        replay.restart(agent)
        fleet.wait("it notices", lambda: replay.replayed(agent) == 2)
        fleet.wait("it speaks", lambda: fleet.status(agent).pid != before)
        replay.scores_on(agent)
        assert replay.serves(agent) == served
        assert replay.versions(agent) == versions
        fleet.wait("it says so", lambda: fleet.status(agent).state.trust != "")


class TestAfterwards:
    def test_what_the_coordinator_says_counts_again(self, replay: Replay) -> None:
        """It tells everything anew when it comes back, and a third release goes through."""
        fleet, agent = replay.fleet, replay.fleet.agents[0]
        fleet.end(COORDINATOR)
        fleet.start(COORDINATOR)
        for each in fleet.agents:
            fleet.wait(f"{each} is content", lambda each=each: fleet.status(each).state.trust == "")
        config = fleet.layout.coordinator
        words = ("models", "promote", config, "--version", "2", "--force")
        done = fleet.run("fedmill_coordinator", *words)
        assert done.returncode == 0, done.stderr
        fleet.wait("the third release", lambda: committed(fleet, NEW + 1))
        models = replay.signed.repository.targets(TrustRole.MODELS).signed.version
        assert replay.versions(agent)["models"] == models
