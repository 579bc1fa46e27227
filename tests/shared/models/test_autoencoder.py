# SPDX-License-Identifier: Apache-2.0
"""The autoencoder: its output is the error that it makes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from fedmill_coordinator.registry.export import self_contained
from fedmill_coordinator.registry.parity import canary_inputs, check_parity
from fedmill_coordinator.registry.template import export_template
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Autoencoder, Features, Job, Mlp, Signal, Task, Window
from fedmill_shared.models import build, initial_vector, manifest_of
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.models.schema import encode_schema, read_schema, schema_of
from fedmill_shared.onnx_session import OnnxSession

NARROW = Autoencoder(hidden=[6], bottleneck=2)
NORMALISER = Normaliser(mean=((10.0, -3.0),), scale=((2.0, 0.5),))


def a_job(model: Autoencoder = NARROW, *, length: int = 5, **sections: object) -> Job:
    """Two signals."""
    job = Job(
        job=Task(name="pumps", task="reconstruction"),
        signals=[Signal(name="pressure", unit="bar"), Signal(name="flow", unit="m3/h")],
        window=Window(length=length),
        model=model,
    )
    return replace(job, **sections)


def a_model(job: Job, seed: int = 3, normaliser: Normaliser = NORMALISER) -> FlatModel:
    """Its first version."""
    model = FlatModel(build(job, seed))
    model.load(initial_vector(job, normaliser, seed))
    return model


def windows_of(job: Job, batch: int = 4, seed: int = 5) -> np.ndarray:
    """Windows that are standard normal once they are standardised."""
    drawn = np.random.default_rng(seed).standard_normal((batch, 2, job.window.length))
    scale, mean = np.array(NORMALISER.scale), np.array(NORMALISER.mean)
    return (drawn * scale.T + mean.T).astype(np.float32)


class TestNetwork:
    def test_parameters_and_roles(self) -> None:
        """10-6-2 in, 2-6-10 out: 66 + 14 and 18 + 70, with statistics of two signals behind."""
        manifest = manifest_of(build(a_job(), 0))
        assert manifest.count(("backbone",)) == 10 * 6 + 6 + 6 * 2 + 2
        assert manifest.count(("head",)) == 2 * 6 + 6 + 6 * 10 + 10
        assert manifest.count(("buffer",)) == 4
        assert manifest.count(("norm", "adapter", "control")) == 0

    def test_matrix_oracle(self) -> None:
        """Standardise, four matrix products with ReLU around the linear bottleneck, mean square."""
        job = a_job()
        model, windows = a_model(job), windows_of(job)
        state = {k: v.double().numpy() for k, v in model.module.state_dict().items()}
        mean, scale = np.array(NORMALISER.mean).T, np.array(NORMALISER.scale).T
        values = ((windows - mean) / scale).reshape(4, 10)
        layer = values
        for name, bent in (
            ("backbone.0", True),
            ("backbone.2", False),
            ("head.0", True),
            ("head.2", False),
        ):
            layer = layer @ state[f"{name}.weight"].T + state[f"{name}.bias"]
            layer = np.maximum(layer, 0) if bent else layer
        expected = ((layer - values) ** 2).mean(1, keepdims=True)
        found = model.predict(windows)
        assert found.shape == (4, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_literal_numbers(self) -> None:
        """One linear map each way through a bottleneck of one: what is common comes back."""
        job = a_job(Autoencoder(hidden=[], bottleneck=1), length=1)
        model = a_model(job)
        module = model.module
        with torch.no_grad():
            module.backbone[0].weight.copy_(torch.tensor([[0.5, 0.5]]))
            module.head[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
            module.backbone[0].bias.zero_()
        together = np.array([[[14.0], [-2.0]]], np.float32)  # two deviations above both means
        apart = np.array([[[14.0], [-4.0]]], np.float32)  # one is as far below
        assert model.predict(together).tolist() == [[0.0]]
        assert model.predict(apart).tolist() == [[4.0]]

    def test_a_model_that_says_the_mean_has_the_mean_square(self) -> None:
        """With a head of zeros a window's score is the square of its own deviation."""
        job = a_job()
        model = a_model(job)
        with torch.no_grad():
            for parameter in model.module.head.parameters():
                parameter.zero_()
        flat = np.tile(np.array([[[10.0], [-3.0]]], np.float32), (1, 1, 5))
        assert model.predict(flat).tolist() == [[0.0]]
        assert model.predict(flat + np.array([[[2.0], [0.5]]], np.float32)).tolist() == [[1.0]]

    def test_a_constant_signal_costs_nothing(self) -> None:
        """What did not move in training is silenced, not divided by zero."""
        job = a_job()
        model = a_model(job, normaliser=Normaliser(mean=((10.0, -3.0),), scale=((2.0, 0.0),)))
        windows = windows_of(job)
        windows[:, 1] = 1e6
        assert np.isfinite(model.predict(windows)).all()

    @pytest.mark.parametrize("masked", [0.0, 0.5])
    def test_gradients_reach_all_parameters(self, masked: float) -> None:
        """Every parameter of both halves moves, whatever is hidden."""
        model = a_model(a_job(replace(NARROW, masked=masked)))
        model.module.train()
        torch.manual_seed(0)
        windows = torch.from_numpy(windows_of(a_job(), batch=64))
        model.module(windows).mean().backward()
        gradients = {n: p.grad.abs().max().item() for n, p in model.module.named_parameters()}
        assert len(gradients) == 8
        assert min(gradients.values()) > 0.0, gradients
        assert model.trainable == 168
        assert torch.count_nonzero(model.gradient[: model.trainable]) > 100

    def test_the_gradient_is_that_of_the_squared_error(self) -> None:
        """Numeric oracle on one weight of each half."""
        model = a_model(a_job(), seed=1)
        windows = windows_of(a_job(), batch=8)
        model.module.train()(torch.from_numpy(windows)).mean().backward()
        for place in (3, 100):
            told, step = float(model.gradient[place]), 1e-2
            losses = []
            for sign in (1, -1):
                model.vector[place] += sign * step
                losses.append(float(model.predict(windows).astype(np.float64).mean()))
                model.vector[place] -= sign * step
            assert told == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=2e-2, abs=1e-5)

    def test_only_training_hides_inputs(self) -> None:
        """Scores repeat, and are those of a model that never hid any."""
        hiding = a_model(a_job(replace(NARROW, masked=0.5)))
        windows = windows_of(a_job())
        np.testing.assert_array_equal(hiding.predict(windows), a_model(a_job()).predict(windows))
        hiding.module.train()
        torch.manual_seed(0)
        with torch.no_grad():
            first, second = (hiding.module(torch.from_numpy(windows)) for _ in range(2))
        assert not torch.equal(first, second)

    def test_the_seed_decides(self) -> None:
        """The same bytes on every machine; biases of the way back are zero."""
        one, same, other = (initial_vector(a_job(), NORMALISER, seed) for seed in (1, 1, 2))
        assert one.tobytes() == same.tobytes() != other.tobytes()
        head = build(a_job(), 1).head
        assert not any(p.any() for n, p in head.named_parameters() if n.endswith("bias"))

    def test_features_are_its_input(self) -> None:
        """Two signals with three bands each: six numbers in, six out."""
        features = Features(steps=["log_spectrum"], bands=3)
        module = build(a_job(length=64, features=features), 0)
        assert module.backbone[0].in_features == module.head[2].out_features == 6

    def test_regime_signals_are_not_given_back(self) -> None:
        """They choose the standardisation, and are no input."""
        signals = [*a_job().signals, Signal(name="speed", role="regime")]
        job = a_job(signals=signals, window=Window(length=5, normalise="regime"))
        module = build(job, 0, regimes=2)
        assert module.backbone[0].in_features == 10
        assert module(torch.zeros(3, 3, 5)).shape == (3, 1)

    @pytest.mark.parametrize(
        ("task", "model"), [("regression", NARROW), ("reconstruction", Mlp(hidden=[4, 3]))]
    )
    def test_task_and_model_belong_together(self, task: str, model: object) -> None:
        """A job that was not checked cannot become something else silently."""
        with pytest.raises(ModelError, match="need each other"):
            build(a_job(model, job=Task(name="pumps", task=task)), 0)


