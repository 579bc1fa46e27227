# SPDX-License-Identifier: Apache-2.0
"""ELEC2: prices of a market that never rests, predicted before the truth comes.

Harries 1999, "Splice-2 comparative evaluation: electricity pricing". Prequential: each row is first
predicted and then, when its label has come, learned from (Gama et al. 2013, "On evaluating stream
learning algorithms"). The label says whether the price is above its mean of the last day.

One linear head is used twice: on the row alone, as the literature does, and on the row with the
means of the day before it, which is what a window of a day is. It is fitted anew when the chart of
the residual alarms, and never otherwise.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_least, figure

from fedmill_agent.drift.charts import Chart, calibrated
from fedmill_agent.drift.detector import Array
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job

DAY = 48
FIRST, REFERENCE, RECENT = 1000, 200, 500
"""Rows that the first head is fitted to, those that a chart is made of, and newest for a refit."""
LAST_LABEL = 85.3
"""Per cent: repeating the last label, immediately known."""
RIDGE, STEPS, STEEPEST = 1e-3, 12, 30.0
ROWS_LIMIT = 1_000_000
JOB = """\
[job]
name = "elec2"
[[signals]]
name = "price"
unit = "g"
rate_hz = 1.0
[labels]
classes = ["down", "up"]
[window]
length = 2
[model]
architecture = "mlp"
[drift]
watch = ["residual"]
run_length = 2000
warn_run_length = 200
"""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A logistic layer on standardised columns."""

    mean: Array
    scale: Array
    weight: Array

    def chance(self, rows: Array) -> Array:
        """Probability of "up" (n,) of ``rows`` (n, columns)."""
        power = np.clip(self._white(rows) @ self.weight, -STEEPEST, STEEPEST)
        found: Array = 1.0 / (1.0 + np.exp(-power))
        return found

    def _white(self, rows: Array) -> Array:
        white = (rows - self.mean) / self.scale
        return np.concatenate((white, np.ones((len(rows), 1))), 1)

    @classmethod
    def fit(cls, rows: Array, truth: Array) -> "Head":
        """Newton's steps for the loss with a small ridge."""
        mean, scale = rows.mean(0), rows.std(0) + 1e-9
        head = cls(mean, scale, np.zeros(rows.shape[1] + 1))
        white, pull = head._white(rows), RIDGE * len(rows)
        for _ in range(STEPS):
            chance = head.chance(rows)
            steep = (white * (chance * (1.0 - chance))[:, None]).T @ white
            steep += pull * np.eye(white.shape[1])
            step = np.linalg.solve(steep, white.T @ (truth - chance) - pull * head.weight)
            head = cls(mean, scale, head.weight + step)
        return head


def run(folder: Path, *, rows: int) -> list[Figure]:
    """Accuracies from the row ``FIRST`` on, of the first ``rows`` rows."""
    table = read(folder / "elec.csv.gz")[:rows]
    inputs, truth = table[:, :-1], table[:, -1]
    day = np.concatenate((inputs, means(inputs)), 1)
    found = []
    for delay, name in ((1, "labels at once"), (DAY, "labels after a day")):
        last = 100.0 * float(np.mean(truth[FIRST:] == truth[FIRST - delay : -delay]))
        found.append(figure(f"ELEC2, {name}: the last known label", last, "%"))
        for columns, what in ((inputs, "row"), (day, "row and day")):
            frozen, _ = prequential(columns, truth, delay, adapts=False)
            adapted, refits = prequential(columns, truth, delay, adapts=True)
            label = f"ELEC2, {name}, {what}"
            found.append(figure(f"{label}: no adaptation", frozen, "%"))
            told = f"{label}: refitted on drift"
            wanted = what != "row" and delay == 1
            found.append(
                at_least(told, adapted, "%", LAST_LABEL) if wanted else figure(told, adapted, "%")
            )
            found.append(figure(f"{label}: refits", refits, "1"))
    return found


def prequential(columns: Array, truth: Array, delay: int, *, adapts: bool) -> tuple[float, int]:
    """Accuracy in per cent, and how often the head was fitted anew."""
    head = Head.fit(columns[:FIRST], truth[:FIRST])
    if not adapts:
        said = head.chance(columns[FIRST:]) > 0.5
        return 100.0 * float(np.mean(said == truth[FIRST:])), 0
    job, right, refits = decode_job(JOB, "elec2.toml"), 0, 0
    charts: list[Chart] = []
    errors: list[Array] = []
    waiting: list[float] = []
    for place in range(FIRST, len(truth)):
        chance = float(head.chance(columns[place : place + 1])[0])
        right += (chance > 0.5) == truth[place]
        waiting.append(chance)
        known = place - delay + 1
        if known < FIRST:
            continue
        row = residual(waiting.pop(0), float(truth[known]))
        if not charts:
            errors.append(row)
            charts = charts_of(job, errors)
            continue
        for chart in charts:
            chart.step(row)
        if any(chart.standing == "alarmed" for chart in charts):
            chosen = slice(max(0, known + 1 - RECENT), known + 1)
            head, refits = Head.fit(columns[chosen], truth[chosen]), refits + 1
            charts, errors = [], []
    return 100.0 * right / (len(truth) - FIRST), refits


def charts_of(job: Job, errors: list[Array]) -> list[Chart]:
    """The charts of the residual once there are errors enough; none before."""
    if len(errors) < REFERENCE:
        return []
    return calibrated(job, "residual", np.stack(errors))


def residual(chance: float, truth: float) -> Array:
    """As ``rows.residual_row`` has it: wrong or not, and how unlikely the truth was held."""
    held = chance if truth else 1.0 - chance
    return np.array([float((chance > 0.5) != truth), -np.log(max(held, 1e-12))])


def means(inputs: Array) -> Array:
    """Mean (n, columns) of the day that ends with each row; of what there is at the beginning."""
    sums = np.cumsum(inputs, 0)
    sums[DAY:] -= sums[:-DAY].copy()
    found: Array = sums / np.minimum(np.arange(len(inputs)) + 1, DAY)[:, None]
    return found


def read(path: Path) -> NDArray[np.float64]:
    """The table (n, 7): six numbers and the class."""
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",", skiprows=1, max_rows=ROWS_LIMIT)
