# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Gru, Job, Labels, Mlp, Model, Signal, Task, Wdcnn, Window
from fedmill_shared.models import build
from fedmill_shared.models.wdcnn import groups_for


def plain_job(model: Model, *, signals: int, length: int, classes: int = 0) -> Job:
    """A job without normalisation; no classes for a regression."""
    return Job(
        job=Task(name="plain", task="classification" if classes else "regression"),
        signals=[Signal(name=f"s{i}") for i in range(signals)],
        window=Window(length=length, normalise="none"),
        labels=Labels(classes=[f"c{i}" for i in range(classes)]),
        model=model,
    )


def parameters(job: Job) -> int:
    """Number of parameters of the job's network."""
    return sum(parameter.numel() for parameter in build(job, 0).parameters())


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """State in float64, for oracles."""
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def windows_of(job: Job, batch: int = 3) -> np.ndarray:
    """Standard normal windows."""
    shape = (batch, len(job.signals), job.window.length)
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def forward(module: torch.nn.Module, windows: np.ndarray) -> np.ndarray:
    """Outputs in evaluation mode."""
    with torch.no_grad():
        return module.eval()(torch.from_numpy(windows)).numpy()


class TestMlp:
    def test_parameters(self) -> None:
        """24-128-64-4 has 11,716 parameters."""
        job = plain_job(Mlp(hidden=[128, 64]), signals=24, length=1, classes=4)
        assert parameters(job) == 11_716

    def test_matrix_oracle(self) -> None:
        """Three matrix products with ReLU between them."""
        job = plain_job(Mlp(hidden=[5, 4]), signals=2, length=3, classes=3)
        module, windows = build(job, 1), windows_of(job)
        state, values = arrays(module), windows.reshape(3, 6).astype(np.float64)
        for name in ("backbone.0", "backbone.3"):
            values = np.maximum(values @ state[f"{name}.weight"].T + state[f"{name}.bias"], 0)
        values = values @ state["head.weight"].T + state["head.bias"]
        np.testing.assert_allclose(forward(module, windows), values, atol=1e-6)


class TestGru:
    def test_parameters(self) -> None:
        """Two layers of 64 over 14 signals: 15,360 + 24,960, and a head of 65."""
        job = plain_job(Gru(hidden=64, layers=2), signals=14, length=30)
        assert parameters(job) == 15_360 + 24_960 + 65

    def test_recurrence_oracle(self) -> None:
        """The gate equations, step by step (reset, update, new; Cho et al. 2014)."""
        job = plain_job(Gru(hidden=4, layers=2), signals=3, length=6, classes=2)
        module, windows = build(job, 2), windows_of(job)
        state, sequence = arrays(module), windows.astype(np.float64).transpose(2, 0, 1)
        for layer in range(2):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w_i, w_h, b_i, b_h = (state[f"backbone.{name}_l{layer}"] for name in names)
            hidden, states = np.zeros((3, 4)), []
            for values in sequence:
                r_i, z_i, n_i = np.split(values @ w_i.T + b_i, 3, axis=1)
                r_h, z_h, n_h = np.split(hidden @ w_h.T + b_h, 3, axis=1)
                reset, update = 1 / (1 + np.exp(-(r_i + r_h))), 1 / (1 + np.exp(-(z_i + z_h)))
                new = np.tanh(n_i + reset * n_h)
                hidden = (1 - update) * new + update * hidden
                states.append(hidden)
            sequence = np.stack(states)
        expected = sequence[-1] @ state["head.weight"].T + state["head.bias"]
        np.testing.assert_allclose(forward(module, windows), expected, atol=1e-6)


