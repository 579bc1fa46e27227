# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.signals.windows import Pad, Window, Windower

START, PERIOD = 1_000_000, 40


def ramp(samples: int, signals: int = 2, first: int = 0) -> NDArray[np.float32]:
    """Signal s at sample i is 1000 s + i."""
    return (np.arange(first, first + samples) + 1000 * np.arange(signals)[:, None]).astype("f4")


def oracle(values: NDArray[np.float32], length: int, stride: int, pad: Pad) -> list[list[int]]:
    """Sample numbers of each window, straight from the definition."""
    samples = values.shape[1]
    places = list(range(samples))
    if pad == "edge" and samples:
        places = [0] * (length - 1) + places
    starts = [first for first in range(0, len(places), stride) if first + length <= len(places)]
    windows = [places[first : first + length] for first in starts]
    if windows and starts[-1] + length != len(places):
        windows.append(places[-length:])
    return windows


def feed(windower: Windower, values: NDArray[np.float32], cuts: list[int]) -> list[Window]:
    """Everything the run gives when it is pushed in pieces that end at ``cuts``."""
    found: list[Window] = []
    edges = [0, *sorted(cuts), values.shape[1]]
    for first, last in pairwise(edges):
        at = START + first * PERIOD
        found += windower.push("run", "unit", at, PERIOD, values[:, first:last])
    return found + windower.end("run")


class TestCutting:
    @given(
        st.integers(0, 60),
        st.integers(1, 12),
        st.integers(1, 20),
        st.sampled_from(["none", "edge"]),
        st.lists(st.integers(0, 60), max_size=12),
    )
    def test_any_chunking_equals_the_definition(
        self, samples: int, length: int, stride: int, pad: Pad, cuts: list[int]
    ) -> None:
        """Whatever the chunks, values, times and numbers are those of the whole recording."""
        values = ramp(samples)
        windows = feed(Windower(length, stride, pad), values, [c for c in cuts if c <= samples])
        expected = oracle(values, length, stride, pad)
        assert [window.values.tolist() for window in windows] == [
            values[:, places].tolist() for places in expected
        ]
        assert [(w.start_ns, w.end_ns) for w in windows] == [
            (START + p[0] * PERIOD, START + p[-1] * PERIOD) for p in expected
        ]
        assert [window.index for window in windows] == list(range(len(expected)))

    def test_literal_windows_with_a_tail(self) -> None:
        """Seven samples, length 4, stride 2: two regular windows and one on the last sample."""
        windows = feed(Windower(4, 2), ramp(7, signals=1), [])
        assert [window.values[0].tolist() for window in windows] == [
            [0, 1, 2, 3],
            [2, 3, 4, 5],
            [3, 4, 5, 6],
        ]

    def test_a_run_begins_with_its_first_sample_repeated(self) -> None:
        """The first window ends on the first sample; times are those of real samples."""
        first, second = feed(Windower(5, 5, "edge"), ramp(2), [])
        assert first.values.tolist() == [[0, 0, 0, 0, 0], [1000, 1000, 1000, 1000, 1000]]
        assert second.values.tolist() == [[0, 0, 0, 0, 1], [1000, 1000, 1000, 1000, 1001]]
        assert (first.start_ns, first.end_ns) == (START, START)
        assert (second.start_ns, second.end_ns) == (START, START + PERIOD)
        assert (first.run, first.unit) == ("run", "unit")

    def test_good_share_counts_missing_values(self) -> None:
        """Three of eight values are missing."""
        values = ramp(4)
        values[0, 1:3] = np.nan
        values[1, 0] = np.inf
        (window,) = feed(Windower(4, 4), values, [2])
        assert window.good_share == 5 / 8

    def test_windows_own_their_values(self) -> None:
        """Changing the source's array afterwards changes no window."""
        values = ramp(4)
        (window,) = Windower(4, 4).push("run", "unit", START, PERIOD, values)
        values[:] = -1
        assert window.values.tolist() == ramp(4).tolist()
        assert window.values.flags.c_contiguous
        assert window.values.dtype == np.float32


