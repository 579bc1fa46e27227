# SPDX-License-Identifier: Apache-2.0
"""What each bench makes of its measurements, on invented numbers."""

from argparse import Namespace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench import demo, harness, inference, memory, prepared
from tests.bench import round as rounds
from tests.bench.fleet import CLASSES, Usage, rig_plan

from fedmill_coordinator.demo.report import AgentRow, Artifacts, Report
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.job import Mlp
from fedmill_shared.models import build, manifest_of


def by_name(figures: list[harness.Figure]) -> dict[str, harness.Figure]:
    """Figures by their names, which must differ."""
    assert len({each.name for each in figures}) == len(figures)
    return {each.name: each for each in figures}


class TestRound:
    def record(self, number: int, opened: float, up: int = 0, down: int = 0) -> RoundRecord:
        """A closed round."""
        return RoundRecord(
            job="j",
            round=number,
            base="0" * 64,
            state="closed",
            opened_ns=10**18 + round(opened * 1e9),
            deadline_ns=2 * 10**18,
            uplink_bytes=up,
            downlink_bytes=down,
        )

    @given(st.integers(2_000, 1_300_000))
    def test_size_is_within_two_percent(self, params: int) -> None:
        """Of what was asked for, by the formula of a perceptron."""
        first, second = rounds.widths(params)
        size = rounds.LENGTH * first + first + first * second + second
        size += (second + 1) * len(CLASSES)
        assert abs(size - params) <= 0.02 * params

    def test_size_is_that_of_the_model(self) -> None:
        """The default has 99,999 learned parameters, and two numbers of the normaliser."""
        plan = rig_plan(
            "x", Mlp(hidden=rounds.widths(100_000)), agents=1, length=256, rounds=1, live=False
        )
        assert manifest_of(build(plan.job, 0)).size == 99_999 + 2

    @pytest.mark.parametrize("params", [1, 100, 10_000_000])
    def test_impossible_size(self, params: int) -> None:
        """It is refused before anything is started."""
        with pytest.raises(UsageError, match="no model has that size"):
            rounds.widths(params)

    @pytest.mark.parametrize(("agents", "number"), [(0, 60), (10, 11)])
    def test_impossible_options(self, agents: int, number: int) -> None:
        """Too few agents or rounds are refused before anything is started."""
        with pytest.raises(UsageError, match="at least 12"):
            rounds.run(Namespace(agents=agents, rounds=number, params=100_000, folder=None))

    def test_latency_is_from_opening_to_opening(self) -> None:
        """The warm-up does not count: rounds 11, 12, 13 and 14 open 0.1, 0.3 and 0.2 s apart."""
        opened = [*range(10), 20.0, 20.1, 20.4, 20.6]
        records = [self.record(number + 1, at) for number, at in enumerate(opened)]
        seconds = rounds.latencies(records)
        assert seconds == pytest.approx([0.1, 0.3, 0.2])
        figures = by_name(rounds.latency_figures(seconds))
        assert figures["round latency p50"].value == pytest.approx(0.2)
        assert figures["round latency p50"].target == "<= 0.25"
        assert figures["round latency p95"].value == pytest.approx(0.29)
        assert figures["round latency min"].value == pytest.approx(0.1)
        assert figures["rounds measured"].value == 3

    def test_bytes_are_per_agent_and_round(self) -> None:
        """Two counted rounds of two agents sent 100 and 300 bytes in all."""
        records = [self.record(10, 0, 9, 9), self.record(11, 1, 100, 0), self.record(12, 2, 300, 8)]
        figures = by_name(rounds.byte_figures(records, agents=2))
        assert figures["uplink per agent and round"].value == 100
        assert figures["downlink per agent and round"].value == 2

    def test_cpu_is_per_round(self) -> None:
        """In 4 rounds and 10 s agents worked 2 s, and others were busy for 3 s."""
        early = Usage({"agents": 1.0}, {"agents": 0}, 100.0, 50.0)
        late = Usage({"agents": 3.0}, {"agents": 5 * 2**20}, 110.0, 55.0)
        figures = by_name(rounds.usage_figures((10, early), (14, late)))
        assert figures["CPU per round, all"].value == 0.5
        assert figures["CPU per round, agents"].value == 0.5
        assert figures["processors busy with other work"].value == pytest.approx(0.3)
        assert figures["largest RSS, agents"].value == 5


