# SPDX-License-Identifier: Apache-2.0
"""What compression costs and saves: final accuracy and bytes of every codec, against fp32 FedAvg.

Federations in one process (tests/laboratory) on the CWRU bearing recordings, ten plants with a few
faults each, sensors of different gain; with all agents in every round, and with 30 % of them
missing. Runs of one seed differ in their codecs only. Bytes are those of real frames, one for each
agent: up, its updates; down, every version that it receives, also those that it has missed.

Losses are in percentage points of accuracy on held-out windows, at the end; one run differs from
another by a point for no reason, so mind the spread. "Fewer bytes up to N %" counts until the mean
of three evaluations is N % of fp32's final accuracy. Sparse codecs, which need patience, run for
twice the rounds too (``x2``), with the learning rate falling as slowly. The best are those over all
settings and seeds together.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, pstdev

from tests.bench import laboratory
from tests.bench.harness import Figure, at_least, figure
from tests.laboratory.federation import Conditions
from tests.laboratory.plants import Scene
from tests.laboratory.trials import Course, Trial
from tests.laboratory.workers import courses_of

SUMMARY = "accuracy and bytes of every codec against fp32 FedAvg, on bearing recordings"
ROUNDS = 120
LOSS = 0.5
RATIO = 100.0
RATIO_TO_TARGET = 150.0
TARGETS = (0.95, 0.98)
SETTINGS = {"all agents": 0.0, "30 % missing": 0.3}
SCENE = Scene(windows=24, gain=0.5, noise=0.05, held_out=20)


@dataclass(frozen=True, slots=True)
class Arm:
    """A way of compressing.

    Attributes:
        up: codec of updates.
        down: codec of versions.
        patient: whether it also runs for twice the rounds.
        dense: codec of the first rounds' updates, if there are any.
        dense_share: share of the rounds that are.
    """

    up: str
    down: str
    patient: bool = False
    dense: str = ""
    dense_share: float = 0.0

    @property
    def name(self) -> str:
        """How figures call it."""
        first = f"{self.dense} then " if self.dense else ""
        return f"{first}{self.up}/{self.down}"

    def settings(self, rounds: int) -> dict[str, dict[str, object]]:
        """What of the job file differs, in a job of ``rounds``."""
        compression: dict[str, object] = {"uplink": self.up, "downlink": self.down}
        if self.dense:
            compression |= {"dense": self.dense, "dense_rounds": round(self.dense_share * rounds)}
        return {"compression": compression, "federation": {"rounds": rounds}}


REFERENCE = Arm("fp32", "fp32")
LADDER = (
    REFERENCE,
    Arm("fp16", "fp16"),
    Arm("int8", "int8"),
    Arm("int4", "int8"),
    Arm("eden-2", "int8"),
    Arm("eden-1", "eden-1"),
    Arm("topk-10", "topk-10"),
    Arm("random-10", "eden-1"),
    Arm("random-5", "eden-1"),
    Arm("stc-25", "stc-25"),
    Arm("stc-25", "eden-1", patient=True),
    Arm("stc-100", "stc-25"),
    Arm("stc-100", "eden-1", patient=True),
    Arm("stc-100", "eden-1", patient=True, dense="eden-1", dense_share=0.05),
    Arm("stc-400", "eden-1", patient=True),
)
QUICK = (REFERENCE, Arm("int8", "int8"), Arm("stc-25", "eden-1", patient=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    laboratory.add_arguments(parser, ROUNDS, "three codecs, all agents, one seed")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run every arm with every seed in both settings.

    Raises:
        UsageError: impossible numbers.
        FedmillError: there are no recordings, or a worker failed.
    """
    laboratory.check(options, least_rounds=8)
    seeds = 1 if options.quick else options.seeds
    ladder = QUICK if options.quick else LADDER
    settings = ["all agents"] if options.quick else list(SETTINGS)
    found = courses_of(
        [
            trial
            for setting in settings
            for seed in range(seeds)
            for trial in trials_of(ladder, setting, seed, options.rounds)
        ],
        workers=options.workers,
    )
    return figures_of(ladder, settings, found)


