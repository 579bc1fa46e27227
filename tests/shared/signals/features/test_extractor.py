# SPDX-License-Identifier: Apache-2.0
"""All steps of a job together: the rows that the model gets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.job import Features, Signal, Window
from fedmill_shared.job.features import STATISTICS, channels, feature_names, grid_of
from fedmill_shared.signals.features import Extractor

ALL = ["time_statistics", "log_spectrum", "envelope_spectrum"]
SIGNALS = [
    Signal(name="vibration", unit="g", rate_hz=1000.0),
    Signal(name="load", rate_hz=1000.0, role="regime"),
    Signal(name="current", unit="A", rate_hz=1000.0),
]


def extractor(length: int = 64, **fields: Any) -> Extractor:
    """Of three signals, with bands that fit short windows."""
    features = Features(**{"steps": ALL, "bands": 5, "envelope_bands": 3, **fields})
    return Extractor.of(SIGNALS, Window(length=length), features)


class TestExtractor:
    def test_rows(self) -> None:
        """Signal by signal in the job's order; an operating condition is its mean."""
        windows = np.random.default_rng(0).normal(size=(4, 3, 64)).astype(np.float32)
        features = Features(steps=["time_statistics"])
        found = Extractor.of(SIGNALS, Window(length=64), features).apply(windows)
        rows = [row.name for row in channels(SIGNALS, Window(length=64), features)]
        assert found.shape == (4, len(rows), 1)
        assert found.dtype == np.float32
        by_name = dict(zip(rows, found[:, :, 0].T, strict=True))
        assert rows == [
            *(f"vibration.{name}" for name in STATISTICS),
            "load",
            *(f"current.{name}" for name in STATISTICS),
        ]
        exact = windows.astype(np.float64)
        np.testing.assert_allclose(by_name["load"], exact[:, 1].mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(by_name["current.peak"], np.abs(exact[:, 2]).max(axis=1))
        np.testing.assert_allclose(by_name["vibration.deviation"], exact[:, 0].std(axis=1))

    @given(st.integers(1, 5), st.integers(0, 99), st.sampled_from([10, 63, 64, 1000]))
    def test_company_makes_no_difference(self, count: int, seed: int, length: int) -> None:
        """Bit for bit: a window alone, as when it is scored, and among others."""
        made = extractor(length, envelope_top=400.0)
        generator = np.random.default_rng(seed)
        windows = generator.normal(size=(count, 3, length)).astype(np.float32)
        alone = [made.apply(window[None])[0].tobytes() for window in windows]
        assert [each.tobytes() for each in made.apply(windows)] == alone
        mixed = generator.permutation(count)
        assert [each.tobytes() for each in made.apply(windows[mixed])] == [alone[i] for i in mixed]
        strided = np.asfortranarray(windows)
        assert made.apply(strided).tobytes() == b"".join(alone)

    def test_signals_in_parts_as_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """To spare memory, few long signals are transformed at a time; the bits are the same."""
        made = extractor(1000, envelope_top=400.0)
        windows = np.random.default_rng(0).normal(size=(2, 3, 1000)).astype(np.float32)
        whole = made.apply(windows)
        monkeypatch.setattr("fedmill_shared.signals.features._TOGETHER", 1)
        assert made.apply(windows).tobytes() == whole.tobytes()

    @pytest.mark.parametrize("level", [0.0, 1.0, -3e38, 3e38, 1e-40])
    def test_always_numbers(self, level: float) -> None:
        """Whatever float32 holds; the store takes nothing else."""
        windows = np.full((2, 3, 64), level, np.float32)
        windows[1, :, ::2] *= -1
        assert np.isfinite(extractor().apply(windows)).all()

    def test_names_are_the_features(self) -> None:
        """One for each, with the frequencies that its band covers."""
        features = Features(steps=["envelope_spectrum", "log_spectrum"], bands=2, envelope_bands=2)
        names = feature_names(grid_of(SIGNALS, Window(length=64)), features)
        assert names == [
            "envelope_0-31.25_hz",
            "envelope_31.25-62.5_hz",
            "spectrum_0-250_hz",
            "spectrum_250-500_hz",
        ]
        found = Extractor.of(SIGNALS[:1], Window(length=64), features)
        assert found.apply(np.ones((1, 1, 64), np.float32)).shape == (1, 4, 1)

    def test_a_tone_and_its_name(self) -> None:
        """300 Hz at 1 kHz is in the row that says so."""
        time = np.arange(1000) / 1000
        windows = np.zeros((1, 3, 1000), np.float32)
        windows[0, 0] = np.sin(2 * np.pi * 300 * time)
        features = Features(steps=["log_spectrum"], bands=5)
        window = Window(length=1000)
        found = Extractor.of(SIGNALS, window, features).apply(windows)[0, :5, 0]
        rows = channels(SIGNALS, window, features)
        # the tone stands in the last bin of its band, and spreads into the next one
        assert sorted(rows[i].name for i in np.argsort(found)[-2:]) == [
            "vibration.spectrum_200-300_hz",
            "vibration.spectrum_300-400_hz",
        ]
