# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.agent.feedback.conftest import Plant, a_plant
from tests.agent.kit import Journal

from fedmill_agent.background import Background
from fedmill_agent.feedback.desk import LOOK_SECONDS, RETRY_SECONDS, SETTLE_SECONDS, FeedbackDesk
from fedmill_agent.feedback.fitting import Worth
from fedmill_agent.feedback.head import Outcome
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError, StoreError

GOOD = Worth(12, 0.9, 0.4, 3, 0)
VECTOR = np.ones(4, np.float32)


class Stand:
    """A desk between a head that says what it is told to and an installer that writes down."""

    def __init__(self, background: Background | None = None) -> None:
        self.clock = ManualClock()
        self.journal = Journal()
        self.looked: list[str] = []
        self.proposed: list[Any] = []
        self.taken = True
        self.error: Exception | None = None
        self.outcome = Outcome(12, 12, GOOD, VECTOR)
        self.generation = 1
        self.served: Any = SimpleNamespace(version="v1" * 32)
        self.desk = FeedbackDesk(
            self,
            self,
            lambda: self.generation,
            background or Background(),
            clock=self.clock,
            log=self.journal,
        )

    def look(self, notice: Any) -> Outcome:
        """What a fit gives."""
        self.looked.append(notice.version)
        if self.error is not None:
            raise self.error
        return self.outcome

    def propose(self, proposal: Any) -> bool:
        """The installer's answer."""
        self.proposed.append(proposal)
        return self.taken

    def wait(self, seconds: float) -> None:
        """Ticks, one a second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.desk.tick()


@pytest.fixture
def stand() -> Stand:
    """A desk whose work is done at once."""
    return Stand()


class TestWhen:
    def test_a_version_settles_first(self, stand: Stand) -> None:
        """While rounds follow each other, nothing is fitted to what is gone in a moment."""
        for number in range(5):
            stand.served = SimpleNamespace(version=f"v{number}")
            stand.wait(SETTLE_SECONDS - 2)
        assert stand.looked == []
        stand.wait(SETTLE_SECONDS)
        assert stand.looked == ["v4"]

    def test_only_where_something_has_changed(self, stand: Stand) -> None:
        """New windows or labels, or another version."""
        stand.wait(10 * LOOK_SECONDS)
        assert len(stand.looked) == 1
        stand.generation += 1
        stand.wait(LOOK_SECONDS + 1)
        assert len(stand.looked) == 2
        stand.served = SimpleNamespace(version="v2")
        stand.wait(LOOK_SECONDS + SETTLE_SECONDS)
        assert stand.looked[2:] == ["v2"]

    def test_a_busy_store_is_looked_at_now_and_then(self, stand: Stand) -> None:
        """Live windows change it all the time."""
        for _ in range(100):
            stand.generation += 1
            stand.wait(1)
        assert len(stand.looked) == pytest.approx(100 / LOOK_SECONDS, abs=1)

    def test_nothing_serves_yet(self, stand: Stand) -> None:
        """Before the first version."""
        stand.served = None
        stand.wait(100)
        assert stand.looked == []


class TestProposals:
    def test_a_fit_goes_to_the_installer(self, stand: Stand) -> None:
        """With its origin and reason; log and proposal tell the same."""
        stand.wait(SETTLE_SECONDS + 1)
        (proposal,) = stand.proposed
        assert proposal.origin == "feedback"
        assert "12 labelled windows" in proposal.reason
        assert "3 are told better and 0 worse" in proposal.reason
        np.testing.assert_array_equal(proposal.vector, VECTOR)
        (fitted,) = stand.journal.of("feedback.fitted")
        assert (fitted["labels"], fitted["gained"], fitted["used"]) == (12, 3, True)
        assert len(stand.journal.of("feedback.proposed")) == 1

    def test_one_that_is_worth_nothing_is_not_proposed(self, stand: Stand) -> None:
        """It is in the log alone."""
        stand.outcome = Outcome(12, 12, Worth(12, 0.4, 0.9, 0, 3))
        stand.wait(100)
        assert stand.proposed == []
        assert stand.journal.of("feedback.fitted")[0]["used"] is False

    def test_the_federations_head_comes_back_with_a_reason(self, stand: Stand) -> None:
        """Where labels were taken back, or prove nothing any more."""
        stand.outcome = Outcome(2, 9, None, VECTOR)
        stand.wait(SETTLE_SECONDS + 1)
        stand.outcome = Outcome(9, 9, Worth(9, 0.4, 0.9, 0, 3), VECTOR)
        stand.generation += 1
        stand.wait(LOOK_SECONDS + 1)
        few, worse = (proposal.reason for proposal in stand.proposed)
        assert few.startswith("2 labelled windows are too few")
        assert worse.startswith("back to the federation's head")

    def test_waits_while_another_is_on_its_way(self, stand: Stand) -> None:
        """It is offered again and again, and told once, when it is taken."""
        stand.taken = False
        stand.wait(5 * LOOK_SECONDS)
        assert len(stand.proposed) > 2
        assert stand.journal.of("feedback.proposed") == []
        stand.taken = True
        stand.wait(LOOK_SECONDS + 1)
        assert len(stand.journal.of("feedback.proposed")) == 1
        count = len(stand.proposed)
        stand.wait(5 * LOOK_SECONDS)
        assert len(stand.proposed) == count

    def test_another_version_makes_it_void(self, stand: Stand) -> None:
        """It was fitted to the backbone of the one before."""
        stand.taken = False
        stand.wait(SETTLE_SECONDS + 1)
        stand.taken, stand.outcome = True, Outcome(12)
        stand.served = SimpleNamespace(version="v2")
        before = len(stand.proposed)
        stand.wait(5 * LOOK_SECONDS)
        assert len(stand.proposed) == before

    def test_a_newer_fit_takes_its_place(self, stand: Stand) -> None:
        """What waits is never older than the labels."""
        stand.taken = False
        stand.wait(SETTLE_SECONDS + 1)
        stand.outcome = Outcome(20, 8, GOOD, 2 * VECTOR)
        stand.generation += 1
        stand.wait(LOOK_SECONDS + 1)
        stand.taken = True
        stand.wait(LOOK_SECONDS + 1)
        np.testing.assert_array_equal(stand.proposed[-1].vector, 2 * VECTOR)


class TestFaults:
    @pytest.mark.parametrize("error", [StoreError("no space"), ModelError("no features")])
    def test_are_told_once_and_tried_again(self, stand: Stand, error: Exception) -> None:
        """Scoring goes on meanwhile."""
        stand.error = error
        stand.wait(5 * RETRY_SECONDS)
        assert len(stand.journal.of("feedback.failed")) == 1
        assert 3 <= len(stand.looked) <= 6
        stand.error = None
        stand.wait(RETRY_SECONDS + LOOK_SECONDS)
        assert len(stand.proposed) == 1

    def test_a_full_disk_of_the_installer(self, stand: Stand) -> None:
        """What could not be taken on is offered again."""
        calls: list[int] = []

        def propose(_: Any) -> bool:
            calls.append(1)
            if len(calls) == 1:
                raise StoreError("no space")
            return True

        stand.propose = propose  # type: ignore[method-assign]
        stand.wait(5 * RETRY_SECONDS)
        assert len(calls) == 2
        assert len(stand.journal.of("feedback.proposed")) == 1

    def test_nothing_comes_of_a_closed_desk(self) -> None:
        """The job is given up while something is being fitted."""
        posted: list[Callable[[], None]] = []
        ready = SimpleNamespace(
            submit=lambda work, done, failed: posted.append(lambda: done(work()))
        )
        stand = Stand(background=ready)  # type: ignore[arg-type]
        stand.wait(100)
        assert len(posted) == 1  # one at a time
        stand.desk.close()
        posted[0]()
        assert stand.proposed == []


class TestWithTheInstaller:
    def test_from_labels_to_what_scores(self, tmp_path: Path) -> None:
        """Labels come; some ticks later another head scores, and its reason is in the log."""
        plant: Plant = a_plant(tmp_path)
        plant.windows(40)
        desk = FeedbackDesk(
            plant.head,
            plant.deployment.installer,
            lambda: plant.store.generation("train"),
            Background(),
            clock=plant.clock,
            log=plant.journal,
        )
        first = plant.versions.made[0].version

        def wait(seconds: int) -> None:
            for _ in range(seconds):
                plant.clock.advance(1.0)
                desk.tick()
                plant.deployment.tick()

        wait(60)
        assert plant.scorer.version == first
        plant.label(range(20))
        wait(60)
        assert plant.scorer.version != first
        assert plant.deployment.followed is not None
        assert plant.deployment.followed.version == first  # what is trained from is untouched
        scored = plant.scorer.version
        wait(200)
        assert plant.scorer.version == scored
        assert len(plant.journal.of("feedback.proposed")) == 1
        plant.store.close()
