# SPDX-License-Identifier: Apache-2.0
"""The linear layer at the end of a model: where it lies in the vector, as a matrix. No torch.

The layer is ``outputs = features @ weight.T + bias``, for a regression in standardised units: the
graph then multiplies by ``target_scale`` and adds ``target_offset``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.models.manifest import Manifest, Tensor

FEATURES = "features"
"""Name of a template's second output, float32 (B, width): what the layer works on."""


class Readout(NamedTuple):
    """The layer's tensors: weight (outputs, width) and bias (outputs,)."""

    weight: Tensor
    bias: Tensor

    @property
    def outputs(self) -> int:
        """Width of the model's output."""
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        """Features that the layer works on."""
        return self.weight.shape[1]

    def matrix(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """The layer in ``vector`` (size,) as (width + 1, outputs), the bias in the last row."""
        weight = _of(vector, self.weight).reshape(self.weight.shape)
        matrix: NDArray[np.float64] = np.vstack([weight.T, _of(vector, self.bias)[None]])
        return matrix.astype(np.float64)

    def put(self, vector: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """A copy of ``vector`` (size,) with the layer that ``matrix`` (width + 1, outputs) is.

        Raises:
            ModelError: the matrix is not of this layer, or holds what float32 cannot.
        """
        if matrix.shape != (self.width + 1, self.outputs):
            raise ModelError(
                f"a last layer of {matrix.shape} does not fit {self.weight.name!r} with "
                f"{self.width} features and {self.outputs} outputs"
            )
        with np.errstate(over="ignore"):
            layer = matrix.astype(np.float32)
        if not np.isfinite(layer).all():
            raise ModelError("the last layer holds NaN or infinity")
        result = vector.copy()
        _of(result, self.weight)[:] = layer[:-1].T.ravel()
        _of(result, self.bias)[:] = layer[-1]
        return result


def readout_of(manifest: Manifest) -> Readout | None:
    """The last linear layer of the head; None where the head has none with a bias."""
    head = [tensor for tensor in manifest.tensors if tensor.role == "head"]
    if len(head) < 2:
        return None
    weight, bias = head[-2:]
    name = weight.name.removesuffix("weight")
    named = (weight.name, bias.name) == (f"{name}weight", f"{name}bias")
    fits = len(weight.shape) == 2 and bias.shape == weight.shape[:1]
    return Readout(weight, bias) if named and fits else None


def target_of(manifest: Manifest, vector: NDArray[np.float32]) -> tuple[float, float]:
    """Offset and scale of a regression's output in ``vector`` (size,); 0 and 1 for classes."""
    values = {"target_offset": 0.0, "target_scale": 1.0}
    for tensor in manifest.tensors:
        if tensor.name in values and tensor.size == 1:
            values[tensor.name] = float(vector[tensor.offset])
    return values["target_offset"], values["target_scale"]


def _of(vector: NDArray[np.float32], tensor: Tensor) -> NDArray[np.float32]:
    return vector[tensor.offset : tensor.offset + tensor.size]
