# SPDX-License-Identifier: Apache-2.0
"""From what activations reach to scales and limits."""

import numpy as np
import pytest
from tests.agent.inference.int8.stand import a_convolving_job, form_of, values
from tests.agent.kit import Versions

from fedmill_agent.inference.int8.calibration import HEADROOM, Extremes
from fedmill_shared.errors import ModelError
from fedmill_shared.models.quantised import REDUCED_LEVELS, Quantised, ranges_session


class Said:
    """A graph that says these ranges."""

    def __init__(self, ranges: np.ndarray) -> None:
        self._ranges = ranges

    def run(self, windows: np.ndarray) -> np.ndarray:
        """As many rows as windows."""
        return self._ranges[: len(windows)]


def extremes(low: np.ndarray, high: np.ndarray) -> Extremes:
    """Extremes (n, points) of n windows that are all zero."""
    nothing = np.zeros((len(low), 1), np.float32)
    return Extremes(low.astype(np.float32), high.astype(np.float32), nothing, nothing)


class TestRanges:
    def test_are_those_of_the_float32_graph(self) -> None:
        """Of each window: the input's is that of the standardised signal, in any portions."""
        versions = Versions(a_convolving_job())
        form, given = form_of(versions), values(10)
        ranges = ranges_session(form, versions.newest.vector)
        found = Extremes.of(ranges, form, [given[:3], given[3:]])
        np.testing.assert_allclose(found.low[:, 0], given.min((1, 2)), rtol=1e-6)
        np.testing.assert_allclose(found.high[:, 0], given.max((1, 2)), rtol=1e-6)
        np.testing.assert_array_equal(found.signal_high[:, 0], given.max((1, 2)))
        assert (found.low[:, 1:] >= 0).all(), "behind a ReLU nothing is negative"

    @pytest.mark.parametrize("wrong", [np.full((4, 4), np.nan), np.zeros((4, 6))])
    def test_what_is_no_range_is_refused(self, wrong: np.ndarray) -> None:
        """NaN, or another number of activations."""
        form = Quantised(template=b"", ranges=b"", points=2)
        with pytest.raises(ModelError, match="no numbers"):
            Extremes.of(Said(wrong.astype(np.float32)), form, [values(4)])  # type: ignore[arg-type]


class TestScales:
    def test_reach_beyond_what_was_seen(self) -> None:
        """By an eighth on each side; what is never negative stays so."""
        found = extremes(np.array([[-1.0, 0.0], [-3.0, 0.5]]), np.array([[5.0, 2.0], [1.0, 4.0]]))
        all_of_it, _, reduced = found.scales()
        assert all_of_it.scale[0] * 255 == pytest.approx(8.0 * HEADROOM)
        assert all_of_it.scale[1] * 255 == pytest.approx(4.0 * (1 + (HEADROOM - 1) / 2))
        assert all_of_it.zero[1] == 0
        assert reduced.levels == REDUCED_LEVELS
        np.testing.assert_array_equal(reduced.scale, all_of_it.scale)

    def test_one_odd_window_can_be_left_out(self) -> None:
        """A blow of a hammer in one of 200 windows: the second try does not reach so far."""
        high = np.ones((200, 1))
        high[17] = 1000.0
        all_of_it, trimmed, _ = extremes(np.zeros((200, 1)), high).scales()
        assert all_of_it.scale[0] > 100 * trimmed.scale[0]


class TestLimits:
    def test_of_each_signal(self) -> None:
        """In the units that it is measured in."""
        given = np.stack([values(8)[:, 0], 100.0 + values(8, seed=1)[:, 0]], axis=1)
        found = Extremes(
            np.zeros((8, 1), np.float32),
            np.zeros((8, 1), np.float32),
            given.min(2),
            given.max(2),
        ).limits()
        assert found.hold(given)
        for signal in (0, 1):
            loud = given[:1].copy()
            loud[0, signal, 5] = given[:, signal].max() + np.ptp(given[:, signal]) / 7
            assert not found.hold(loud)
            loud[0, signal, 5] = np.nan
            assert not found.hold(loud)
