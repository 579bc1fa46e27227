# SPDX-License-Identifier: Apache-2.0
"""What each prediction is to an alarm: a window that raises it, one that ends it, or neither."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Alarm


class Verdict(IntEnum):
    """What one window says; ``BETWEEN`` is beyond the number that ends it, and raises nothing."""

    OFF = 0
    BETWEEN = 1
    ON = 2


def verdicts(
    alarm: Alarm,
    classes: Sequence[str],
    outputs: NDArray[np.floating],
    confidences: Sequence[float | None],
) -> list[Verdict]:
    """What each of n predictions says of ``alarm``; what is no number says nothing either way.

    Args:
        alarm: with classes for logits, with ``above`` or ``below`` for numbers.
        classes: meaning of the logits; empty for numbers.
        outputs: (n, outputs).
        confidences: (n,) probability of the predicted class.
    """
    known = np.logical_and.reduce(np.isfinite(outputs), axis=1)
    if classes:
        wanted = {classes.index(name) for name in alarm.classes}
        found = [
            Verdict.ON
            if place in wanted and (confidence or 0.0) >= alarm.least_confidence
            else Verdict.OFF
            for place, confidence in zip(outputs.argmax(axis=1).tolist(), confidences, strict=True)
        ]
    else:
        found = [_by_number(value, alarm) for value in outputs[:, 0].tolist()]
    return [
        verdict if number else Verdict.BETWEEN
        for verdict, number in zip(found, known.tolist(), strict=True)
    ]


def _by_number(value: float, alarm: Alarm) -> Verdict:
    above = np.inf if alarm.above is None else alarm.above
    below = -np.inf if alarm.below is None else alarm.below
    if value > above or value < below:
        return Verdict.ON
    if alarm.clear is None:
        return Verdict.OFF
    beyond = value > alarm.clear if alarm.above is not None else value < alarm.clear
    return Verdict.BETWEEN if beyond else Verdict.OFF
