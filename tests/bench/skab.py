# SPDX-License-Identifier: Apache-2.0
"""Outliers of a water circulation rig (SKAB 0.9), by T2 and Q and by an autoencoder.

The published protocol: of every experiment the first 400 rows teach what is normal, the rest is
judged row by row, and F1, false alarms (FAR) and missed ones (MAR) are counted over all rows of all
experiments. The data here has 20 of the 34 experiments (valve1 and valve2), on which an alarm that
is always on has F1 0.70. Published on all 34: Conv-AE 0.78, MSET 0.78, T2+Q 0.76, LSTM-AE 0.74,
isolation forest 0.29.

Of the 400 rows, 350 are fitted to and the last 50, which nothing was fitted to, give the limits.
Settings are the same for all experiments. How much hangs on them is a figure of its own: for each
experiment those settings that do best on all others ("chosen on the others"), and the worst of all
that were tried.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_least, at_most, figure
from tests.bench.smoothing import causal_mean
from tests.laboratory import monitoring
from tests.laboratory.rigs import SKAB_SIGNALS, Experiment, folder_of, skab

from fedmill_shared.job import Autoencoder, Federation, Job, Learning, Pca, Signal, Task, Window
from fedmill_shared.job.pca import settled
from fedmill_shared.learning.alone import fit_pooled
from fedmill_shared.learning.examples import make_examples
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.monitoring import fit, of_rows
from fedmill_shared.monitoring.inputs import rows_of
from fedmill_shared.monitoring.limits import box_limit, empirical_limit, t2_limit
from fedmill_shared.monitoring.version import read
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

SUMMARY = "outliers of a water circulation rig: F1 of T2 and Q and of an autoencoder"
TAUGHT, FITTED = 400, 350
"""Rows of an experiment that are known to be normal, and those of them that are fitted to."""
TEMPERATURES = ("Temperature", "Thermocouple")
"""They creep for as long as an experiment lasts: none of its rows is like the first ones."""
EPOCHS = 40
EXACT = 1e-6
Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is chosen before any row is judged.

    Attributes:
        temperatures: whether they are among the signals.
        seconds: rows (1 s) that each row is the mean of.
        explained: share of the variance that is kept.
        margin: times the largest value of the rows between ``FITTED`` and ``TAUGHT``.
    """

    temperatures: bool = True
    seconds: int = 10
    explained: float = 0.9
    margin: float = 1.5

    @property
    def columns(self) -> list[int]:
        """Positions of the signals."""
        left_out = () if self.temperatures else TEMPERATURES
        return [i for i, name in enumerate(SKAB_SIGNALS) if name not in left_out]


ALL = Setting()
SHIPPED = Setting(temperatures=False)
TRIED = [
    Setting(temperatures, seconds, 0.9, margin)
    for temperatures, seconds, margin in product((True, False), (5, 10, 20), (1.0, 1.5, 2.0, 3.0))
]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what they are and what is said of them."""

    hit: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0

    @classmethod
    def of(cls, alarms: Marks, abnormal: Marks) -> "Counts":
        """Of rows that are judged (n,)."""
        return cls(
            int((alarms & abnormal).sum()),
            int((alarms & ~abnormal).sum()),
            int((~alarms & abnormal).sum()),
            int((~alarms & ~abnormal).sum()),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hit + other.hit,
            self.false + other.false,
            self.missed + other.missed,
            self.quiet + other.quiet,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 without hits."""
        return 2 * self.hit / max(1, 2 * self.hit + self.false + self.missed)

    @property
    def far(self) -> float:
        """Share of the normal rows that are called abnormal."""
        return self.false / max(1, self.false + self.quiet)

    @property
    def mar(self) -> float:
        """Share of the abnormal rows that are not called so."""
        return self.missed / max(1, self.missed + self.hit)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes of the autoencoder")


def run(options: argparse.Namespace) -> list[Figure]:
    """All monitors on all experiments.

    Raises:
        DataError: there are no recordings.
    """
    experiments = skab(folder_of("skab"))
    judged = [each.abnormal[TAUGHT:] for each in experiments]
    table = {setting: [by_components(each, setting) for each in experiments] for setting in TRIED}
    every = [Counts.of(np.ones_like(each), each) for each in judged]
    encoded = [by_autoencoder(each, SHIPPED, options.epochs) for each in experiments]
    return [
        figure("experiments, of 34", len(experiments), "1"),
        figure("rows judged", sum(each.size for each in judged), "1"),
        figure("an alarm that is always on: F1", total(every).f1, "1"),
        *rates("T2 or Q by theory, rows as they are", [by_theory(each) for each in experiments]),
        *rates("T2 or Q, all signals", table[ALL], 0.76),
        *rates("T2 or Q, without temperatures", table[SHIPPED], 0.80),
        *rates("T2 or Q, chosen on the others", chosen_on_others(table)),
        figure("T2 or Q, worst settings: F1", min(total(each).f1 for each in table.values()), "1"),
        figure("T2 or Q, best settings: F1", max(total(each).f1 for each in table.values()), "1"),
        *rates("autoencoder, without temperatures", encoded),
        *together(experiments),
    ]


def by_components(experiment: Experiment, setting: Setting) -> Counts:
    """T2 or Q above the limits of rows that nothing was fitted to."""
    rows = causal_mean(experiment.rows[:, setting.columns], setting.seconds)
    found = fit(of_rows(rows[:FITTED]), explained=setting.explained)
    alarms = np.zeros(len(rows) - TAUGHT, np.bool_)
    for values in (found.t2(rows), found.q(rows)):
        alarms |= above(values, setting.margin)
    return Counts.of(alarms, experiment.abnormal[TAUGHT:])


