# SPDX-License-Identifier: Apache-2.0
"""Metrics as sufficient statistics: computed where the data is, merged where it is not."""

from fedmill_shared.metrics.classification import (
    ClassificationStatistic,
    accuracy,
    macro_f1,
    of_classes,
    recalls,
)
from fedmill_shared.metrics.reconstruction import ReconstructionStatistic, of_errors
from fedmill_shared.metrics.regression import RegressionStatistic, of_numbers
from fedmill_shared.metrics.statistic import (
    Statistic,
    merge,
    merge_all,
    primary,
    summary,
    task_of,
)

__all__ = [
    "ClassificationStatistic",
    "ReconstructionStatistic",
    "RegressionStatistic",
    "Statistic",
    "accuracy",
    "macro_f1",
    "merge",
    "merge_all",
    "of_classes",
    "of_errors",
    "of_numbers",
    "primary",
    "recalls",
    "summary",
    "task_of",
]