def trials_of(ladder: Sequence[Arm], setting: str, seed: int, rounds: int) -> Iterator[Trial]:
    """The runs of one seed; the longest begin first, so that no worker waits for one at the end."""
    lengths = [(arm, 2) for arm in ladder if arm.patient] + [(arm, 1) for arm in ladder]
    for arm, times in lengths:
        yield Trial(
            name=f"{setting}: {_names(arm)[times - 1]}",
            seed=seed,
            settings=arm.settings(times * rounds),
            scene=SCENE,
            conditions=Conditions(missing=SETTINGS[setting], every=max(1, rounds // 30)),
        )


def figures_of(
    ladder: Sequence[Arm], settings: Sequence[str], found: Sequence[Course]
) -> list[Figure]:
    """What every arm lost and saved in each setting, and over all of them the best."""
    runs: dict[tuple[str, str], list[Course]] = {}
    for course in found:
        setting, _, name = course.name.partition(": ")
        runs.setdefault((setting, name), []).append(course)
    names = [name for arm in ladder for name in _names(arm)]
    figures = []
    for setting in settings:
        reference = runs[setting, REFERENCE.name]
        figures += _of_reference(setting, reference)
        for name in names:
            if name != REFERENCE.name:
                figures += _of_arm(f"{setting}: {name}", runs[setting, name], reference)
    everywhere = {
        name: [course for setting in settings for course in runs[setting, name]] for name in names
    }
    return figures + _best(everywhere)


def loss(courses: Sequence[Course], reference: Sequence[Course]) -> list[float]:
    """Points of accuracy that each seed ends below the ``reference``."""
    return [100 * (full.final - own.final) for own, full in zip(courses, reference, strict=True)]


def saved(courses: Sequence[Course], reference: Sequence[Course], way: str) -> float:
    """How many times fewer bytes went ``way``, "uplink" or "downlink", over all seeds."""
    own, full = (
        sum(getattr(course.points[-1], way) for course in each if course.points)
        for each in (courses, reference)
    )
    return full / own if own else 0.0


def saved_to(share: float, courses: Sequence[Course], reference: Sequence[Course]) -> float:
    """How many times fewer bytes up, over all seeds, to ``share`` of the reference's accuracy.

    0 where a seed does not get there.
    """
    own = [c.uplink_to(share * r.final) for c, r in zip(courses, reference, strict=True)]
    full = [r.uplink_to(share * r.final) for r in reference]
    known = [each for each in own if each is not None]
    if len(known) < len(own):
        return 0.0
    return sum(each or 0 for each in full) / sum(known)


def _names(arm: Arm) -> list[str]:
    """Its runs: of the usual length, and perhaps of twice that."""
    return [arm.name, f"{arm.name} x2"][: 1 + arm.patient]


def _of_reference(setting: str, reference: Sequence[Course]) -> list[Figure]:
    finals = [100 * course.final for course in reference]
    name = f"{setting}: {REFERENCE.name}"
    last = [course.points[-1] for course in reference if course.points]
    return [
        figure(f"{name}: accuracy", mean(finals), "%"),
        figure(f"{name}: spread of accuracy over seeds", pstdev(finals), "points"),
        figure(f"{name}: up", mean(point.uplink for point in last) / 1e6, "MB"),
        figure(f"{name}: down", mean(point.downlink for point in last) / 1e6, "MB"),
    ]


def _of_arm(name: str, courses: Sequence[Course], reference: Sequence[Course]) -> list[Figure]:
    losses = loss(courses, reference)
    figures = [
        figure(f"{name}: loss", mean(losses), "points"),
        figure(f"{name}: spread of loss over seeds", pstdev(losses), "points"),
        figure(f"{name}: fewer bytes up", saved(courses, reference, "uplink"), "x"),
        figure(f"{name}: fewer bytes down", saved(courses, reference, "downlink"), "x"),
    ]
    for share in TARGETS:
        ratio = saved_to(share, courses, reference)
        figures.append(figure(f"{name}: fewer bytes up to {share:.0%}", ratio, "x"))
    return figures


def _best(runs: Mapping[str, Sequence[Course]]) -> list[Figure]:
    """The most that is saved in all settings together, with the targets."""
    reference = runs[REFERENCE.name]
    good = [
        saved(courses, reference, "uplink")
        for courses in runs.values()
        if mean(loss(courses, reference)) <= LOSS
    ]
    name = f"best: fewer bytes up at <= {LOSS:g} points of loss"
    figures = [at_least(name, max(good), "x", RATIO)]
    for share in TARGETS:
        ratio = max(saved_to(share, courses, reference) for courses in runs.values())
        name = f"best: fewer bytes up to {share:.0%}"
        figures.append(at_least(name, ratio, "x", RATIO_TO_TARGET))
    return figures
