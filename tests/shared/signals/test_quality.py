# SPDX-License-Identifier: Apache-2.0
"""Which values are good, and what is wrong with the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.signals.quality import Codes, Fault, Slope, inspect

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

    def test_values_at_the_ends_of_float32(self) -> None:
        """Their difference is none of 32 bits, and that of the smallest is still one."""
        row = [3.4e38, -3.4e38, -3.4e38, -3.4e38, 1e-45, 0.0, 1e-45]
        assert codes(row, flat=3) == [GOOD, FLAT, FLAT, FLAT, GOOD, GOOD, GOOD]

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


def spikes(row: list[float], step: float, held: int = 1) -> list[int]:
    """Positions of the spikes in one signal without any other limit."""
    values = np.array([row], np.float32)
    limits = np.full((2, 1, 1), INF, np.float32)
    return np.flatnonzero(
        inspect(values, -limits[0], limits[1], [0], [Slope(step, held)])[0] == Fault.SPIKE
    ).tolist()


def steep(row: list[float], step: float, held: int) -> list[int]:
    """Spikes by the definition: the longest stretch without a jump, and a walk to either side."""
    known = [i for i, value in enumerate(row) if np.isfinite(value)]

    def far(a: int, b: int) -> bool:
        return abs(row[a] - row[b]) > step * max(abs(a - b), held)

    stretches: list[list[int]] = []
    for before, here in zip([None, *known], known, strict=False):
        if before is None or far(before, here):
            stretches.append([])
        stretches[-1].append(here)
    anchor = max(stretches, key=len, default=[])
    found = []
    for walk in (
        [i for i in known if anchor and i >= anchor[-1]],
        [i for i in known[::-1] if anchor and i <= anchor[0]],
    ):
        good = walk[0] if walk else 0
        for i in walk:
            if far(good, i):
                found.append(i)
            else:
                good = i
    return sorted(found)


class TestSpikes:
    def test_one(self) -> None:
        """A value that the signal cannot have reached, and from which it came back."""
        assert spikes([1, 2, 3, 90, 5, 6], 2.0) == [3]

    def test_slow_changes_are_none(self) -> None:
        """Exactly as fast as it may, up and down, whatever float32 makes of the numbers."""
        assert spikes([0.1 * i for i in [0, 1, 2, 3, 2, 1, 0]], 0.1) == []
        assert spikes([1e6 + i / 16 for i in range(40)], 1 / 16) == []

    def test_several_in_a_row(self) -> None:
        """All of them, as far as the last good value does not allow more by then."""
        assert spikes([0, 0, 0, 0, 50, 51, 50, 0, 0], 2.0) == [4, 5, 6]
        assert spikes([0, 0, 0, 0, 0, 8, 8, 8, 8, 0], 2.0) == [5, 6, 7, 9]

    def test_a_new_level_is_believed_after_a_while(self) -> None:
        """It comes back: a machine that was switched on is no spike for ever."""
        row = [0.0] * 12 + [10.0] * 8
        assert spikes(row, 2.0) == [12, 13, 14, 15]
        assert spikes([0.0] * 8 + [10.0] * 12, 2.0) == [4, 5, 6, 7]

    def test_at_the_beginning_and_at_the_end(self) -> None:
        """The longest quiet stretch is believed, not the first value."""
        assert spikes([70, 71, 5, 6, 7, 8, 90], 2.0) == [0, 1, 6]

    def test_gaps_give_time(self) -> None:
        """What changed while nothing came may have changed slowly."""
        assert spikes([0, 0, 0, NAN, NAN, NAN, 8, 8], 2.0) == []
        assert spikes([0, 0, 0, NAN, NAN, NAN, 9, 9], 2.0) == [6]

    def test_held_values(self) -> None:
        """A signal that comes every fourth sample has had four samples to change."""
        row = [0.0] * 4 + [7.0] * 4 + [14.0] * 4
        assert spikes(row, 2.0, 4) == []
        assert spikes([*row[:8], *[40.0] * 4, *[14.0] * 4], 2.0, 4) == [8, 9, 10, 11]

    def test_what_is_bad_already_is_no_reference(self) -> None:
        """A value out of range says nothing about its neighbours."""
        values = np.array([[1, 2, 900, 3, 4]], np.float32)
        low, high = np.array([[0.0]], np.float32), np.array([[100.0]], np.float32)
        got = inspect(values, low, high, [0], [Slope(1.0)])
        assert got.tolist() == [[GOOD, GOOD, RANGE, GOOD, GOOD]]

    def test_nothing_to_compare(self) -> None:
        """One value, or none."""
        assert spikes([5.0], 1.0) == []
        assert spikes([NAN, NAN], 1.0) == []
        assert spikes([], 1.0) == []

    @given(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0, 40.0, NAN]), max_size=70),
        st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        st.integers(1, 4),
    )
    def test_equals_the_definition(self, row: list[float], step: float, held: int) -> None:
        """Of any signal, walked through value by value."""
        assert spikes(row, step, held) == (steep(row, step, held) if step else [])
