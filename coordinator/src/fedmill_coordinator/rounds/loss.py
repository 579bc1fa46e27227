# SPDX-License-Identifier: Apache-2.0
"""The training loss of a round, which decides when a job sends dense updates again.

Agents say themselves how large their loss is and how many windows are behind it. So that no single
word owns the number, an update counts as it does in the sum, and a loss at most ``FARTHEST`` times
the median.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np

from fedmill_coordinator.aggregation.shares import MOST, shares_of
from fedmill_coordinator.store.records import UpdateRecord

FARTHEST = 10


def loss_of_round(
    used: Sequence[UpdateRecord], excluded: Collection[str] = (), *, claim: float = MOST
) -> float:
    """Weighted mean of the training losses of the updates ``used``, which have windows.

    Those of the agents ``excluded``, which are in quarantine, count only where there are no others,
    and so do those that are not a number. ``claim`` is that of the job's robustness.
    """
    counted = [update for update in used if update.agent not in excluded] or list(used)
    counted = [update for update in counted if not math.isnan(update.loss)] or counted
    losses = np.array([update.loss for update in counted], np.float64)
    middle = float(np.median(losses))
    shares = shares_of(counted, most=claim)
    return float(np.average(np.clip(losses, 0.0, FARTHEST * middle), weights=shares))
