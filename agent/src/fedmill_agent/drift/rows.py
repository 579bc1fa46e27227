# SPDX-License-Identifier: Apache-2.0
"""What of a window and its prediction detectors look at: one row of numbers for each signal."""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.detector import Array
from fedmill_agent.probabilities import probabilities
from fedmill_shared.job import Job

FLOOR = 1e-3
"""Spread within a window, in deviations, below which it is none."""
_LARGEST = 1e6
_SMALLEST = 1e-12


def wears(job: Job) -> bool:
    """Whether ``job`` foretells a life, whose slow way down is no drift."""
    labels = job.labels
    return job.job.task == "regression" and (labels.source == "event" or labels.cap > 0)


def input_row(standardised: Array) -> Array:
    """Mean and logarithm of the deviation of each channel, (2 S,), of a window (S, L)."""
    spread = np.log(np.maximum(standardised.std(1), FLOOR))
    return _bounded(np.concatenate((standardised.mean(1), spread)))


def input_names(job: Job) -> list[str]:
    """What the columns of ``input_row`` are called."""
    names = [job.channels[place].name for place in job.inputs]
    return [f"{name} {what}" for what in ("mean", "spread") for name in names]


def output_row(job: Job, outputs: NDArray[np.float32]) -> Array:
    """What a model said (outputs,) of one window.

    Of classes (classes + 2,): entropy as a share of the largest possible, probabilities, and the
    position of the class; of anything else the number (1,).
    """
    if job.job.task != "classification":
        return _bounded(outputs[:1].astype(np.float64))
    shares = probabilities(outputs)
    entropy = -(shares * np.log(np.maximum(shares, _SMALLEST))).sum() / np.log(len(shares))
    return np.concatenate(([entropy], shares, [float(shares.argmax())]))


def output_names(job: Job) -> list[str]:
    """What the columns of ``output_row`` are called."""
    if job.job.task != "classification":
        return ["prediction"]
    return ["entropy", *(f"class {name}" for name in job.labels.classes), "class"]


def residual_row(job: Job, outputs: NDArray[np.float32], text: str, number: float) -> Array | None:
    """How wrong ``outputs`` (outputs,) were, None where the truth says nothing.

    Of a class (2,): 0 or 1, and how unlikely the model held it (nats). Of a number (2,): error and
    size of the error, in the label's unit.
    """
    if job.job.task == "classification":
        if text not in job.labels.classes:
            return None
        shares, place = probabilities(outputs), job.labels.classes.index(text)
        unlikely = -float(np.log(max(float(shares[place]), _SMALLEST)))
        return np.array([float(shares.argmax() != place), unlikely])
    if not np.isfinite(number):
        return None
    truth = min(number, job.labels.cap) if job.labels.cap else number
    error = float(outputs[0]) - truth
    return _bounded(np.array([error, abs(error)]))


def residual_names(job: Job) -> list[str]:
    """What the columns of ``residual_row`` are called."""
    classes = job.job.task == "classification"
    return ["wrong", "loss"] if classes else ["error", "size of the error"]


def _bounded(row: Array) -> Array:
    """``row`` without what would drown every sum; what is no number is far away."""
    found: Array = np.clip(np.nan_to_num(row, nan=_LARGEST), -_LARGEST, _LARGEST)
    return found
