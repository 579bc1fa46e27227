# SPDX-License-Identifier: Apache-2.0
"""What happens to a window before anything sees it, the same way for learning and for scoring.

bad values out -> outliers tamed -> short gaps filled -> angle instead of time -> features. Window
by window, so that it makes no difference in which pieces the samples came.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Cleaning, Features, Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.job.data import window_rate
from fedmill_shared.job.quality import flat_samples, held_samples
from fedmill_shared.signals.gaps import fill
from fedmill_shared.signals.outliers import hampel, winsorise
from fedmill_shared.signals.quality import Codes, Fault, Slope, Values, inspect
from fedmill_shared.signals.windows import Window

if TYPE_CHECKING:
    from fedmill_shared.signals.features import Extractor
    from fedmill_shared.signals.order import OrderTracker


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A window as the model sees it.

    Attributes:
        window: ``good_share`` tells how much of it really came and was believed. The values of one
            that is not usable are the cleaned ones, in time and without features.
        codes: uint8 (signals, length), the ``Fault`` of every value, repaired or not.
        usable: whether it may train and be scored: every value is good or was repaired, and
            enough of them are good.
    """

    window: Window
    codes: Codes
    usable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """How the windows of a job are prepared.

    Attributes:
        low: float32 (signals, 1), smallest plausible values.
        high: float32 (signals, 1), largest ones.
        flat: samples in a row with one value from which on a signal is stuck; 0: it may stay.
        slopes: how fast each signal may change.
        inputs: bool (signals,), those whose outliers are tamed; an operating condition is none.
        cleaning: what is done about bad values.
        tracker: resamples the windows of a job that wants them by a shaft's angle.
        extractor: computes the features of a job that has some.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    flat: Sequence[int]
    slopes: Sequence[Slope]
    inputs: NDArray[np.bool_]
    cleaning: Cleaning
    tracker: "OrderTracker | None" = None
    extractor: "Extractor | None" = None

    @classmethod
    def of(
        cls,
        signals: Sequence[Signal],
        cleaning: Cleaning,
        window: WindowSettings | None = None,
        features: Features | None = None,
    ) -> Self:
        """That of a job with these ``signals``; without ``window`` its windows stay as they are."""
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            limits = np.array([each.range or [-inf, inf] for each in signals], np.float32)
        inputs = np.array([each.role == "input" for each in signals])
        rate_hz = window_rate(signals)
        flat = [flat_samples(each, rate_hz) for each in signals]
        slopes = [Slope(each.max_slope / rate_hz, held_samples(each, rate_hz)) for each in signals]
        tracker, extractor = None, None
        if window is not None and window.order:
            from fedmill_shared.signals.order import OrderTracker  # noqa: PLC0415  few jobs need it

            tracker = OrderTracker.of(signals, window)
        if window is not None and features is not None and features.steps:
            from fedmill_shared.signals.features import Extractor  # noqa: PLC0415  few jobs need it

            extractor = Extractor.of(signals, window, features)
        low, high = limits[:, :1], limits[:, 1:]
        return cls(low, high, flat, slopes, inputs, cleaning, tracker, extractor)

    def apply(self, window: Window) -> Prepared:
        """``window`` prepared; its values are not changed in place."""
        codes = inspect(window.values, self.low, self.high, self.flat, self.slopes)
        values = window.values
        if codes.any():
            values = np.where(codes == Fault.GOOD, values, np.float32(np.nan))
        if self.cleaning.outliers != "none":
            values, found = self._tamed(values)
            codes[found] = Fault.OUTLIER
        share = float((codes == Fault.GOOD).mean())
        values = fill(values, self.cleaning.missing, self.cleaning.hold)
        usable = share >= self.cleaning.least_good and bool(np.isfinite(values).all())
        if usable and self.tracker is not None:
            turned = self.tracker.apply(values)
            if turned is None:
                codes[self.tracker.speed] = Fault.SLOW
                usable = False
            else:
                values = turned
        if usable and self.extractor is not None:
            values = self.extractor.apply(values[None])[0]
        return Prepared(replace(window, values=values, good_share=share), codes, usable)

    def _tamed(self, values: Values) -> tuple[Values, NDArray[np.bool_]]:
        """``values`` without outliers, and which of them were replaced."""
        result, found = values.copy(), np.zeros(values.shape, np.bool_)
        rows = self.inputs
        if self.cleaning.outliers == "hampel":
            reach, sigmas = self.cleaning.reach, self.cleaning.sigmas
            result[rows], found[rows] = hampel(values[rows], reach, sigmas)
        else:
            result[rows] = winsorise(values[rows], self.cleaning.tails)
        return result, found
