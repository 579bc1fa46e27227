# SPDX-License-Identifier: Apache-2.0
import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Mlp, Model
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel

Pair = tuple[torch.nn.Module, FlatModel]


@pytest.fixture
def windows() -> torch.Tensor:
    """Six windows of the test job."""
    return torch.randn(6, 3, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pair(make_job: Callable[..., Job], model: Model) -> Pair:
    """The same network twice, once on ordinary tensors."""
    module = build(make_job(model), 5, regimes=2)
    return copy.deepcopy(module), FlatModel(module)


class TestMemory:
    def test_forward_is_that_of_an_ordinary_module(self, pair: Pair, windows: torch.Tensor) -> None:
        """Moving the tensors changes no bit of the output."""
        ordinary, flat = pair
        assert torch.equal(ordinary.eval()(windows), flat.module.eval()(windows))

    def test_every_tensor_is_a_view(self, pair: Pair) -> None:
        """Writing the vector writes each parameter and buffer, at the manifest's place."""
        _, flat = pair
        flat.vector[:] = np.arange(flat.manifest.size)
        state = flat.module.state_dict()
        assert set(state) == {tensor.name for tensor in flat.manifest.tensors}
        for tensor in flat.manifest.tensors:
            expected = np.arange(tensor.offset, tensor.offset + tensor.size, dtype=np.float32)
            np.testing.assert_array_equal(state[tensor.name].numpy().ravel(), expected)

    def test_load_and_dump(self, pair: Pair, windows: torch.Tensor) -> None:
        """Loaded weights are used by the next forward pass; a dump is a copy."""
        ordinary, flat = pair
        before = flat.vector.copy()
        flat.load(before * np.float32(0.5))
        with torch.no_grad():
            for value in ordinary.state_dict().values():
                value.mul_(0.5)
        assert torch.equal(ordinary.eval()(windows), flat.module.eval()(windows))
        np.testing.assert_array_equal(flat.vector, before * np.float32(0.5))

    def test_foreign_vectors_are_refused(self, pair: Pair) -> None:
        """Size and type must be the manifest's."""
        _, flat = pair
        with pytest.raises(ModelError, match="the manifest wants"):
            flat.load(flat.vector[:-1])
        with pytest.raises(ModelError, match="float64"):
            flat.load(flat.vector.astype(np.float64))


class TestGradient:
    def test_equals_autograd_on_ordinary_parameters(
        self, pair: Pair, windows: torch.Tensor
    ) -> None:
        """The flat gradient holds each parameter's own, and zero for statistics."""
        ordinary, flat = pair
        expected = np.zeros(flat.learned.numel(), np.float32)
        for module in (ordinary, flat.module):
            module.eval()(windows).square().sum().backward()
        gradients = {name: value.grad for name, value in ordinary.named_parameters()}
        for tensor in flat.manifest.tensors:
            if tensor.name in gradients:
                place = slice(tensor.offset, tensor.offset + tensor.size)
                expected[place] = gradients[tensor.name].numpy().ravel()
        np.testing.assert_array_equal(flat.gradient.numpy(), expected)
        assert expected[: flat.trainable].any()
        assert not expected[flat.trainable :].any()

    def test_accumulates_until_cleared(self, pair: Pair, windows: torch.Tensor) -> None:
        """Two backward passes add up; the views stay attached after clearing in place."""
        _, flat = pair
        flat.module.eval()(windows).sum().backward()
        once = flat.gradient.clone()
        flat.module(windows).sum().backward()
        torch.testing.assert_close(flat.gradient, 2 * once)
        flat.gradient.zero_()
        flat.module(windows).sum().backward()
        torch.testing.assert_close(flat.gradient, once)

    def test_training_by_the_flat_vector(self, pair: Pair, windows: torch.Tensor) -> None:
        """Three SGD steps on one flat tensor are three steps on many, batch norms included."""
        ordinary, flat = pair
        ordinary.train()
        flat.module.train()
        optimiser = torch.optim.SGD(ordinary.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            ordinary(windows).square().mean().backward()
            optimiser.step()
            flat.gradient.zero_()
            flat.module(windows).square().mean().backward()
            flat.learned.sub_(0.1 * flat.gradient)
        state = ordinary.state_dict()
        for tensor in flat.manifest.tensors:
            part = flat.vector[tensor.offset : tensor.offset + tensor.size]
            expected = state[tensor.name].numpy().ravel()
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


class TestPredict:
    def test_neither_trains_nor_drops(
        self, make_job: Callable[..., Job], windows: torch.Tensor
    ) -> None:
        """Evaluation mode inside, the caller's mode afterwards; read-only windows are fine."""
        flat = FlatModel(build(make_job(Mlp(dropout=0.5)), 0))
        stored = windows.numpy().copy()
        stored.flags.writeable = False
        first = flat.predict(stored)
        np.testing.assert_array_equal(first, flat.predict(stored))
        assert first.shape == (6, 3)
        assert flat.module.training
