# SPDX-License-Identifier: Apache-2.0
"""Windows that begin with an event."""

from dataclasses import replace
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import DataError
from fedmill_shared.job import Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.signals.cutting import windower_for
from fedmill_shared.signals.triggered import Trigger, TriggeredWindower
from fedmill_shared.signals.windows import Window, Windower

NAN = float("nan")
START, PERIOD = 1000, 10


def feed(windower: Windower, row: list[float], cuts: list[int] | None = None) -> list[Window]:
    """Two signals: the number of each sample, and the trigger signal ``row``."""
    values = np.array([range(len(row)), row], np.float32)
    found: list[Window] = []
    for first, last in pairwise([0, *sorted(cuts or []), len(row)]):
        at = START + first * PERIOD
        found += windower.push("run", "unit", at, PERIOD, values[:, first:last])
    return found + windower.end("run")


def starts(row: list[float], length: int, **fields: Any) -> list[int]:
    """First samples of the windows."""
    trigger = Trigger(**{"signal": 1, "level": 5.0, **fields})
    return [int(each.values[0, 0]) for each in feed(TriggeredWindower(length, trigger), row)]


def oracle(row: list[float], length: int, trigger: Trigger) -> list[int]:
    """First samples of the windows, sample by sample."""
    found: list[int] = []
    armed, end = False, 0
    for i, value in enumerate(row):
        if not isfinite(value):
            continue
        beyond = value <= trigger.level if trigger.falling else value >= trigger.level
        away = trigger.level - value if not trigger.falling else value - trigger.level
        if beyond:
            first = i - trigger.before
            if armed and i >= end and first >= 0:
                end = first + length
                if end <= len(row):
                    found.append(first)
            armed = False
        elif away > trigger.hysteresis:
            armed = True
    return found


