# SPDX-License-Identifier: Apache-2.0
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.metrics import (
    ClassificationStatistic,
    accuracy,
    macro_f1,
    of_classes,
    recalls,
    summary,
)

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def _votes(predicted: list[int], classes: int) -> NDArray[np.float32]:
    """Logits (n, classes) with a 1 at the predicted class."""
    return np.eye(classes, dtype=np.float32)[predicted]


def _of(true: list[int], predicted: list[int], classes: int) -> ClassificationStatistic:
    return of_classes(_votes(predicted, classes), np.array(true, np.int64))


class TestOfClasses:
    def test_literal_confusion_matrix(self) -> None:
        """Rows are true classes, columns predicted ones."""
        statistic = _of([0, 0, 1, 1, 1], [0, 1, 1, 1, 2], 3)
        assert statistic.counts == (1, 1, 0, 0, 2, 1, 0, 0, 0)
        assert (statistic.classes, statistic.count) == (3, 5)

    def test_literal_log_loss(self) -> None:
        """Probabilities 1/4, 3/4 with the second class true cost ln 4/3; even odds cost ln 2."""
        logits = np.array([[0, np.log(3)], [5, 5]], np.float64)
        statistic = of_classes(logits, np.array([1, 0]))
        assert statistic.log_loss == pytest.approx(np.log(4 / 3) + np.log(2))

    def test_huge_logits_keep_the_loss_finite(self) -> None:
        """A confident mistake costs the distance of the logits, not infinity."""
        logits = np.array([[1e30, -1e30]], np.float32)
        assert of_classes(logits, np.array([0])).log_loss == 0
        assert of_classes(logits, np.array([1])).log_loss == pytest.approx(2e30)

    def test_no_examples_are_the_neutral_element(self) -> None:
        """An agent without held-out windows reports zeros."""
        statistic = of_classes(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
        assert statistic == ClassificationStatistic(2, (0, 0, 0, 0), 0.0)

    @pytest.mark.parametrize(
        ("logits", "labels"),
        [
            (np.zeros((2, 3)), np.zeros(3, np.int64)),
            (np.zeros(3), np.zeros(3, np.int64)),
            (np.zeros((2, 0)), np.zeros(2, np.int64)),
            (np.zeros((2, 3)), np.zeros(2)),
            (np.zeros((2, 3)), np.array([0, 3])),
            (np.zeros((2, 3)), np.array([-1, 0])),
            (np.full((2, 3), np.nan), np.array([0, 0])),
            (np.array([[1e308, -1e308]]), np.array([1])),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, logits: NDArray[np.floating], labels: NDArray[np.integer]
    ) -> None:
        """Wrong shapes, types, labels and numbers are a DataError."""
        with pytest.raises(DataError, match="metrics:"):
            of_classes(logits, labels)


class TestMetrics:
    def test_literal_numbers(self) -> None:
        """Every metric of a small matrix, by hand."""
        statistic = _of([0, 0, 0, 1], [0, 0, 1, 1], 2)
        metrics = summary(statistic)
        assert metrics.pop("log_loss") > 0
        assert metrics == pytest.approx(
            {"accuracy": 3 / 4, "macro_f1": (4 / 5 + 2 / 3) / 2, "recall_0": 2 / 3, "recall_1": 1}
        )

    def test_class_without_example_has_no_recall(self) -> None:
        """Undefined is None, and left out of the summary; it is not zero."""
        statistic = _of([0, 0], [0, 1], 3)
        assert recalls(statistic) == [0.5, None, None]
        assert set(summary(statistic)) == {"accuracy", "macro_f1", "log_loss", "recall_0"}

    def test_class_that_never_occurs_does_not_count_for_f1(self) -> None:
        """A class neither true nor predicted is left out; a predicted one counts as 0."""
        assert macro_f1(_of([0, 0], [0, 0], 3)) == 1
        assert macro_f1(_of([0, 0], [0, 1], 3)) == pytest.approx((2 / 3 + 0) / 2)

    def test_nothing_is_defined_without_examples(self) -> None:
        """No examples, no metrics."""
        empty = ClassificationStatistic(2, (0, 0, 0, 0), 0.0)
        assert (accuracy(empty), macro_f1(empty), recalls(empty)) == (None, None, [None, None])
        assert summary(empty) == {}

    @given(PAIRS)
    def test_definitions(self, pairs: list[tuple[int, int]]) -> None:
        """Accuracy, recall and F1 equal their definitions, counted one example at a time."""
        statistic = _of([t for t, _ in pairs], [p for _, p in pairs], 4)
        assert accuracy(statistic) == sum(t == p for t, p in pairs) / len(pairs)
        scores = []
        for index in range(4):
            found = sum(t == p == index for t, p in pairs)
            true = sum(t == index for t, _ in pairs)
            predicted = sum(p == index for _, p in pairs)
            assert recalls(statistic)[index] == (found / true if true else None)
            if true or predicted:
                precision = found / predicted if predicted else 0.0
                recall = found / true if true else 0.0
                total = precision + recall
                scores.append(2 * precision * recall / total if total else 0.0)
        assert macro_f1(statistic) == pytest.approx(sum(scores) / len(scores))


class TestStruct:
    @pytest.mark.parametrize(
        "message",
        [
            {"type": "classification", "classes": 2, "counts": [1, 2, 3], "log_loss": 0.0},
            {"type": "classification", "classes": 1, "counts": [1], "log_loss": float("inf")},
        ],
    )
    def test_inconsistent_messages_are_refused(self, message: dict[str, object]) -> None:
        """A matrix that is not square and a loss that is not finite are a DataError."""
        with pytest.raises(DataError, match="no statistic"):
            msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ClassificationStatistic)

    def test_negative_counts_are_refused(self) -> None:
        """The decoder itself refuses what can be no count."""
        message = {"type": "classification", "classes": 1, "counts": [-1], "log_loss": 0.0}
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(message, ClassificationStatistic)
