# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from fedmill_shared.job.features import band_edges
from fedmill_shared.signals.features.bands import FLOOR, powers
from fedmill_shared.signals.features.log_spectrum import log_spectrum


class TestPowers:
    @given(st.integers(2, 70), st.integers(0, 1000))
    def test_parseval(self, length: int, seed: int) -> None:
        """No power is lost between samples and bins, of even and of odd lengths."""
        values = 5.0 + np.random.default_rng(seed).normal(size=length)
        window = signal.windows.hann(length, sym=False)
        left = window * (values - (window * values).sum() / window.sum())
        expected = np.square(left).sum() / np.square(window).sum()
        found = powers(values[None, None])
        assert found.shape == (1, 1, length // 2)
        assert found.sum() == pytest.approx(expected, rel=1e-9, abs=1e-20)

    @pytest.mark.parametrize("length", [64, 81])
    def test_equals_scipy(self, length: int) -> None:
        """Its periodogram with the same window, integrated over a bin."""
        values = np.random.default_rng(3).normal(size=(2, 3, length))
        window = signal.windows.hann(length, sym=False)
        centred = values - (values * window).sum(axis=2, keepdims=True) / window.sum()
        _, density = signal.periodogram(centred, fs=1.0, window=window, detrend=False)
        np.testing.assert_allclose(powers(values), density[:, :, 1:] / length, rtol=1e-9)

    def test_an_offset_has_no_power(self) -> None:
        """A pressure of 200 bar is no vibration."""
        values = np.random.default_rng(4).normal(size=(1, 1, 128))
        np.testing.assert_allclose(powers(values + 200.0), powers(values), rtol=1e-9)


class TestLogSpectrum:
    @pytest.mark.parametrize("band", range(8))
    def test_a_tone_is_in_one_band(self, band: int) -> None:
        """With all its power, amplitude^2 / 2; next to nothing is in the others."""
        length, edges = 256, band_edges(128, 8)
        tone = edges[band] + 8  # the middle of 16 bins
        values = 3.0 * np.sin(2 * np.pi * tone * np.arange(length) / length + 0.3)
        found = log_spectrum(values[None, None], edges)[0, 0]
        assert found[band] == pytest.approx(np.log10(4.5), abs=1e-9)
        assert np.delete(found, band).max() < -20

    def test_silence(self) -> None:
        """A logarithm of nothing would be no number."""
        found = log_spectrum(np.full((1, 1, 32), 7.5), band_edges(16, 4))
        assert (found <= np.log10(FLOOR) + 1).all()
        assert np.isfinite(found).all()

    def test_ten_times_as_loud(self) -> None:
        """Adds two to every band."""
        values = np.random.default_rng(5).normal(size=(1, 1, 100))
        edges = band_edges(50, 7)
        np.testing.assert_allclose(
            log_spectrum(10.0 * values, edges), log_spectrum(values, edges) + 2.0
        )

    @given(st.integers(1, 200), st.integers(1, 128))
    def test_every_bin_is_in_a_band(self, bins: int, bands: int) -> None:
        """Bands differ by at most one bin in width; none is empty if there are bins for all."""
        edges = band_edges(bins, bands)
        widths = np.diff(edges)
        assert (edges[0], edges[-1]) == (0, bins)
        assert widths.max() - widths.min() <= 1
        assert bands > bins or widths.min() >= 1
