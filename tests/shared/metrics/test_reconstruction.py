# SPDX-License-Identifier: Apache-2.0
"""What a model could not give back, summed where the windows are."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmill_shared.errors import DataError
from fedmill_shared.metrics import (
    ReconstructionStatistic,
    Statistic,
    merge,
    merge_all,
    of_classes,
    of_errors,
    of_numbers,
    primary,
    summary,
    task_of,
)

ERRORS = arrays(np.float32, st.integers(0, 20), elements=st.floats(0.0, 400.0, width=32))


def test_literal() -> None:
    """Errors of 1, 2 and 6: mean 3, deviation sqrt(14/3)."""
    statistic = of_errors(np.array([1.0, 2.0, 6.0]))
    assert statistic == ReconstructionStatistic(count=3, error=9.0, squares=41.0)
    assert summary(statistic) == {"mse": 3.0, "deviation": pytest.approx((14 / 3) ** 0.5)}
    assert primary(statistic) == ("mse", 3.0, False)
    assert task_of(statistic) == "reconstruction"


@given(left=ERRORS, right=ERRORS)
def test_merging_is_pooling(left: np.ndarray, right: np.ndarray) -> None:
    """Two agents' sums are those of all windows in one place."""
    merged = merge(of_errors(left), of_errors(right))
    pooled = of_errors(np.concatenate([left, right]))
    assert merged.count == pooled.count
    assert merged.error == pytest.approx(pooled.error, rel=1e-12)
    assert merged.squares == pytest.approx(pooled.squares, rel=1e-12)


def test_no_windows() -> None:
    """Nothing to tell, and nothing to decide by."""
    nothing = of_errors(np.zeros(0, np.float32))
    assert summary(nothing) == {}
    assert merge_all([nothing, of_errors(np.array([2.0]))]).count == 1
    with pytest.raises(DataError, match="mse of no examples"):
        primary(nothing)


def test_equal_errors_have_no_deviation() -> None:
    """Rounding makes no root of a negative number."""
    told = summary(of_errors(np.full(1000, 0.1, np.float32)))
    assert told["deviation"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("wrong", [[-1.0], [np.nan], [np.inf], [1e200]])
def test_what_is_no_error(wrong: list[float]) -> None:
    """Negative, not finite, or too large to be squared."""
    with pytest.raises(DataError, match="metrics: a"):
        of_errors(np.array(wrong))


def test_a_column_is_refused() -> None:
    """(n, 1) is what the model gives, (n,) what is counted."""
    with pytest.raises(DataError, match=r"\(3, 1\) are not \(n,\)"):
        of_errors(np.zeros((3, 1)))


@pytest.mark.parametrize(
    "other", [of_classes(np.zeros((1, 2)), np.zeros(1, int)), of_numbers(np.zeros(1), np.zeros(1))]
)
def test_tasks_do_not_mix(other: Statistic) -> None:
    """The refusal names both."""
    with pytest.raises(DataError, match=f"{task_of(other)} and reconstruction cannot be merged"):
        merge(other, of_errors(np.array([1.0])))


def test_over_the_wire() -> None:
    """A tagged struct; what no honest agent sends is refused."""
    statistic = of_errors(np.array([0.5, 0.25], np.float32))
    data = msgspec.msgpack.encode(statistic)
    assert msgspec.msgpack.decode(data, type=Statistic) == statistic
    for field, value in (("count", -1), ("error", -0.5), ("squares", float("inf"))):
        told = msgspec.to_builtins(statistic) | {field: value}
        with pytest.raises((msgspec.ValidationError, DataError)):
            msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Statistic)
