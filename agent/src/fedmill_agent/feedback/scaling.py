# SPDX-License-Identifier: Apache-2.0
"""Features around their own mean and of unit size, so that one strength suits every architecture.

What comes out of a backbone lies far from zero and differs in size by orders from model to model; a
pull of the same size on every weight would then mean another thing in each of them.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Moves and scales features; a last layer (width + 1, outputs) can be told in either form.

    Attributes:
        centre: (width,), what becomes zero.
        factor: what makes the mean square length of what is left 1.
    """

    centre: Matrix
    factor: float

    @classmethod
    def of(cls, features: Matrix) -> Self:
        """The scaling that makes ``features`` (n, width) of zero mean and unit mean square."""
        centre = features.mean(0)
        square = float(np.square(features - centre).sum(1).mean())
        return cls(centre, 1.0 / np.sqrt(square) if square > 0.0 else 1.0)

    def rows(self, features: Matrix) -> Matrix:
        """``features`` (n, width) scaled, with a column of ones for the bias: (n, width + 1)."""
        scaled = (features - self.centre) * self.factor
        return np.hstack([scaled, np.ones((len(scaled), 1))])

    def inward(self, layer: Matrix) -> Matrix:
        """What gives for scaled rows what ``layer`` gives for features."""
        return np.vstack([layer[:-1] / self.factor, layer[-1:] + self.centre @ layer[:-1]])

    def outward(self, layer: Matrix) -> Matrix:
        """The way back."""
        weights = layer[:-1] * self.factor
        return np.vstack([weights, layer[-1:] - self.centre @ weights])
