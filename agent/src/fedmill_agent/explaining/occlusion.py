# SPDX-License-Identifier: Apache-2.0
"""How much each part of a window changes a score.

A part is exchanged for that of a usual window, and its effect is how much the score falls
(occlusion: M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014;
attributes of known meaning: M. Robnik-Šikonja, I. Kononenko, IEEE TKDE 20 (2008) 589). Two signals
that tell the same hide each other so: without one of them the other still speaks. So the part is
also put into the usual window by itself, and its effect is the mean of both. That is its Shapley
value (E. Štrumbelj, I. Kononenko, JMLR 11 (2010) 1) where there are two parts, and wherever the
score is a sum of what each part adds.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.explaining.parts import Part

Values = NDArray[np.float32]
Score = Callable[[Values], NDArray[np.float64]]
"""Scores (n,) of windows (n, rows, length)."""

BATCH_BYTES = 1 << 20
"""Of windows that are scored at a time."""


def effects(
    score: Score,
    window: Values,
    usual: Values,
    parts: Sequence[Part],
    known: tuple[float, float],
) -> NDArray[np.float64]:
    """Effect (parts,) of each part of ``window`` (rows, length), by two more rows for each.

    Args:
        score: of the model.
        window: is explained.
        usual: the same shape; what parts are exchanged for.
        parts: do not overlap.
        known: scores of ``usual`` and of ``window``.
    """
    batch = max(2, BATCH_BYTES // window.nbytes) // 2
    found = []
    for first in range(0, len(parts), batch):
        some = parts[first : first + batch]
        mixed = np.empty((2 * len(some), *window.shape), np.float32)
        for place, part in enumerate(some):
            mixed[2 * place], mixed[2 * place + 1] = window, usual
            part.copy(usual, mixed[2 * place])
            part.copy(window, mixed[2 * place + 1])
        found.append(score(mixed).reshape(-1, 2))
    without, alone = np.concatenate(found).T
    usually, now = known
    result: NDArray[np.float64] = ((now - without) + (alone - usually)) / 2.0
    return result