class TestOnnx:
    @pytest.mark.parametrize(
        ("options", "length"),
        [
            (NARROW, 5),
            (Autoencoder(hidden=[], bottleneck=1), 1),
            (Autoencoder(hidden=[32, 16], bottleneck=3, masked=0.3), 512),
        ],
    )
    def test_parity(self, options: Autoencoder, length: int) -> None:
        """ONNX Runtime gives torch's errors, from a template that is bound to other weights."""
        job = a_job(options, length=length)
        model = a_model(job, seed=1)
        template = export_template(job, model.module)
        weights = a_model(job, seed=2).vector.copy()
        inputs = canary_inputs(job, NORMALISER, 4)
        expected = check_parity(template, weights, model, inputs)
        assert expected.shape == (8, 1)
        assert len(template) < 17 << 10

    def test_wrong_weights_do_not_pass(self) -> None:
        """The canary tells one version's errors from another's."""
        job = a_job()
        one, other = a_model(job, seed=1), a_model(job, seed=2)
        template = export_template(job, one.module)
        inputs = canary_inputs(job, NORMALISER, 4)
        expected = one.predict(inputs)
        session = OnnxSession.from_template(template, other.vector)
        assert np.abs(session.run(inputs) - expected).max() > 1e-3

    def test_one_number_for_any_tool(self, tmp_path: object) -> None:
        """The exported file takes raw windows of any number, and says what it is."""
        job = a_job()
        model = a_model(job)
        data = self_contained(export_template(job, model.module), model.vector)
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        session = OnnxSession.from_file(path)
        windows = windows_of(job, batch=7)
        np.testing.assert_allclose(session.run(windows), model.predict(windows), rtol=1e-5)
        told = read_schema(session.metadata)
        assert (told.task, told.classes, told.label_unit) == ("reconstruction", (), "1")

    def test_the_schema_round_trip(self) -> None:
        """What the metadata says is what was written."""
        job = a_job()
        written = schema_of(job, manifest_of(build(job, 0)))
        assert read_schema({"fedmill": encode_schema(written)}) == written


def test_the_daemon_never_imports_it() -> None:
    """A job file with another model loads neither the family nor its rules."""
    code = (
        "import sys, fedmill_shared.models, fedmill_shared.job_check as check\n"
        'check.decode_job(\'[job]\\nname = "a"\\n[[signals]]\\nname = "s"\\n\''
        "'[labels]\\nclasses = [\"a\", \"b\"]', 'x')\n"
        "names = {'fedmill_shared.models.autoencoder', 'fedmill_shared.job.reconstruction'}\n"
        "sys.exit(bool(names & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
