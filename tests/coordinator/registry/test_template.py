# SPDX-License-Identifier: Apache-2.0
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fedmill_coordinator.registry.parity import canary_inputs
from fedmill_coordinator.registry.template import export_template
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Autoencoder, Job, Signal, Task, Window
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.readout import readout_of, target_of
from fedmill_shared.models.schema import read_schema
from fedmill_shared.onnx_session import OnnxSession


def assert_agree(
    exported: Any, weights: np.ndarray, inputs: np.ndarray, flat: FlatModel
) -> np.ndarray:
    """Torch and ONNX Runtime give the same outputs; returns them."""
    flat.load(weights)
    expected = flat.predict(inputs)
    outputs = OnnxSession.from_template(exported.template, weights).run(inputs)
    atol = 1e-5 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=atol)
    return expected


class TestBinding:
    @pytest.mark.parametrize("batch", [1, 3, 7])
    def test_any_batch(self, exported: Any, batch: int) -> None:
        """One window and many, with the weights of the first version."""
        inputs = canary_inputs(exported.job, exported.normaliser, 0)[:batch]
        outputs = assert_agree(exported, exported.weights, inputs, FlatModel(exported.module()))
        assert outputs.shape == (batch, exported.job.outputs)

    def test_new_weights_reach_every_tensor(self, exported: Any) -> None:
        """Both traps: change each tensor alone, and the session must follow torch.

        A norm folded into a convolution, a reordered gate, a merged or a folded constant would
        leave one of them behind.
        """
        flat = FlatModel(exported.module())
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        base = exported.random_weights(0)
        before = assert_agree(exported, base, inputs, flat)
        other = exported.random_weights(1)
        for tensor in exported.manifest.tensors:
            changed = base.copy()
            place = slice(tensor.offset, tensor.offset + tensor.size)
            changed[place] = other[place]
            if tensor.name == "standardise.centroids":
                changed[place] = base[place][::-1]
            if tensor.name == "standardise.inverse_resolution":
                continue  # one regime signal: scaling all distances changes no nearest centroid
            after = assert_agree(exported, changed, inputs, flat)
            assert not np.array_equal(before, after), tensor.name

    def test_equal_tensors_are_not_merged(self, exported: Any) -> None:
        """All weights equal at export time says nothing of later versions."""
        flat = FlatModel(exported.module())
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        for weights in (np.full_like(exported.weights, 0.1), exported.random_weights(2)):
            assert_agree(exported, weights, inputs, flat)


