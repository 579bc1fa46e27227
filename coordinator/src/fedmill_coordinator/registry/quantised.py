# SPDX-License-Identifier: Apache-2.0
"""The int8 form of a template with convolutions, made from the template alone.

``QuantizeLinear`` and ``DequantizeLinear`` stand around each convolution (the QDQ form), as ONNX
Runtime expects them to make an integer convolution of it. What does not depend on a window is
computed in the graph from the float32 weights: the fold of a batch norm, the scale of each output
channel, the int8 weights, the int32 bias. The runtime folds all that when weights are bound, so new
weights need neither a new graph nor the ``onnx`` package. The standardisation and the head stay
float32: they cost little and decide much.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from fedmill_coordinator.registry.graph_writer import GraphWriter
from fedmill_coordinator.registry.integers import Kernel, folded, integers
from fedmill_shared.models.quantised import Quantised, pack_quantised, scales_layout
from fedmill_shared.onnx_session import SCALES_FILE

_PREFIX = "int8."
RANGES = "ranges"


def quantise(template: bytes) -> bytes | None:
    """The int8 form of ``template``, packed as it travels; None where it has no convolution.

    The same template gives the same bytes.
    """
    model = onnx.load_model_from_string(template)
    walk = _Walk(model.graph)
    for node in list(model.graph.node):
        walk.take(node)
    if not walk.points:
        return None
    del model.graph.node[:]
    model.graph.node.extend(walk.writer.nodes)
    _external_scales(model.graph, len(walk.points))
    quantised = Quantised(
        template=_serialised(model),
        ranges=_serialised(_ranges(template, walk.points)),
        points=len(walk.points),
    )
    return pack_quantised(quantised)


@dataclass(frozen=True, slots=True)
class _Point:
    """A quantised activation, and over which axes the range of a window is taken."""

    values: str
    axes: tuple[int, ...]


class _Walk:
    """Goes through the nodes of a float32 graph and writes those of its int8 form.

    Attributes:
        points: the quantised activations, each with a scale of its own.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Look up what reads what; constants are added to ``graph``."""
        self.writer = GraphWriter(graph, _PREFIX)
        self.points: list[_Point] = []
        self._point_of: dict[str, int] = {}
        self._taken: set[str] = set()
        self._weights = {
            entry.name: tuple(entry.dims)
            for entry in graph.initializer
            if entry.data_type == TensorProto.FLOAT
        }
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        for output in graph.output:  # is read by the world, and must stay as it is
            self._readers.setdefault(output.name, []).append(NodeProto())

    def take(self, node: NodeProto) -> None:
        """Write the int8 form of one node."""
        if node.output[0] in self._taken:
            return
        if node.op_type == "Conv" and node.input[1] in self._weights:
            self._convolution(node)
            return
        self.writer.copy(node, [self._read(name) for name in node.input])
        if node.op_type == "MaxPool" and node.input[0] in self._point_of:
            # The largest of some values lies within their range: the same scale rounds nothing.
            self._quantise(node.output[0], self._point_of[node.input[0]])

    def _convolution(self, node: NodeProto) -> None:
        values, weight, *rest = node.input
        kernel = Kernel(weight, rest[0] if rest else "", self._weights[weight])
        axes = tuple(kernel.inner)
        if values not in self._point_of:
            self._quantise(values, self._new_point(values, axes))
        output = node.output[0]
        norm = self._only_reader(output, "BatchNormalization")
        if norm is not None and all(name in self._weights for name in norm.input[1:]):
            kernel = folded(self.writer, kernel, norm)
            output = norm.output[0]
            self._taken.add(output)
        scale = self.writer.name(f"scale.{self._point_of[values]}")
        inputs = [self._read(values), *integers(self.writer, kernel, scale)]
        self.writer.copy(node, inputs, output)
        relu = self._only_reader(output, "Relu")
        if relu is not None:  # part of the integer convolution: it only cuts the range
            self.writer.copy(relu, [output])
            output = relu.output[0]
            self._taken.add(output)
        self._quantise(output, self._new_point(output, axes))

    def _new_point(self, values: str, axes: tuple[int, ...]) -> int:
        self.points.append(_Point(values, axes))
        return len(self.points) - 1

    def _quantise(self, values: str, point: int) -> None:
        """From here on nodes read ``values`` by way of uint8, with the scale of ``point``."""
        self._point_of[values] = point
        scaling = self.writer.name(f"scale.{point}"), self.writer.name(f"zero.{point}")
        stored = self.writer.compute("QuantizeLinear", values, *scaling)
        self.writer.compute("DequantizeLinear", stored, *scaling, name=self._read(values))

    def _read(self, values: str) -> str:
        """What stands for ``values`` where nodes read them."""
        return self.writer.name(f"{values}.read") if values in self._point_of else values

    def _only_reader(self, values: str, kind: str) -> NodeProto | None:
        """The one node that reads ``values``, if it is of this ``kind``."""
        readers = self._readers.get(values, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _external_scales(graph: onnx.GraphProto, points: int) -> None:
    for what, (offset, length) in scales_layout(points).items():
        entry = graph.initializer.add(
            name=_PREFIX + what,
            data_type=TensorProto.UINT8 if what.startswith("zero.") else TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": SCALES_FILE, "offset": offset, "length": length}
        for key, value in place.items():
            entry.external_data.add(key=key, value=str(value))


def _ranges(template: bytes, points: list[_Point]) -> onnx.ModelProto:
    """The float32 graph up to the quantised activations, of which it gives the ranges."""
    model = onnx.load_model_from_string(template)
    graph = model.graph
    writer = GraphWriter(graph, _PREFIX)
    ranges: list[str] = []
    for operator in ("ReduceMin", "ReduceMax"):
        for point in points:
            axes = writer.constant(f"axes.{len(point.axes)}", np.array(point.axes, np.int64))
            extreme = writer.compute(operator, point.values, axes, keepdims=0)
            one = writer.constant("one", np.array([1], np.int64))
            ranges.append(writer.compute("Unsqueeze", extreme, one))
    writer.compute("Concat", *ranges, name=RANGES, axis=1)
    shape: list[str | int | None] = ["batch", 2 * len(points)]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(RANGES, TensorProto.FLOAT, shape))
    needed = _needed([*graph.node, *writer.nodes])
    del graph.node[:]
    graph.node.extend(needed)
    return model


def _needed(nodes: list[NodeProto]) -> list[NodeProto]:
    """Those of ``nodes`` that lead to the last one."""
    wanted, kept = set(nodes[-1].output), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _serialised(model: onnx.ModelProto) -> bytes:
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
