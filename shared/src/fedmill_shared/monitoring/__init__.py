# SPDX-License-Identifier: Apache-2.0
"""Multivariate process monitoring: principal components, T2, Q, their limits and contributions.

Everything here is numpy in float64; no torch. MacGregor & Kourti, "Statistical process control of
multivariate processes", Control Engineering Practice 3 (1995) 403.
"""

from fedmill_shared.monitoring.components import Components, fit
from fedmill_shared.monitoring.limits import (
    box_limit,
    jackson_mudholkar_limit,
    rank_limit,
    t2_limit,
)
from fedmill_shared.monitoring.scatter import Scatter, merge, merge_all, of_rows

__all__ = [
    "Components",
    "Scatter",
    "box_limit",
    "fit",
    "jackson_mudholkar_limit",
    "merge",
    "merge_all",
    "of_rows",
    "rank_limit",
    "t2_limit",
]
