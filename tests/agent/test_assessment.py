# SPDX-License-Identifier: Apache-2.0
"""When candidates are made, beside the rounds; and what the coordinator is told of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.agent.kit import a_job, choosing
from tests.agent.stand import STATISTIC, Agent, version

from fedmill_agent.election import LIVES
from fedmill_agent.training import protocol
from fedmill_shared.errors import TrainerError
from fedmill_shared.job import Job
from fedmill_shared.messages import EvaluationReport

SCORES = {"global": 0.5, "personal": 0.75, "local": 0.625}
JOB = choosing(2, rounds=4)


class Chooser(Agent):
    """An agent whose trainer makes candidates when told to."""

    def __init__(self, folder: Path, job: Job = JOB, winner: str = "personal") -> None:
        self.winner = winner
        self.usable = True
        super().__init__(folder, job)
        self.deployment.weights_path = lambda: f"weights {self.number}"
        self.deployment.serving.changed = self._changed
        self._left = 0

    @property
    def number(self) -> int:
        """Of the active version."""
        active = self.deployment.followed
        return active.number if active else 0

    def kinds(self) -> list[str]:
        """What the trainer has in hand or waiting."""
        return [type(task).__name__ for task in self.tasks]

    def do(self) -> Any:
        """The trainer does the first thing that it was asked for: the task."""
        if isinstance(self.tasks[0], protocol.Train):
            task = self.tasks[0]
            self.train()
            return task
        task = self.tasks.pop(0)
        match task:
            case protocol.TrainAlone():
                self.alone = min(getattr(self, "alone", 0) + 1, task.rounds)
                answer: Any = protocol.TrainedAlone(number=task.number, rounds=self.alone)
            case protocol.Choose():
                self._left = task.ordinal
                answer = protocol.Chosen(
                    number=task.number,
                    version=task.version,
                    served=self.winner,
                    validation=SCORES,
                    candidates=dict.fromkeys(SCORES, STATISTIC),
                    last=STATISTIC,
                )
            case protocol.Evaluate():
                answer = protocol.Evaluated(
                    number=task.number, version=task.version, statistic=STATISTIC, last=STATISTIC
                )
        assert self.part.answer(answer)
        return task

    def fail(self) -> Any:
        """It cannot be done."""
        task = self.tasks.pop(0)
        self.part.answer(protocol.Failed(number=task.number, error="DataError", message="none"))
        return task

    def reports(self) -> list[EvaluationReport]:
        """What was told of versions since the last call."""
        found = [message for kind, message in self.sent if kind == "evaluation"]
        self.sent.clear()
        return found

    def _changed(self) -> None:
        choice = SimpleNamespace(number=self._left, candidate=self.winner, scores=SCORES)
        self.deployment.serving.choice = choice if self.usable else None


@pytest.fixture
def agent(tmp_path: Path) -> Chooser:
    """One with version 1 active, and its update for round 2 on its way."""
    agent = Chooser(tmp_path / "job")
    agent.round(2)
    agent.do()
    return agent


def plain(number: int) -> EvaluationReport:
    """What is told of a version alone."""
    return EvaluationReport(
        job="press", version=version(number), statistic=STATISTIC, last=STATISTIC
    )


def full(number: int, winner: str = "personal") -> EvaluationReport:
    """What is told of a version with the choice."""
    return EvaluationReport(
        job="press",
        version=version(number),
        statistic=STATISTIC,
        last=STATISTIC,
        served=winner,
        candidates=dict.fromkeys(SCORES, STATISTIC),
        validation=SCORES,
    )


class TestSpareTime:
    def test_begins_behind_the_update(self, agent: Chooser) -> None:
        """While others still train, the agent goes on with its own model."""
        assert agent.kinds() == ["TrainAlone"]
        agent.do()
        assert agent.kinds() == []

    def test_a_version_alone_begins_nothing(self, tmp_path: Path) -> None:
        """Its round is about to open, and would have to wait."""
        agent = Chooser(tmp_path / "job")
        agent.install(1, evaluate=True)
        assert agent.kinds() == ["Evaluate"]
        agent.do()
        assert agent.kinds() == []
        agent.open(2)
        assert agent.kinds() == ["Train"]

    def test_a_training_waits_for_one_slice_at_most(self, agent: Chooser) -> None:
        """What the trainer has in hand; then it is the round's turn, and then the next slice."""
        agent.do()
        agent.round(3)
        agent.do()
        agent.do()  # alone 2
        assert agent.kinds() == ["Choose"]
        agent.round(4)
        assert agent.kinds() == ["Choose", "Train"]
        agent.do()
        assert agent.kinds() == ["Train"]
        agent.do()
        assert agent.kinds() == ["TrainAlone"]

    def test_an_agent_without_a_round_uses_the_clock(self, tmp_path: Path) -> None:
        """It was not asked, or has just come back: a tick begins, and slices follow each other."""
        agent = Chooser(tmp_path / "job")
        agent.install(3)
        agent.part.tick()
        done = []
        while agent.tasks:
            done.append(agent.do())
        assert [getattr(task, "ordinal", 0) for task in done] == [0, 0, 3, 0]
        agent.part.tick()
        assert agent.tasks == []

    def test_a_machine_that_may_not_train_does_not(self, tmp_path: Path) -> None:
        """Candidates are work like any other."""
        agent = Chooser(tmp_path / "job")
        agent.obstacle = "processor at 99 %"
        agent.install(3)
        agent.part.tick()
        assert agent.tasks == []
        agent.obstacle = ""
        agent.part.tick()
        assert agent.kinds() == ["TrainAlone"]
        agent.obstacle = "outside the shifts"
        agent.do()
        assert agent.tasks == []

    def test_nobody_who_takes_no_part_makes_candidates(self, tmp_path: Path) -> None:
        """A gateway that only scores has no trainer for them; neither has one without windows."""
        agent = Chooser(tmp_path / "job")
        agent.install(3)
        agent.start()
        agent.part.tick()
        assert agent.tasks == []

    def test_a_plain_job_has_nothing_to_do(self, tmp_path: Path) -> None:
        """The rounds are all there is."""
        agent = Chooser(tmp_path / "job", a_job())
        agent.round(2)
        agent.do()
        agent.part.tick()
        assert agent.tasks == []


