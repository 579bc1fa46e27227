# SPDX-License-Identifier: Apache-2.0
"""Rows of windows that are in the store, a few windows at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.detector import Array
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.splits import StoredSplit
from fedmill_shared.job import Job

Values = NDArray[np.float32]
Rows = list[tuple[str, Array]]


def newest_rows(
    store: WindowReader,
    split: StoredSplit,
    most: int,
    make: Callable[[Sequence[Values]], list[Array]],
) -> Iterator[Rows]:
    """Runs and rows of the newest ``most`` windows of ``split``, the oldest of them first.

    ``make`` gives the rows of some windows (signals, length).

    Raises:
        StoreError: the store cannot be read.
    """
    runs = {window.id: window.run for window in store.newest(split, most)}
    for there, values in store.portions(list(runs)):
        rows = make(list(values))
        yield [(runs[each], row) for each, row in zip(there, rows, strict=False)]


def judged_rows(
    store: WindowReader,
    job: Job,
    most: int,
    make: Callable[[Values, str, float], Array | None],
    look: Callable[[Sequence[Values]], Values],
) -> Iterator[Rows]:
    """How wrong the model is on the newest ``most`` validation windows whose truth is known.

    ``look`` runs the model, ``make`` gives the row of an output, a class and a number.

    Raises:
        StoreError: the store cannot be read.
        ModelError: the model cannot be run.
    """
    labelled = store.labelled_windows("validation", task=job.job.task, most=1 << 40)
    truth = dict(
        zip(labelled.ids, zip(labelled.texts, labelled.numbers.tolist(), strict=True), strict=True)
    )
    ids = sorted(truth)[-most:]
    for there, values in store.portions(ids):
        outputs = look(list(values))
        made = [make(row, *truth[each]) for row, each in zip(outputs, there, strict=True)]
        yield [("", row) for row in made if row is not None]
