# SPDX-License-Identifier: Apache-2.0
"""Signals of different rates on the one rate of a window."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.signals.rates import Chunk, Resampler, factor_of
from fedmill_shared.signals.resample import decimate

NAN = float("nan")
START, PERIOD = 10**9, 10**7  # 100 Hz


def feed(
    resampler: Resampler, values: NDArray[np.float32], cuts: list[int], period: int = PERIOD
) -> list[Chunk]:
    """Everything that comes of ``values`` (signals, n), pushed in pieces."""
    made = []
    places = sorted({0, values.shape[1], *[min(cut, values.shape[1]) for cut in cuts]})
    for first, last in pairwise(places):
        made += resampler.push("run", "u", START + first * period, period, values[:, first:last])
    return made + resampler.end("run")


def joined(chunks: list[Chunk]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Times (n,) and values (signals, n) of all chunks."""
    times = [each.start_ns + each.period_ns * np.arange(each.values.shape[1]) for each in chunks]
    return np.concatenate(times), np.concatenate([each.values for each in chunks], axis=1)


class TestFactor:
    @pytest.mark.parametrize(
        ("period_ns", "window_hz", "factor"),
        [
            (10**7, 100.0, 1),
            (10**7, 50.0, 2),
            (20_833, 12_000.0, 4),  # 48 kHz in whole ns
            (10**7, 33.0, 1),  # no whole number
            (10**7, 200.0, 1),  # slower than the window
            (1, 1.0, 1),  # beyond any filter
        ],
    )
    def test_whole_numbers(self, period_ns: int, window_hz: float, factor: int) -> None:
        """Only these decimate."""
        assert factor_of(period_ns, window_hz) == factor


class TestHold:
    def test_a_value_every_fourth_sample(self) -> None:
        """Stands for those between; the fast signal is untouched, with its gap."""
        fast = np.array([1, 2, NAN, 4, 5, 6, 7, 8, 9], np.float32)
        slow = np.array([10, NAN, NAN, NAN, 20, NAN, NAN, NAN, 30], np.float32)
        [chunk] = feed(Resampler([100.0, 25.0], [False, False]), np.stack([fast, slow]), [])
        np.testing.assert_array_equal(chunk.values[0], fast)
        assert chunk.values[1].tolist() == [10, 10, 10, 10, 20, 20, 20, 20, 30]
        assert (chunk.start_ns, chunk.period_ns) == (START, PERIOD)

    def test_not_for_ever(self) -> None:
        """One that lags by a sample is no fault; one that stays away is missing."""
        slow = np.array([NAN, 10] + [NAN] * 7, np.float32)
        [chunk] = feed(Resampler([100.0, 25.0], [False, False]), np.stack([slow, slow]), [])
        np.testing.assert_array_equal(chunk.values[1], [NAN] + [10] * 5 + [NAN] * 3)

    def test_a_rate_that_is_no_part(self) -> None:
        """30 Hz beside 100 Hz: up to four samples without a value."""
        slow = np.array([1] + [NAN] * 6, np.float32)
        [chunk] = feed(Resampler([100.0, 30.0], [False, False]), np.stack([slow, slow]), [])
        np.testing.assert_array_equal(chunk.values[1], [1] * 5 + [NAN] * 2)

    def test_a_gap_in_time_counts(self) -> None:
        """What was held an hour ago says nothing now."""
        resampler = Resampler([100.0, 1.0], [False, False])
        resampler.push("run", "u", START, PERIOD, np.ones((2, 3), np.float32))
        later = np.array([[1, 1], [NAN, NAN]], np.float32)
        [near] = resampler.push("run", "u", START + 50 * PERIOD, PERIOD, later)
        assert near.values[1].tolist() == [1, 1]
        [far] = resampler.push("run", "u", START + 1000 * PERIOD, PERIOD, later)
        assert np.isnan(far.values[1]).all()

    def test_runs_never_mix(self) -> None:
        """A part begins without the values of the one before."""
        resampler = Resampler([100.0, 1.0], [False, False])
        resampler.push("a", "u", START, PERIOD, np.ones((2, 3), np.float32))
        nothing = np.full((2, 2), NAN, np.float32)
        [chunk] = resampler.push("b", "u", START + 3 * PERIOD, PERIOD, nothing)
        assert np.isnan(chunk.values).all()
        resampler.end("a")
        [chunk] = resampler.push("a", "u", START + 3 * PERIOD, PERIOD, nothing)
        assert np.isnan(chunk.values).all()

    def test_old_samples_change_nothing(self) -> None:
        """The newest value is held, whatever comes late."""
        resampler = Resampler([100.0, 1.0], [False, False])
        resampler.push("run", "u", START + 5 * PERIOD, PERIOD, np.full((2, 1), 5.0, np.float32))
        resampler.push("run", "u", START, PERIOD, np.full((2, 1), 4.0, np.float32))
        nothing = np.full((2, 1), NAN, np.float32)
        [chunk] = resampler.push("run", "u", START + 6 * PERIOD, PERIOD, nothing)
        assert chunk.values[1].tolist() == [5.0]

    def test_a_clock_that_is_centuries_off(self) -> None:
        """Is told, before any time overflows."""
        resampler = Resampler([100.0, 1.0], [False, False])
        with pytest.raises(DataError, match="within 230 years"):
            resampler.push("run", "u", 1 << 63, PERIOD, np.ones((2, 1), np.float32))

    def test_memory_is_bounded(self) -> None:
        """Of more than two runs the least recent is forgotten."""
        resampler = Resampler([100.0, 1.0], [False, False], runs=2)
        for run in "abca":
            resampler.push(run, "u", START, PERIOD, np.ones((2, 1), np.float32))
        assert list(resampler._runs) == ["c", "a"]


