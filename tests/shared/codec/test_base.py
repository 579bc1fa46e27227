# SPDX-License-Identifier: Apache-2.0
"""What all codecs share."""

from dataclasses import dataclass

import numpy as np

from fedmill_shared.codec.base import Dense, Quantised, Sparse, Vector, size_of


@dataclass(frozen=True)
class Foreign:
    """A payload of a kind of its own."""

    elements: int

    def read(self, start: int, out: Vector) -> None:
        """Nobody asks."""
        raise NotImplementedError


class TestSizeOf:
    def test_literal(self) -> None:
        """What the arrays of a payload hold; of kinds not known, as much as the vector."""
        levels, scales = np.zeros(9, np.int8), np.zeros(1, np.float32)
        indices, values = np.zeros(2, np.int32), np.zeros(2, np.float32)
        assert size_of(Dense(np.zeros(9, np.float16))) == 18
        assert size_of(Quantised(levels, scales)) == 13
        assert size_of(Sparse(9, indices, values)) == 16
        assert size_of(Foreign(9)) == 36
