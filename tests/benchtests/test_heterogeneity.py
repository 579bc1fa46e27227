# SPDX-License-Identifier: Apache-2.0
"""The bench of algorithms: its methods as job files, its figures, a small real run."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from tests.bench import heterogeneity as bench
from tests.laboratory.federation import Point
from tests.laboratory.trials import Course, Trial, job_of

from fedmill_shared.errors import UsageError
from fedmill_shared.job import Federation


def options(*arguments: str) -> Namespace:
    """What the command line of the bench makes of these."""
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def course(name: str, accuracy: float, seed: int = 0) -> Course:
    """A run that ends at ``accuracy``."""
    point = Point(1, 1, 1, accuracy, accuracy, accuracy - 0.1, accuracy + 0.1)
    return Course(name=name, seed=seed, points=[point], seconds=1.0)


def trials(scene: str) -> list[Trial]:
    """What is run of a scene with one seed."""
    return list(bench.trials_of(scene, list(bench.METHODS), 0, 20))


class TestMethods:
    @pytest.mark.parametrize("scene", bench.SCENES)
    @pytest.mark.parametrize("method", bench.METHODS)
    def test_it_is_a_good_job(self, scene: str, method: str) -> None:
        """The job file's own checks have nothing against it."""
        (trial,) = bench.trials_of(scene, [method], 3, 40)
        job = job_of(trial.settings, trial.seed)
        assert (job.federation.rounds, trial.name) == (40, f"{scene}: {method}")
        assert (job.learning.steps == 0) == (scene == "quantity skew")

    def test_every_server_rule(self) -> None:
        """None of the job file's is left out but fedsgd, which takes one step a round."""
        rules = {job_of(m.settings, 0).federation.rule for m in bench.METHODS.values()}
        known = get_args(get_type_hints(Federation, include_extras=False)["rule"])
        assert rules == set(known) - {"fedsgd"}

    def test_every_personal_part(self) -> None:
        """Norms and heads stay home, and heads are trained first."""
        learning = {n: job_of(m.settings, 0).learning for n, m in bench.METHODS.items()}
        assert {each.personal for each in learning.values()} == {"none", "norm", "head"}
        assert learning["fedrep"].head_epochs > learning["fedper"].head_epochs == 0

    def test_scenes_differ_in_one_thing(self) -> None:
        """Labels, sensors, size, or who is there."""
        labels, away, sensors, sizes = bench.SCENES.values()
        assert away == labels
        told = {scene: [t.conditions.missing for t in trials(scene)] for scene in bench.SCENES}
        assert {scene for scene, missing in told.items() if any(missing)} == {bench.AWAY}
        assert labels.faults < sizes.faults < sensors.faults == 9
        assert sensors.gain > max(labels.gain, sizes.gain)
        assert (labels.skew, sensors.skew, sizes.skew) == (1, 1, 20)

    def test_merged(self) -> None:
        """Field by field; the second holds."""
        both = bench.merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": {"z": 4}})
        assert both == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}


class TestFigures:
    def test_means_over_seeds(self) -> None:
        """Mean plant, worst plant, and the faults that a plant knows."""
        courses = [course("label skew: fedavg", 0.6), course("label skew: fedavg", 0.8, 1)]
        figures = bench.figures_of(["label skew"], ["fedavg"], courses)
        assert [(figure.name, figure.value, figure.unit) for figure in figures] == [
            ("label skew: fedavg: mean plant", pytest.approx(70), "%"),
            ("label skew: fedavg: worst plant", pytest.approx(60), "%"),
            ("label skew: fedavg: faults it knows", pytest.approx(80), "%"),
        ]


class TestRun:
    @pytest.mark.parametrize("wrong", ["--seeds=0", "--rounds=0", "--workers=0"])
    def test_impossible_numbers(self, wrong: str) -> None:
        """They are refused before anything runs."""
        with pytest.raises(UsageError, match="impossible"):
            bench.run(options(wrong))

    def test_all_runs_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every method in every scene with every seed."""
        asked: list[Trial] = []

        def courses_of(trials: Sequence[Trial], *, workers: int) -> list[Course]:
            asked.extend(trials)
            return [course(trial.name, 0.9, trial.seed) for trial in trials]

        monkeypatch.setattr(bench, "courses_of", courses_of)
        assert bench.run(options("--seeds", "2"))
        runs = len(bench.SCENES) * len(bench.METHODS)
        assert len(asked) == len({(t.name, t.seed) for t in asked}) == 2 * runs

    @pytest.mark.data
    def test_quick(self, data_folder: Path) -> None:
        """A few rounds on the real recordings: local-only knows what it has seen, and no more."""
        figures = {f.name: f.value for f in bench.run(options("--quick", "--rounds", "10"))}
        name = "label skew: local-only"
        assert figures[f"{name}: faults it knows"] > figures[f"{name}: mean plant"] + 20
        assert len(figures) == 9
