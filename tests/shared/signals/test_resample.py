# SPDX-License-Identifier: Apache-2.0
"""Decimation without aliases."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import freqz

from fedmill_shared.signals.resample import Decimator, decimate, low_pass

FACTORS = [2, 3, 4, 10]


class TestLowPass:
    @pytest.mark.parametrize("factor", FACTORS)
    def test_response(self, factor: int) -> None:
        """Flat to 80 % of the new Nyquist frequency, 80 dB down from it on."""
        taps = low_pass(factor)
        assert taps.size % 2 == 1
        np.testing.assert_allclose(taps, taps[::-1], rtol=1e-12, atol=1e-15)
        frequency, response = freqz(taps, worN=16384, fs=2.0 * factor)  # new Nyquist is 1
        gain = 20 * np.log10(np.maximum(np.abs(response), 1e-12))
        assert np.abs(gain[frequency <= 0.8]).max() < 0.01
        assert gain[frequency >= 1.0].max() < -79.0


class TestDecimate:
    @given(factor=st.integers(1, 6), count=st.integers(0, 400), seed=st.integers(0, 99))
    def test_is_filter_then_every_nth(self, factor: int, count: int, seed: int) -> None:
        """The polyphase form equals the filter written out, for every length."""
        values = np.random.default_rng(seed).standard_normal((2, count))
        result = decimate(values, factor)
        assert result.shape == (2, -(-count // factor))
        if factor == 1 or count == 0:
            np.testing.assert_array_equal(result, values)
            return
        taps = low_pass(factor)
        half = taps.size // 2
        for row, outputs in zip(values, result, strict=True):
            longer = np.concatenate([np.full(half, row[0]), row, np.full(half, row[-1])])
            filtered = np.convolve(longer, taps, "valid")
            np.testing.assert_allclose(outputs, filtered[::factor], atol=1e-12)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_tone_in_the_pass_band_stays(self, factor: int) -> None:
        """Amplitude and phase are kept: output i is the input at sample i * factor."""
        time = np.arange(4000)
        tone = np.sin(2 * np.pi * 0.7 * 0.5 / factor * time)[np.newaxis]
        result = decimate(tone, factor)[0]
        expected = tone[0, ::factor]
        np.testing.assert_allclose(result[30:-30], expected[30:-30], atol=1e-3)

    @pytest.mark.parametrize("factor", FACTORS)
    def test_tone_above_the_new_nyquist_is_gone(self, factor: int) -> None:
        """Nothing folds back."""
        tone = np.sin(2 * np.pi * 1.1 * 0.5 / factor * np.arange(6000))[np.newaxis]
        assert np.abs(decimate(tone, factor)[0, 30:-30]).max() < 2e-4

    def test_constant_is_constant_to_the_edges(self) -> None:
        """The ends are continued, not faded."""
        np.testing.assert_allclose(decimate(np.full((1, 10), 3.5), 4), np.full((1, 3), 3.5))

    def test_missing_values_stay_missing_and_local(self) -> None:
        """A NaN is not made up, and reaches no further than the filter."""
        values = np.ones((1, 1000))
        values[0, 500] = np.nan
        missing = np.flatnonzero(np.isnan(decimate(values, 4)[0]))
        assert 125 in missing
        assert missing.min() >= 125 - 26
        assert missing.max() <= 125 + 26

    def test_integers_and_views_are_taken(self) -> None:
        """The input is neither changed nor kept."""
        values = np.arange(8.0)[np.newaxis]
        result = decimate(values, 1)
        result[:] = 0
        assert values[0, 7] == 7.0

    @pytest.mark.parametrize(("shape", "factor"), [((3, 5), 0), ((3, 5), -2), ((5,), 2)])
    def test_impossible_calls(self, shape: tuple[int, ...], factor: int) -> None:
        """A factor below 1, or an array that is not (channels, n)."""
        with pytest.raises(ValueError, match="cannot decimate"):
            decimate(np.zeros(shape), factor)


class TestDecimator:
    @given(
        st.integers(1, 6),
        st.integers(0, 500),
        st.lists(st.integers(0, 500), max_size=20),
        st.booleans(),
    )
    def test_pieces_make_no_difference(
        self,
        factor: int,
        count: int,
        cuts: list[int],
        gap: bool,  # noqa: FBT001  drawn
    ) -> None:
        """Bit for bit the same as the whole at once, which is what ``decimate`` gives."""
        values = np.random.default_rng(count).standard_normal((2, count))
        if gap:
            values[0, count // 2 : count // 2 + 2] = np.nan
        places = sorted({0, count, *[min(cut, count) for cut in cuts]})
        stream = Decimator(factor)
        made = [stream.push(values[:, a:b]) for a, b in pairwise(places)]
        whole = np.concatenate([*made, stream.finish().reshape(2, -1)], axis=1)
        assert whole.tobytes() == decimate(values, factor).tobytes()

    @pytest.mark.parametrize("factor", FACTORS)
    def test_delay(self, factor: int) -> None:
        """The first output comes with the input that is that far behind it, and no sooner."""
        stream = Decimator(factor)
        assert stream.push(np.ones((1, stream.delay))).shape == (1, 0)
        assert stream.push(np.ones((1, 1))).shape == (1, 1)
        assert stream.push(np.ones((1, factor - 1))).shape == (1, 0)
        assert stream.push(np.ones((1, 1))).shape == (1, 1)

    def test_begins_anew(self) -> None:
        """Behind its end nothing of the stream before is left."""
        stream, values = Decimator(3), np.random.default_rng(0).standard_normal((1, 100))
        stream.push(1e6 + values)
        stream.finish()
        found = np.concatenate((stream.push(values), stream.finish()), axis=1)
        assert found.tobytes() == decimate(values, 3).tobytes()

    def test_infinite_values(self) -> None:
        """Are missing, like others that are no number, and say nothing aloud."""
        values = np.ones((1, 500), np.float32)
        values[0, 250] = np.inf
        assert np.isnan(decimate(values, 2)[0, 125])
        with pytest.raises(ValueError, match="cannot decimate by 0"):
            Decimator(0)