class TestWdcnn:
    def test_parameters(self) -> None:
        """The paper's layers hold 34,000 parameters before the head."""
        job = plain_job(Wdcnn(stem_norm=True), signals=1, length=2048, classes=10)
        assert parameters(job) == 34_000 + 650
        flat = Wdcnn(pool="flatten", hidden=100, stem_norm=True)
        job = plain_job(flat, signals=1, length=2048, classes=10)
        assert parameters(job) == 34_000 + 4 * 64 * 100 + 100 + 1_010

    def test_loop_oracle(self) -> None:
        """One block in plain loops: convolution, group norm, ReLU, max-pool, mean."""
        options = Wdcnn(channels=[4], kernel=5, stride=2, stem_norm=True)
        job = plain_job(options, signals=2, length=11, classes=2)
        module, windows = build(job, 3), windows_of(job)
        state = arrays(module)
        weight, bias = state["backbone.0.weight"], state["backbone.0.bias"]
        padded = np.pad(windows.astype(np.float64), ((0, 0), (0, 0), (1, 1)))
        starts = range(0, 13 - 5 + 1, 2)
        values = np.stack(
            [np.einsum("bsk,csk->bc", padded[:, :, i : i + 5], weight) + bias for i in starts], 2
        )
        grouped = values.reshape(3, groups_for(4, 5), -1)
        deviation = np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
        values = ((grouped - grouped.mean(2, keepdims=True)) / deviation).reshape(values.shape)
        values = np.maximum(values, 0)
        pooled = np.maximum(values[:, :, 0:4:2], values[:, :, 1:4:2]).mean(2)
        expected = pooled @ state["head.weight"].T + state["head.bias"]
        np.testing.assert_allclose(forward(module, windows), expected, atol=1e-5)

    @pytest.mark.parametrize("length", [1, 2, 3, 7, 30, 31])
    @pytest.mark.parametrize("norm", ["group", "none"])
    def test_short_windows(self, length: int, norm: str) -> None:
        """Five blocks on any window: what is one sample long is not pooled further."""
        options = Wdcnn(kernel=5, stride=1, norm=norm, pool="flatten")
        job = plain_job(options, signals=3, length=length, classes=2)
        outputs = forward(build(job, 0), windows_of(job))
        assert outputs.shape == (3, 2)
        assert np.ptp(outputs) > 0

    def test_kernel_longer_than_the_window(self) -> None:
        """The refusal names both fields."""
        with pytest.raises(ModelError, match=r"window\.length 10 .* model\.kernel 64"):
            build(plain_job(Wdcnn(), signals=1, length=10, classes=2), 0)

    @pytest.mark.parametrize(
        ("channels", "length", "groups"),
        [(16, 128, 8), (6, 100, 6), (10, 100, 5), (7, 100, 7), (11, 100, 1), (64, 1, 8), (4, 1, 1)],
    )
    def test_groups(self, channels: int, length: int, groups: int) -> None:
        """Groups divide the channels and keep enough values to have a deviation."""
        assert groups_for(channels, length) == groups

    def test_the_stem_keeps_the_signals_level(self) -> None:
        """Unless it is asked for, the first convolution is not normalised: louder stays louder."""
        job = plain_job(Wdcnn(channels=[4], kernel=5, stride=1), signals=1, length=30, classes=2)
        module, windows = build(job, 0), windows_of(job)
        features = [module.features(torch.from_numpy(gain * windows)) for gain in (1.0, 3.0)]
        assert features[1].abs().sum() > 2.5 * features[0].abs().sum()

    def test_without_pooling_the_length_stays(self) -> None:
        """Short windows keep every position up to the mean."""
        options = Wdcnn(channels=[4, 4], kernel=3, stride=1, max_pool=False, pool="flatten")
        module = build(plain_job(options, signals=1, length=30, classes=2), 0)
        assert module.features(torch.zeros(1, 1, 30)).shape == (1, 4 * 30)


class TestNetwork:
    def test_regression_is_in_the_labels_unit(
        self, make_job: Callable[..., Job], model: Model
    ) -> None:
        """Output = head * target_scale + target_offset; the initial model is near the offset."""
        module = build(make_job(model, regression=True, normalise="global"), 4)
        windows = windows_of(make_job(model))
        raw = forward(module, windows)
        module.target_offset.fill_(70.0)
        module.target_scale.fill_(40.0)
        np.testing.assert_allclose(forward(module, windows), raw * 40.0 + 70.0, rtol=1e-6)
        assert raw.shape == (3, 1)
        assert np.abs(raw).max() < 2.0

    def test_classification_gives_one_logit_per_class(
        self, make_job: Callable[..., Job], model: Model
    ) -> None:
        """No label unit is involved."""
        module = build(make_job(model, normalise="global"), 4)
        assert forward(module, windows_of(make_job(model))).shape == (3, 3)
        assert "target_scale" not in module.state_dict()

    def test_dropout_only_while_training(self, make_job: Callable[..., Job]) -> None:
        """Half of the head's inputs vanish in training, none in evaluation."""
        job = make_job(Mlp(dropout=0.5), normalise="global")
        module, windows = build(job, 0), torch.from_numpy(windows_of(job))
        assert not torch.equal(module.train()(windows), module.train()(windows))
        assert torch.equal(module.eval()(windows), module.eval()(windows))