class TestMemory:
    def test_rollup(self) -> None:
        """Kibibytes become MiB; other lines are skipped."""
        text = (
            "55d0-7fff ---p 00000000 00:00 0  [rollup]\nRss:  2048 kB\nPss: 512 kB\nThreads:\t4\n"
        )
        assert memory.rollup(text) == {"Rss": 2.0, "Pss": 0.5}

    def test_torch_files(self) -> None:
        """Libraries of torch are found by folder or name; anonymous memory has no file."""
        maps = (
            "1-2 r-xp 00000000 fe:00 5 /venv/site-packages/torch/lib/libc10.so\n"
            "2-3 r-xp 00000000 fe:00 6 /opt/a b/libtorch_cpu.so\n"
            "3-4 r-xp 00000000 fe:00 7 /venv/site-packages/onnxruntime/capi/x.so\n"
            "4-5 rw-p 00000000 00:00 0 \n"
            "5-6 rw-p 00000000 00:00 0 [heap]\n"
        )
        assert memory.torch_files(maps) == {
            "/venv/site-packages/torch/lib/libc10.so",
            "/opt/a b/libtorch_cpu.so",
        }

    def test_model_has_the_size_of_the_budget(self) -> None:
        """100,000 parameters within 2 %."""
        plan = rig_plan("x", memory.MODEL, agents=1, length=memory.LENGTH, rounds=1, live=True)
        assert manifest_of(build(plan.job, 0)).size == pytest.approx(100_000, rel=0.02)


