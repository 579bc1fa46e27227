# SPDX-License-Identifier: Apache-2.0
"""The daemon: messages from the wire to the right conductor, and answers back; nothing ends it."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs
from tests.coordinator.plant import Plant

from fedmill_coordinator.daemon import BACKLOG
from fedmill_coordinator.registry.newest import Versions
from fedmill_coordinator.resting import HOLD_SECONDS
from fedmill_coordinator.store.blobs import Blobs
from fedmill_shared.errors import StoreError
from fedmill_shared.link.base import Connected
from fedmill_shared.messages import (
    AgentState,
    BlobRequest,
    Refusal,
)

pytestmark = pytest.mark.usefixtures("exported_once")


class TestWire:
    """From topic to conductor and back."""

    def test_a_round_on_the_wire(self, make_plant: Callable[..., Plant]) -> None:
        """Join, statistics, version, round, update, receipt, next version: each on its topic."""
        plant = make_plant()
        plant.running()
        assert [notice.state for notice in plant.take("a", "job")][-1] == "running"
        assert [notice.number for notice in plant.take("a", "version")] == [0]
        assert [notice.round for notice in plant.take("a", "round")] == [1]
        offers = {name: plant.update(name) for name in ("a", "b")}
        for name, offer in offers.items():
            assert [receipt.sha256 for receipt in plant.take(name, "receipt")] == [offer.sha256]
        assert [notice.number for notice in plant.take("b", "version")] == [0, 1]
        [result] = plant.take("a", "round")
        assert (result.closed, result.round) == (1, 2)
        assert set(result.included) == {"a", "b"}

    def test_blocks_are_pulled(self, make_plant: Callable[..., Plant]) -> None:
        """A request brings blocks to the agent that asked, and to no other."""
        plant = make_plant()
        plant.running()
        [notice] = plant.take("a", "version")
        for agent in ("a", "b"):
            plant.take(agent, "block")
        plant.say("a", "request", BlobRequest(job="tiny", blob=notice.snapshot.sha256, missing=[0]))
        assert len(plant.take("a", "block")) == 1
        assert plant.take("b", "block") == []

    def test_who_comes_later_hears_everything(self, make_plant: Callable[..., Plant]) -> None:
        """Job, version and round are retained by the broker; blocks are not."""
        plant = make_plant()
        plant.running()
        plant.agent("late")
        assert [kind for kind, _ in plant.heard["late"]] == ["job", "version", "round"]

    def test_agents_come_and_go(self, make_plant: Callable[..., Plant]) -> None:
        """Their states are kept for people."""
        plant = make_plant()
        plant.link.start()
        plant.agent("a")
        plant.say("a", "state", AgentState(online=False))
        [record] = plant.store.agents()
        assert (record.agent, record.online) == ("a", False)

    def test_refusals_are_kept(self, make_plant: Callable[..., Plant]) -> None:
        """With reason and text."""
        plant = make_plant()
        plant.link.start()
        plant.agent("a")
        plant.say("a", "refusal", Refusal(job="tiny", reason="SchemaError", text="no force"))
        assert [(r.agent, r.text) for r in plant.store.refusals()] == [("a", "no force")]


class TestTwoJobs:
    """Jobs that run at the same time do not disturb each other."""

    def test_each_has_its_own_rounds(self, make_plant: Callable[..., Plant]) -> None:
        """Updates, receipts, versions and ends are those of the job that they name."""
        plant = make_plant("tiny", "other")
        for job in ("tiny", "other"):
            plant.running(job)
        assert plant.state("tiny") == plant.state("other") == ("running", 1)
        plant.update("a", "tiny")
        plant.update("b", "other")
        assert plant.state("tiny") == plant.state("other") == ("running", 1)
        plant.update("b", "tiny")
        assert (plant.state("tiny"), plant.state("other")) == (("running", 2), ("running", 1))
        plant.update("a", "other")
        assert plant.state("other") == ("running", 2)
        told = [(r.job, r.round, r.fate) for r in plant.take("a", "receipt")]
        assert told == [("tiny", 1, "received"), ("other", 1, "received")]
        versions = [plant.store.versions(job) for job in ("tiny", "other")]
        assert versions[0][1].version != versions[1][1].version
        for job in ("tiny", "other"):
            assert [u.agent for u in plant.store.updates(job, 1)] == ["a", "b"]

    def test_one_that_is_stopped_leaves_the_other_alone(
        self, make_plant: Callable[..., Plant]
    ) -> None:
        """Neither its rounds nor what waits for them."""
        plant = make_plant("tiny", "other")
        for job in ("tiny", "other"):
            plant.running(job)
            plant.update("a", job)
        plant.store.give_order("tiny", "abort", "anna", plant.clock.now_ns())
        plant.wait(1)
        assert (plant.state("tiny"), plant.state("other")) == (("stopped", 0), ("running", 1))
        plant.update("b", "other")
        assert plant.state("other") == ("running", 2)

    def test_one_whose_state_cannot_be_stored_rests(self, make_plant: Callable[..., Plant]) -> None:
        """The other goes on; after two seconds the first is tried again, and nothing is lost."""
        plant = make_plant("tiny", "other")
        for job in ("tiny", "other"):
            plant.running(job)
            plant.update("a", job)
        offer = plant.update("b", "other")
        assert plant.state("other") == ("running", 2)
        plant.disk.failing, plant.disk.only = 4, "tiny"
        with capture_logs() as logs:
            plant.update("b", "tiny")  # it cannot be kept, and has no receipt
            assert plant.take("b", "receipt")[-1].sha256 == offer.sha256
            plant.clock.advance(100)  # and the deadline cannot be moved
            plant.work()
            plant.update("a", "other")
            plant.update("b", "other")
        assert plant.state("tiny") == ("running", 1)
        assert plant.state("other")[1] == 0
        failed = [each for each in logs if each["event"] == "store.failed"]
        assert all("no space left" in each["error"] for each in failed)
        assert [each["job"] for each in failed if "job" in each] == ["tiny"]
        plant.wait(2 * HOLD_SECONDS + 1)
        assert plant.disk.failed >= 3
        plant.disk.failing = 0
        plant.wait(HOLD_SECONDS)
        plant.update("b", "tiny")
        assert plant.state("tiny") == ("running", 2)


class TestFullDisk:
    """The daemon lives on, and does afterwards what it could not do."""

    @pytest.mark.parametrize("times", [1, 2, 5])
    def test_nothing_is_lost(self, make_plant: Callable[..., Plant], times: int) -> None:
        """Writes fail at any point of a round; agents that say it again are heard."""
        plant = make_plant()
        plant.running()
        for at in range(4):
            plant.disk.failing = times
            for _ in range(times + 1):
                if plant.state()[1] == 1:
                    plant.update("a" if at % 2 else "b")
            plant.wait(times * HOLD_SECONDS + 1)
        for name in ("a", "b"):
            if plant.state()[1] == 1:
                plant.update(name)
        plant.wait(1)
        assert plant.state() == ("running", 2)
        first = plant.store.rounds("tiny")[0]
        assert (first.included, first.accepted) == (["a", "b"], 2)
        numbers = [notice.number for notice in plant.take("a", "version")]  # with reminders
        assert (sorted(set(numbers)), sorted(numbers)) == ([0, 1], numbers)
        assert plant.take("a", "round")[-1].round == 2

    def test_what_it_could_not_tell_is_told_later(
        self, make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The version that a round made, where its blobs could not be read just then."""
        plant = make_plant()
        plant.running()
        plant.take("a", "version")
        broken = [3]
        size = Blobs.size

        def fails(self: Blobs, name: str) -> int:
            if broken[0]:
                broken[0] -= 1
                raise StoreError("the disk is away")
            return size(self, name)

        monkeypatch.setattr(Blobs, "size", fails)
        for name in ("a", "b"):
            plant.update(name)
        assert plant.state() == ("running", 0)
        plant.wait(3 * HOLD_SECONDS + 1)
        assert broken == [0]
        assert [notice.number for notice in plant.take("a", "version")] == [1]
        assert plant.state() == ("running", 2)
        notice = plant.take("a", "round")[-1]
        assert (notice.round, notice.closed, set(notice.included)) == (2, 1, {"a", "b"})

    def test_at_the_connection(
        self, make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One job that cannot be announced does not keep the others from it."""
        plant = make_plant("tiny", "other")
        for job in ("tiny", "other"):
            plant.running(job)
        plant.heard["a"].clear()
        broken = ["tiny"]
        announce = Versions.announce

        def fails(self: Versions, **how: bool) -> None:
            if self._job.name in broken:
                raise StoreError("the disk is away")
            announce(self, **how)

        monkeypatch.setattr(Versions, "announce", fails)
        plant.daemon._hand_in(Connected(session_present=False))
        plant.work()
        assert [notice.job for notice in plant.take("a", "version")] == ["other"]
        broken.clear()
        plant.wait(HOLD_SECONDS)
        assert [notice.job for notice in plant.take("a", "version")] == ["tiny"]
        assert "tiny" in {notice.job for notice in plant.take("a", "round")}

    def test_a_blob_that_cannot_be_served(
        self, make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its agent asks again; the daemon does not end."""
        plant = make_plant()
        plant.running()
        [notice] = plant.take("a", "version")
        plant.take("a", "block")
        path = plant.daemon._services.blobs.path(notice.snapshot.sha256)
        aside = path.with_suffix(".aside")
        path.rename(aside)
        request = BlobRequest(job="tiny", blob=notice.snapshot.sha256, missing=[0])
        plant.say("a", "request", request)
        assert plant.take("a", "block") == []
        aside.rename(path)
        plant.wait(HOLD_SECONDS + 1)
        plant.say("a", "request", request)
        assert len(plant.take("a", "block")) == 1


class TestBacklog:
    def test_blocks_wait_for_a_slow_broker(self, make_plant: Callable[..., Plant]) -> None:
        """They are handed over while it keeps up, not into a queue that only grows."""
        plant = make_plant()
        plant.running()
        [notice] = plant.take("a", "version")
        plant.take("a", "block")
        plant.link.backlog = BACKLOG
        request = BlobRequest(job="tiny", blob=notice.snapshot.sha256, missing=[0])
        plant.say("a", "request", request)
        assert plant.take("a", "block") == []
        plant.update("a")
        assert [receipt.fate for receipt in plant.take("a", "receipt")] == ["received"]
        plant.link.backlog = BACKLOG - 1
        plant.work()
        assert len(plant.take("a", "block")) == 1
