# SPDX-License-Identifier: Apache-2.0
"""What agents may have to fetch is never forgotten, whatever is released and for how long."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from msgspec import structs
from structlog.testing import CapturingLogger
from tests.coordinator.registry.test_newest import NAME, NORMALISER, Shop

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.registry.rollout.rollout import Rollout
from fedmill_coordinator.trust.vouching import Nobody
from fedmill_shared.audit import NoAudit
from fedmill_shared.job import Job
from fedmill_shared.job import Rollout as Settings
from fedmill_shared.messages import (
    AgentState,
    InstallReport,
    InstallState,
    JobPhase,
    ReleaseNotice,
    VersionNotice,
)

AGENTS = ("gw-1", "gw-2")
WORDS = (InstallState.COMMITTED, InstallState.COMMITTED, InstallState.REJECTED)
STEPS = 120


class Plant:
    """Rounds that go on, and releases beside them; blobs are pruned with each version."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.shop = Shop(folder, job)
        self.shop.versions.create(NORMALISER)
        self.log = CapturingLogger()
        self.rounds = 0
        self.start()

    def start(self) -> None:
        """A process on what is stored; all agents are there."""
        shop = self.shop
        if self.rounds:
            shop.versions = shop.fresh()
            shop.versions.restore()
        self.fleet = Fleet(shop.store, shop.clock)
        services: Any = SimpleNamespace(
            store=shop.store,
            blobs=shop.blobs,
            fleet=self.fleet,
            voice=shop.voice,
            clock=shop.clock,
            log=structlog.wrap_logger(self.log, processors=[lambda _l, _m, event: event]),
            audit=NoAudit(),
            trust=Nobody(),
        )
        self.rollout = Rollout(shop.job, services, shop.versions, lambda: self.fleet.on_job(NAME))
        shop.versions.announce(evaluate=False, with_delta=False, serve=False)
        self.rollout.announce()
        for agent in AGENTS:
            self.say(agent, None)
        self.wait()

    def wait(self) -> None:
        """All that is due is done."""
        for _ in range(4):
            self.shop.clock.advance(5)
            self.rollout.step()

    def round(self) -> None:
        """Another version."""
        self.rounds += 1
        self.shop.advance(self.rounds)
        self.shop.versions.announce(evaluate=False, with_delta=False, serve=False)

    def say(self, agent: str, report: InstallReport | None) -> None:
        """An agent tells its state."""
        phase = JobPhase(phase="joined", install=report)
        self.fleet.hear(agent, AgentState(online=True, jobs={NAME: phase}))

    def answer(self, agent: str, state: InstallState) -> None:
        """An agent is done with the newest release."""
        release = self.rollout.release
        if release is not None:
            report = InstallReport(version=release.version, state=state, release=release.release)
            self.say(agent, report)

    def release(self, drawn: Random, *, back: bool) -> None:
        """Somebody promotes a version that is kept, or goes back."""
        store, before = self.shop.store, self.rollout.served.before()
        kept = [each for each in store.versions(NAME) if each.weights is not None]
        if not back:
            self.rollout.begin(drawn.choice(kept), "promoted")
        elif before is not None:
            found = store.version(NAME, before)
            assert found is not None
            assert found.weights is not None
            self.rollout.begin(found, "rollback", rings=["fleet"])

    def assert_whole(self) -> None:
        """Whatever agents were told last can be fetched; what they may go back to is there."""
        shop = self.shop
        told = [message for _, message in shop.voice.said]
        versions = [each for each in told if isinstance(each, VersionNotice)]
        releases = [each.notice for each in told if isinstance(each, ReleaseNotice)]
        for notice in (*versions[-1:], *releases[-1:]):
            for blob in (notice.manifest, notice.template, notice.canary_inputs, notice.snapshot):
                assert shop.blobs.has(blob.sha256)
                assert blob.sha256 in shop.versions.offers.names
        going = self.rollout.going
        wanted = {each.version for each in shop.store.aliases(NAME)}
        wanted |= {going.before} if going is not None and going.before is not None else set()
        for name in wanted:
            record = shop.store.version(NAME, name)
            assert record is not None
            assert record.weights is not None
            assert shop.blobs.has(record.weights)
        events = [str(call.kwargs["event"]) for call in self.log.calls]
        assert "release.unsent" not in events


@pytest.mark.usefixtures("exported_once")
@pytest.mark.parametrize("seed", range(6))
def test_over_any_history(
    tmp_path: Path, tiny_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Rounds, promotions, roll-backs, refusals and restarts in any order."""
    monkeypatch.setattr("fedmill_coordinator.registry.newest.PRUNE_EVERY", 1)
    monkeypatch.setattr("fedmill_coordinator.registry.newest.KEPT_VERSIONS", 2)
    settings = Settings(release="manual", rings=["canary", "fleet"], timeout_seconds=1e6)
    plant, drawn = Plant(tmp_path, structs.replace(tiny_job(), rollout=settings)), Random(seed)
    for _ in range(STEPS):
        match drawn.choices(["round", "release", "back", "answer", "restart"], [9, 2, 1, 4, 1])[0]:
            case "round":
                plant.round()
            case "answer":
                plant.answer(drawn.choice(AGENTS), drawn.choice(WORDS))
            case "restart":
                plant.start()
            case what:
                plant.release(drawn, back=what == "back")
        plant.wait()
        plant.assert_whole()
    ends = {each.state for each in plant.shop.store.releases(NAME)}
    assert "done" in ends
