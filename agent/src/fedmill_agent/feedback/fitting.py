# SPDX-License-Identifier: Apache-2.0
"""From labelled windows to a last layer, and whether it is worth having. Pure functions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.feedback import least_squares, logistic, prototypes, rehearsal, temperature
from fedmill_agent.feedback.scaling import Scaling
from fedmill_agent.probabilities import probabilities

Matrix = NDArray[np.float64]

CLASS_PRECISION, NUMBER_PRECISION = 0.03, 1.0
"""Of the pull towards the federated head at ``strength`` 1, in examples of unit size. Found on
bearing and engine data (``python -m tests.bench feedback``); ten times more or less changes
little."""
RANGES = 8
"""Parts of a number's range that stand for classes in what is rehearsed."""
FOLDS = 5
MARGIN = {"ridge": 0, "prototypes": 2}
"""A prototype replaces what many windows taught by what a few show: that takes more proof."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What of ``[feedback]`` decides a fit, and whether the outputs are ``classes``."""

    method: Literal["ridge", "prototypes"]
    classes: bool
    strength: float = 1.0
    forgetting: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Features of an agent's windows.

    Attributes:
        features: (n, width) of the labelled ones, oldest first.
        targets: (n, outputs): one 1 in a row of classes, or the number in standardised units.
        others: (m, width) of some without a label.
    """

    features: Matrix
    targets: Matrix
    others: Matrix

    def __len__(self) -> int:
        return len(self.targets)

    def without(self, left_out: NDArray[np.bool_]) -> "Windows":
        """The same without the labelled windows ``left_out`` (n,)."""
        return Windows(self.features[~left_out], self.targets[~left_out], self.others)


@dataclass(frozen=True, slots=True)
class Worth:
    """How a fit does on labelled windows that it has not seen, beside the federated head.

    Attributes:
        windows: labelled windows.
        before: mean loss of the federated head: nats, or squared error in standardised units.
        after: the same of the fit.
        gained: windows that only the fit tells right; of numbers, those with a smaller error.
        lost: windows that only the federated head does.
        margin: windows more that it must tell right to be worth having.
    """

    windows: int
    before: float
    after: float
    gained: int
    lost: int
    margin: int = 0

    @property
    def better(self) -> bool:
        """Whether the loss is smaller, and not at the price of windows that were told right.

        Of the windows that change, more must gain than chance would have it (one standard error of
        the sign test: McNemar, Psychometrika 12 (1947) 153).
        """
        more, chance = self.gained - self.lost, (self.gained + self.lost) ** 0.5
        return self.after < self.before and more >= max(self.margin, chance)


def fit(windows: Windows, head: Matrix, settings: Settings) -> Matrix:
    """The last layer (width + 1, outputs) that ``windows`` make of ``head``, the federation's."""
    every = np.vstack([windows.features, windows.others])
    scaling = Scaling.of(every)
    rows, anchor = scaling.rows(every), scaling.inward(head)
    if settings.method == "prototypes":
        return scaling.outward(_prototypes(rows, windows.targets, anchor, settings))
    make = _numbers
    if settings.classes:
        make, anchor = _classes, _calmed(rows, windows.targets, anchor, settings)
    if len(rows) >= rows.shape[1]:
        return scaling.outward(make(rows, windows.targets, anchor, settings))
    # Whatever is across all rows stays as it is, so that as many numbers as there are rows do.
    basis = np.linalg.qr(rows.T)[0]
    inside = basis.T @ anchor
    fitted = make(rows @ basis, windows.targets, inside, settings)
    return scaling.outward(anchor + basis @ (fitted - inside))


