# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fedmill_coordinator.registry.parity import canary_inputs, check_parity
from fedmill_shared.errors import ModelError
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.onnx_session import OnnxSession, check_canary


class TestCanaryInputs:
    def test_plausible_values(self, export_once: Callable[[str], Any]) -> None:
        """Inputs have the mean and deviation of their condition, in canonical units."""
        exported = export_once("wdcnn-stem")
        windows = canary_inputs(exported.job, exported.normaliser, 7)
        assert windows.shape == (8, 3, 15)
        assert windows.dtype == np.float32
        assert windows[:, 0].mean() == pytest.approx(20.0, abs=4 * 4.0 / 120**0.5)
        assert windows[:, 2].std() == pytest.approx(0.5, rel=0.3)
        assert not windows[:, 1].any()

    def test_regime_signals_name_their_condition(self, export_once: Callable[[str], Any]) -> None:
        """Every window changes condition at half its length, near both centroids."""
        exported = export_once("wdcnn-group-two-regimes")
        windows = canary_inputs(exported.job, exported.normaliser, 7)
        expected = (np.arange(8)[:, None] + (np.arange(15) >= 7)) % 2
        centroids = np.array([600.0, 1500.0])
        assert np.abs(windows[:, 1] - centroids[expected]).max() <= 25.0
        flat = FlatModel(exported.module())
        flat.load(exported.weights)
        found = flat.module.standardise.regime_of(torch.from_numpy(windows)).numpy()
        np.testing.assert_array_equal(found, expected)
        standardised = flat.module.standardise(torch.from_numpy(windows)).numpy()
        assert np.abs(standardised).max() < 5.0
        assert not standardised[:, 0][expected == 1].any()  # constant in the second condition

    def test_seed_decides(self, export_once: Callable[[str], Any]) -> None:
        """The same windows again, or others."""
        exported = export_once("gru")
        first, again, other = (
            canary_inputs(exported.job, exported.normaliser, s) for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


class TestCheckParity:
    def test_agreement_gives_the_canary(self, exported: Any) -> None:
        """Torch's outputs for any weights, ready to travel with the version."""
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        model = FlatModel(exported.module())
        for seed in (0, 1):
            weights = exported.random_weights(seed)
            expected = check_parity(exported.template, weights, model, inputs)
            np.testing.assert_array_equal(model.vector, weights)
            session = OnnxSession.from_template(exported.template, weights)
            check_canary(session, inputs, expected, 1e-3)

    def test_swapped_tensors_are_caught(self, exported: Any) -> None:
        """A template that reads two tensors from each other's place is refused."""
        model = onnx.load_model_from_string(exported.template)
        by_shape: dict[tuple[int, ...], list[onnx.TensorProto]] = {}
        for tensor in model.graph.initializer:
            if tensor.name.startswith(("backbone", "norm")):
                by_shape.setdefault(tuple(tensor.dims), []).append(tensor)
        first, second = next(same[:2] for same in by_shape.values() if len(same) > 1)
        first.name, second.name = second.name, first.name
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        with pytest.raises(ModelError, match="canary"):
            check_parity(
                model.SerializeToString(),
                exported.random_weights(0),
                FlatModel(exported.module()),
                inputs,
            )

    def test_features_of_another_layer_are_caught(self, export_once: Callable[[str], Any]) -> None:
        """The outputs are right, and what the head is said to work on is not."""
        exported = export_once("mlp-two-regimes")
        model = onnx.load_model_from_string(exported.template)
        last = next(node for node in model.graph.node if "head.weight" in node.input)
        before = next(node for node in model.graph.node if "features" in node.output)
        model.graph.node.add(op_type="Neg", input=["inner"], output=["features"])
        before.output[0] = last.input[0] = "inner"
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        with pytest.raises(ModelError, match="largest error of the features"):
            check_parity(
                model.SerializeToString(),
                exported.random_weights(0),
                FlatModel(exported.module()),
                inputs,
            )

    def test_templates_without_features_still_pass(self, export_once: Callable[[str], Any]) -> None:
        """A job that began with older software goes on."""
        exported = export_once("gru")
        model = onnx.load_model_from_string(exported.template)
        del model.graph.output[1:]
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        found = check_parity(
            model.SerializeToString(), exported.weights, FlatModel(exported.module()), inputs
        )
        assert found.shape == (8, 1)

    def test_weights_of_another_model_are_refused(self, export_once: Callable[[str], Any]) -> None:
        """The manifest speaks first."""
        exported, other = export_once("gru"), export_once("wdcnn-stem")
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        with pytest.raises(ModelError, match="disagree on the architecture"):
            check_parity(exported.template, other.weights, FlatModel(exported.module()), inputs)
