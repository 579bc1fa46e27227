# SPDX-License-Identifier: Apache-2.0
"""What comes out of an evaluation."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from msgspec import msgpack, structs

from fedmill_coordinator.rounds.evaluations import evaluation_records
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Job
from fedmill_shared.messages import EvaluationReport
from fedmill_shared.metrics import Statistic
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
