# SPDX-License-Identifier: Apache-2.0
"""The bench of slow devices: its federations, its slow trainer, its figures, a small real run."""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.bench import asynchronous as bench
from tests.bench import harness
from tests.benchtests.measured import measured
from tests.faults import slow

from fedmill_agent.training import protocol
from fedmill_shared.errors import UsageError
from fedmill_shared.job_check import check


def options(*arguments: str) -> Namespace:
    """What the command line of the bench makes of these."""
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def arm(
    seconds: list[float], accuracy: list[float], start: str = "v", staleness: int = 0
) -> bench.Arm:
    """A run with one update a round, whose trainings took half a second."""
    return bench.Arm(seconds, accuracy, [staleness] * (len(seconds) - 1), [0.5], start)


class Clock:
    """A time that passes only where somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class TestSlow:
    answer = protocol.Trained(
        number=1, frame=b"f", residual=b"r", examples=8, loss=0.5, seconds=0.01
    )

    def train(self, needed: float, wanted: float) -> tuple[protocol.Trained, float]:
        """The answer of a training that needs ``needed`` and should take ``wanted`` seconds."""
        clock = Clock()

        def work(_worker: object, _request: protocol.Train) -> protocol.Trained:
            clock.pass_(needed)
            return self.answer

        slowed = slow.slowed(work, wanted, clock=lambda: clock.now, sleep=clock.pass_)
        request = protocol.Train(
            number=1, job=b"", store="s", weights="w", regimes=1,
            base="b", schema="s", round=1, agent="a",
        )  # fmt: skip
        return slowed(None, request), clock.now - 100.0

    def test_a_training_takes_the_given_time(self) -> None:
        """It is the same training, and its answer says how long the device took."""
        answer, took = self.train(0.25, 4.0)
        assert took == pytest.approx(4.0)
        assert answer == structs.replace(self.answer, seconds=answer.seconds)
        assert answer.seconds == pytest.approx(4.0)

    def test_a_machine_that_is_too_slow_shows(self) -> None:
        """It does not sleep, and the bench can tell from the seconds."""
        answer, took = self.train(0.75, 0.25)
        assert took == pytest.approx(0.75)
        assert answer.seconds == pytest.approx(0.75)

    def test_the_trainer_is_told_what_the_daemon_says(self) -> None:
        """Its priority, behind the seconds."""
        command = [sys.executable, "-P", "-m", "fedmill_agent.training", "10"]
        assert slow.trainer_command(4.0, command) == [
            sys.executable, str(slow.HERE), slow.TRAINER, "4.0", "10",
        ]  # fmt: skip

    def test_the_trainer_is_the_real_one(self, tmp_path: Path) -> None:
        """It serves the requests of the daemon, and ends when they do."""
        command = slow.trainer_command(0.0, [sys.executable, "-P", "-m", "x", "0"])
        done = subprocess.run(command, input=b"", capture_output=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_the_agent_is_the_real_one(self, tmp_path: Path) -> None:
        """It says what is wrong with its configuration, with its exit code."""
        missing = tmp_path / "agent.toml"
        plain = [sys.executable, "-m", "fedmill_agent", "run", str(missing)]
        slower = [sys.executable, str(slow.HERE), "1.0", "run", str(missing)]
        codes = [
            subprocess.run(command, capture_output=True, text=True, check=False)
            for command in (plain, slower)
        ]
        assert codes[0].returncode == codes[1].returncode != 0
        assert codes[0].stderr == codes[1].stderr


class TestPlans:
    def test_they_differ_in_how_rounds_close_and_in_the_step(self) -> None:
        """Same name, so the same seed; same data, model and learning on the agents."""
        together, apart = bench.plans(options("--goal", "3", "--exponent", "1")).values()
        for plan in (together, apart):
            check(plan.job)
        assert together.plants == apart.plants
        same = structs.replace(apart.job, federation=together.job.federation)
        assert same == together.job
        ours, theirs = (structs.asdict(plan.job.federation) for plan in (together, apart))
        assert {name for name in ours if ours[name] != theirs[name]} == {
            "rounds", "goal", "minimum", "max_staleness", "staleness_exponent",
            "server_momentum",
            "server_learning_rate",
        }  # fmt: skip

    def test_synchronous_waits_for_everyone_and_fedbuff_for_its_goal(self) -> None:
        """No deadline shortens a round of either."""
        together, apart = (
            plan.job.federation for plan in bench.plans(options("--goal", "3")).values()
        )
        assert (together.goal, together.minimum, together.max_staleness) == (0, 6, 0)
        assert (apart.goal, apart.minimum, apart.staleness_exponent) == (3, 3, 0.0)
        for each in (together, apart):
            assert each.patience == 0
            assert each.deadline_seconds > 100

    def test_two_agents_of_every_speed_with_machines_of_their_own(self) -> None:
        """Nobody streams, everybody is tested on every fault."""
        plan = bench.plans(options())["FedBuff"]
        factors = [int(plant.agent.partition("-x")[2]) for plant in plan.plants]
        assert sorted(factors) == [1, 1, 4, 4, 16, 16]
        assert len({source["resonance_hz"][0] for p in plan.plants for source in p.sources}) == 6
        for plant in plan.plants:
            assert {source["split"] for source in plant.sources} == {"train", "test"}
            tested = {source["fault"] for source in plant.sources if source["split"] == "test"}
            assert tested == set(plan.job.labels.classes)

    @pytest.mark.parametrize(
        "wrong", ["--rounds=2", "--unit=0", "--goal=0", "--goal=7", "--rigs=0"]
    )
    def test_impossible_options(self, wrong: str) -> None:
        """They are refused before anything is started."""
        with pytest.raises(UsageError):
            bench.run(options(wrong))


class TestLevel:
    def test_one_lucky_version_is_not_enough(self) -> None:
        """The mean of three counts, and the moment is that of the last of them."""
        assert bench.reached([0.1, 0.9, 0.1, 0.1, 0.1], 0.8) is None
        assert bench.reached([0.25, 0.5, 0.75, 1.0, 1.0], 0.75) == 3
        assert bench.reached([1.0, 1.0], 0.5) is None

    def test_what_is_reached_may_be_lost_again(self) -> None:
        """Both moments are told."""
        accuracies = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
        assert bench.reached(accuracies, 0.75) == 2
        assert bench.stays(accuracies, 0.75) == 6
        assert bench.stays([*accuracies, 0.0], 0.75) is None

    @given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), st.floats(0.01, 1.0))
    def test_by_brute_force(self, accuracies: list[float], level: float) -> None:
        """No earlier version would have done; after the other, none is below."""
        lasts = range(2, len(accuracies))
        good = [n for n in lasts if np.mean(accuracies[n - 2 : n + 1]) >= level]
        assert bench.reached(accuracies, level) == (good[0] if good else None)
        calm = [n for n in lasts if set(range(n, len(accuracies))) <= set(good)]
        assert bench.stays(accuracies, level) == (calm[0] if calm else None)


class TestFigures:
    together = arm([0.0, 8.0, 16.0, 24.0, 32.0], [0.2, 0.8, 1.0, 1.0, 1.0])

    def by_name(self, apart: bench.Arm) -> dict[str, harness.Figure]:
        """Figures of a comparison."""
        found = bench.figures_of(self.together, apart, unit=0.25)
        assert len({each.name for each in found}) == len(found)
        return {each.name: each for each in found}

    @pytest.mark.parametrize(("second", "ok"), [(8.0, True), (8.1, False)])
    def test_speed_up(self, second: float, *, ok: bool) -> None:
        """24 s against 8 s; the level is a share of what the synchronous run reaches."""
        figures = self.by_name(arm([0.0, 4.0, second], [0.95, 0.95, 0.95], staleness=3))
        assert figures["level of accuracy"].value == pytest.approx(0.9)
        assert figures["synchronous: time to the level"].value == 24.0
        assert figures["FedBuff: time to the level"].value == second
        assert figures["FedBuff: time until it stays there"].value == second
        assert figures["speed-up to the level"].ok is ok
        assert figures["FedBuff: mean staleness"].value == 3
        assert figures["FedBuff: time of a round"].value == pytest.approx(second / 2)
        assert figures["FedBuff: fastest training, p95 / unit"].value == 2.0

    def test_a_level_that_is_never_reached(self) -> None:
        """There is no speed-up, and no time."""
        figures = self.by_name(arm([0.0, 1.0, 2.0], [0.2, 0.5, 0.8]))
        assert figures["speed-up to the level"].value == 0
        assert not figures["speed-up to the level"].ok
        assert "FedBuff: time to the level" not in figures
        assert "FedBuff: time until it stays there" not in figures
        assert figures["FedBuff: final accuracy"].value == 0.5


@pytest.mark.system
@pytest.mark.slow
def test_small_run(tmp_path: Path) -> None:
    """Both federations run from one version 0; devices take their time, and FedBuff does not."""
    size = ["--rigs", "1", "--rounds", "3", "--unit", "0.1", "--goal", "2"]
    figures = measured("async", *size, "--folder", str(tmp_path / "run"))
    assert figures["synchronous: rounds"].value == 3
    assert figures["synchronous: updates used"].value == 9
    assert figures["synchronous: mean staleness"].value == 0
    assert figures["synchronous: time of a round"].value >= 1.6
    assert figures["FedBuff: rounds"].value == 24
    assert figures["FedBuff: updates used"].value >= 48
    assert figures["FedBuff: mean staleness"].value > 0
    assert figures["FedBuff: fastest training, p95 / unit"].value >= 1
