# SPDX-License-Identifier: Apache-2.0
"""The usual value of each signal by a version's normaliser, if it has one that fits the job."""

from math import prod

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.explaining.levels import usual_levels
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.models.manifest import Manifest, Tensor

WINDOW = np.arange(8, dtype=np.float32)[None]


def pair() -> Job:
    """Two signals."""
    return structs.replace(a_job(), signals=[Signal(name="a"), Signal(name="b")])


def layout(**shapes: tuple[int, ...]) -> tuple[Manifest, np.ndarray]:
    """Tensors of a standardisation with these shapes, and as many weights, all 3."""
    tensors, offset = [], 0
    for name, shape in shapes.items():
        tensors.append(Tensor(f"standardise.{name}", shape, offset, "buffer"))
        offset += prod(shape)
    return Manifest(tuple(tensors)), np.full(offset, 3.0, np.float32)


def test_the_mean_of_the_fleet() -> None:
    """Each input stands at its own, for every sample of the window."""
    manifest, _ = layout(mean=(1, 2), inverse_scale=(1, 2))
    values = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    vector = np.array([3.0, -1.0, 1.0, 1.0], np.float32)
    found = usual_levels(pair(), manifest, vector, values)
    assert found is not None
    assert found.tolist() == [[3.0] * 8, [-1.0] * 8]


@pytest.mark.parametrize("shape", [(1,), (0, 1), (1, 2), (1, 1, 1), ()])
def test_one_for_other_signals(shape: tuple[int, ...]) -> None:
    """A model of somebody who means harm: nothing is known then, and scoring goes on."""
    assert usual_levels(a_job(), *layout(mean=shape, inverse_scale=shape), WINDOW) is None


@pytest.mark.parametrize("tables", [{}, {"inverse_scale": (1, 1)}])
def test_a_model_without_a_normaliser(tables: dict[str, tuple[int, ...]]) -> None:
    """Nothing is usual."""
    assert usual_levels(a_job(), *layout(**tables), WINDOW) is None


def test_the_mean_of_the_operating_condition() -> None:
    """Which the window itself tells; what tells it stays."""
    job = Job(
        job=Task(name="rig"),
        signals=[Signal(name="a"), Signal(name="speed", role="regime", resolution=0.5)],
        window=Window(length=4, normalise="regime"),
        labels=Labels(classes=["good", "worn"]),
    )
    tables = {"mean": (2, 1), "inverse_scale": (2, 1), "centroids": (2, 1)}
    manifest, _ = layout(**tables, inverse_resolution=(1,))
    vector = np.array([10.0, 20.0, 1.0, 1.0, 100.0, 200.0, 2.0], np.float32)
    values = np.array([[1.0] * 4, [190.0] * 4], np.float32)
    usual = usual_levels(job, manifest, vector, values)
    assert usual is not None
    assert usual.tolist() == [[20.0] * 4, [190.0] * 4]
