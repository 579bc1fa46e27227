# SPDX-License-Identifier: Apache-2.0
"""The usual value of each signal by a version's normaliser, if it has one that fits the job."""

from math import prod

import numpy as np
import pytest
from tests.agent.kit import a_job

from fedmill_agent.explaining.levels import usual_levels
from fedmill_shared.models.manifest import Manifest, Tensor

WINDOW = np.arange(8, dtype=np.float32)[None]


def layout(**shapes: tuple[int, ...]) -> tuple[Manifest, np.ndarray]:
    """Tensors of a standardisation with these shapes, and as many weights, all 3."""
    tensors, offset = [], 0
    for name, shape in shapes.items():
        tensors.append(Tensor(f"standardise.{name}", shape, offset, "buffer"))
        offset += prod(shape)
    return Manifest(tuple(tensors)), np.full(offset, 3.0, np.float32)


def test_the_mean_of_the_fleet() -> None:
    """For every sample of the window."""
    found = usual_levels(a_job(), *layout(mean=(1, 1)), WINDOW)
    assert found is not None
    assert np.array_equal(found, np.full((1, 8), 3.0, np.float32))


@pytest.mark.parametrize("shape", [(1,), (0, 1), (1, 2), (1, 1, 1), ()])
def test_one_for_other_signals(shape: tuple[int, ...]) -> None:
    """A model of somebody who means harm: nothing is known then, and scoring goes on."""
    assert usual_levels(a_job(), *layout(mean=shape), WINDOW) is None


def test_none() -> None:
    """Nothing is usual."""
    assert usual_levels(a_job(), *layout(scale=(1, 1)), WINDOW) is None
