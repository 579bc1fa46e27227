# SPDX-License-Identifier: Apache-2.0
"""The integer form of a convolution's weights, as a graph that computes it from float32 ones.

Nothing here depends on a window, so ONNX Runtime computes it once, when weights are bound.
"""

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from fedmill_coordinator.registry.graph_writer import GraphWriter
from fedmill_shared.models.quantised import TINY


@dataclass(frozen=True, slots=True)
class Kernel:
    """Weight (M, C/group, ...) and bias (M,) of a convolution, by name; no bias: empty."""

    weight: str
    bias: str
    shape: tuple[int, ...]

    @property
    def inner(self) -> list[int]:
        """All axes but that of the output channels."""
        return list(range(1, len(self.shape)))


def folded(writer: GraphWriter, kernel: Kernel, norm: NodeProto) -> Kernel:
    """``kernel`` with the batch norm behind it: gain * weight, gain * (bias - mean) + beta."""
    gamma, beta, mean, variance = norm.input[1:5]
    epsilon = next((entry.f for entry in norm.attribute if entry.name == "epsilon"), 1e-5)
    stable = writer.compute("Add", variance, writer.constant(f"epsilon.{epsilon:g}", epsilon))
    gain = writer.compute("Div", gamma, writer.compute("Sqrt", stable))
    by_channel = writer.compute("Unsqueeze", gain, _inner(writer, kernel))
    weight = writer.compute("Mul", kernel.weight, by_channel)
    centred = ("Sub", kernel.bias, mean) if kernel.bias else ("Neg", mean)
    shift = writer.compute(*centred)
    bias = writer.compute("Add", writer.compute("Mul", shift, gain), beta)
    return Kernel(weight, bias, kernel.shape)


def integers(writer: GraphWriter, kernel: Kernel, scale: str) -> list[str]:
    """What stands for weight and bias where the input has this ``scale``: int8, and int32.

    An output channel's largest weight becomes ``levels``; a bias counts in units of its channel's
    scale times the input's, so that it can be added to the products.
    """
    size = writer.compute("Abs", kernel.weight)
    largest = writer.compute("ReduceMax", size, _inner(writer, kernel), keepdims=0)
    nonzero = writer.compute("Max", largest, writer.constant("tiny", TINY))
    steps = writer.compute("Div", nonzero, writer.name("levels"))
    channels = kernel.shape[0]
    zero = writer.constant(f"zeros.int8.{channels}", np.zeros(channels, np.int8))
    stored = writer.compute("QuantizeLinear", kernel.weight, steps, zero, axis=0)
    read = [writer.compute("DequantizeLinear", stored, steps, zero, axis=0)]
    if kernel.bias:
        unit = writer.compute("Mul", steps, scale)
        count = writer.compute("Round", writer.compute("Div", kernel.bias, unit))
        stored = writer.compute("Cast", count, to=TensorProto.INT32)
        zero = writer.constant(f"zeros.int32.{channels}", np.zeros(channels, np.int32))
        read.append(writer.compute("DequantizeLinear", stored, unit, zero, axis=0))
    return read


def _inner(writer: GraphWriter, kernel: Kernel) -> str:
    axes = np.array(kernel.inner, np.int64)
    return writer.constant(f"axes.{len(axes)}", axes)
