# SPDX-License-Identifier: Apache-2.0
"""Releases on a whole agent, as its coordinator sees them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, Versions
from tests.agent.whole import JOB, Agent, Plant, open_round

from fedmill_agent.announcements import KINDS, Announcements
from fedmill_agent.training import protocol
from fedmill_shared.job import Rollout, Serving
from fedmill_shared.messages import InstallReport, ReleaseNotice, RoundNotice, VersionNotice
from fedmill_shared.signals.windows import Window
from fedmill_shared.tensors import pack_tensor, unpack_tensor

MANUAL = structs.replace(JOB, rollout=Rollout(release="manual"))
SHADOWED = structs.replace(MANUAL, serving=Serving(shadow_windows=8, soak_windows=8))


class Fleet:
    """One agent of a job that serves releases, and its coordinator."""

    def __init__(self, plant: Plant, job: Any = MANUAL) -> None:
        self.plant, self.job = plant, job
        self.versions = Versions(JOB)
        plant.coordinator.versions = {"press": self.versions}
        self.agent = plant.agent()

    def join(self) -> None:
        """The job, and version 0, which is not to serve by itself."""
        self.plant.coordinator.offer(self.job, state="running")
        self.agent.until(lambda: self.plant.said("join"))
        self.follow()

    def notice(self) -> VersionNotice:
        """The newest version, to be trained from alone."""
        return structs.replace(self.versions.notice(), serve=False)

    def follow(self) -> None:
        """The newest version comes."""
        self.plant.coordinator.tell("version", self.notice())
        version = self.versions.newest.version
        self.agent.until(lambda: self.agent.word().jobs["press"].version == version, "version")

    def release(self, number: int, agents: list[str] | None, **fields: Any) -> None:
        """The newest version is released; ``fields`` of it are others."""
        version = structs.replace(self.notice(), **fields)
        notice = ReleaseNotice(job="press", release=number, notice=version, agents=agents)
        self.plant.coordinator.tell("release", notice)

    def falls_behind(self) -> str:
        """Release 1 serves, and a newer version is followed; what serves."""
        self.join()
        self.release(1, None)
        served = self.reaches("committed").version
        self.versions.advance()
        self.follow()
        return served

    @property
    def install(self) -> InstallReport | None:
        """What the agent has told last."""
        said = self.plant.said("state")
        return said[-1].jobs["press"].install if said and "press" in said[-1].jobs else None

    def reaches(self, state: str) -> InstallReport:
        """Wait until the coordinator hears it."""
        self.agent.until(lambda: self.install is not None and self.install.state == state, state)
        install = self.install
        assert install is not None
        return install

    def live(self, agent: Agent, count: int) -> None:
        """Windows come, while the loop goes on."""
        scorer = agent.seat()._work.scorer
        for number in range(count):
            values = np.random.default_rng(number).normal(0, 1, (1, LENGTH)).astype(np.float32)
            assert scorer.score([Window("r", "u", 0, number, values, 1.0, 0)])
            agent.run(2)


class TestRings:
    def test_only_whose_ring_is_open_takes_it(self, plant: Plant) -> None:
        """A later notice of the same release opens ours; it is heard of at once."""
        fleet = Fleet(plant)
        fleet.join()
        assert fleet.agent.scored() == 0
        fleet.release(1, ["canary-1"])
        fleet.agent.run()
        assert fleet.install is None
        fleet.release(1, ["canary-1", "a"])
        install = fleet.reaches("committed")
        assert (install.release, install.serving) == (1, fleet.versions.newest.version)
        fleet.release(1, None)
        fleet.agent.run()
        assert len(fleet.agent.journal.of("version.installed")) == 1

    @pytest.mark.parametrize("order", list(itertools.permutations(("job", *KINDS[:2]))))
    def test_in_any_order(self, plant: Plant, order: Sequence[str]) -> None:
        """The broker gives what it has kept as it likes."""
        fleet = Fleet(plant)
        for kind in order:
            if kind == "job":
                plant.coordinator.offer(fleet.job, state="running")
            elif kind == "version":
                plant.coordinator.tell("version", fleet.notice())
            else:
                fleet.release(4, None)
            fleet.agent.run(5)
        assert fleet.reaches("committed").release == 4

    def test_rounds_go_on_from_what_is_followed(self, plant: Plant) -> None:
        """What serves is older; status and coordinator hear of both."""
        fleet = Fleet(plant)
        served = fleet.falls_behind()
        open_round(plant, fleet.versions, 2)
        fleet.agent.until(lambda: fleet.agent.trainer.asked(protocol.Train))
        [asked] = fleet.agent.trainer.asked(protocol.Train)
        assert asked.base == fleet.versions.newest.version
        phase = fleet.agent.word().jobs["press"]
        assert phase.version == fleet.versions.newest.version
        assert phase.install is not None
        assert phase.install.serving == served != phase.version

    def test_a_gateway_that_restarts_without_a_broker(self, plant: Plant) -> None:
        """It serves what it served, and follows what it followed."""
        fleet = Fleet(plant)
        served = fleet.falls_behind()
        plant.stop(fleet.agent)
        again = plant.agent(online=False)
        again.until(lambda: again.scored() > 0)
        assert again.seat()._work.scorer.version == served
        assert again.word().jobs["press"].version == fleet.versions.newest.version


class TestStates:
    def test_shadow_and_soak_are_told(self, plant: Plant) -> None:
        """With a session that is made and measured in another thread."""
        fleet = Fleet(plant, SHADOWED)
        fleet.join()
        fleet.release(1, None)
        fleet.reaches("committed")
        fleet.versions.advance(scale=1e-4)
        fleet.release(2, None)
        fleet.reaches("shadowing")
        fleet.live(fleet.agent, 10)
        assert fleet.reaches("soaking").serving == fleet.versions.newest.version
        fleet.live(fleet.agent, 10)
        install = fleet.reaches("committed")
        assert install.evidence["shadow_agreement"] == 1.0
        assert install.evidence["soak_windows"] >= 8

    def test_a_refusal_is_told(self, plant: Plant) -> None:
        """With gate and reason; the agent goes on with what it has."""
        fleet = Fleet(plant)
        fleet.join()
        fleet.release(1, None)
        before = fleet.reaches("committed").version
        made = fleet.versions.advance()
        outputs = pack_tensor(unpack_tensor(made.canary_outputs) + np.float32(1))
        fleet.release(2, None, canary_outputs=outputs)
        install = fleet.reaches("rejected")
        assert install.gate == "canary"
        assert "largest error 1" in install.reason
        assert install.serving == before


def test_announcements_keep_each_kind() -> None:
    """The newest version, release and round of a job, in this order."""
    versions, heard = Versions(JOB), Announcements()
    version = versions.notice()
    releases = [ReleaseNotice(job="press", release=n, notice=version) for n in (1, 2)]
    round_ = RoundNotice(job="press", round=1)
    heard.remember("round", round_, {"press"})
    for release in releases:
        heard.remember("release", release, {"press"})
    heard.remember("version", version, {"press"})
    assert list(heard.of("press")) == [version, releases[1], round_]
