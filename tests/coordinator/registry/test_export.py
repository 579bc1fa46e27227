# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from fedmill_coordinator.registry.export import self_contained
from fedmill_coordinator.registry.parity import canary_inputs
from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession


class TestSelfContained:
    def test_plain_runtime_computes_the_same(self, exported: Any) -> None:
        """Any ONNX Runtime with default options loads the single file."""
        import onnxruntime  # telemetry is off since fedmill_shared.onnx_session was imported

        weights = exported.random_weights(3)
        inputs = canary_inputs(exported.job, exported.normaliser, 1)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        plain = onnxruntime.InferenceSession(
            self_contained(exported.template, weights), options, ["CPUExecutionProvider"]
        )
        bound = OnnxSession.from_template(exported.template, weights).run(inputs)
        np.testing.assert_allclose(plain.run(None, {"windows": inputs})[0], bound, rtol=1e-5)

    def test_keeps_opset_metadata_and_numbers(self, export_once: Callable[[str], Any]) -> None:
        """Only the place of the weights differs from the template."""
        exported = export_once("gru")
        template = onnx.load_model_from_string(exported.template)
        model = onnx.load_model_from_string(self_contained(exported.template, exported.weights))
        assert model.opset_import == template.opset_import
        assert model.metadata_props == template.metadata_props
        assert model.graph.node == template.graph.node
        assert [output.name for output in model.graph.output] == ["outputs"]
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for entry in exported.manifest.tensors:
            part = exported.weights[entry.offset : entry.offset + entry.size]
            found = onnx.numpy_helper.to_array(tensors[entry.name])
            np.testing.assert_array_equal(found, part.reshape(entry.shape))

    def test_foreign_weights_are_refused(self, export_once: Callable[[str], Any]) -> None:
        """Too few or too many elements."""
        exported = export_once("gru")
        for weights in (exported.weights[:-1], np.append(exported.weights, np.float32(0))):
            with pytest.raises(ModelError, match="the template wants"):
                self_contained(exported.template, weights)

    def test_damaged_templates_are_refused(self, export_once: Callable[[str], Any]) -> None:
        """What fails ONNX's own checker does not leave the coordinator."""
        exported = export_once("gru")
        model = onnx.load_model_from_string(exported.template)
        model.graph.node[0].op_type = "Unknown"
        with pytest.raises(ModelError, match="not valid ONNX"):
            self_contained(model.SerializeToString(), exported.weights)