class TestTriggered:
    def test_a_stroke(self) -> None:
        """Each begins with the first sample at the level, however long it stays there."""
        assert starts([0, 0, 5, 9, 9, 9, 0, 0, 6, 0, 0], 3) == [2, 8]

    def test_samples_before(self) -> None:
        """They belong to the window; the first crossing has too few of them."""
        row = [0, 9, 0, 0, 0, 9, 0, 0, 0]
        assert starts(row, 4, before=2) == [3]
        assert starts(row, 4, before=1) == [0, 4]

    def test_noise_at_the_level(self) -> None:
        """Begins one window with hysteresis, and three without."""
        row = [0, 5, 4.8, 5.1, 4.9, 5.2, 0, 0, 5]
        assert starts(row, 1) == [1, 3, 5, 8]
        assert starts(row, 1, hysteresis=1.0) == [1, 8]

    def test_falling(self) -> None:
        """From above to the level or below it."""
        assert starts([9, 9, 5, 0, 9, 4, 9], 1, falling=True) == [2, 5]

    def test_a_run_that_begins_beyond(self) -> None:
        """Has not crossed yet."""
        assert starts([9, 9, 0, 9, 9], 2) == [3]

    def test_inside_a_window(self) -> None:
        """A second stroke begins none, nor does one that goes on behind it."""
        assert starts([0, 9, 0, 9, 9, 9, 9, 0, 9, 9, 9, 9], 4) == [1, 8]

    def test_missing_values(self) -> None:
        """Neither cross nor come back: the one behind them decides."""
        assert starts([0, NAN, NAN, 9, NAN, 9, 0, NAN, 9], 1) == [3, 8]

    def test_values_that_cannot_be(self) -> None:
        """What a broken wire or a sensor's error number says begins no window, nor arms."""
        assert starts([9, -999, 9, 8, 4, 9, 9], 1, falling=True, low=0.0, high=10.0) == [4]
        assert starts([9, 0, 99, 9, -999, 9, 0, 9], 1, low=0.0, high=10.0) == [3, 7]

    def test_bounds_beyond_float32(self) -> None:
        """Bound nothing."""
        assert starts([0, 9, 0, 9], 1, low=-1e300, high=1e300) == [1, 3]

    def test_part_of_a_stroke(self) -> None:
        """Is left out at the end of a run."""
        assert starts([0, 9, 9, 0, 9, 9], 3) == [1]

    @given(
        st.lists(st.sampled_from([0.0, 3.0, 4.0, 4.5, 5.0, 6.0, NAN]), max_size=80),
        st.integers(1, 9),
        st.builds(
            Trigger,
            signal=st.just(1),
            level=st.just(4.5),
            falling=st.booleans(),
            hysteresis=st.sampled_from([0.0, 1.0, 2.0]),
            before=st.integers(0, 8),
        ),
        st.lists(st.integers(0, 80), max_size=12),
    )
    def test_any_chunking_equals_the_definition(
        self,
        row: list[float],
        length: int,
        trigger: Trigger,
        cuts: list[int],
    ) -> None:
        """The same windows, with the same numbers and times."""
        trigger = replace(trigger, before=min(trigger.before, length - 1))
        cuts = [min(cut, len(row)) for cut in cuts]
        found = feed(TriggeredWindower(length, trigger), row, cuts)
        assert [int(each.values[0, 0]) for each in found] == oracle(row, length, trigger)
        for index, window in enumerate(found):
            first = int(window.values[0, 0])
            expected = np.array([range(len(row)), row], np.float32)[:, first : first + length]
            np.testing.assert_array_equal(window.values, expected)
            assert (window.index, window.start_ns) == (index, START + first * PERIOD)
            assert window.end_ns == START + (first + length - 1) * PERIOD

    def test_a_gap(self) -> None:
        """No window spans it, and what was below before it is forgotten."""
        windower = TriggeredWindower(3, Trigger(0, 5.0))
        rows = [[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 9.0, 8.0, 7.0]]
        found = []
        for at, row in zip((0, 10**6), rows, strict=True):
            found += windower.push("r", "u", at, PERIOD, np.array([row], np.float32))
        assert [each.values[0].tolist() for each in found] == [[9.0, 8.0, 7.0]]

    def test_memory_is_bounded(self) -> None:
        """A run keeps what may belong to the next window, or the one that has begun."""
        windower = TriggeredWindower(10, Trigger(0, 5.0, before=4))
        for first in range(0, 1000, 3):
            row = (np.arange(first, first + 3) % 50 == 0) * 9.0
            windower.push("r", "u", first * PERIOD, PERIOD, row[None].astype(np.float32))
            kept = windower._runs["r"].pieces
            assert kept._values.shape[1] <= 10
            assert kept._values.base is None

    def test_a_run_cannot_change(self) -> None:
        """As with windows at a stride."""
        windower = TriggeredWindower(3, Trigger(0, 5.0))
        windower.push("r", "u", 0, PERIOD, np.zeros((1, 2), np.float32))
        with pytest.raises(DataError, match="changes its unit"):
            windower.push("r", "v", 2 * PERIOD, PERIOD, np.zeros((1, 2), np.float32))


class TestWindowerFor:
    SIGNALS = (Signal(name="force"), Signal(name="ram"))

    def test_a_stride(self) -> None:
        """Unless the job names a trigger."""
        made = windower_for(self.SIGNALS, WindowSettings(length=4, stride=2))
        assert len(feed(made, [0.0] * 8)) == 3

    def test_a_trigger(self) -> None:
        """Of the signal with that name, as the job says."""
        window = WindowSettings(
            length=4,
            trigger="ram",
            trigger_level=5.0,
            trigger_edge="falling",
            trigger_hysteresis=1.0,
            trigger_before=1,
        )
        found = feed(windower_for(self.SIGNALS, window), [9, 9, 5, 5.5, 5, 0, 9, 0, 0, 0])
        assert [int(each.values[0, 0]) for each in found] == [1, 6]

    def test_only_what_is_plausible(self) -> None:
        """The range of the signal holds for what begins a window, too."""
        signals = (Signal(name="force"), Signal(name="ram", range=[0.1, 100.0]))
        window = WindowSettings(length=2, trigger="ram", trigger_level=5.0, trigger_edge="falling")
        row = [9, -999, 9, 9, 4, 9, 9, 0.1, 9]
        found = feed(windower_for(signals, window), row)
        assert [int(each.values[0, 0]) for each in found] == [4, 7]