def features_of(exported: Any, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The second output of a template, made its first one."""
    model = onnx.load_model_from_string(exported.template)
    del model.graph.output[0]
    return OnnxSession.from_template(model.SerializeToString(), weights).run(inputs)


class TestFeatures:
    def test_are_what_the_last_layer_works_on(self, exported: Any) -> None:
        """Torch's own, for any weights; the layer makes the first output of them."""
        readout = readout_of(exported.manifest)
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        for seed in (0, 1):
            weights = exported.random_weights(seed)
            flat = FlatModel(exported.module())
            outputs = assert_agree(exported, weights, inputs, flat)
            features = features_of(exported, weights, inputs)
            assert features.shape == (len(inputs), readout.width)
            np.testing.assert_allclose(features, flat.features(inputs), rtol=1e-4, atol=1e-5)
            extended = np.hstack([features, np.ones((len(inputs), 1))])
            offset, scale = target_of(exported.manifest, weights)
            again = extended @ readout.matrix(weights) * scale + offset
            np.testing.assert_allclose(again, outputs, rtol=1e-4, atol=1e-3)

    def test_cost_no_node_and_few_bytes(self, exported: Any) -> None:
        """They are a value that the graph computes anyway; without them it is the same graph."""
        model = onnx.load_model_from_string(exported.template)
        made = [name for node in model.graph.node for name in node.output]
        read = [name for node in model.graph.node for name in node.input]
        assert {"features", "outputs"} <= set(made)
        assert "features" in read
        assert "outputs" not in read
        assert len(exported.template) - len(without_features(exported.template)) < 60

    def test_runtime_fuses_as_before(self, exported: Any, tmp_path: Path) -> None:
        """ONNX Runtime makes the same nodes of the graph with and without the second output."""
        both, one = (
            optimised(template, exported.weights, tmp_path / "optimised.onnx")
            for template in (exported.template, without_features(exported.template))
        )
        assert both == one

    def test_an_autoencoder_has_none(self) -> None:
        """Its last layer gives the window back, not the output."""
        job = Job(
            job=Task(name="watch", task="reconstruction"),
            signals=[Signal(name=name, unit="g") for name in "ab"],
            window=Window(length=4),
            model=Autoencoder(hidden=[4], bottleneck=2),
        )
        model = onnx.load_model_from_string(export_template(job, build(job, 1)))
        assert [output.name for output in model.graph.output] == ["outputs"]


def without_features(template: bytes) -> bytes:
    """The template as it was made before there was a second output."""
    model = onnx.load_model_from_string(template)
    del model.graph.output[1:]
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def optimised(template: bytes, weights: np.ndarray, path: Path) -> list[str]:
    """Kinds of node that ONNX Runtime runs."""
    import onnxruntime  # telemetry is off since fedmill_shared.onnx_session was imported

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    data = weights.view(np.uint8)
    options.add_external_initializers_from_files_in_memory(["weights.bin"], [data], [data.nbytes])
    onnxruntime.InferenceSession(template, options, ["CPUExecutionProvider"])
    model = onnx.load(path, load_external_data=False)
    return [node.op_type for node in model.graph.node]


class TestContent:
    def test_every_tensor_is_external_at_its_place(self, exported: Any) -> None:
        """Offsets and lengths are the manifest's, in bytes; only constants are embedded."""
        model = onnx.load_model_from_string(exported.template)
        external = {
            tensor.name: {entry.key: entry.value for entry in tensor.external_data}
            for tensor in model.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
        }
        assert external == {
            tensor.name: {
                "location": "weights.bin",
                "offset": str(4 * tensor.offset),
                "length": str(4 * tensor.size),
            }
            for tensor in exported.manifest.tensors
        }
        embedded = [t for t in model.graph.initializer if t.name not in external]
        floats = [onnx.numpy_helper.to_array(t) for t in embedded if t.data_type == t.FLOAT]
        assert all(np.isin(values, (0.0, 1.0, 2.0)).all() or values.size == 1 for values in floats)

    def test_graph_only(self, exported: Any) -> None:
        """A template is small, takes only windows and has a free batch."""
        model = onnx.load_model_from_string(exported.template)
        assert len(exported.template) < 12_000
        (windows,) = model.graph.input
        outputs, features = model.graph.output
        shape = windows.type.tensor_type.shape.dim
        assert (windows.name, outputs.name) == ("windows", "outputs")
        assert features.name == "features"
        assert shape[0].dim_param
        assert [dim.dim_value for dim in shape[1:]] == [3, 15]

    def test_tells_nothing_of_this_machine(self, exported: Any) -> None:
        """No path, host, source line or stack trace."""
        for secret in (str(Path.cwd()), str(Path.home()), socket.gethostname(), ".py", "torch"):
            assert secret.encode() not in exported.template
        model = onnx.load_model_from_string(exported.template)
        assert not any(node.name or node.doc_string for node in model.graph.node)
        assert not any(node.metadata_props for node in model.graph.node)
        assert (model.producer_name, model.doc_string) == ("fedmill", "")

    def test_metadata_is_what_a_runner_needs(self, export_once: Callable[[str], Any]) -> None:
        """One key; signals with unit, rate, tag and role, window, label unit and layout."""
        exported = export_once("gru")
        session = OnnxSession.from_template(exported.template, exported.weights)
        assert list(session.metadata) == ["fedmill"]
        schema = read_schema(session.metadata)
        assert (schema.job, schema.task, schema.label_unit) == ("gru", "regression", "h")
        force = schema.signals[0]
        assert (force.name, force.unit, force.rate_hz) == ("force", "kN", 100.0)
        assert (force.tag, schema.signals[1].role) == ("PLC.force", "regime")
        assert schema.window.length == 15
        assert schema.manifest == exported.manifest.digest
        assert read_schema(
            OnnxSession.from_template(
                export_once("wdcnn-stem").template, export_once("wdcnn-stem").weights
            ).metadata
        ).classes == ("good", "burr", "crack")


class TestRepeatable:
    def test_same_bytes_without_noise_or_traces(
        self, export_once: Callable[[str], Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Other weights, training mode and a flat model give the same template, quietly."""
        exported = export_once("mlp-two-regimes")
        flat = FlatModel(exported.module())
        flat.load(exported.random_weights(5))
        flat.module.train()
        before = flat.vector.copy()
        assert export_template(exported.job, flat.module) == exported.template
        assert capfd.readouterr() == ("", "")
        assert flat.module.training
        np.testing.assert_array_equal(flat.vector, before)


class TestRefusal:
    def test_branching_module(self, export_once: Callable[[str], Any]) -> None:
        """A module that no static graph can describe is a ModelError with a remedy."""

        class Branching(torch.nn.Linear):
            def forward(self, windows: torch.Tensor) -> torch.Tensor:
                return super().forward(windows) if windows.sum() > 0 else windows

        module = torch.nn.Module()
        module.head = Branching(15, 15)
        module.forward = module.head.forward
        with pytest.raises(ModelError, match="must not branch"):
            export_template(export_once("mlp-two-regimes").job, module)
