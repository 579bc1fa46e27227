# SPDX-License-Identifier: Apache-2.0
"""One type for all statistics: what an agent reports and the coordinator merges.

A metric is computed only from a merged statistic, never averaged over agents: so a fleet's figure
is the one that all its examples in one place would give.
"""

from collections.abc import Iterable

from fedmill_shared.errors import DataError
from fedmill_shared.metrics.classification import (
    ClassificationStatistic,
    merge_classes,
    summary_of_classes,
)
from fedmill_shared.metrics.reconstruction import (
    ReconstructionStatistic,
    merge_errors,
    summary_of_errors,
)
from fedmill_shared.metrics.regression import (
    RegressionStatistic,
    merge_numbers,
    summary_of_numbers,
)

Statistic = ClassificationStatistic | RegressionStatistic | ReconstructionStatistic

_PRIMARY = {"classification": "accuracy", "regression": "rmse", "reconstruction": "mse"}


def merge(left: Statistic, right: Statistic) -> Statistic:
    """Statistic of the examples of both.

    Raises:
        DataError: they are of different tasks or classes.
    """
    if isinstance(left, ClassificationStatistic) and isinstance(right, ClassificationStatistic):
        return merge_classes(left, right)
    if isinstance(left, RegressionStatistic) and isinstance(right, RegressionStatistic):
        return merge_numbers(left, right)
    if isinstance(left, ReconstructionStatistic) and isinstance(right, ReconstructionStatistic):
        return merge_errors(left, right)
    raise DataError(
        f"metrics: {task_of(left)} and {task_of(right)} cannot be merged",
        remedy="the agents run different versions of the job",
    )


def task_of(statistic: Statistic) -> str:
    """The task that it is a statistic of, as a job file names it."""
    return str(statistic.__struct_config__.tag)


def merge_all(statistics: Iterable[Statistic]) -> Statistic:
    """Statistic of the examples of all.

    The sums of floats depend on the order in their last digits; give one order to repeat them.

    Raises:
        DataError: there are none, or they are of different tasks or classes.
    """
    iterator = iter(statistics)
    merged = next(iterator, None)
    if merged is None:
        raise DataError("metrics: there is no statistic to merge", remedy="wait for a report")
    for statistic in iterator:
        merged = merge(merged, statistic)
    return merged


def summary(statistic: Statistic) -> dict[str, float]:
    """The metrics by name; one that is undefined, as all are without examples, is left out.

    Classification: accuracy, macro_f1, log_loss, recall_<class index>. Regression: rmse, mae,
    score, r2. Reconstruction: mse, deviation.
    """
    if isinstance(statistic, ClassificationStatistic):
        return summary_of_classes(statistic)
    if isinstance(statistic, ReconstructionStatistic):
        return summary_of_errors(statistic)
    return summary_of_numbers(statistic)


def primary(statistic: Statistic) -> tuple[str, float, bool]:
    """Name and value of the metric that decides, and whether higher is better.

    Raises:
        DataError: the statistic has no examples.
    """
    name = _PRIMARY[task_of(statistic)]
    if statistic.count == 0:
        raise DataError(
            f"metrics: {name} of no examples",
            remedy="hold some windows out: [evaluation] validation or test",
        )
    return name, summary(statistic)[name], name == "accuracy"
