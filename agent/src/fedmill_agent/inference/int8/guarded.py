# SPDX-License-Identifier: Apache-2.0
"""An int8 session that hands windows beyond its calibration to float32.

Scales know only what has been seen. What has never been, a fault above all, must not be cut off by
them: windows whose signals leave the range of the calibration are scored in float32, with all that
are scored in the same call.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.onnx_session import OnnxSession

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """Between what the values of each signal must lie, (signals,), for the scales to hold."""

    low: Values
    high: Values

    def hold(self, windows: Values) -> bool:
        """Whether ``windows`` (n, signals, length) lie within."""
        # In this way, because it is done for every window: the plain one takes as long as a model.
        least, most = np.minimum.reduce, np.maximum.reduce
        if len(self.low) == 1:
            within = least(windows, axis=None) >= self.low[0]
            return bool(within and most(windows, axis=None) <= self.high[0])
        return bool(
            (least(windows, axis=2) >= self.low).all()
            and (most(windows, axis=2) <= self.high).all()
        )


class GuardedSession(OnnxSession):
    """Two sessions of the same weights that are used like one.

    Attributes:
        calls: how often it was run.
        beyond: how often float32 was needed.
    """

    def __init__(self, int8: OnnxSession, plain: OnnxSession, limits: Limits) -> None:
        """``int8`` holds within ``limits``; ``plain`` scores everything."""
        self._int8 = int8
        self._plain = plain
        self._limits = limits
        self.metadata = plain.metadata
        self.outputs = plain.outputs
        self.features = plain.features
        self.calls = 0
        self.beyond = 0

    def run(self, windows: Values) -> Values:
        """As `OnnxSession.run`."""
        return (self._int8 if self._within(windows) else self._plain).run(windows)

    def bound(
        self, windows: Values, outputs: Values, features: Values | None = None
    ) -> Callable[[], None]:
        """As `OnnxSession.bound`."""
        int8 = self._int8.bound(windows, outputs, features)
        plain = self._plain.bound(windows, outputs, features)

        def call() -> None:
            (int8 if self._within(windows) else plain)()

        return call

    def _within(self, windows: Values) -> bool:
        self.calls += 1
        if windows.ndim == 3 and windows.size and self._limits.hold(windows):
            return True
        self.beyond += 1
        return False
