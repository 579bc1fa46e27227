# SPDX-License-Identifier: Apache-2.0
"""The events of one whole recording that is already in memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples

CHUNK = 8192


def recording(
    values: NDArray[np.float64], *, run: str, unit: str, start_ns: int, period_ns: int, label: str
) -> Iterator[Event]:
    """Samples of at most 8192, then the class of the whole run if ``label`` is one, then its end.

    Args:
        values: float64 (tags, samples), at least one sample.
        run: name of the run.
        unit: machine or part.
        start_ns: time of the first sample, ns UTC.
        period_ns: ns between samples.
        label: class text; empty for none.
    """
    count = values.shape[1]
    for first in range(0, count, CHUNK):
        # a copy, so that a kept chunk does not keep the whole recording
        chunk = values[:, first : first + CHUNK].copy()
        yield Samples(run, unit, start_ns + first * period_ns, period_ns, chunk)
    if label:
        yield LabelInterval(run, start_ns, start_ns + (count - 1) * period_ns, text=label)
    yield RunEnded(run)
