# SPDX-License-Identifier: Apache-2.0
"""Classification: the confusion matrix and the summed log-loss, which add across agents."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedmill_shared.errors import DataError


class ClassificationStatistic(Struct, frozen=True, tag="classification"):
    """Sufficient statistic of classified examples.

    Attributes:
        classes: number of classes C.
        counts: confusion matrix (C, C) in row order: row true class, column predicted class.
        log_loss: sum over examples of the negative log probability of the true class, in nats.
    """

    classes: Annotated[int, Meta(ge=1, le=1000)]
    counts: tuple[Annotated[int, Meta(ge=0)], ...]
    log_loss: float

    def __post_init__(self) -> None:
        if len(self.counts) != self.classes**2 or not np.isfinite(self.log_loss):
            raise DataError(
                f"metrics: {len(self.counts)} counts and a log-loss of {self.log_loss} are no "
                f"statistic of {self.classes} classes"
            )

    @property
    def count(self) -> int:
        """Number of examples."""
        return sum(self.counts)


def of_classes(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> ClassificationStatistic:
    """Statistic of ``logits`` (n, C), whose largest is the prediction, and ``labels`` (n,).

    Raises:
        DataError: shapes do not match, a logit is not finite, or a label is no class index.
    """
    if (
        logits.ndim != 2
        or logits.shape[1] == 0
        or labels.shape != logits.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        raise DataError(
            f"metrics: logits {logits.shape} and labels {labels.dtype} {labels.shape} are not "
            "(n, C) and integers (n,)"
        )
    classes = logits.shape[1]
    if not np.isfinite(logits).all():
        raise DataError("metrics: the model's output holds NaN or infinity")
    if ((labels < 0) | (labels >= classes)).any():
        raise DataError(f"metrics: a label is outside 0..{classes - 1}")
    cells = labels.astype(np.int64) * classes + logits.argmax(axis=1)
    counts = np.bincount(cells, minlength=classes * classes)
    # Shifted by the largest logit, the exponentials cannot overflow.
    with np.errstate(over="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sums - shifted[np.arange(labels.size), labels]
    return ClassificationStatistic(classes, tuple(counts.tolist()), float(losses.sum()))


def merge_classes(
    left: ClassificationStatistic, right: ClassificationStatistic
) -> ClassificationStatistic:
    """Statistic of the examples of both.

    Raises:
        DataError: they have different classes.
    """
    if left.classes != right.classes:
        raise DataError(
            f"metrics: {left.classes} and {right.classes} classes cannot be merged",
            remedy="the agents run different versions of the job",
        )
    counts = tuple(a + b for a, b in zip(left.counts, right.counts, strict=True))
    return ClassificationStatistic(left.classes, counts, left.log_loss + right.log_loss)


def accuracy(statistic: ClassificationStatistic) -> float | None:
    """Share of examples classified correctly; None without examples."""
    right = sum(statistic.counts[:: statistic.classes + 1])
    return right / statistic.count if statistic.count else None


def recalls(statistic: ClassificationStatistic) -> list[float | None]:
    """Share of each class's examples that were found; None where a class has no example."""
    matrix = _matrix(statistic)
    true = matrix.sum(axis=1)
    return [int(matrix[i, i]) / int(true[i]) if true[i] else None for i in range(statistic.classes)]


def macro_f1(statistic: ClassificationStatistic) -> float | None:
    """Unweighted mean of the F1 scores of the classes that occur; None without examples.

    A class occurs where it is true or predicted at least once; a class that occurs and was never
    found counts as 0.
    """
    matrix = _matrix(statistic)
    occurrences = matrix.sum(axis=0) + matrix.sum(axis=1)
    occurs = occurrences > 0
    if not occurs.any():
        return None
    return float((2 * matrix.diagonal()[occurs] / occurrences[occurs]).mean())


def summary_of_classes(statistic: ClassificationStatistic) -> dict[str, float]:
    """Accuracy, macro_f1, log_loss and recall_<class index>; undefined ones are left out."""
    count = statistic.count
    metrics: dict[str, float | None] = {
        "accuracy": accuracy(statistic),
        "macro_f1": macro_f1(statistic),
        "log_loss": statistic.log_loss / count if count else None,
    }
    metrics |= {f"recall_{i}": recall for i, recall in enumerate(recalls(statistic))}
    return {name: value for name, value in metrics.items() if value is not None}


def _matrix(statistic: ClassificationStatistic) -> NDArray[np.int64]:
    return np.array(statistic.counts, np.int64).reshape(statistic.classes, statistic.classes)
