# SPDX-License-Identifier: Apache-2.0
"""What wrong plants do to the others: every attack, against every robust rule.

Federations in one process (tests/laboratory) on the CWRU bearing recordings: twenty plants, 10, 20
or 30 % of them wrong in every round. Attacks: an update that points backwards (sign flip), is ten
times as long, or both; labels in reverse order; "a little is enough" (ALIE); inner-product
manipulation; and a sensor whose gain and offset creep away. Figures are accuracies on the held-out
windows of the plants that are right, after the last rounds. What an attack takes is the difference
to a run in which the wrong plants are right, and are not scored either.

"plain" is FedAvg without any clipping and quarantine; "default" is what a job gets that says
nothing, the mean with both; every other rule has both too, unless its name says so. Two scenes:
plants that all know every fault, where right updates are alike; and plants that know five of nine,
where they are not, and an attacker can pass for a plant that is merely different; the latter also
with 30 % of the plants away in every round. Targets are those of the default at 20 %, under every
attack that takes more than they allow from the plain one.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import get_args

from tests.bench import laboratory
from tests.bench.harness import Figure, at_most, figure
from tests.laboratory.attacks import Attack, Kind
from tests.laboratory.federation import Conditions
from tests.laboratory.plants import Scene
from tests.laboratory.trials import Course, Trial
from tests.laboratory.workers import courses_of

SUMMARY = "accuracy under attack of plain FedAvg, the default and every robust rule"
ROUNDS = 60
ALIKE, SKEWED = "alike", "label skew"
SCENES = {
    ALIKE: Scene(plants=20, faults=9, windows=7, gain=0.5, noise=0.05, held_out=10),
    SKEWED: Scene(plants=20, faults=5, windows=12, gain=0.5, noise=0.05, held_out=10),
}
PLAIN, DEFAULT = "plain", "default"
NEVER = 1e6
"""``robustness.clip`` that shortens nothing."""
RULES: dict[str, dict[str, object]] = {
    PLAIN: {"clip": NEVER, "quarantine_rounds": 0},
    DEFAULT: {},
    "mean without quarantine": {"quarantine_rounds": 0},
    "median": {"rule": "median"},
    "trimmed_mean": {"rule": "trimmed_mean"},
    "krum": {"rule": "krum"},
    "multi_krum": {"rule": "multi_krum"},
    "multi_krum without quarantine": {"rule": "multi_krum", "quarantine_rounds": 0},
    "geometric_median": {"rule": "geometric_median"},
    "geometric_median, buckets of 2": {"rule": "geometric_median", "bucket": 2},
    "centred_clipping": {"rule": "centred_clipping"},
    "trust": {"rule": "trust"},
}
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "none")
TARGET_SHARE = 0.2
POINTS = 3.0
"""What an attack may take from the default."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is run in one scene: the rules against the attacks, at a share of wrong plants.

    ``missing`` is the share of all plants that are away in a round, others in every one.
    """

    scene: str
    share: float
    rules: tuple[str, ...]
    kinds: tuple[Kind, ...] = KINDS
    missing: float = 0.0

    def name(self, kind: Kind, rule: str) -> str:
        """How its runs are called."""
        away = f", {self.missing:.0%} missing" if self.missing else ""
        return f"{self.scene}{away}, {self.share:.0%} {kind}: {rule}"


PARTS = (
    Part(ALIKE, 0.1, (PLAIN, DEFAULT)),
    Part(ALIKE, TARGET_SHARE, (PLAIN, DEFAULT)),
    Part(ALIKE, 0.3, (PLAIN, DEFAULT)),
    Part(SKEWED, TARGET_SHARE, tuple(RULES)),
    Part(SKEWED, TARGET_SHARE, (PLAIN, DEFAULT), missing=0.3),
)
QUICK = (Part(ALIKE, TARGET_SHARE, (PLAIN, DEFAULT), ("sign-flip", "label-flip")),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    laboratory.add_arguments(parser, ROUNDS, "two attacks, two rules, one seed")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run every attack against every rule.

    Raises:
        UsageError: impossible numbers.
        FedmillError: there are no recordings, or a worker failed.
    """
    laboratory.check(options)
    seeds = 1 if options.quick else options.seeds
    parts = QUICK if options.quick else PARTS
    found = courses_of(
        [
            trial
            for seed in range(seeds)
            for part in parts
            for trial in trials_of(part, seed, options.rounds)
        ],
        workers=options.workers,
    )
    return figures_of(parts, found)


def trials_of(part: Part, seed: int, rounds: int) -> Iterator[Trial]:
    """Every rule without an attack and under each."""
    nothing: Kind = "none"
    for rule in part.rules:
        for kind in (nothing, *part.kinds):
            attack = Attack(kind=kind, share=part.share)
            yield Trial(
                name=part.name(kind, rule),
                seed=seed,
                settings={"robustness": RULES[rule], "federation": {"rounds": rounds}},
                scene=SCENES[part.scene],
                conditions=Conditions(
                    missing=part.missing, attack=attack, every=max(1, rounds // 20)
                ),
            )


def figures_of(parts: Sequence[Part], found: Sequence[Course]) -> list[Figure]:
    """What every rule reaches, and what each attack takes from it."""
    finals: dict[str, list[float]] = {}
    for course in found:
        finals.setdefault(course.name, []).append(100 * course.final)
    reached = {name: mean(values) for name, values in finals.items()}
    return [each for part in parts for each in _of_part(part, reached)]


def _of_part(part: Part, reached: Mapping[str, float]) -> Iterator[Figure]:
    for rule in part.rules:
        name = part.name("none", rule)
        yield figure(name, reached[name], "%")
    for kind in part.kinds:
        taken = {
            rule: reached[part.name("none", rule)] - reached[part.name(kind, rule)]
            for rule in part.rules
        }
        for rule in part.rules:
            name = f"{part.name(kind, rule)}: loss"
            if _has_target(part, rule) and taken[PLAIN] > POINTS:
                yield at_most(name, taken[rule], "points", POINTS)
            else:
                yield figure(name, taken[rule], "points")


def _has_target(part: Part, rule: str) -> bool:
    """Whether the default must hold here, if the attack does harm at all."""
    return part.share == TARGET_SHARE and rule == DEFAULT
