# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.kit import a_job, choosing

from fedmill_agent.election import LIVES, Election, Task
from fedmill_agent.training import protocol
from fedmill_shared.job import Job, Learning, Serving

TASK: Task = {"number": 7, "job": b"{}", "store": "w.sqlite"}
ALONE, CHOOSE = protocol.TrainAlone, protocol.Choose


class Versions:
    """Which version is active, and which choice is in force."""

    def __init__(self) -> None:
        self.followed: Any = None
        self.serving = SimpleNamespace(choice=None)

    def install(self, number: int) -> None:
        """A version becomes active."""
        self.followed = SimpleNamespace(number=number, version=f"{number:064x}")

    def weights_path(self) -> str:
        """File of its weights."""
        return f"weights-{self.followed.number}"

    def canary_path(self) -> str:
        """File of its canary."""
        return "canary"

    def regimes(self) -> int:
        """One condition."""
        return 1


class Booth:
    """An election of a job with ten rounds, and a trainer that always succeeds."""

    def __init__(self, *, every: int = 3, rounds: int = 10, job: Job | None = None) -> None:
        self.versions = Versions()
        self.job = job or choosing(every, rounds=rounds)
        self.election = Election(self.job, Path("job"), self.versions, agent="a")
        self.alone = 0

    def at(self, number: int) -> type | None:
        """What is wanted at a version."""
        self.versions.install(number)
        return self.election.pending()

    def work(self) -> str:
        """The trainer does what is wanted: what that was."""
        kind = self.election.pending()
        if kind is None:
            return ""
        request = self.election.request(kind, TASK)
        if isinstance(request, protocol.TrainAlone):
            began = 0 if self.alone > request.rounds else self.alone
            self.alone = min(began + 1, request.rounds)
            self.election.advanced(self.alone)
            return f"alone {self.alone}"
        self.versions.serving.choice = SimpleNamespace(number=request.ordinal)
        return f"choose {request.ordinal}"

    def all_work(self) -> list[str]:
        """What the trainer does until nothing is wanted."""
        done = []
        while what := self.work():
            done.append(what)
            assert len(done) < 1000
        return done


class TestPending:
    def test_nothing_without_a_choice(self) -> None:
        """Most jobs serve the common version, and no agent trains for itself."""
        booth = Booth(job=a_job())
        assert [booth.at(number) for number in range(5)] == [None] * 5

    def test_nothing_before_a_version(self) -> None:
        """And nothing for the first, of which everybody has the same."""
        booth = Booth()
        assert booth.election.pending() is None
        assert booth.at(0) is None

    def test_the_local_model_keeps_step_and_every_third_version_has_a_choice(self) -> None:
        """One round's work for each round, so that a training waits for no more than that."""
        booth = Booth()
        done = []
        for number in range(11):
            booth.versions.install(number)
            done.append(booth.all_work())
        assert done == [
            [],
            ["alone 1"],
            ["alone 2"],
            ["alone 3", "choose 3"],
            ["alone 4"],
            ["alone 5"],
            ["alone 6", "choose 6"],
            ["alone 7"],
            ["alone 8"],
            ["alone 9", "choose 9"],
            ["alone 10", "choose 10"],
        ]

    def test_one_that_is_behind_chooses_once_it_has_caught_up(self) -> None:
        """With as much work behind the local model as the federation had when it was due."""
        booth = Booth()
        booth.versions.install(7)
        done = booth.all_work()
        assert done == [*(f"alone {n}" for n in range(1, 7)), "choose 7", "alone 7"]

    def test_a_choice_that_was_missed_is_made_up_for(self) -> None:
        """The agent was away while its version was active."""
        booth = Booth()
        booth.versions.install(3)
        booth.all_work()
        booth.versions.install(5)
        assert booth.all_work() == ["alone 4", "alone 5"]
        booth.versions.install(8)
        assert booth.all_work() == ["alone 6", "choose 8", "alone 7", "alone 8"]

    def test_every_0_is_only_the_last(self) -> None:
        """Which is known by its number."""
        booth = Booth(every=0, rounds=4)
        done = []
        for number in range(1, 5):
            booth.versions.install(number)
            done += booth.all_work()
        assert done == ["alone 1", "alone 2", "alone 3", "alone 4", "choose 4"]

    def test_a_job_that_ends_early_has_a_last_version_too(self) -> None:
        """The operator stopped it, or a round made no model."""
        booth = Booth(every=0)
        booth.versions.install(4)
        assert not booth.election.last
        booth.all_work()
        booth.election.over = True
        assert booth.election.last
        assert booth.all_work() == ["choose 4"]

    def test_a_federation_that_went_back_begins_anew(self) -> None:
        """The coordinator comes from a backup, or the job was started again."""
        booth = Booth()
        booth.versions.install(9)
        booth.all_work()
        booth.versions.install(3)
        booth.versions.serving.choice = None  # of no use any more, and the daemon says so
        assert booth.all_work() == ["alone 1", "alone 2", "alone 3", "choose 3"]

    @given(
        every=st.integers(0, 5),
        steps=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), max_size=12),
    )
    def test_always_comes_to_an_end_and_never_ahead(
        self, every: int, steps: list[tuple[int, int]]
    ) -> None:
        """The local model has no more work behind it than the federation, and the last is chosen.

        Whatever time there is between versions.
        """
        booth = Booth(every=every, rounds=1000)
        number = 0
        for ahead, time in steps:
            number += ahead
            booth.versions.install(number)
            for _ in range(time):
                booth.work()
            assert booth.alone <= number
        booth.election.over = True
        booth.all_work()
        choice = booth.versions.serving.choice
        assert (choice.number if choice else 0, booth.alone) == (number, number)


