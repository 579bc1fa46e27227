# SPDX-License-Identifier: Apache-2.0
"""What comes out of a round, and of an evaluation."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import msgpack, structs

from fedmill_coordinator.rounds.results import evaluation_records
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Job, Robustness
from fedmill_shared.messages import EvaluationReport
from fedmill_shared.metrics import Statistic, of_errors
from fedmill_shared.metrics.classification import ClassificationStatistic
from fedmill_shared.metrics.regression import RegressionStatistic

A, B, C = "agent-a", "agent-b", "agent-c"
MakeJob = Callable[..., Job]
Make = Callable[..., SimpleNamespace]


def statistic(right: int) -> ClassificationStatistic:
    """Ten windows of three classes, ``right`` of them right."""
    return ClassificationStatistic(3, (right, 10 - right, 0, 0, 0, 0, 0, 0, 0), 1.0)


REPORT = EvaluationReport(job="tiny", version="ab" * 32, statistic=statistic(5), last=statistic(6))
CHOSEN = structs.replace(
    REPORT,
    served="local",
    candidates={"global": statistic(5), "personal": statistic(7), "local": statistic(8)},
)


class TestEvaluationRecords:
    def test_one_for_each_split(self, tiny_job: MakeJob) -> None:
        """All held-out windows, and the last one of each run."""
        records = evaluation_records(tiny_job(), A, REPORT, 9)
        assert [(each.split, each.windows) for each in records] == [("test", 10), ("test-last", 10)]

    def test_each_candidate_and_the_one_that_is_served(self, tiny_job: MakeJob) -> None:
        """So that a report shows what the choice gained."""
        records = evaluation_records(tiny_job(), A, CHOSEN, 9)
        right = {
            each.split: msgpack.decode(each.statistic, type=Statistic).counts[0] for each in records
        }
        assert right == {
            "test": 5, "test-last": 6, "test-global": 5, "test-personal": 7, "test-local": 8,
            "test-served": 8,
        }  # fmt: skip

    def test_a_choice_that_is_not_among_them(self, tiny_job: MakeJob) -> None:
        """Nothing is served that nobody scored."""
        report = structs.replace(CHOSEN, served="other")
        splits = [each.split for each in evaluation_records(tiny_job(), A, report, 9)]
        assert "test-served" not in splits

    @pytest.mark.parametrize("name", ["", "last", "served", "another"])
    def test_a_candidate_that_is_none(self, tiny_job: MakeJob, name: str) -> None:
        """Rows of invented names would fill the disk, or stand in for what was scored."""
        report = structs.replace(CHOSEN, served=name, candidates={name: statistic(9)})
        assert evaluation_records(tiny_job(), A, report, 9) == evaluation_records(
            tiny_job(), A, REPORT, 9
        )

    def test_a_number_is_no_error(self, tiny_job: MakeJob) -> None:
        """Both have no classes, and are not the same."""
        job = tiny_job()
        task = structs.replace(job.job, task="reconstruction")
        job = structs.replace(job, job=task, labels=structs.replace(job.labels, classes=[]))
        number = RegressionStatistic(10, 1.0, 1.0, 0.0, 0.0, 0.0)
        with pytest.raises(FrameError, match="reports on a regression, job tiny is a reconstr"):
            evaluation_records(job, A, structs.replace(REPORT, statistic=number, last=number), 9)
        error = of_errors(np.array([0.5]))
        report = structs.replace(REPORT, statistic=error, last=error)
        assert [each.windows for each in evaluation_records(job, A, report, 9)] == [1, 1]

    @pytest.mark.parametrize("place", ["statistic", "last", "candidates"])
    def test_another_task(self, tiny_job: MakeJob, place: str) -> None:
        """A candidate of other classes is as foreign as a version of them."""
        foreign = RegressionStatistic(10, 1.0, 1.0, 0.0, 0.0, 0.0)
        value = {"global": foreign} if place == "candidates" else foreign
        with pytest.raises(FrameError, match="reports on 0 classes, job tiny has 3"):
            evaluation_records(tiny_job(), A, structs.replace(CHOSEN, **{place: value}), 9)


class TestChoice:
    def test_a_later_report_takes_the_place_of_the_first(self, make_world: Make) -> None:
        """The report of a version comes again once its agent has chosen."""
        world = make_world().running(A, B)
        version = world.rows.versions("tiny")[0].version
        for report in (REPORT, CHOSEN, structs.replace(CHOSEN, served="personal")):
            world.conductor.desk.evaluation(A, structs.replace(report, version=version))
        told = {each.split: each.statistic for each in world.rows.evaluations("tiny", version)}
        assert len(told) == 6
        assert told["test-served"] == told["test-personal"]


class TestSchedule:
    def test_agents_are_told_the_codec_of_the_round(self, make_world: Make) -> None:
        """Dense ones first; both directions, and the record of the round say so."""
        world = make_world(rounds=3, uplink="stc-25", downlink="stc-25", dense_rounds=2)
        world.running(A, B)
        codecs = []
        for _ in range(3):
            codecs.append(world.voice.take("round")[-1].uplink)
            world.deliver(A, B)
        assert codecs == ["eden-1", "eden-1", "stc-25"]
        assert [each.uplink for each in world.rows.rounds("tiny")] == codecs
        down = [world.downlink_codec(each.number) for each in world.rows.versions("tiny")[1:]]
        assert down == codecs


class TestClip:
    def test_is_always_on(self, make_world: Make, kit: SimpleNamespace) -> None:
        """By default one long update moves the model little more than the others do."""
        moves = {}
        for clip in (Robustness().clip, 1e6):
            world = make_world(
                robustness=Robustness(clip=clip), goal=3, folder=f"clip-{clip}", downlink="fp32"
            ).running(A, B, C)
            for agent, scale in ((A, 1.0), (B, 1.0), (C, 1000.0)):
                world.deliver(agent, delta=scale * kit.delta(agent, 1, world.elements))
            moved = world.learned(1) - world.learned(0)
            moves[clip] = float((moved**2).sum() ** 0.5)
        assert moves[1e6] > 300 * moves[Robustness().clip]