def worth(windows: Windows, head: Matrix, settings: Settings) -> Worth:
    """Fit ``FOLDS`` times with another part of the labelled windows left out, and look there.

    Windows of one class, or neighbours in their number, fall into different parts. One window alone
    cannot be left out, and proves nothing.
    """
    if len(windows) < 2:
        return Worth(len(windows), 0.0, 0.0, 0, 0)
    parts = _parts(windows.targets, settings)
    after = np.empty_like(windows.targets)
    for part in range(FOLDS):
        left_out = parts == part
        if left_out.any():
            layer = fit(windows.without(left_out), head, settings)
            after[left_out] = _outputs(layer, windows.features[left_out])
    before = _outputs(head, windows.features)
    old, new = (_losses(each, windows.targets, settings) for each in (before, after))
    if settings.classes:
        truth = windows.targets.argmax(1)
        old_right, new_right = (each.argmax(1) == truth for each in (before, after))
    else:
        old_right, new_right = old < new, new < old
    return Worth(
        len(windows),
        float(old.mean()),
        float(new.mean()),
        int((new_right & ~old_right).sum()),
        int((old_right & ~new_right).sum()),
        margin=MARGIN[settings.method],
    )


def _classes(rows: Matrix, targets: Matrix, anchor: Matrix, settings: Settings) -> Matrix:
    logits = rows @ anchor
    said = np.vstack([targets, probabilities(logits[len(targets) :])])
    weights = _weights(logits, targets, settings)
    precision = CLASS_PRECISION * settings.strength
    return logistic.fit(rows, said, weights, anchor=anchor, precision=precision)


def _calmed(rows: Matrix, targets: Matrix, anchor: Matrix, settings: Settings) -> Matrix:
    """``anchor`` where it is no surer than the labels allow."""
    count, logits = len(targets), rows @ anchor
    weights = _weights(logits, targets, settings)[:count]
    return temperature.factor(logits[:count], targets.argmax(1), weights) * anchor


def _prototypes(rows: Matrix, targets: Matrix, anchor: Matrix, settings: Settings) -> Matrix:
    count, logits = len(targets), rows @ anchor
    weights = _weights(logits, targets, settings)
    said = np.vstack([targets, probabilities(logits[count:])])
    return prototypes.fit(rows, said, weights, labelled=count, anchor=anchor)


def _weights(logits: Matrix, targets: Matrix, settings: Settings) -> Matrix:
    """Weights (n,) of the labelled windows and others; ``logits`` (n, classes) are the head's."""
    count, outputs = targets.shape
    named = targets.argmax(1)
    faded = least_squares.faded_weights(count, settings.forgetting)
    weights = rehearsal.evened(named, faded, outputs)
    labelled = rehearsal.totals(named, weights, outputs)
    return np.concatenate([weights, rehearsal.rehearsed(logits[count:].argmax(1), labelled)])


def _numbers(rows: Matrix, targets: Matrix, anchor: Matrix, settings: Settings) -> Matrix:
    count, said = len(targets), rows @ anchor
    limits = np.quantile(said[:, 0], np.arange(1, RANGES) / RANGES)
    ranges = np.searchsorted(limits, said[:, 0])
    faded = least_squares.faded_weights(count, settings.forgetting)
    weights = rehearsal.evened(ranges[:count], faded, RANGES)
    labelled = rehearsal.totals(ranges[:count], weights, RANGES)
    others = rehearsal.rehearsed(ranges[count:], labelled)
    sums = least_squares.init(*anchor.shape)
    sums = least_squares.step(sums, rows[:count], targets, weights)
    sums = least_squares.step(sums, rows[count:], said[count:], others)
    return least_squares.solve(sums, anchor, NUMBER_PRECISION * settings.strength)


def _outputs(layer: Matrix, features: Matrix) -> Matrix:
    return np.asarray(features @ layer[:-1] + layer[-1])


def _losses(outputs: Matrix, targets: Matrix, settings: Settings) -> Matrix:
    """Loss (n,) of each window."""
    if settings.classes:
        told = np.maximum(probabilities(outputs), 1e-12)
        return np.asarray(-np.log(told[targets > 0.0]))
    return np.asarray(np.square(outputs - targets).mean(1))


def _parts(targets: Matrix, settings: Settings) -> NDArray[np.intp]:
    """Which part (n,) each labelled window is left out with."""
    key = targets.argmax(1) if settings.classes else targets[:, 0]
    parts = np.empty(len(targets), np.intp)
    parts[np.argsort(key, kind="stable")] = np.arange(len(targets)) % FOLDS
    return parts