class TestRequest:
    def test_names_all_that_the_trainer_needs(self) -> None:
        """Files of the job, of the version, and what the agent is called."""
        booth = Booth()
        booth.versions.install(4)
        assert booth.election.request(ALONE, TASK) == ALONE(
            **TASK,
            weights="weights-4",
            regimes=1,
            agent="a",
            rounds=4,
            alone="job/alone.msgpack",
        )
        assert booth.election.request(CHOOSE, TASK) == CHOOSE(
            **TASK,
            weights="weights-4",
            regimes=1,
            version=f"{4:064x}",
            ordinal=4,
            agent="a",
            home="",
            alone="job/alone.msgpack",
            canary="canary",
            served="job/served.msgpack",
        )

    def test_names_what_stays_home(self) -> None:
        """Where the job keeps anything there."""
        job = structs.replace(
            a_job(learning=Learning(ditto=1.0)), serving=Serving(candidates="best")
        )
        booth = Booth(job=job)
        booth.versions.install(4)
        request = booth.election.request(CHOOSE, TASK)
        assert isinstance(request, CHOOSE)
        assert request.home == "job/home.msgpack"


class TestFailure:
    def test_a_local_model_that_fails_is_left_out(self) -> None:
        """It is tried again with the next version; the choice does not wait for it."""
        booth = Booth()
        assert booth.at(3) is ALONE
        booth.election.failed(booth.election.request(ALONE, TASK))
        assert booth.work() == "choose 3"
        assert booth.election.pending() is None
        assert booth.at(4) is ALONE

    def test_a_choice_that_fails_is_tried_again_with_the_next_version(self) -> None:
        """And not over and over with the same."""
        booth = Booth()
        booth.versions.install(3)
        booth.election.advanced(3)
        assert booth.election.pending() is CHOOSE
        booth.election.failed(booth.election.request(CHOOSE, TASK))
        assert booth.election.pending() is None
        booth.election.advanced(4)
        assert booth.at(4) is CHOOSE

    def test_a_trainer_that_dies_of_it_is_spared(self) -> None:
        """Memory for the common model, and none for three: the rounds go on."""
        booth = Booth()
        for _ in range(LIVES):
            assert booth.at(3) is ALONE
            booth.election.died()
        assert booth.at(3) is None
        assert booth.at(9) is None


@pytest.mark.parametrize("number", [10, 11])
def test_the_last_round_makes_the_last_version(number: int) -> None:
    """A version beyond the rounds of the job is one, too."""
    booth = Booth(every=0)
    booth.versions.install(number)
    assert booth.election.last
