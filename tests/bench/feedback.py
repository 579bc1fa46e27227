# SPDX-License-Identifier: Apache-2.0
"""What labels of a plant's own windows are worth between rounds, and what an update costs.

The last layer of a model that was trained elsewhere is fitted to 5 to 50 labelled windows of a
plant that lies apart, as its agent would: by ``ridge`` or ``prototypes``, and used only where it
tells windows better that were left out of the fit. Beside it stand no feedback, and a last layer
from these labels alone. Scenes are those of tests/laboratory/heads.py: faults of bearings at
another motor load, with other sensors, a fault that is new, and the remaining life of engines.
Accuracy and error are those of recordings, or parts of them, that nobody labels; each number is the
mean of several orders of the labels, and "worst" the worst of them.

No feedback must be beaten, or equalled, at every number of labels.
"""

import argparse
import tracemalloc
from collections.abc import Iterator
from statistics import mean
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_least, at_most, figure
from tests.laboratory.heads import Scene, bearing_scenes, engine_scenes

from fedmill_agent.feedback import fitting, least_squares, logistic
from fedmill_agent.feedback.fitting import Settings, Windows
from fedmill_agent.feedback.scaling import Scaling
from fedmill_agent.feedback.selection import Bounds
from fedmill_shared.errors import UsageError

SUMMARY = "what labels between rounds are worth: ridge and prototypes beside no feedback"
LABELS = (5, 10, 20, 50)
WIDTHS = (64, 128, 256, 512, 2048)
OTHERS = Bounds().others
OUTPUTS = 10
TOLERANCE = 1e-9
Method = Literal["ridge", "prototypes"]
Matrix = NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--orders", type=int, default=8, help="orders in which labels come")
    parser.add_argument("--quick", action="store_true", help="bearings at another load alone")


def run(options: argparse.Namespace) -> list[Figure]:
    """All scenes, and then the costs.

    Raises:
        UsageError: impossible numbers.
        DataError: there are no recordings.
    """
    if options.orders < 1:
        raise UsageError(f"--orders {options.orders} is impossible", remedy="give 1 or more")
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for scene in scenes(quick=options.quick):
        figures += figures_of(scene, options.orders)
    for width in WIDTHS[:1] if options.quick else WIDTHS:
        figures += costs_of(width)
    return figures


def scenes(*, quick: bool) -> Iterator[Scene]:
    """Those that are run; ``quick`` wants the first."""
    for scene in bearing_scenes():
        yield scene
        if quick:
            return
    yield from engine_scenes()


def figures_of(scene: Scene, orders: int) -> list[Figure]:
    """One scene at every number of labels."""
    unit = "%" if scene.classes else "cycles"
    before = score(scene, scene.head)
    figures = [figure(f"{scene.name}: no feedback", before, unit)]
    methods: tuple[Method, ...] = ("ridge", "prototypes") if scene.classes else ("ridge",)
    for count in LABELS:
        chosen = [_chosen(scene, order, count) for order in range(orders)]
        for method in methods:
            found = [score(scene, _served(scene, *each, method)) for each in chosen]
            name = f"{scene.name}: {method}, {count} labels"
            figures += _compared(name, before, found, unit)
        alone = [score(scene, _alone(scene, *each)) for each in chosen]
        name = f"{scene.name}: these labels alone, {count} labels"
        figures.append(figure(name, mean(alone), unit))
    return figures


def score(scene: Scene, layer: Matrix) -> float:
    """Accuracy in per cent, or the root mean square error in the label's unit, on held-out data."""
    features, targets = scene.held_out
    outputs = features @ layer[:-1] + layer[-1]
    if scene.classes:
        return 100.0 * float((outputs.argmax(1) == targets.argmax(1)).mean())
    return scene.unit * float(np.sqrt(np.square(outputs - targets).mean()))


def costs_of(width: int) -> list[Figure]:
    """An update with as many windows as are ever used: time on this machine, and memory."""
    random = np.random.default_rng(width)
    bounds = Bounds.of(width)
    count = bounds.recent + bounds.sample
    classes = random.integers(0, OUTPUTS, count)
    windows = Windows(
        random.normal(size=(count, width)),
        np.eye(OUTPUTS)[classes],
        random.normal(size=(bounds.others, width)),
    )
    head = random.normal(size=(width + 1, OUTPUTS)) / np.sqrt(width)
    settings = Settings(method="ridge", classes=True)
    few = Windows(windows.features[:50], windows.targets[:50], windows.others)
    figures = []
    for labels, given in ((50, few), (count, windows)):
        began = perf_counter()
        fitting.fit(given, head, settings)
        fitted = perf_counter()
        fitting.worth(given, head, settings)
        name = f"update, width {width}, {labels} labels"
        figures += [
            figure(f"{name}: fit", 1e3 * (fitted - began), "ms"),
            figure(f"{name}: fit and proof", 1e3 * (perf_counter() - began), "ms"),
        ]
    tracemalloc.start()
    fitting.worth(windows, head, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [*figures, figure(f"update, width {width}: memory", peak / 2**20, "MiB")]


def _compared(name: str, before: float, found: list[float], unit: str) -> list[Figure]:
    if unit == "%":
        good = at_least(name, mean(found) + TOLERANCE, unit, before)
        return [good, figure(f"{name}, worst", min(found), unit)]
    good = at_most(name, mean(found) - TOLERANCE, unit, before)
    return [good, figure(f"{name}, worst", max(found), unit)]


def _chosen(scene: Scene, order: int, count: int) -> tuple[NDArray[np.intp], Matrix]:
    """Positions of the first ``count`` labels, and features of some windows without one."""
    random = np.random.default_rng(order)
    labelled = random.permutation(scene.labelled)[:count]
    rest = np.setdiff1d(np.arange(len(scene.features)), labelled)
    return labelled, scene.features[random.permutation(rest)[:OTHERS]]


def _served(scene: Scene, labelled: NDArray[np.intp], others: Matrix, method: Method) -> Matrix:
    """The last layer that an agent proposes, or that it has."""
    settings = Settings(method=method, classes=scene.classes)
    windows = Windows(scene.features[labelled], scene.targets[labelled], others)
    if not fitting.worth(windows, scene.head, settings).better:
        return scene.head
    return fitting.fit(windows, scene.head, settings)


def _alone(scene: Scene, labelled: NDArray[np.intp], others: Matrix) -> Matrix:
    """A last layer that never heard of a federation."""
    features, targets = scene.features[labelled], scene.targets[labelled]
    scaling = Scaling.of(np.vstack([features, others]))
    rows, nothing = scaling.rows(features), np.zeros_like(scene.head)
    weights = np.ones(len(rows))
    if scene.classes:
        layer = logistic.fit(
            rows, targets, weights, anchor=nothing, precision=fitting.CLASS_PRECISION
        )
    else:
        sums = least_squares.init(*nothing.shape)
        sums = least_squares.step(sums, rows, targets, weights=weights)
        layer = least_squares.solve(sums, nothing, fitting.NUMBER_PRECISION)
    return scaling.outward(layer)
