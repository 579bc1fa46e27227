# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import DataError
from fedmill_shared.metrics import (
    ClassificationStatistic,
    Statistic,
    merge,
    merge_all,
    of_classes,
    of_numbers,
    primary,
    summary,
)

SIZE = 30
CUTS = st.lists(st.integers(0, SIZE), max_size=5).map(lambda cuts: [0, *sorted(cuts), SIZE])
SEEDS = st.integers(0, 2**32)


def _classified(seed: int, start: int = 0, stop: int = SIZE) -> Statistic:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(SIZE, 3)).astype(np.float32)
    labels = generator.integers(0, 3, SIZE)
    return of_classes(logits[start:stop], labels[start:stop])


def _numbered(seed: int, start: int = 0, stop: int = SIZE) -> Statistic:
    generator = np.random.default_rng(seed)
    targets = generator.normal(1e3, 20, SIZE)
    predictions = targets + generator.normal(0, 15, SIZE)
    return of_numbers(predictions[start:stop], targets[start:stop])


class TestMerge:
    @pytest.mark.parametrize("make", [_classified, _numbered])
    @given(seed=SEEDS, cuts=CUTS)
    def test_any_partition_gives_the_whole(
        self, make: Callable[..., Statistic], seed: int, cuts: list[int]
    ) -> None:
        """However examples lie on agents, the fleet's metrics are those of all in one place."""
        parts = [make(seed, start, stop) for start, stop in pairwise(cuts)]
        merged, whole = merge_all(parts), make(seed)
        assert merged.count == whole.count == SIZE
        assert msgspec.to_builtins(merged) == {
            name: pytest.approx(value) for name, value in msgspec.to_builtins(whole).items()
        }
        assert summary(merged) == pytest.approx(summary(whole))

    @given(left=SEEDS, right=SEEDS)
    def test_order_does_not_matter(self, left: int, right: int) -> None:
        """Merging commutes: exactly for counts, to the last digits for sums."""
        a, b = _classified(left), _classified(right)
        assert merge(a, b) == merge(b, a)
        c, d = _numbered(left), _numbered(right)
        assert summary(merge(c, d)) == pytest.approx(summary(merge(d, c)))

    def test_different_classes(self) -> None:
        """Statistics of two versions of a job do not mix."""
        other = ClassificationStatistic(2, (1, 0, 0, 1), 0.0)
        with pytest.raises(DataError, match="3 and 2 classes"):
            merge(_classified(0), other)

    def test_different_tasks(self) -> None:
        """Neither do classification and regression."""
        with pytest.raises(DataError, match="classification and regression"):
            merge(_classified(0), _numbered(0))

    def test_nothing_to_merge(self) -> None:
        """A fleet without a report has no statistic."""
        with pytest.raises(DataError, match="no statistic"):
            merge_all([])

    def test_one_is_itself(self) -> None:
        """A fleet of one."""
        assert merge_all(iter([_numbered(1)])) == _numbered(1)


class TestPrimary:
    def test_classification(self) -> None:
        """Accuracy, higher is better."""
        statistic = ClassificationStatistic(2, (3, 1, 0, 0), 0.5)
        assert primary(statistic) == ("accuracy", 0.75, True)

    def test_regression(self) -> None:
        """Rmse, lower is better."""
        statistic = of_numbers(np.array([3.0, 5.0]), np.array([0.0, 8.0]))
        assert primary(statistic) == ("rmse", 3.0, False)

    def test_no_examples(self) -> None:
        """Without examples there is nothing to decide on, and the remedy says what to set."""
        with pytest.raises(DataError, match=r"accuracy of no examples .*\[evaluation\]"):
            primary(ClassificationStatistic(1, (0,), 0.0))


class TestWire:
    @pytest.mark.parametrize("statistic", [_classified(4), _numbered(4)])
    def test_union_travels_as_messagepack(self, statistic: Statistic) -> None:
        """The tag tells the receiver which of the two it is, and no digit is lost."""
        data = msgspec.msgpack.encode(statistic)
        assert msgspec.msgpack.decode(data, type=Statistic) == statistic
