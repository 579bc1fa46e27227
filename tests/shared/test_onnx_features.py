# SPDX-License-Identifier: Apache-2.0
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_features import with_features
from fedmill_shared.onnx_session import OnnxSession


def session(*, told: bool = True) -> OnnxSession:
    """Sums each signal; the features are twice that."""
    values = helper.make_tensor_value_info
    outputs = [values("outputs", TensorProto.FLOAT, ["batch", 2])]
    if told:
        outputs.append(values("features", TensorProto.FLOAT, ["batch", 2]))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["windows", "axes"], ["outputs"], keepdims=0),
            helper.make_node("Add", ["outputs", "outputs"], ["features"]),
        ],
        "sums",
        [values("windows", TensorProto.FLOAT, ["batch", 2, 3])],
        outputs,
        [helper.make_tensor("axes", TensorProto.INT64, [1], [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return OnnxSession.from_template(model.SerializeToString(), np.zeros(1, np.float32))


class TestWithFeatures:
    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_both_for_any_number_of_windows(self, count: int) -> None:
        """In the order of the windows, also where these do not lie together in memory."""
        windows = np.arange(count * 12, dtype=np.float32).reshape(count, 2, 6)[:, :, ::2]
        outputs, features = with_features(session(), windows)
        np.testing.assert_allclose(outputs, windows.sum(2))
        np.testing.assert_allclose(features, 2 * windows.sum(2))
        assert features.dtype == np.float32

    def test_a_graph_without_features_is_told(self) -> None:
        """As older templates are."""
        with pytest.raises(ModelError, match="does not tell what its last layer works on"):
            with_features(session(told=False), np.zeros((1, 2, 3), np.float32))
