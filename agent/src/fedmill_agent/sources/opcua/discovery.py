# SPDX-License-Identifier: Apache-2.0
"""What variables a server has, with type, value, unit, range, and whether they can be written."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from fedmill_agent.sources.live import Found
from fedmill_agent.sources.opcua.browse import HAS_PROPERTY, OBJECTS, Child, children
from fedmill_agent.sources.opcua.connection import Connection
from fedmill_agent.sources.opcua.faults import GARBLED, quiet, told
from fedmill_agent.sources.opcua.loop import new_loop
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.opcua.responses import range_of, unit_of
from fedmill_agent.sources.opcua.security import Identity, identity
from fedmill_agent.sources.opcua.values import quality_of
from fedmill_agent.sources.opcua.wire import DataValue
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError

MOST_TAGS = 5000
DEEPEST = 16
TOGETHER = 100
"""Nodes that are looked below at a time."""
MOST_NODES = 50_000
LONGEST_TEXT = 120
_UNITS, _RANGE = "EngineeringUnits", "EURange"
_WRITE = 2
"""Bit of UserAccessLevel (OPC 10000-3, 8.57)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node that is to be looked at, and the names that lead to it."""

    node: ua.NodeId
    path: str
    depth: int
    variable: bool = False


def discover(options: OpcuaOptions) -> Iterator[Found]:
    """Variables below Objects, the nearest first, at most ``MOST_TAGS``; see ``Live``.

    What the server says of itself (namespace 0) is left out.

    Raises:
        SourceError: the server cannot be reached, does not answer or refuses.
        ConfigError: a file that ``options`` name is missing or wrong.
    """
    quiet()
    search = Search(options, identity(options))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            runner.run(search.begin())
            while not search.done:
                yield from runner.run(search.step())
        except (FedmillError, OSError, *GARBLED) as error:
            raise told(error, options) from error
        finally:
            runner.run(search.end())


class Search:
    """Owns the connection, and the nodes that are still to be looked at."""

    def __init__(self, options: OpcuaOptions, who: Identity) -> None:
        """Prepare; ``begin`` connects."""
        self._options = options
        self._who = who
        self._connection: Connection | None = None
        self._queue: deque[Place] = deque([Place(OBJECTS, "Objects", 0)])
        self._seen = {OBJECTS}
        self._found = 0

    @property
    def done(self) -> bool:
        """Whether there is nothing left to look at, or enough was found."""
        return not self._queue or self._found >= MOST_TAGS

    async def begin(self) -> None:
        """Connect.

        Raises:
            Exception: of the library.
        """
        self._connection = Connection(self._options, self._who)
        async with asyncio.timeout(self._options.connect_seconds):
            await self._connection.open(SystemClock())

    async def end(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def step(self) -> list[Found]:
        """Look at some nodes; what was found of variables."""
        assert self._connection is not None  # noqa: S101  begin comes first
        some = [self._queue.popleft() for _ in range(min(TOGETHER, len(self._queue)))]
        kinds = ua.NodeClass.Object | ua.NodeClass.Variable
        below = await children(self._connection, [place.node for place in some], kinds)
        for place, mine in zip(some, below, strict=True):
            self._queue.extend(self._further(place, mine))
        variables = [
            (place, mine) for place, mine in zip(some, below, strict=True) if place.variable
        ][: MOST_TAGS - self._found]
        self._found += len(variables)
        return await _described(self._connection, variables)

    def _further(self, place: Place, mine: Sequence[Child]) -> Iterator[Place]:
        for child in mine:
            known = child.node in self._seen or child.node.NamespaceIndex == 0
            if known or child.reference == HAS_PROPERTY or place.depth >= DEEPEST:
                continue
            if len(self._seen) >= MOST_NODES:
                return
            self._seen.add(child.node)
            path = f"{place.path}/{child.name.replace('&', '&&').replace('/', '&/')}"
            yield Place(child.node, path, place.depth + 1, child.variable)


async def _described(
    connection: Connection, variables: Sequence[tuple[Place, Sequence[Child]]]
) -> list[Found]:
    if not variables:
        return []
    nodes = [place.node for place, _ in variables]
    values = await connection.read(nodes)
    levels = await connection.read(nodes, AttributeIds.UserAccessLevel)
    texts = await connection.read(nodes, AttributeIds.Description)
    properties = {
        (place.node, child.name): child.node
        for place, mine in variables
        for child in mine
        if child.name in (_UNITS, _RANGE)
    }
    read = await connection.read(list(properties.values()))
    told_of = dict(zip(properties, read, strict=True))
    return [
        _tell(
            place,
            value or DataValue(),
            writable=bool(int(_number(level)) & _WRITE),
            text=_text(text) if _text(text) != place.path.rpartition("/")[2] else "",
            unit=told_of.get((place.node, _UNITS)),
            ends=told_of.get((place.node, _RANGE)),
        )
        for (place, _), value, level, text in zip(variables, values, levels, texts, strict=True)
    ]


def _tell(
    place: Place,
    value: DataValue,
    *,
    writable: bool,
    text: str,
    unit: DataValue | None,
    ends: DataValue | None,
) -> Found:
    sign = unit_of(unit) if unit else ""
    span = range_of(ends) if ends else None
    quality = {0: "bad at present", 500: "uncertain at present"}.get(quality_of(value.status), "")
    between = f"{span[0]:g} to {span[1]:g} {sign}".rstrip() if span else ""
    return Found(
        tag=place.node.to_string(),
        type=value.type + ("[]" if value.array else ""),
        value=_shown(value),
        unit=sign,
        writable=writable,
        note="; ".join(filter(None, (text[:LONGEST_TEXT], between, quality, place.path))),
    )


def _shown(value: DataValue) -> str:
    content = value.content
    if isinstance(content, float):
        if value.type == "Boolean":
            return "true" if content else "false"
        return f"{content:.10g}"
    if isinstance(content, np.ndarray | list):
        return f"{len(content)} values"
    return content[:LONGEST_TEXT] if isinstance(content, str) else ""


def _number(value: DataValue | None) -> float:
    return value.content if value is not None and isinstance(value.content, float) else 0.0


def _text(value: DataValue | None) -> str:
    return value.content if value is not None and isinstance(value.content, str) else ""
