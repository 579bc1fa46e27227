# SPDX-License-Identifier: Apache-2.0
"""Tags that come faster than a job's samples: what the slower rate cannot show is filtered out."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.signals.resample import Decimator

Values = NDArray[np.float64]


class Lowpass:
    """Owns a filter for each faster column, and the rows of the others that wait for them.

    A filter gives a value once it has seen about 25 samples more. All other columns wait as long,
    so rows stay in step and keep their times: they come later, and are not dated later.
    """

    def __init__(self, factors: Sequence[int]) -> None:
        """``factors`` (columns,): how many of its values each column has for a row."""
        self._factors = factors
        self._begin()

    def push(self, rows: Values, finer: Mapping[int, Values]) -> Values:
        """Add ``rows`` (columns, n); those (columns, m) that are complete.

        ``finer`` has the values of each faster column up to the last of the rows: as many more as
        there are rows, times its factor; of the very first row its own value only.
        """
        for index, kept in enumerate(self._kept):
            kept.append(
                self._filters[index].push(finer[index][None])[0] if index in finer else rows[index]
            )
        return self._ready()

    def finish(self) -> Values:
        """The rows (columns, m) that are left; what is pushed next begins afresh."""
        for index, each in self._filters.items():
            rest = each.finish()
            if rest.size:
                self._kept[index].append(rest[0])
        done = self._ready()
        self._begin()
        return done

    def _begin(self) -> None:
        self._filters = {n: Decimator(each) for n, each in enumerate(self._factors) if each > 1}
        self._kept: list[list[Values]] = [[] for _ in self._factors]

    def _ready(self) -> Values:
        """What every column has come to."""
        columns = [np.concatenate(kept) if kept else np.empty(0) for kept in self._kept]
        count = min(map(len, columns))
        self._kept = [[column[count:]] for column in columns]
        return np.stack([column[:count] for column in columns])
