# SPDX-License-Identifier: Apache-2.0
"""Errors of two models on the agent's validation windows whose truth is known."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.installing.gates import Floats
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.job import Job

MOST_WINDOWS = 512
"""Validation windows that decide, evenly over all of them."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class HeldOut:
    """Reads the window store of one job, in whatever thread asks."""

    def __init__(self, job: Job, path: Path, aside: Callable[[], bool] = lambda: True) -> None:
        """``path`` is the store's, which another thread may write.

        ``aside`` tells whether windows are kept aside at present; any thread asks.
        """
        self._job = job
        self._path = path
        self._aside = aside

    def enough(self) -> bool:
        """Whether there may be as many windows as the job wants; their labels are not counted.

        Raises:
            StoreError: the store cannot be read.
        """
        if not self._aside() or not self._path.exists():
            return False
        with WindowReader(self._path) as reader:
            return reader.counts()["validation"] >= self._job.serving.min_labels

    def errors(self, new: Run, old: Run) -> tuple[Floats, Floats]:
        """Errors (n,) of both models, window by window.

        Raises:
            StoreError: the store cannot be read.
            ModelError: a model cannot be run.
        """
        found: list[list[Floats]] = [[np.empty(0)], [np.empty(0)]]
        with WindowReader(self._path) as reader:
            task = self._job.job.task
            labelled = reader.labelled_windows("validation", task=task, most=MOST_WINDOWS)
            places = {each: place for place, each in enumerate(labelled.ids)}
            for there, inputs in reader.portions(labelled.ids):
                found_at = [places[each] for each in there]
                truth = [labelled.texts[k] for k in found_at], labelled.numbers[found_at]
                for each, run in zip(found, (new, old), strict=True):
                    each.append(errors_of(self._job, *truth, run(inputs)))
        return np.concatenate(found[0]), np.concatenate(found[1])


def errors_of(
    job: Job, texts: Sequence[str], numbers: Floats, outputs: NDArray[np.float32]
) -> Floats:
    """How wrong ``outputs`` (n, k) are, (n,): 0 or 1 of a class, the size of the error of a number.

    Of a reconstruction it is what the model says itself.
    """
    if job.job.task == "reconstruction":
        return outputs[:, 0].astype(np.float64)
    if job.job.task == "classification":
        names = np.array([*job.labels.classes, ""], np.object_)
        known = np.isfinite(outputs).all(axis=1)
        said = names[np.where(known, outputs.argmax(1), len(names) - 1)]
        wrong: Floats = (said != np.array(texts, np.object_)).astype(np.float64)
        return wrong
    wanted = np.minimum(numbers, job.labels.cap) if job.labels.cap else numbers
    return np.abs(outputs[:, 0].astype(np.float64) - wanted)