class TestChosen:
    def test_scores_and_is_told(self, agent: Chooser) -> None:
        """The log and the coordinator learn what won, and what each reached."""
        agent.do()
        agent.round(3)
        agent.do()
        agent.do()
        refreshed = agent.deployment.refreshed
        agent.sent.clear()
        agent.do()
        assert agent.deployment.refreshed == refreshed + 1
        told = {"candidate": "personal", "version": version(2)[:12], "scores": SCORES}
        assert agent.journal.of("model.chosen") == [told]
        assert agent.reports() == [full(2)]

    def test_counts_once_it_scores(self, agent: Chooser) -> None:
        """Its session is made beside the loop: until then nothing is told, or made once more."""
        agent.do()
        agent.round(3)
        agent.do()
        agent.do()
        agent.deployment.late = []
        agent.sent.clear()
        agent.usable = False  # as nobody has looked at it yet
        agent.do()
        agent.part.tick()
        assert (agent.tasks, agent.reports()) == ([], [])
        agent.deployment.serving.choice = SimpleNamespace(
            number=2, candidate=agent.winner, scores=SCORES
        )
        [then] = agent.deployment.late
        then()
        assert agent.reports() == [full(2)]

    def test_the_last_one_is_told_together_with_its_version(self, tmp_path: Path) -> None:
        """Behind the last report a coordinator may end: it waits for the choice to score."""
        agent = Chooser(tmp_path / "job")
        agent.deployment.late = []
        agent.install(4, evaluate=True)
        agent.part.tick()
        while agent.tasks:
            agent.do()
        agent.part.tick()
        assert agent.reports() == []
        [then] = agent.deployment.late
        then()
        assert agent.reports() == [full(4)]

    def test_one_that_cannot_be_used_is_not_made_again(self, agent: Chooser) -> None:
        """Until the next version, of which it may be another."""
        agent.usable = False
        agent.do()
        agent.round(3)
        agent.do()
        agent.do()
        agent.sent.clear()
        agent.do()
        assert agent.reports() == []
        agent.part.tick()
        assert agent.tasks == []
        agent.usable = True
        agent.install(3)
        agent.part.tick()
        assert agent.kinds() == ["Choose"]

    def test_one_that_could_not_be_looked_at_is_not_either(self, agent: Chooser) -> None:
        """The shelf fails while the model is bound: the choice of before is in force."""
        agent.do()
        old = SimpleNamespace(number=1, candidate="local", scores=SCORES)
        agent.deployment.serving.choice = old
        agent.deployment.serving.changed = lambda: None
        agent.round(3)
        agent.do()
        agent.do()
        agent.do()
        assert agent.deployment.serving.choice is old
        agent.part.tick()
        assert agent.tasks == []

    def test_is_told_again_where_it_is_asked_for_again(self, agent: Chooser) -> None:
        """The coordinator restarted: it hears the same, with the choice."""
        agent.do()
        agent.round(3, evaluate=True)
        assert agent.kinds() == ["Evaluate", "Train"]
        agent.do()
        assert agent.reports() == [plain(2)]
        agent.do()
        agent.do()
        agent.do()
        assert agent.reports() == [full(2)]
        agent.part.installed()
        assert agent.reports() == [full(2)]
        assert agent.tasks == []


