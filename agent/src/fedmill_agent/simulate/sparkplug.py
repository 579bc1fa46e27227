# SPDX-License-Identifier: Apache-2.0
"""Sparkplug B edge nodes on a plant's broker: each line is a node of the group ``fedmill``.

A node has a session of its own, announces its metrics in a birth certificate, and tells it again
where a host asks for that (Sparkplug 3.0, 5.4 to 5.9). Without a part ``part`` is 0.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.simulate.device import PART, Shape
from fedmill_agent.sources.sparkplug import payload
from fedmill_agent.sources.sparkplug.datatypes import DataType
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.link.base import Message
from fedmill_shared.link.plant import PlantBroker, PlantLink

GROUP = "fedmill"
BD_SEQ = 0


class SparkplugDevice:
    """Owns one edge node for each line."""

    def __init__(self, host: str, port: int, clock: Clock | None = None) -> None:
        """Nothing is opened yet."""
        self._host, self._port = host, port
        self._clock = clock or SystemClock()
        self._nodes: dict[str, _Node] = {}

    def open(self, shapes: Sequence[Shape]) -> None:
        """Sign in to the broker and announce all metrics.

        Raises:
            SourceError: it cannot be reached, or refuses us.
        """
        for shape in shapes:
            node = _Node(shape, self._host, self._port, self._clock)
            self._nodes[shape.line] = node
            node.open()

    def part(self, line: str, number: int, time_ns: int) -> None:
        """Which part is in the machine; told when it changes."""
        node = self._nodes[line]
        node.listen()
        if number != node.number:
            node.number = number
            node.tell([node.part_metric(time_ns)], time_ns)

    def block(self, line: str, values: NDArray[np.float64], end_ns: int) -> None:
        """An array of samples for each tag."""
        node = self._nodes[line]
        node.listen()
        node.tell(
            [
                payload.metric(tag, DataType.FloatArray, row, time_ms=end_ns // 10**6)
                for tag, row in zip(node.shape.tags, values, strict=True)
            ],
            end_ns,
        )

    def close(self) -> None:
        """Say goodbye, as a death certificate does."""
        for node in self._nodes.values():
            node.close()


class _Node:
    """Owns one connection to the broker, and the counter of its messages."""

    def __init__(self, shape: Shape, host: str, port: int, clock: Clock) -> None:
        self.shape = shape
        self.number = 0
        self._clock = clock
        self._numbers = itertools.count()
        death = Message(self._topic("NDEATH"), payload.node_death(BD_SEQ))
        self._link = PlantLink(
            PlantBroker(
                host=host, port=port, client_id=f"{GROUP}-{shape.line}", will=death, version="3.1.1"
            ),
            clock,
        )

    def open(self) -> None:
        """Connect, listen for commands, and be born."""
        self._link.open([self._topic("NCMD")])
        self._be_born()

    def listen(self) -> None:
        """Be born again where a host asked for it; also keeps the connection alive."""
        for message in self._link.read(0.0):
            told = payload.decode(message.payload)
            if any(each.name == payload.REBIRTH for each in told.metrics):
                self._be_born()

    def tell(self, metrics: Sequence[payload.Metric], time_ns: int) -> None:
        """Publish what changed."""
        body = payload.data(metrics, time_ms=time_ns // 10**6, seq=self._next())
        self._link.publish(self._topic("NDATA"), body)

    def part_metric(self, time_ns: int) -> payload.Metric:
        """The part in the machine."""
        return payload.metric(PART, DataType.Int64, self.number, time_ms=time_ns // 10**6)

    def close(self) -> None:
        """Leave."""
        self._link.close(Message(self._topic("NDEATH"), payload.node_death(BD_SEQ)))

    def _be_born(self) -> None:
        self._numbers = itertools.count()
        now = self._clock.now_ns()
        none = np.zeros(0)
        metrics = [
            payload.metric(payload.REBIRTH, DataType.Boolean, value=False, time_ms=now // 10**6),
            self.part_metric(now),
            *(
                payload.metric(tag, DataType.FloatArray, none, time_ms=now // 10**6)
                for tag in self.shape.tags
            ),
        ]
        body = payload.node_birth(metrics, time_ms=now // 10**6, seq=self._next(), bd_seq=BD_SEQ)
        self._link.publish(self._topic("NBIRTH"), body)

    def _next(self) -> int:
        return next(self._numbers) % 256

    def _topic(self, kind: str) -> str:
        return f"spBv1.0/{GROUP}/{kind}/{self.shape.line}"
