# SPDX-License-Identifier: Apache-2.0
"""Order tracking: a window in equal steps of the shaft's angle instead of time.

What belongs to the shaft (imbalance, gear mesh, bearing impacts) then lies at the same place of the
spectrum at every speed, and stays a line while the speed changes. Computed order tracking after
K. R. Fyfe, E. D. S. Munck, "Analysis of computed order tracking", Mechanical Systems and Signal
Processing 11 (1997) 187-205, with the angle from a measured speed and not from a tacho's pulses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.job.data import window_rate
from fedmill_shared.signals.rates import MOST
from fedmill_shared.signals.resample import Decimator
from fedmill_shared.signals.units import affine

Values = NDArray[np.float32]
Numbers = NDArray[np.float64]

_MARGIN = 30  # outputs behind the last that the filter looks at
_SPREAD = 4  # how much slower than on average a shaft may turn before less is filtered
_LARGEST = float(np.finfo(np.float32).max)
_BLOCK = 1 << 15  # points that are interpolated at a time


@dataclass(frozen=True, slots=True, eq=False)
class OrderTracker:
    """Resamples windows to equal steps of angle.

    Attributes:
        speed: position of the signal that tells the shaft's speed.
        turns_per_sample: revolutions from one sample to the next where that signal is 1.
        picked: bool (signals,), those of which the value at each angle is taken as it was: the
            speed, and operating conditions.
        revolutions: how many a resampled window has.
        per_revolution: its values for each of them.
    """

    speed: int
    turns_per_sample: float
    picked: NDArray[np.bool_]
    revolutions: int
    per_revolution: int

    @classmethod
    def of(cls, signals: Sequence[Signal], window: WindowSettings) -> Self:
        """That of a job whose ``window.order`` names one of its ``signals``."""
        speed = [signal.name for signal in signals].index(window.order)
        to_hz, _ = affine(signals[speed].unit, "Hz")
        picked = np.array([signal.role == "regime" for signal in signals])
        picked[speed] = True
        return cls(
            speed, to_hz / window_rate(signals), picked, window.revolutions, window.per_revolution
        )

    def apply(self, values: Values) -> Values | None:
        """``values`` (signals, samples), all finite, at the angles of the first revolutions.

        Returns:
            float32 (signals, revolutions * per_revolution), the first at the first sample; None if
            the shaft stands still, turns back or does not turn as often.

        Frequencies above ``per_revolution / 2`` per revolution are taken out before, so that
        nothing folds back: values are interpolated finely enough to hold all that the samples do,
        by cubic convolution (R. G. Keys, IEEE Transactions on Acoustics, Speech, and Signal
        Processing 29 (1981) 1153-1160), and decimated. A tone is then off by at most 0.5 % of its
        amplitude up to a tenth of the sampling rate, 5 % up to a fifth and 10 % up to a quarter.
        """
        count = self.revolutions * self.per_revolution
        steps = values[self.speed].astype(np.float64) * self.turns_per_sample
        turning = steps > 0.0
        if not turning.all():
            steps = steps[: int(np.argmin(turning))]
        angles = np.concatenate(([0.0], np.cumsum((steps[1:] + steps[:-1]) / 2.0)))
        needed = (count - 1) / self.per_revolution
        if not steps.size or angles[-1] < needed:
            return None
        finer = self._finer(steps[: int(np.searchsorted(angles, needed)) + 1])
        fine = self.per_revolution * finer
        # Rounding may take the last value away, of which we know that it is there.
        turned = max(int(angles[-1] * fine), (count - 1) * finer)
        points = np.arange(min(turned + 1, (count + _MARGIN) * finer)) / fine
        places = np.interp(points, angles, np.arange(angles.size))
        result = np.empty((len(values), count), np.float32)
        whole = np.round(places[::finer], 9).astype(np.intp)[:count]
        result[self.picked] = values[self.picked][:, whole]
        for signal in np.flatnonzero(~self.picked):
            # The filter may overshoot what float32 holds.
            filtered = _filtered(values[signal], places, finer)[:count]
            result[signal] = np.clip(filtered, -_LARGEST, _LARGEST)
        return result

    def _finer(self, steps: Numbers) -> int:
        """How many points to interpolate for one that is kept, so that each sample has one.

        At most ``MOST``, as the filter is 50 times as long.
        """
        slowest, mean = float(steps.min()), float(steps.mean())
        wanted = ceil(1.0 / (self.per_revolution * slowest) * (1 - 1e-9))
        return max(1, min(wanted, MOST, _SPREAD * ceil(1.0 / (self.per_revolution * mean))))


def _filtered(values: Values, places: Numbers, finer: int) -> Numbers:
    """``values`` (samples,) at every ``finer``-th of ``places``; in parts, to spare memory."""
    exact, decimator = values[None].astype(np.float64), Decimator(finer)
    parts = [
        decimator.push(interpolate(exact, places[first : first + _BLOCK]))
        for first in range(0, places.size, _BLOCK)
    ]
    filtered: Numbers = np.concatenate((*parts, decimator.finish()), axis=1)[0]
    return filtered


def interpolate(values: Numbers, places: Numbers) -> Numbers:
    """``values`` (signals, samples) at ``places`` (n,) between samples 0 and the last.

    Cubic convolution; beyond the ends the first and the last sample are thought to continue.
    """
    last = values.shape[1] - 1
    left = np.minimum(places.astype(np.intp), last)
    share = places - left
    before, here, after, beyond = (
        values[:, np.clip(left + offset, 0, last)] for offset in (-1, 0, 1, 2)
    )
    cubic = share * (3.0 * (here - after) + beyond - before)
    square = 2.0 * before - 5.0 * here + 4.0 * after - beyond
    found: Numbers = here + 0.5 * share * (after - before + share * (square + cubic))
    return found