def above(values: NDArray[np.floating], margin: float) -> Marks:
    """Which of the judged rows lie above the limit of the rows before them; of ``values`` (n,)."""
    return values[TAUGHT:] > empirical_limit(values[FITTED:TAUGHT], 0.01, margin)


def by_theory(experiment: Experiment) -> Counts:
    """As books have it: 400 rows are fitted to, and limits of 1 % are those of normal rows."""
    found = fit(of_rows(experiment.rows[:TAUGHT]), explained=ALL.explained)
    judged = experiment.rows[TAUGHT:]
    alarms = found.t2(judged) > t2_limit(found.kept, 0.01, found.count)
    alarms |= found.q(judged) > box_limit(found.eigenvalues[found.kept :], 0.01)
    return Counts.of(alarms, experiment.abnormal[TAUGHT:])


def by_autoencoder(experiment: Experiment, setting: Setting, epochs: int) -> Counts:
    """Errors of an autoencoder of the same windows, above the limit of windows it has not seen."""
    windows = windows_of(experiment.rows[:, setting.columns], setting.seconds)
    job = structs.replace(
        job_of(setting),
        model=Autoencoder(hidden=[32], bottleneck=4),
        federation=Federation(rounds=epochs),
    )
    taught = windows[:FITTED]
    normaliser = normaliser_of(job, [collect(taught, job.inputs, [], [], None)])
    flat = FlatModel(build(job, 1))
    flat.load(initial_vector(job, normaliser, 1))
    texts, numbers = [""] * FITTED, np.zeros(FITTED)
    fit_pooled(flat, job, make_examples(job, taught, texts, numbers, ["a"] * FITTED), agents=1)
    errors = flat.predict(windows)[:, 0]
    return Counts.of(above(errors, setting.margin), experiment.abnormal[TAUGHT:])


def chosen_on_others(table: dict[Setting, list[Counts]]) -> list[Counts]:
    """Of every experiment what the settings give that have the best F1 on all the others."""
    found = []
    for i in range(len(next(iter(table.values())))):
        best = max(table.values(), key=lambda each: total([*each[:i], *each[i + 1 :]]).f1)
        found.append(best[i])
    return found


def together(experiments: Sequence[Experiment]) -> list[Figure]:
    """Every experiment a plant: what one federated round gives, beside all rows in one place."""
    setting = ALL
    plants = [windows_of(each.rows[:TAUGHT], setting.seconds) for each in experiments]
    job = settled(job_of(setting), {})
    made = monitoring.one_round(job, plants)
    manifest = made.architecture.manifest
    pooled = np.concatenate([each.astype(np.float64).mean(2) for each in plants])
    expected = fit(of_rows(pooled))
    monitor = read(manifest, made.vector)
    rows = rows_of(job, manifest, made.vector, np.concatenate(plants))
    limits = np.array(monitor.limits)
    t2, q = (monitor.distances(rows) * limits).T
    name = f"{len(plants)} plants in one round, beside all rows in one place"
    found = projector(monitor.loadings, monitor.kept)
    wanted = projector(expected.loadings, expected.kept)
    shown = made.session().run(np.concatenate(plants))[:, 0]
    return [
        at_most(f"{name}: projection", apart(found, wanted), "1", EXACT),
        at_most(f"{name}: T2", apart(t2, expected.t2(pooled)), "1", EXACT),
        at_most(f"{name}: Q", apart(q, expected.q(pooled)), "1", EXACT),
        figure(f"{name}: ONNX Runtime", apart(shown, monitor.distances(rows).max(1)), "1"),
        figure(f"{name}: bytes of an update", made.uplink / len(plants), "B"),
    ]


def job_of(setting: Setting) -> Job:
    """A job about the signals of ``setting``."""
    return Job(
        job=Task(name="skab", task="reconstruction"),
        signals=[Signal(name=f"signal-{column}") for column in setting.columns],
        window=Window(length=setting.seconds, stride=1),
        learning=Learning(learning_rate=0.003),
        federation=Federation(rounds=1),
        model=Pca(inputs="mean"),
    )


def windows_of(rows: NDArray[np.float64], length: int) -> NDArray[np.float32]:
    """Windows (n, signals, length) of ``rows``, one at each row; the first stands for those before.

    Their means are what ``causal_mean`` gives.
    """
    padded = np.concatenate([np.repeat(rows[:1], length - 1, axis=0), rows])
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=0)
    return np.ascontiguousarray(windows, np.float32)


def projector(loadings: NDArray[np.float64], kept: int) -> NDArray[np.float64]:
    """Projection (d, d) onto the kept components, of inputs of unit variance."""
    vectors = (loadings / np.linalg.norm(loadings, axis=0))[:kept]
    projection: NDArray[np.float64] = vectors.T @ vectors
    return projection


def apart(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Length of the difference over that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def total(counts: Sequence[Counts]) -> Counts:
    """All rows of all experiments."""
    return sum(counts, Counts())


def rates(name: str, counts: Sequence[Counts], least: float = 0.0) -> list[Figure]:
    """F1, which must reach ``least`` unless that is 0, and both kinds of mistakes."""
    found = total(counts)
    first = f"{name}: F1"
    return [
        at_least(first, found.f1, "1", least) if least else figure(first, found.f1, "1"),
        figure(f"{name}: FAR", 100 * found.far, "%"),
        figure(f"{name}: MAR", 100 * found.mar, "%"),
    ]
