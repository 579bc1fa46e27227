# SPDX-License-Identifier: Apache-2.0
"""What is below a node, and which node a tag names."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from fedmill_agent.sources.opcua.address import NodeName, Path, parse
from fedmill_agent.sources.opcua.connection import Connection
from fedmill_shared.errors import ConfigError

MOST_CHILDREN = 20_000
"""Of all nodes that are looked at together."""
HIERARCHICAL = ua.NodeId(ua.Int32(ObjectIds.HierarchicalReferences))
HAS_PROPERTY = ua.NodeId(ua.Int32(ObjectIds.HasProperty))
OBJECTS = ua.NodeId(ua.Int32(ObjectIds.ObjectsFolder))
MOST_PAGES = 1000
"""Parts in which a server may tell the children of one node: some have no end."""
_FIELDS = ua.BrowseResultMask.All
_PAGE = 1000

Names = dict[tuple[int, str], ua.NodeId]


@dataclass(frozen=True, slots=True)
class Child:
    """A node below another one."""

    node: ua.NodeId
    space: int
    name: str
    reference: ua.NodeId
    variable: bool


async def children(
    connection: Connection, parents: Sequence[ua.NodeId], kinds: ua.NodeClass | int
) -> list[list[Child]]:
    """The children of each of ``parents`` that are of one of ``kinds`` (bits of NodeClass).

    At most ``MOST_CHILDREN`` in all. A parent that may not be looked at has none.

    Raises:
        UaStatusCodeError: the server refuses to be looked through at all.
    """
    left = MOST_CHILDREN

    async def ask(some: Sequence[ua.NodeId]) -> list[list[Child]]:
        nonlocal left
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = _PAGE
        parameters.NodesToBrowse = [_question(node, int(kinds)) for node in some]
        results = await connection.service.browse(parameters)
        found: list[list[Child]] = []
        for first in results:
            mine, result = list[Child](), first
            for page in count(1):
                mine += [_child(each) for each in result.References or [] if _here(each)]
                more = result.ContinuationPoint
                if not more:
                    break
                following = ua.BrowseNextParameters()
                following.ContinuationPoints = [more]
                following.ReleaseContinuationPoints = len(mine) >= left or page >= MOST_PAGES
                answers = await connection.service.browse_next(following)
                if following.ReleaseContinuationPoints or not answers:
                    break
                result = answers[0]
            found.append(mine[: max(0, left)])
            left -= len(mine)
        return found

    return await connection.in_chunks("browse", parents, ask)


async def resolve(
    connection: Connection, tags: Sequence[str]
) -> tuple[dict[str, ua.NodeId], dict[str, str]]:
    """The nodes that ``tags`` name, and why the others name none.

    Raises:
        UaStatusCodeError: the server refuses to be looked through.
    """
    nodes: dict[str, ua.NodeId] = {}
    problems: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for tag in tags:
        try:
            named = parse(tag)
            if isinstance(named, NodeName):
                nodes[tag] = ua.NodeId.from_string(named.written(connection.spaces))
            else:
                paths[tag] = named
        except ConfigError as error:
            problems[tag] = str(error)
    at: dict[str, ua.NodeId] = dict.fromkeys(paths, OBJECTS)
    for depth in range(max((len(path.steps) for path in paths.values()), default=0)):
        walking = [tag for tag in at if depth < len(paths[tag].steps)]
        below = await _names(connection, list({at[tag] for tag in walking}))
        for tag in walking:
            step = paths[tag].steps[depth]
            hits = _matching(below[at[tag]], step)
            if len(hits) == 1:
                at[tag] = hits[0]
            else:
                del at[tag]
                problems[tag] = _lost(paths[tag], depth, len(hits))
    return nodes | at, problems


async def _names(connection: Connection, parents: list[ua.NodeId]) -> dict[ua.NodeId, Names]:
    kinds = ua.NodeClass.Object | ua.NodeClass.Variable
    found = await children(connection, parents, kinds)
    return {
        parent: {(child.space, child.name): child.node for child in mine}
        for parent, mine in zip(parents, found, strict=True)
    }


def _matching(names: Names, step: tuple[int | None, str]) -> list[ua.NodeId]:
    space, name = step
    return [node for (at, own), node in names.items() if own == name and space in (None, at)]


def _lost(path: Path, depth: int, hits: int) -> str:
    way = "/".join(["Objects", *(name for _, name in path.steps[:depth])])
    name = path.steps[depth][1]
    if hits:
        return f"{way} has {hits} nodes {name!r}: write the namespace before it, as in 2:{name}"
    return f"{way} has no node {name!r}: look with `discover`"


def _question(node: ua.NodeId, kinds: int) -> ua.BrowseDescription:
    return ua.BrowseDescription(
        NodeId=node,
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=HIERARCHICAL,
        IncludeSubtypes=True,
        NodeClassMask=kinds,
        ResultMask=_FIELDS,
    )


def _here(reference: ua.ReferenceDescription) -> bool:
    """Whether the node is at this server and not at another one that it refers to."""
    return not getattr(reference.NodeId, "ServerIndex", 0)


def _child(reference: ua.ReferenceDescription) -> Child:
    there = reference.NodeId
    return Child(
        node=ua.NodeId(there.Identifier, there.NamespaceIndex, there.NodeIdType),
        space=int(reference.BrowseName.NamespaceIndex),
        name=str(reference.BrowseName.Name or ""),
        reference=reference.ReferenceTypeId,
        variable=reference.NodeClass == ua.NodeClass.Variable,
    )