class TestDemo:
    def row(self, name: str, metric: str, values: tuple[float, float, float]) -> AgentRow:
        """A plant with local-only, federated and pooled ``values``."""
        local, federated, pooled = values
        return AgentRow(
            agent=name,
            metric=metric,
            local_only=local,
            federated=federated,
            pooled=pooled,
            windows=10,
        )

    def report(
        self,
        metric: str,
        overall: tuple[float, float, float],
        plants: list[tuple[float, float, float]],
    ) -> Report:
        """A report with these rows."""
        return Report(
            data="d",
            task="classification" if metric == "accuracy" else "regression",
            rounds=5,
            seconds=12.0,
            uplink_bytes=1_000_000,
            downlink_bytes=3_000_000,
            fp32_bytes=32_000_000,
            agents=[self.row(f"plant-{i}", metric, values) for i, values in enumerate(plants)],
            overall=self.row("all", metric, overall),
            last_of_run=self.row("all", metric, overall),
            details={"all_windows": {"federated": {metric: 1.0, "score": 9.0, "recall_0": 1.0}}},
            windows_scored=3,
            artifacts=Artifacts(onnx="", database="", plot=""),
        )

    def test_accuracy(self) -> None:
        """Higher is better; the gap to pooled is in points, and a tie is no win."""
        report = self.report("accuracy", (0.7, 0.9, 0.915), [(0.7, 0.9, 0.9), (0.9, 0.9, 0.9)])
        figures = by_name(demo.of_one(report, fd001=False))
        assert figures["gap to pooled"].value == pytest.approx(0.015)
        assert figures["gap to pooled"].target == "<= 0.02"
        assert figures["gap to pooled"].ok
        won = figures["plants where federated beats local-only, of 2"]
        assert (won.value, won.target, won.ok) == (1, ">= 2", False)
        assert figures["accuracy federated"].target is None
        assert figures["bytes of fp32 / bytes sent"].value == 8
        assert figures["all windows: score federated"].value == 9
        assert not any("recall" in name for name in figures)

    @pytest.mark.parametrize(("federated", "ok"), [(10.9, True), (11.1, False), (9.0, True)])
    def test_rmse(self, federated: float, *, ok: bool) -> None:
        """Lower is better; the gap to pooled is relative."""
        report = self.report("rmse", (20.0, federated, 10.0), [(20.0, federated, 10.0)])
        figures = by_name(demo.of_one(report, fd001=False))
        assert figures["gap to pooled"].value == pytest.approx(federated / 10 - 1)
        assert figures["gap to pooled"].ok is ok
        assert figures["plants where federated beats local-only, of 1"].ok

    @pytest.mark.parametrize(("rmse", "ok"), [(14.0, True), (14.1, False)])
    def test_fd001_has_an_absolute_target(self, rmse: float, *, ok: bool) -> None:
        """14 cycles over all plants' windows."""
        report = self.report("rmse", (20.0, rmse, 14.0), [(20.0, rmse, 14.0)])
        figures = by_name(demo.of_one(report, fd001=True))
        assert figures["rmse federated"].target == "<= 14"
        assert figures["rmse federated"].ok is ok

    def test_seeds_are_judged_singly_and_summed_up(self) -> None:
        """Targets stand at each seed; mean and spread are only reported."""
        reports = {
            4: self.report("accuracy", (0.5, 0.8, 0.8), [(0.5, 0.8, 0.8)]),
            5: self.report("accuracy", (0.5, 0.9, 1.0), [(0.5, 0.9, 1.0)]),
        }
        figures = by_name(demo.figures_of(reports, fd001=False))
        assert figures["seed 4: gap to pooled"].ok
        assert not figures["seed 5: gap to pooled"].ok
        assert figures["mean: accuracy federated"].value == pytest.approx(0.85)
        assert figures["spread: accuracy federated"].value == pytest.approx(0.05)
        assert figures["mean: gap to pooled"].target is None

    def test_missing_folder(self, tmp_path: Path) -> None:
        """It is refused before anything is started."""
        options = Namespace(data=tmp_path / "none", seeds=1, first_seed=0, folder=None)
        with pytest.raises(UsageError, match="none"):
            demo.run(options)

    def test_a_failed_demo_is_told(self, tmp_path: Path) -> None:
        """With the exit code and its last words."""
        options = Namespace(data=tmp_path, seeds=1, first_seed=0, folder=None)
        with pytest.raises(FedmillError, match=r"seed 0 ended with exit code 13: .*no recordings"):
            demo.run(options)


class TestInference:
    def test_ways_take_turns(self) -> None:
        """Each way meets each item once; the first rotates. The clock ticks once a look."""
        met: list[tuple[str, int]] = []
        ways = [lambda item: met.append(("a", item)), lambda item: met.append(("b", item))]
        ticks = count()
        times = inference.interleaved(ways, [7, 8], clock=lambda: next(ticks))
        assert met == [("a", 7), ("b", 7), ("b", 8), ("a", 8)]
        assert times.tolist() == [[1, 1], [1, 1]]

    def test_ratio_is_the_median_of_the_pairs(self) -> None:
        """One slow call does not move it."""
        assert inference.ratio(np.array([11, 24, 3000]), np.array([10, 20, 30])) == pytest.approx(
            1.2
        )

    def test_a_small_case(self) -> None:
        """Our session and the bare one take the same windows."""
        figures = by_name(inference.latency("tiny", Mlp(hidden=[2, 2]), 2, 8, 3))
        assert all(each.value > 0 for each in figures.values())
        assert [name for name, each in figures.items() if each.target] == [
            "tiny: window to prediction / bare call, p50"
        ]

    @pytest.mark.slow
    @pytest.mark.system
    def test_a_prepared_agent_scores_for_all_its_jobs(self, tmp_path: Path) -> None:
        """A daemon of its own process, as after a restart; its memory is read."""
        jobs = [inference._live(number) for number in range(2)]
        with prepared.scoring(tmp_path / "agent", jobs) as status:
            scored = [phase.windows_scored for phase in status.state.jobs.values()]
        assert len(scored) == 2
        assert all(scored)
