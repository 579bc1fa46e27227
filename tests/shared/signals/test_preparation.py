# SPDX-License-Identifier: Apache-2.0
"""What happens to a window before anything sees it."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.job import Cleaning, Features, Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.signals.preparation import Preparation, Prepared
from fedmill_shared.signals.quality import Fault
from fedmill_shared.signals.windows import Window, Windower

NAN = float("nan")


def prepared(*rows: list[float], signals: list[Signal] | None = None, **cleaning: Any) -> Prepared:
    """A window of these values."""
    values = np.array(rows, np.float32)
    window = Window("run", "unit", 0, 10, values, float(np.isfinite(values).mean()), 0)
    signals = signals or [Signal(name=f"s{i}") for i in range(len(rows))]
    before = values.copy()
    result = Preparation.of(signals, Cleaning(**cleaning)).apply(window)
    np.testing.assert_array_equal(values, before)
    return result


class TestPreparation:
    def test_a_whole_window(self) -> None:
        """Passes as it is."""
        found = prepared([1, 2, 3])
        assert found.usable
        assert (found.window.values.tolist(), found.window.good_share) == ([[1, 2, 3]], 1.0)

    def test_a_short_gap(self) -> None:
        """Is filled, and the window still tells that a quarter of it never came."""
        found = prepared([1, NAN, 3, 4])
        assert found.usable
        assert (found.window.values.tolist(), found.window.good_share) == ([[1, 2, 3, 4]], 0.75)

    def test_what_cannot_be_filled(self) -> None:
        """Makes a window unusable: at an edge, too long, or where nothing is to be filled."""
        assert not prepared([NAN, 1, 2, 3]).usable
        assert not prepared([1, NAN, NAN, NAN, 5, 6, 7], hold=2).usable
        assert not prepared([1, NAN, 3, 4], missing="drop").usable

    def test_mostly_invented(self) -> None:
        """Every gap is short, and yet half of the window would be lines."""
        row = [1, NAN, 3, NAN, 5, NAN, 7]
        assert prepared(row).usable
        assert not prepared(row, least_good=0.6).usable

    def test_out_of_range(self) -> None:
        """An implausible value is as good as missing, and is never seen."""
        signals = [Signal(name="oil", range=[0.0, 120.0])]
        found = prepared([20, 21, 900, 23], signals=signals)
        assert found.usable
        assert found.window.values.tolist() == [[20, 21, 22, 23]]
        assert found.codes.tolist() == [[0, 0, Fault.RANGE, 0]]

    def test_a_range_beyond_float32(self) -> None:
        """Holds all values there are."""
        signals = [Signal(name="s0", range=(-1e300, 1e300))]
        assert prepared([1, 2, 3], signals=signals).usable

    def test_stuck(self) -> None:
        """After the time that the job allows, at the signal's rate."""
        signals = [Signal(name="oil", rate_hz=2.0, flat_seconds=1.0)]
        assert prepared([20, 20, 21, 21], signals=signals).usable
        found = prepared([20, 21, 21, 21], signals=signals)
        assert not found.usable
        assert found.codes.tolist() == [[0] + [Fault.FLAT] * 3]

    def test_stuck_at_a_rate_of_its_own(self) -> None:
        """A value that is held for four samples is no fault; three equal ones in a row are."""
        signals = [
            Signal(name="vibration", rate_hz=4.0),
            Signal(name="oil", rate_hz=1.0, flat_seconds=2.0),
        ]
        fast = [float(i) for i in range(16)]
        assert prepared(fast, [5.0] * 8 + [6.0] * 4 + [7.0] * 4, signals=signals).usable
        found = prepared(fast, [5.0] * 12 + [7.0] * 4, signals=signals)
        assert found.codes[1].tolist() == [Fault.FLAT] * 12 + [0] * 4

    def test_a_spike(self) -> None:
        """Is taken out by the slope in units per second, and filled like a gap."""
        signals = [Signal(name="oil", rate_hz=2.0, max_slope=4.0)]
        found = prepared([20, 22, 60, 23, 25], signals=signals)
        assert found.usable
        assert found.window.values.tolist() == [[20, 22, 22.5, 23, 25]]
        assert found.codes.tolist() == [[0, 0, Fault.SPIKE, 0, 0]]
        slow = Signal(name="oil", rate_hz=0.5, max_slope=1.0)
        fast = Signal(name="vibration", rate_hz=2.0)
        row = [20.0] * 4 + [22.0] * 4 + [25.0] * 4
        found = prepared([float(i) for i in range(12)], row, signals=[fast, slow])
        assert found.codes[1].tolist() == [0] * 8 + [Fault.SPIKE] * 4

    def test_outliers(self) -> None:
        """Are replaced before gaps are filled between them, and count as not good."""
        found = prepared([1, 2, 90, NAN, 5, 6, 7], outliers="hampel", reach=2)
        assert found.usable
        assert found.window.values[0, 2] == 3.5
        assert found.window.good_share == np.float64(5 / 7)
        drawn = prepared([1, 2, 3, 90], outliers="winsorise", tails=0.25)
        assert drawn.window.values.tolist() == [[2, 2, 3, 3]]

    def test_an_operating_condition_has_no_outliers(self) -> None:
        """A machine that was switched on for one sample was on."""
        signals = [Signal(name="load", role="regime"), Signal(name="oil")]
        row = [0.0, 0, 0, 5, 0, 0, 0]
        found = prepared(row, row, signals=signals, outliers="hampel", reach=2)
        assert found.window.values.tolist() == [row, [0.0] * 7]

    def test_features_of_what_was_cleaned(self) -> None:
        """An implausible value is gone before the peak is looked for; the quality is told."""
        signals = [Signal(name="oil", range=[0.0, 120.0])]
        features = Features(steps=["time_statistics"])
        preparation = Preparation.of(signals, Cleaning(), WindowSettings(length=4), features)
        values = np.array([[20, 21, 900, 23]], np.float32)
        found = preparation.apply(Window("run", "unit", 0, 10, values, 1.0, 0))
        assert found.usable
        assert found.window.values.shape == (8, 1)
        assert found.window.values[[0, 3], 0].tolist() == [21.5, 23]
        assert found.window.good_share == 0.75
        assert found.codes.shape == (1, 4)

    def test_no_features_of_a_bad_window(self) -> None:
        """Its values stay, so that what is wrong can be told."""
        features = Features(steps=["time_statistics"])
        preparation = Preparation.of(
            [Signal(name="a")], Cleaning(), WindowSettings(length=4), features
        )
        values = np.array([[NAN, 1, 2, 3]], np.float32)
        found = preparation.apply(Window("run", "unit", 0, 10, values, 1.0, 0))
        assert not found.usable
        np.testing.assert_array_equal(found.window.values, values)

    @given(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.0, 50.0, NAN]), min_size=1, max_size=60),
        st.lists(st.integers(1, 9), max_size=20),
        st.sampled_from(["none", "hampel", "winsorise"]),
    )
    def test_pieces_make_no_difference(
        self, row: list[float], cuts: list[int], outliers: str
    ) -> None:
        """Live data comes in crumbs, a recording at once: the model sees the same bits."""
        signals = [Signal(name="a", range=[-10.0, 10.0], flat_seconds=4.0)]
        preparation = Preparation.of(signals, Cleaning(outliers=outliers, reach=2))

        def windows(pieces: list[list[float]]) -> list[bytes]:
            windower, start, made = Windower(8, 4), 0, []
            for piece in pieces:
                values = np.array([piece], np.float32).reshape(1, -1)
                made += windower.push("r", "u", start, 10, values)
                start += 10 * len(piece)
            return [preparation.apply(each).window.values.tobytes() for each in made]

        places = [0, *np.minimum(np.cumsum(cuts), len(row)).tolist(), len(row)]
        pieces = [row[a:b] for a, b in pairwise(places)]
        assert windows(pieces) == windows([row])