class TestLast:
    """Behind the last report a coordinator ends, and so may whoever runs the agents."""

    def ready(self, tmp_path: Path) -> Chooser:
        """Version 4 is the last, and the agent is behind with its own model."""
        agent = Chooser(tmp_path / "job")
        agent.install(4, evaluate=True)
        return agent

    def test_the_report_waits_for_the_choice(self, tmp_path: Path) -> None:
        """Nothing is told before, and nothing twice."""
        agent = self.ready(tmp_path)
        kinds = []
        while agent.tasks:
            assert agent.reports() == []
            kinds.append(type(agent.do()).__name__)
        assert kinds == ["Evaluate", *["TrainAlone"] * 4, "Choose"]
        assert agent.reports() == [full(4)]
        agent.part.tick()
        assert agent.reports() == []

    def test_but_not_for_a_machine_that_may_not_train(self, tmp_path: Path) -> None:
        """The report comes alone; the choice when it may, and is told then."""
        agent = self.ready(tmp_path)
        agent.obstacle = "outside the shifts"
        agent.do()
        assert agent.reports() == [plain(4)]
        agent.obstacle = ""
        agent.part.tick()
        while agent.tasks:
            agent.do()
        assert agent.reports() == [full(4)]

    def test_nor_for_one_that_may_not_any_more(self, tmp_path: Path) -> None:
        """The clock sees it."""
        agent = self.ready(tmp_path)
        agent.do()
        assert agent.reports() == []
        agent.obstacle = "outside the shifts"
        agent.part.tick()
        assert agent.reports() == [plain(4)]

    def test_nor_for_candidates_that_cannot_be_made(self, tmp_path: Path) -> None:
        """What can be told is told, once nothing more is to come."""
        agent = self.ready(tmp_path)
        agent.do()
        agent.fail()
        assert agent.kinds() == ["Choose"]
        assert agent.reports() == []
        agent.fail()
        assert agent.reports() == [plain(4)]
        assert agent.tasks == []

    def test_nor_for_a_trainer_that_dies_of_them(self, tmp_path: Path) -> None:
        """Three deaths are enough."""
        agent = self.ready(tmp_path)
        agent.do()
        for _ in range(LIVES):
            [task] = agent.tasks
            agent.tasks.clear()
            agent.part.trainer_died((task.number,))
            agent.part.tick()
        assert agent.tasks == []
        assert agent.reports() == [plain(4)]

    def test_a_job_that_was_stopped_has_a_last_version(self, tmp_path: Path) -> None:
        """It is told by the state of the job."""
        agent = Chooser(tmp_path / "job")
        agent.install(3)
        agent.part.election.over = True
        agent.part.tick()
        done = []
        while agent.tasks:
            done.append(agent.do())
        assert getattr(done[-1], "ordinal", 0) == 3


class TestFailure:
    def test_is_nobodys_refusal(self, agent: Chooser) -> None:
        """The coordinator would not wait for the agent's updates any more."""
        agent.sent.clear()
        agent.fail()
        assert agent.sent == []
        assert agent.journal.of("candidates.failed") == [{"kind": "DataError", "error": "none"}]
        assert agent.journal.of("training.failed") == []
        agent.round(3)
        assert agent.kinds() == ["Train"]

    def test_a_trainer_that_cannot_be_started_is_told_once(self, tmp_path: Path) -> None:
        """For each version, and not with each tick; the last report does not wait for it."""

        def broken(_: protocol.Request) -> None:
            raise TrainerError("no memory")

        agent = Chooser(tmp_path / "job")
        agent.install(4, evaluate=True)
        agent.do()
        [task] = agent.tasks
        agent.tasks.clear()
        agent.part._ports = replace(agent.part._ports, submit=broken)
        agent.part.trainer_died((task.number,))
        for _ in range(5):
            agent.part.tick()
        assert len(agent.journal.of("trainer.unavailable")) == 2  # one for each kind of work
        assert agent.reports() == [plain(4)]

    def test_a_trainer_that_dies_of_it_is_no_reason_to_stop_training(self, agent: Chooser) -> None:
        """Only what a round lost has to be done again."""
        [task] = agent.tasks
        agent.tasks.clear()
        assert not agent.part.trainer_died((task.number,))
        agent.round(3)
        agent.part.tick()
        assert agent.kinds() == ["Train"]

    def test_a_round_that_died_with_it_is_trained_again(self, agent: Chooser) -> None:
        """It had waited behind a slice."""
        agent.round(3)
        assert agent.kinds() == ["TrainAlone", "Train"]
        numbers = [task.number for task in agent.tasks]
        agent.tasks.clear()
        assert agent.part.trainer_died(numbers)
        agent.part.installed()
        assert agent.kinds() == ["Train"]
