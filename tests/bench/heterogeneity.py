# SPDX-License-Identifier: Apache-2.0
"""What every algorithm makes of plants that differ: accuracy, beside local-only and pooled.

Federations in one process (tests/laboratory) on the CWRU bearing recordings, in four scenes:
plants that know two of nine faults (label skew); the same with 30 % of them away in every round;
plants that know all of them, with sensors whose gains differ up to sixteenfold (feature shift); and
plants of which the largest has twenty times as many windows as the smallest (quantity skew).
Figures are mean and worst plant on the held-out windows of all faults, and the mean on those of the
faults that a plant has seen, which is what models of its own are good at. Settings are the usual
ones of each method, not the best of a search.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

from tests.bench import laboratory
from tests.bench.harness import Figure, figure
from tests.laboratory.federation import Conditions
from tests.laboratory.plants import Scene
from tests.laboratory.trials import Course, Trial
from tests.laboratory.workers import courses_of

SUMMARY = "accuracy of every algorithm where plants differ in labels, sensors and size"
ROUNDS = 80
SKEWED, AWAY = "label skew", "label skew, 30% missing"
SCENES = {
    SKEWED: Scene(faults=2, windows=24, gain=0.25, noise=0.05, held_out=20),
    AWAY: Scene(faults=2, windows=24, gain=0.25, noise=0.05, held_out=20),
    "feature shift": Scene(faults=9, windows=6, gain=2.0, noise=0.05, held_out=20),
    "quantity skew": Scene(faults=5, windows=12, skew=20.0, gain=0.5, noise=0.05, held_out=20),
}
Sections = dict[str, dict[str, object]]
MISSING = {AWAY: 0.3}
"""Share of the plants that are away in a round, others in every one."""
PASSES: Sections = {"learning": {"steps": 0, "epochs": 1}}
"""Instead of a number of steps that is the same for all: a large plant takes more of them."""
REFERENCE = "fedavg"


@dataclass(frozen=True, slots=True)
class Method:
    """An algorithm: what of the job file makes it, and who trains."""

    settings: Sections = field(default_factory=dict)
    arm: Literal["federated", "local", "pooled"] = "federated"


METHODS: dict[str, Method] = {
    "local-only": Method(arm="local"),
    "pooled": Method(arm="pooled"),
    REFERENCE: Method(),
    "fedprox": Method({"learning": {"proximal": 0.1}}),
    "fednova": Method({"federation": {"rule": "fednova"}}),
    "scaffold": Method({"federation": {"rule": "scaffold"}, "learning": {"momentum": 0.0}}),
    "fedavgm": Method(
        {"federation": {"rule": "fedavgm", "server_momentum": 0.8, "server_learning_rate": 0.4}}
    ),
    "fedadam": Method({"federation": {"rule": "fedadam", "server_learning_rate": 0.01}}),
    "fedyogi": Method({"federation": {"rule": "fedyogi", "server_learning_rate": 0.01}}),
    "fedadagrad": Method({"federation": {"rule": "fedadagrad", "server_learning_rate": 0.03}}),
    "fedbn": Method({"learning": {"personal": "norm"}, "model": {"norm": "batch"}}),
    "fedper": Method({"learning": {"personal": "head"}}),
    "fedrep": Method({"learning": {"personal": "head", "head_epochs": 1}}),
    "ditto": Method({"learning": {"ditto": 0.1}}),
    "logit_adjusted": Method({"learning": {"loss": "logit_adjusted"}}),
    "focal": Method({"learning": {"loss": "focal"}}),
    "balanced resampling": Method({"learning": {"resample": "balanced"}}),
    "known classes only": Method({"learning": {"known_classes_only": True}}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    laboratory.add_arguments(parser, ROUNDS, "one scene, three methods, one seed")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run every method in every scene.

    Raises:
        UsageError: impossible numbers.
        FedmillError: there are no recordings, or a worker failed.
    """
    laboratory.check(options)
    seeds = 1 if options.quick else options.seeds
    scenes, methods = list(SCENES), list(METHODS)
    if options.quick:
        scenes, methods = scenes[:1], methods[:3]
    found = courses_of(
        [
            trial
            for seed in range(seeds)
            for scene in scenes
            for trial in trials_of(scene, methods, seed, options.rounds)
        ],
        workers=options.workers,
    )
    return figures_of(scenes, methods, found)


def trials_of(scene: str, methods: Sequence[str], seed: int, rounds: int) -> Iterator[Trial]:
    """Every method in one scene."""
    common: Sections = {"federation": {"rounds": rounds}}
    if scene == "quantity skew":
        common = merged(common, PASSES)
    for name in methods:
        yield Trial(
            name=f"{scene}: {name}",
            seed=seed,
            settings=merged(common, METHODS[name].settings),
            scene=SCENES[scene],
            conditions=Conditions(missing=MISSING.get(scene, 0.0), every=max(1, rounds // 20)),
            arm=METHODS[name].arm,
        )


def merged(first: Mapping[str, Mapping[str, object]], second: Sections) -> Sections:
    """Both; the ``second`` holds where they differ."""
    sections = first.keys() | second.keys()
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in sorted(sections)}


def figures_of(
    scenes: Sequence[str], methods: Sequence[str], found: Sequence[Course]
) -> list[Figure]:
    """Means over the seeds."""
    runs: dict[str, list[Course]] = {}
    for course in found:
        runs.setdefault(course.name, []).append(course)
    figures = []
    for scene in scenes:
        for method in methods:
            name = f"{scene}: {method}"
            courses = runs[name]
            for what, values in (
                ("mean plant", [course.mean for course in courses]),
                ("worst plant", [course.worst for course in courses]),
                ("faults it knows", [course.known for course in courses]),
            ):
                figures.append(figure(f"{name}: {what}", 100 * mean(values), "%"))
    return figures
