# SPDX-License-Identifier: Apache-2.0
"""Writes ONNX nodes and constants under names that nothing else in the graph has."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper


class GraphWriter:
    """Owns the nodes of a graph that is made from another one.

    Attributes:
        nodes: what was written, in an order in which it can be computed.
    """

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        """Constants go into ``graph``; every new name begins with ``prefix``."""
        self._graph = graph
        self._prefix = prefix
        self._constants: set[str] = set()
        self.nodes: list[NodeProto] = []

    def name(self, what: str) -> str:
        """A name of our own."""
        return self._prefix + what

    def constant(self, what: str, value: float | NDArray[np.generic]) -> str:
        """The name of a constant, float32 unless it is an array; written once."""
        name = self.name(what)
        if name not in self._constants:
            self._constants.add(name)
            array = value if isinstance(value, np.ndarray) else np.array(value, np.float32)
            self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def compute(self, operator: str, *inputs: str, name: str = "", **attributes: int) -> str:
        """The name of what ``operator`` makes of ``inputs``; ``name`` gives it another."""
        output = name or self.name(str(len(self.nodes)))
        node = helper.make_node(operator, inputs, [output])
        node.attribute.extend(
            helper.make_attribute(each, value) for each, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return output

    def copy(self, node: NodeProto, inputs: list[str], output: str = "") -> None:
        """``node`` with other ``inputs``, and with another ``output`` where one is named."""
        copied = NodeProto()
        copied.CopyFrom(node)
        copied.input[:] = inputs
        if output:
            copied.output[:] = [output]
        self.nodes.append(copied)
