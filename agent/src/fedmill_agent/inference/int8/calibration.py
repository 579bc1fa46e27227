# SPDX-License-Identifier: Apache-2.0
"""From what activations reach on the agent's windows to the scales that they are stored with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.int8.guarded import Limits
from fedmill_shared.errors import ModelError
from fedmill_shared.models.quantised import FULL_LEVELS, REDUCED_LEVELS, Quantised, Scales
from fedmill_shared.onnx_session import OnnxSession

HEADROOM = 1.25
"""Scales reach beyond what was seen by a quarter: a new day is not cut off at once."""
TRIMMED = 0.01
"""Share of windows whose extremes may be cut off, where one odd window would coarsen all others."""

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """Smallest and largest value in each of n windows: of activations (n, points), of signals.

    Those of signals are (n, signals), as they are measured.
    """

    low: Values
    high: Values
    signal_low: Values
    signal_high: Values

    @classmethod
    def of(cls, ranges: OnnxSession, form: Quantised, windows: Iterable[Values]) -> Self:
        """What ``ranges``, the graph that gives them, says of ``windows`` (n, signals, length)s.

        Raises:
            ModelError: the graph cannot be run, or gives no numbers.
        """
        said: list[Values] = []
        signals: list[tuple[Values, Values]] = []
        for portion in windows:
            said.append(ranges.run(portion))
            signals.append((portion.min(2), portion.max(2)))
        extremes = np.concatenate(said)
        if extremes.shape[1] != 2 * form.points or not np.isfinite(extremes).all():
            raise ModelError("int8: the ranges of the activations are no numbers")
        return cls(
            low=extremes[:, : form.points],
            high=extremes[:, form.points :],
            signal_low=np.concatenate([low for low, _ in signals]),
            signal_high=np.concatenate([high for _, high in signals]),
        )

    def limits(self) -> Limits:
        """What the signals may do, with headroom."""
        return Limits(*_widened(self.signal_low.min(0), self.signal_high.max(0)))

    def scales(self) -> list[Scales]:
        """Scales to try, the first that is good enough being taken.

        All that was seen; then without the odd windows; then with weights that no processor's
        8-bit multiplication saturates on.
        """
        all_of_it = _widened(self.low.min(0), self.high.max(0))
        trimmed = _widened(
            np.quantile(self.low, TRIMMED, axis=0, method="nearest").astype(np.float32),
            np.quantile(self.high, 1.0 - TRIMMED, axis=0, method="nearest").astype(np.float32),
        )
        return [
            Scales.of_ranges(*all_of_it, FULL_LEVELS),
            Scales.of_ranges(*trimmed, FULL_LEVELS),
            Scales.of_ranges(*all_of_it, REDUCED_LEVELS),
        ]


def _widened(low: Values, high: Values) -> tuple[Values, Values]:
    """The range ``HEADROOM`` times as wide, to both sides; what does not pass zero, does not."""
    more = (high - low) * np.float32((HEADROOM - 1.0) / 2.0)
    below = np.where(low >= 0.0, np.maximum(low - more, 0.0), low - more)
    above = np.where(high <= 0.0, np.minimum(high + more, 0.0), high + more)
    return below.astype(np.float32), above.astype(np.float32)