class TestDecimation:
    def test_equals_decimate(self) -> None:
        """The filtered signal; what is slow or switched keeps its own values."""
        generator = np.random.default_rng(0)
        fast = generator.normal(size=997)
        slow = np.full(997, NAN)
        slow[::50] = np.arange(20)
        switched = (np.arange(997) // 123) % 2
        values = np.stack([fast, slow, switched]).astype(np.float32)
        resampler = Resampler([25.0, 2.0, 25.0], [False, False, True])
        times, found = joined(feed(resampler, values, []))
        np.testing.assert_array_equal(times, START + 4 * PERIOD * np.arange(250))
        expected = decimate(values[:1].astype(np.float64), 4)[0].astype(np.float32)
        assert found[0].tobytes() == expected.tobytes()
        assert found[1].tolist() == [4 * i // 50 for i in range(250)]
        assert found[2].tolist() == switched[::4].tolist()

    @given(
        st.integers(1, 700),
        st.lists(st.integers(0, 700), max_size=12),
        st.sampled_from([25.0, 50.0, 100.0]),
        st.sets(st.integers(0, 699), max_size=3),
    )
    def test_pieces_make_no_difference(
        self, count: int, cuts: list[int], window_hz: float, missing: set[int]
    ) -> None:
        """Bit for bit, with their times."""
        values = np.random.default_rng(count).normal(size=(3, count)).astype(np.float32)
        values[:, [i for i in missing if i < count]] = np.nan

        def made(cuts: list[int]) -> tuple[bytes, bytes]:
            resampler = Resampler([window_hz, window_hz / 8, window_hz], [False, False, True])
            times, found = joined(feed(resampler, values, cuts))
            return times.tobytes(), found.tobytes()

        assert made(cuts) == made([])

    def test_a_gap(self) -> None:
        """Nothing is filtered across it: both parts are as if alone."""
        values = np.random.default_rng(1).normal(size=(1, 300)).astype(np.float32)
        both, alone = Resampler([25.0], [False]), Resampler([25.0], [False])
        made = both.push("run", "u", START, PERIOD, values[:, :150])
        made += both.push("run", "u", START + 10**12, PERIOD, values[:, 150:])
        made += both.end("run")
        times, found = joined(made)
        first = joined(feed(alone, values[:, :150], []))
        second = joined(feed(alone, values[:, 150:], []))
        np.testing.assert_array_equal(found, np.concatenate((first[1], second[1]), axis=1))
        np.testing.assert_array_equal(times, np.concatenate((first[0], second[0] + 10**12)))

    def test_samples_that_came_before(self) -> None:
        """A broker that sends twice makes no sample twice."""
        values = np.random.default_rng(2).normal(size=(1, 200)).astype(np.float32)
        once, twice = Resampler([25.0], [False]), Resampler([25.0], [False])
        expected = joined(feed(once, values, []))
        made = twice.push("run", "u", START, PERIOD, values[:, :120])
        made += twice.push("run", "u", START + 100 * PERIOD, PERIOD, values[:, 100:])
        made += twice.push("run", "u", START, PERIOD, values[:, :50])
        found = joined(made + twice.end("run"))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])

    def test_a_tone_that_would_fold_back(self) -> None:
        """45 Hz, sampled at 100 Hz, is not seen as 5 Hz at 25 Hz."""
        time = np.arange(2000) / 100
        values = np.stack([np.sin(2 * np.pi * 45 * time), np.sin(2 * np.pi * 3 * time)])
        times, found = joined(
            feed(Resampler([25.0, 25.0], [False, False]), values.astype(np.float32), [700])
        )
        assert np.abs(found[0, 30:-30]).max() < 1e-3
        seconds = (times - START) / 1e9
        expected = np.sin(2 * np.pi * 3 * seconds)
        np.testing.assert_allclose(found[1, 30:-30], expected[30:-30], atol=1e-3)

    def test_another_period(self) -> None:
        """A run that changes its rate begins afresh; the windower says what it thinks of that."""
        resampler = Resampler([25.0], [False])
        first = resampler.push("run", "u", START, PERIOD, np.ones((1, 8), np.float32))
        second = resampler.push(
            "run", "u", START + 8 * PERIOD, 4 * PERIOD, np.ones((1, 3), np.float32)
        )
        assert first == []
        assert [each.values.shape[1] for each in second] == [2, 3]

    def test_periods_of_whole_nanoseconds(self) -> None:
        """48 kHz to 12 kHz over many samples: chunks stay on the times of their inputs."""
        resampler = Resampler([12_000.0], [False])
        exact = 1e9 / 48_000
        made = []
        for first in range(0, 200_000, 50_000):
            values = np.zeros((1, 50_000), np.float32)
            made += resampler.push("run", "u", START + round(first * exact), 20_833, values)
        starts = np.array([each.start_ns for each in made])
        counts = np.cumsum([0, *[each.values.shape[1] for each in made[:-1]]])
        assert np.abs(starts - START - counts * 4 * exact).max() < 20_833
