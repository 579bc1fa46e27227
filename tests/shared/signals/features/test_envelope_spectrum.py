# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from fedmill_shared.job.features import band_edges
from fedmill_shared.signals.features.envelope_spectrum import envelope_spectrum, squared_envelope
from fedmill_shared.signals.features.log_spectrum import log_spectrum

RATE, LENGTH = 8192, 8192


def impacts(every_hz: float, resonance_hz: float) -> NDArray[np.float64]:
    """A second of a resonance that is struck at a steady rate, in noise."""
    time = np.arange(LENGTH) / RATE
    since = time % (1 / every_hz)
    ring = np.exp(-800 * since) * np.sin(2 * np.pi * resonance_hz * since)
    return ring + 0.05 * np.random.default_rng(1).normal(size=LENGTH)


class TestSquaredEnvelope:
    @pytest.mark.parametrize("length", [100, 101])
    def test_equals_scipy(self, length: int) -> None:
        """The analytic signal of everything, of even and of odd lengths."""
        values = np.random.default_rng(0).normal(size=(2, 3, length))
        values -= values.mean(axis=2, keepdims=True)  # scipy keeps what is at 0 Hz
        expected = np.abs(signal.hilbert(values, axis=2)) ** 2
        found = squared_envelope(values, (1, length // 2))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    def test_of_a_band(self) -> None:
        """As scipy has it of a signal from which everything else was taken out."""
        values = np.random.default_rng(0).normal(size=(1, 1, 200))
        spectrum = np.fft.rfft(values, axis=2)
        spectrum[:, :, :20] = spectrum[:, :, 41:] = 0
        expected = np.abs(signal.hilbert(np.fft.irfft(spectrum, 200, axis=2), axis=2)) ** 2
        np.testing.assert_allclose(squared_envelope(values, (20, 40)), expected, atol=1e-12)

    def test_closed_form(self) -> None:
        """A carrier of amplitude 1 + m cos has an envelope of that, squared."""
        time = np.arange(512) / 512
        shape = 1 + 0.4 * np.cos(2 * np.pi * 5 * time)
        values = shape * np.cos(2 * np.pi * 100 * time)
        found = squared_envelope(values[None, None], (80, 120))[0, 0]
        np.testing.assert_allclose(found, shape**2, atol=1e-9)


class TestEnvelopeSpectrum:
    @pytest.mark.parametrize("every_hz", [37.0, 105.0, 162.0])
    def test_impacts_per_second(self, every_hz: float) -> None:
        """The band that holds their rate stands out, though the spectrum shows but a resonance."""
        edges = band_edges(200, 20)  # 10 Hz each
        values = impacts(every_hz, 2500.0)[None, None]
        found = envelope_spectrum(values, (2000, 3000), edges)[0, 0]
        assert found.argmax() == (every_hz - 0.5) // 10
        plain = log_spectrum(values, edges)[0, 0]
        assert plain.max() < found.max()
        assert np.ptp(plain) < np.ptp(found)

    def test_the_band_chooses_the_resonance(self) -> None:
        """Of two machines on one frame, the one that rings at 1 kHz strikes 40 times a second."""
        both = (impacts(40.0, 1000.0) + impacts(110.0, 3000.0))[None, None]
        edges = band_edges(150, 15)
        assert envelope_spectrum(both, (700, 1300), edges)[0, 0].argmax() == 3
        assert envelope_spectrum(both, (2700, 3300), edges)[0, 0].argmax() == 10

    def test_twice_the_amplitude(self) -> None:
        """The squared envelope's power grows by sixteen."""
        values = impacts(40.0, 1000.0)[None, None]
        edges = band_edges(100, 5)
        found = envelope_spectrum(2 * values, (1, 4096), edges)
        expected = envelope_spectrum(values, (1, 4096), edges) + np.log10(16)
        np.testing.assert_allclose(found, expected)
