# SPDX-License-Identifier: Apache-2.0
"""What was learned of one version's errors, and what it says of each new prediction."""

from collections.abc import Sequence
from itertools import compress
from math import isfinite
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities, shares
from fedmill_agent.uncertainty.lac import plausible, reaching, threshold
from fedmill_agent.uncertainty.residual import Widths, interval, widths
from fedmill_agent.uncertainty.temperature import LEAST_WINDOWS, fit_temperature
from fedmill_shared.job import Job

COVERAGE = 0.9
"""Share of intervals and sets that are to hold the truth."""
MANY = 4
"""Windows from which on arrays are faster than lists."""


class Sureness(Struct, frozen=True, gc=False):
    """How sure one prediction is; None is said where nothing is known.

    Attributes:
        confidence: probability of the predicted class, or that the interval holds the number.
        low: lower end of the interval, in the label's unit.
        high: its upper end.
        plausible: classes that hold the true one with probability ``COVERAGE``.
    """

    confidence: float | None = None
    low: float | None = None
    high: float | None = None
    plausible: tuple[str, ...] | None = None


NOTHING = Sureness()


class Calibration(Struct, frozen=True, kw_only=True):
    """What a version said of windows whose truth is known, in a few numbers.

    Attributes:
        generation: of the validation windows that they were.
        windows: how many.
        coverage: what intervals and sets are to reach.
        temperature: what logits are divided by.
        least: probability from which on a class is plausible; unused for numbers.
        widths: of intervals; None for classes.
    """

    generation: int
    windows: int
    coverage: float
    temperature: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0
    least: float = -np.inf
    widths: Widths | None = None


def calibrate(
    job: Job,
    outputs: NDArray[np.float32],
    texts: Sequence[str],
    numbers: NDArray[np.float64],
    generation: int,
) -> Calibration | None:
    """The calibration by n labelled windows; None where they are too few to say anything.

    Args:
        job: says what is predicted; not a reconstruction.
        outputs: (n, outputs) of the model.
        texts: (n,) true class of each; windows of no class of the job are left out.
        numbers: (n,) true number of each, capped as the job says.
        generation: of these windows.
    """
    if job.job.task == "classification":
        positions = {name: place for place, name in enumerate(job.labels.classes)}
        labels = np.array([positions.get(text, -1) for text in texts], np.int64)
        known = (labels >= 0) & np.isfinite(outputs).all(axis=1)
        logits, labels = outputs[known], labels[known]
        if len(labels) < LEAST_WINDOWS:
            return None
        return Calibration(
            generation=generation,
            windows=len(labels),
            coverage=COVERAGE,
            temperature=fit_temperature(logits, labels),
            least=threshold(logits, labels, COVERAGE),
        )
    true = np.minimum(numbers, job.labels.cap) if job.labels.cap else numbers
    known = np.isfinite(true) & np.isfinite(outputs[:, 0])
    if int(known.sum()) < LEAST_WINDOWS:
        return None
    return Calibration(
        generation=generation,
        windows=int(known.sum()),
        coverage=COVERAGE,
        widths=widths(outputs[known, 0], true[known], COVERAGE),
    )


def describe(
    job: Job, outputs: NDArray[np.float32], calibration: Calibration | None
) -> list[Sureness]:
    """How sure each of n predictions is, by ``outputs`` (n, outputs).

    Without a calibration a class has the plain probability of the softmax, and nothing else is
    claimed. Of the error of a reconstruction nothing is.
    """
    if job.job.task == "classification":
        if len(outputs) >= MANY:
            return _of_classes(job.labels.classes, outputs, calibration)
        return [_of_class(job.labels.classes, row, calibration) for row in outputs.tolist()]
    if calibration is None or calibration.widths is None:
        return [NOTHING] * len(outputs)
    given, coverage = calibration.widths, calibration.coverage
    return [_of_number(row[0], given, coverage) for row in outputs.tolist()]


def _of_classes(
    classes: Sequence[str], logits: NDArray[np.float32], calibration: Calibration | None
) -> list[Sureness]:
    """The same as ``_of_class`` says of each row."""
    finite = np.logical_and.reduce(np.isfinite(logits), axis=1).tolist()
    with np.errstate(invalid="ignore"):
        plain = probabilities(logits)
        if calibration is None:
            sure = [Sureness(share) for share in plain.max(axis=1).tolist()]
        else:
            sets = reaching(plain, calibration.least).tolist()
            confidences = probabilities(logits, calibration.temperature).max(axis=1).tolist()
            sure = [
                Sureness(share, None, None, tuple(compress(classes, row)))
                for share, row in zip(confidences, sets, strict=True)
            ]
    return [each if known else NOTHING for each, known in zip(sure, finite, strict=True)]


def _of_class(
    classes: Sequence[str], logits: list[float], calibration: Calibration | None
) -> Sureness:
    if not all(map(isfinite, logits)):
        return NOTHING
    plain = shares(logits)
    if calibration is None:
        return Sureness(max(plain))
    found = tuple([classes[place] for place in plausible(plain, calibration.least)])
    return Sureness(max(shares(logits, calibration.temperature)), None, None, found)


def _of_number(value: float, given: Widths, coverage: float) -> Sureness:
    low, high = interval(value, given)
    return Sureness(coverage, low, high) if isfinite(low) and isfinite(high) else NOTHING
