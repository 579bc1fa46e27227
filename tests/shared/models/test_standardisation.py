# SPDX-License-Identifier: Apache-2.0
"""The first layer in numpy gives what the network's own gives."""

import numpy as np
import pytest
import torch
from msgspec import structs

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.models.spec import spec_of
from fedmill_shared.models.standardisation import LIMIT, Standardisation
from fedmill_shared.models.standardise import Standardise

PARTS = ("mean", "inverse_scale", "centroids", "inverse_resolution")


def job_of(*, regime: bool) -> Job:
    """Two inputs, and between them a signal that tells the operating condition, or nothing."""
    speed = Signal(name="speed", role="regime", resolution=100.0)
    return Job(
        job=Task(name="press", task="classification"),
        signals=[Signal(name="force"), *([speed] if regime else []), Signal(name="stroke")],
        window=Window(length=5, normalise="regime" if regime else "global"),
        labels=Labels(classes=["good", "bad"]),
    )


def layer_of(job: Job, regimes: int, seed: int = 0) -> Standardise:
    """The network's layer with drawn statistics."""
    module, generator = Standardise(spec_of(job, regimes)), np.random.default_rng(seed)
    for name in PARTS:
        part = getattr(module, name, None)
        if part is not None:
            drawn = generator.uniform(0.5, 2.0, tuple(part.shape)).astype(np.float32)
            part.copy_(torch.from_numpy(drawn))
    return module


def version_of(module: Standardise) -> tuple[Manifest, np.ndarray]:
    """The layer as part of a version, behind one weight."""
    tensors, values = [Tensor("head.bias", (1,), 0, "head")], [np.zeros(1, np.float32)]
    for name in PARTS:
        part = getattr(module, name, None)
        if part is not None:
            offset = tensors[-1].offset + tensors[-1].size
            tensors.append(Tensor(f"standardise.{name}", tuple(part.shape), offset, "buffer"))
            values.append(part.numpy().ravel())
    return Manifest(tuple(tensors)), np.concatenate(values)


@pytest.mark.parametrize(("regime", "conditions"), [(False, 1), (True, 1), (True, 3)])
def test_is_that_of_the_network(*, regime: bool, conditions: int) -> None:
    """Sample by sample, but for float32's rounding and the network's limit."""
    job = job_of(regime=regime)
    module = layer_of(job, conditions)
    windows = np.random.default_rng(1).normal(size=(7, len(job.channels), 5)).astype(np.float32)
    expected = module(torch.from_numpy(windows)).numpy()
    standardise = Standardisation.of(job, *version_of(module))
    values, inverse = standardise(windows.transpose(0, 2, 1).reshape(-1, len(job.channels)))
    found = np.clip(values, -LIMIT, LIMIT).reshape(7, 5, 2).transpose(0, 2, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert inverse.shape == values.shape
    assert (inverse > 0).all()


def test_of_no_samples() -> None:
    """There is nothing, in the shape of something."""
    job = job_of(regime=True)
    standardise = Standardisation.of(job, *version_of(layer_of(job, 3)))
    assert [part.shape for part in standardise(np.zeros((0, 3)))] == [(0, 2), (0, 2)]


def test_of_another_job() -> None:
    """What is for other signals is refused, and so is a version without any."""
    whole, plain = job_of(regime=True), job_of(regime=False)
    one = structs.replace(plain, signals=plain.signals[:1])
    with pytest.raises(ModelError, match="none of the job's inputs"):
        Standardisation.of(one, *version_of(layer_of(whole, 3)))
    with pytest.raises(ModelError, match="none of the job's inputs"):
        Standardisation.of(plain, Manifest(()), np.zeros(0, np.float32))
    manifest, vector = version_of(layer_of(plain, 1))
    with pytest.raises(ModelError, match="the manifest wants"):
        Standardisation.of(plain, manifest, vector[1:])
