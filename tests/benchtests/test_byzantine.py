# SPDX-License-Identifier: Apache-2.0
"""The bench of attacks: its rules as job files, its figures on literal runs, a small real run."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from tests.bench import byzantine as bench
from tests.bench.harness import Figure
from tests.laboratory.attacks import Kind
from tests.laboratory.federation import Point
from tests.laboratory.trials import Course, Trial, job_of

from fedmill_shared.errors import UsageError
from fedmill_shared.job import Robustness

BOTH = (bench.PLAIN, bench.DEFAULT)


def options(*arguments: str) -> Namespace:
    """What the command line of the bench makes of these."""
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def course(name: str, accuracy: float, seed: int = 0) -> Course:
    """A run that ends at ``accuracy``."""
    point = Point(1, 1, 1, accuracy, accuracy, accuracy, accuracy)
    return Course(name=name, seed=seed, points=[point], seconds=1.0)


def part(scene: str = bench.ALIKE, share: float = 0.2) -> bench.Part:
    """Plain and default under one attack."""
    return bench.Part(scene, share, BOTH, ("alie",))


def found(plain: float, default: float, of: bench.Part | None = None) -> dict[str, Figure]:
    """Figures of an attack under which the two end like this; without it, at 0.9."""
    of = of or part()
    ends: dict[Kind, tuple[float, float]] = {"none": (0.9, 0.9), "alie": (plain, default)}
    courses = [
        course(of.name(kind, rule), value)
        for kind, values in ends.items()
        for rule, value in zip(BOTH, values, strict=True)
    ]
    return {figure.name: figure for figure in bench.figures_of([of], courses)}


class TestRules:
    @pytest.mark.parametrize("rule", bench.RULES)
    def test_it_is_a_good_job(self, rule: str) -> None:
        """The job file's own checks have nothing against it."""
        job_of({"robustness": bench.RULES[rule]}, 0)

    def test_default_says_nothing(self) -> None:
        """It is what a job gets that has no such section."""
        assert job_of({"robustness": bench.RULES[bench.DEFAULT]}, 0).robustness == Robustness()

    def test_every_rule_of_the_job_file(self) -> None:
        """None is left out."""
        rules = {bench.RULES[name].get("rule", "mean") for name in bench.RULES}
        assert rules == set(get_args(get_type_hints(Robustness, include_extras=False)["rule"]))

    def test_trials(self) -> None:
        """Each rule without an attack and under each, the same plants wrong."""
        own = bench.Part(bench.SKEWED, 0.3, BOTH, ("alie", "drift"))
        trials = list(bench.trials_of(own, 1, 40))
        assert [trial.name for trial in trials] == [
            f"label skew, 30% {kind}: {rule}"
            for rule in ("plain", "default")
            for kind in ("none", "alie", "drift")
        ]
        for trial in trials:
            assert trial.conditions.attack is not None
            assert (trial.seed, trial.conditions.attack.share) == (1, 0.3)
            assert trial.scene == bench.SCENES[bench.SKEWED]

    def test_scenes_differ_in_what_plants_know(self) -> None:
        """And have about as many windows."""
        alike, skewed = bench.SCENES.values()
        assert (alike.faults, skewed.faults) == (9, 5)
        assert alike.faults * alike.windows == pytest.approx(
            skewed.faults * skewed.windows, rel=0.1
        )


class TestFigures:
    def test_losses(self) -> None:
        """Points below the same rule without an attack."""
        figures = found(plain=0.6, default=0.88)
        assert figures["alike, 20% none: plain"].value == pytest.approx(90)
        assert figures["alike, 20% alie: plain: loss"].value == pytest.approx(30)
        loss = figures["alike, 20% alie: default: loss"]
        assert (loss.value, loss.target, loss.ok) == (pytest.approx(2), "<= 3", True)

    def test_a_default_that_gives_in(self) -> None:
        """Four points are too many."""
        assert not found(plain=0.6, default=0.86)["alike, 20% alie: default: loss"].ok

    def test_an_attack_without_effect_has_no_target(self) -> None:
        """Where plain FedAvg loses little there is nothing to defend."""
        loss = found(plain=0.88, default=0.8)["alike, 20% alie: default: loss"]
        assert (loss.target, loss.ok) == (None, True)

    def test_at_other_shares_there_is_no_target(self) -> None:
        """It is reported."""
        other = part(share=0.3)
        loss = found(plain=0.3, default=0.3, of=other)[f"{other.name('alie', 'default')}: loss"]
        assert (loss.value, loss.target) == (pytest.approx(60), None)

    def test_means_over_seeds(self) -> None:
        """Of each end, before the difference."""
        ends: tuple[tuple[Kind, float, int], ...] = (("none", 0.8, 0), ("none", 0.9, 1))
        courses = [
            course(part().name(kind, rule), value, seed)
            for rule in BOTH
            for kind, value, seed in (*ends, ("alie", 0.7, 0), ("alie", 0.7, 1))
        ]
        figures = {f.name: f for f in bench.figures_of([part()], courses)}
        assert figures["alike, 20% none: default"].value == pytest.approx(85)
        assert figures["alike, 20% alie: default: loss"].value == pytest.approx(15)


class TestRun:
    @pytest.mark.parametrize("wrong", ["--seeds=0", "--rounds=0", "--workers=0"])
    def test_impossible_numbers(self, wrong: str) -> None:
        """They are refused before anything runs."""
        with pytest.raises(UsageError, match="impossible"):
            bench.run(options(wrong))

    def test_all_runs_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every rule against every attack where plants differ, else the plain and the default.

        Once some of the plants are away.
        """
        asked: list[Trial] = []

        def courses_of(trials: Sequence[Trial], *, workers: int) -> list[Course]:
            asked.extend(trials)
            return [course(trial.name, 0.9, trial.seed) for trial in trials]

        monkeypatch.setattr(bench, "courses_of", courses_of)
        assert bench.run(options("--seeds", "2"))
        runs = (len(bench.RULES) + 4 * 2) * (len(bench.KINDS) + 1)
        assert len(asked) == len({(t.name, t.seed) for t in asked}) == 2 * runs
        away = {t.name.partition(":")[0] for t in asked if t.conditions.missing}
        assert len(away) == len(bench.KINDS) + 1
        assert all(name.startswith("label skew, 30% missing, 20% ") for name in away)

    @pytest.mark.data
    def test_quick(self, data_folder: Path) -> None:
        """A few rounds on the real recordings."""
        figures = {f.name: f.value for f in bench.run(options("--quick", "--rounds", "3"))}
        assert 5 < figures["alike, 20% none: default"] <= 100
        assert len(figures) == 2 + 2 * 2
