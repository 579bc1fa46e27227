# SPDX-License-Identifier: Apache-2.0
"""Which values are good, and what is wrong with the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.signals.quality import Codes, Fault, inspect

NAN, INF = float("nan"), float("inf")
GOOD, MISSING, RANGE, FLAT = Fault.GOOD, Fault.MISSING, Fault.RANGE, Fault.FLAT


def codes(row: list[float], low: float = -INF, high: float = INF, flat: int = 0) -> list[int]:
    """The faults of one signal."""
    return found([row], [low], [high], [flat])[0].tolist()


def found(rows: list[list[float]], low: list[float], high: list[float], flat: list[int]) -> Codes:
    """The faults of several."""
    limits = [np.array(each, np.float32)[:, None] for each in (low, high)]
    return inspect(np.array(rows, np.float32).reshape(len(rows), -1), *limits, flat)


def naive(row: list[float], low: float, high: float, flat: int) -> list[int]:
    """Sample by sample: how far its own value reaches to either side."""
    result = []
    for i, value in enumerate(row):
        if not np.isfinite(value):
            result.append(MISSING)
            continue
        same = [i]
        for step in (-1, 1):
            j = i + step
            while 0 <= j < len(row) and (row[j] == value or not np.isfinite(row[j])):
                if row[j] == value:
                    same.append(j)
                j += step
        if flat and max(same) - min(same) + 1 >= flat:
            result.append(FLAT)
        else:
            result.append(GOOD if low <= value <= high else RANGE)
    return [int(each) for each in result]


class TestInspect:
    def test_missing(self) -> None:
        """NaN and both infinities."""
        assert codes([1.0, NAN, INF, -INF]) == [GOOD, MISSING, MISSING, MISSING]

    def test_out_of_range(self) -> None:
        """Both limits are plausible themselves."""
        assert codes([-1.0, 0.0, 5.0, 5.1], 0.0, 5.0) == [RANGE, GOOD, GOOD, RANGE]

    def test_each_signal_has_its_own_limits(self) -> None:
        """Pressure is not temperature."""
        both = found([[2.0, 2.0], [2.0, 9.0]], [0.0, 5.0], [1.0, 10.0], [0, 0])
        assert both.tolist() == [[RANGE, RANGE], [RANGE, GOOD]]

    def test_stuck(self) -> None:
        """From the first of the equal values on; fewer of them are chance."""
        row = [1.0, 2.0, 2.0, 2.0, 3.0, 3.0]
        assert codes(row, flat=3) == [GOOD, FLAT, FLAT, FLAT, GOOD, GOOD]
        assert codes(row, flat=4) == [GOOD] * 6

    def test_a_dropout_does_not_unstick_it(self) -> None:
        """What is missing in between is still missing, and the rest is stuck."""
        assert codes([2.0, NAN, 2.0, 2.0], flat=4) == [FLAT, MISSING, FLAT, FLAT]

    def test_stuck_beyond_its_range(self) -> None:
        """A dead sensor often rests at the end of its scale: that it is stuck tells more."""
        assert codes([32767.0] * 3, 0.0, 100.0, 3) == [FLAT] * 3

    def test_dead(self) -> None:
        """A signal that never came is missing, however long."""
        assert codes([NAN] * 4, flat=2) == [MISSING] * 4

    @given(
        st.lists(st.sampled_from([0.0, 1.0, -2.5, 8.0, NAN, INF]), max_size=24),
        st.sampled_from([-INF, -1.0, 0.0]),
        st.sampled_from([1.0, INF]),
        st.integers(0, 5),
    )
    def test_equals_the_definition(
        self, row: list[float], low: float, high: float, flat: int
    ) -> None:
        """Whatever the order of values and gaps."""
        assert codes(row, low, high, flat) == naive(row, low, high, flat)

    @pytest.mark.parametrize("fault", list(Fault))
    def test_words(self, fault: Fault) -> None:
        """Every fault has words for people."""
        assert fault.words
