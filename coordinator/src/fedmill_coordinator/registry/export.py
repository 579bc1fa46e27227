# SPDX-License-Identifier: Apache-2.0
"""A version as one ordinary ONNX file, for every other tool."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.checker import ValidationError, check_model
from onnx.shape_inference import InferenceError

from fedmill_shared.errors import ModelError


def self_contained(template: bytes, weights: NDArray[np.float32]) -> bytes:
    """``template`` with ``weights`` (elements,) inside, as a checked single-file model.

    Graph, opset and metadata stay those of the template, but for its second output: other tools
    expect one.

    Raises:
        ModelError: the weights do not fill the template exactly, or the file fails ONNX's checker.
    """
    model = onnx.load_model_from_string(template)
    del model.graph.output[1:]
    data = weights.astype("<f4").tobytes()
    used = 0
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, length = int(place["offset"]), int(place["length"])
        tensor.raw_data = data[start : start + length]
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
        used = max(used, start + length)
    if used != len(data):
        raise ModelError(
            f"weights have {len(data)} bytes, the template wants {used}",
            remedy="take weights and template from the same model version",
        )
    try:
        check_model(model, full_check=True)
    except (ValidationError, InferenceError) as error:
        raise ModelError(f"the exported model is not valid ONNX: {error}") from error
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