class TestRuns:
    def test_runs_never_mix(self) -> None:
        """Two interleaved runs give what each would give alone."""
        both, found = Windower(4, 3), []
        for first in range(0, 12, 2):
            at = START + first * PERIOD
            found += both.push("a", "one", at, PERIOD, ramp(2, first=first))
            found += both.push("b", "two", at, PERIOD, -ramp(2, first=first))
        found += both.end("a") + both.end("b")
        for run, sign in (("a", 1), ("b", -1)):
            alone = feed(Windower(4, 3), sign * ramp(12), [])
            mine = [window.values.tolist() for window in found if window.run == run]
            assert mine == [window.values.tolist() for window in alone]

    def test_the_least_recently_pushed_run_is_ended(self) -> None:
        """With two open runs allowed, a third ends the one that was quiet longest."""
        windower = Windower(4, 4, runs=2)
        for run, at in (("a", 0), ("b", 0), ("a", 5)):
            windower.push(run, "unit", START + at * PERIOD, PERIOD, ramp(5, first=at))
        (window, *_) = windower.push("c", "unit", START, PERIOD, ramp(1))
        assert (window.run, windower.evicted) == ("b", 1)
        assert windower.end("b") == []

    def test_memory_is_bounded(self) -> None:
        """However much is pushed, a run keeps no more than one window."""
        windower = Windower(10, 7)
        for first in range(0, 1000, 3):
            windower.push("run", "unit", START + first * PERIOD, PERIOD, ramp(3, first=first))
            kept = windower._runs["run"].pieces
            assert kept._values.shape[1] <= 10
            assert kept._values.base is None

    def test_an_unknown_run_ends_quietly(self) -> None:
        """The end of a run that delivered nothing gives nothing."""
        assert Windower(4, 4, "edge").end("never") == []

    @pytest.mark.parametrize(
        ("unit", "period", "signals", "what"),
        [("other", PERIOD, 2, "unit"), ("unit", 41, 2, "period"), ("unit", PERIOD, 3, "signals")],
    )
    def test_a_run_cannot_change(self, unit: str, period: int, signals: int, what: str) -> None:
        """Another unit, period or width inside a run is refused, and the run goes on."""
        windower = Windower(4, 4)
        windower.push("run", "unit", START, PERIOD, ramp(2))
        with pytest.raises(DataError, match=what):
            windower.push("run", unit, START + 2 * PERIOD, period, ramp(2, signals))
        assert len(windower.push("run", "unit", START + 2 * PERIOD, PERIOD, ramp(2))) == 1


class TestTime:
    def test_no_window_spans_a_gap(self) -> None:
        """A missing sample starts the cutting afresh; numbers go on; nothing is padded."""
        windower = Windower(3, 3, "edge")
        found = windower.push("run", "unit", START, PERIOD, ramp(5))
        found += windower.push("run", "unit", START + 6 * PERIOD, PERIOD, ramp(4, first=6))
        found += windower.push("run", "unit", START + 99 * PERIOD, PERIOD, ramp(1, first=99))
        found += windower.end("run")
        assert [w.values[0].tolist() for w in found] == [
            [0, 0, 0],
            [1, 2, 3],
            [2, 3, 4],
            [6, 7, 8],
            [7, 8, 9],
        ]
        assert [window.index for window in found] == [0, 1, 2, 3, 4]

    def test_old_samples_are_left_out_and_counted(self) -> None:
        """A source that sends its last two samples again does not double them."""
        windower = Windower(6, 6)
        windower.push("run", "unit", START, PERIOD, ramp(4))
        assert windower.push("run", "unit", START, PERIOD, ramp(1)) == []
        (window,) = windower.push("run", "unit", START + 2 * PERIOD, PERIOD, ramp(4, first=2))
        assert window.values[0].tolist() == [0, 1, 2, 3, 4, 5]
        assert windower.late == 3

    def test_a_rounded_period_is_no_gap(self) -> None:
        """At 48 kHz the period is rounded to 20833 ns; chunks of 65536 stay in one piece."""
        windower, chunk = Windower(1 << 17, 1 << 17), 1 << 16
        windower.push("run", "unit", 0, 20833, ramp(chunk, 1))
        (window,) = windower.push("run", "unit", chunk * 10**9 // 48000, 20833, ramp(chunk, 1))
        assert window.values.shape == (1, 1 << 17)
        assert windower.late == 0
