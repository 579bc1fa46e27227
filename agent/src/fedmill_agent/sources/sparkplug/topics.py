# SPDX-License-Identifier: Apache-2.0
"""Topics and tags of Sparkplug: ``spBv1.0/group/kind/node[/device]`` (Sparkplug 3.0, chapter 4).

A tag is ``group/node:metric`` or ``group/node/device:metric``; metrics may have slashes and colons
of their own. A broker that is aware of Sparkplug keeps births below ``$sparkplug/certificates``
(chapter 10.2), for those who come later.
"""

from dataclasses import dataclass

from fedmill_agent.sources.broker import join_tag, split_tag
from fedmill_shared.errors import ConfigError

NAMESPACE = "spBv1.0"
KEPT = "$sparkplug/certificates/"
NODE_KINDS = ("NBIRTH", "NDATA", "NDEATH")
DEVICE_KINDS = ("DBIRTH", "DDATA", "DDEATH")
_REMEDY = "write group/node:metric or group/node/device:metric"

NodeName = tuple[str, str]
"""Group and node."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message comes from.

    Attributes:
        kind: one of ``NODE_KINDS`` or ``DEVICE_KINDS``.
        device: empty for the node itself.
        kept: whether the broker has kept it.
    """

    kind: str
    node: NodeName
    device: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What a tag names; ``device`` is empty for metrics of the node itself."""

    tag: str
    node: NodeName
    device: str
    metric: str


def address_of(topic: str) -> Address | None:
    """Where a message on ``topic`` comes from; None if it is no birth, data or death."""
    kept = topic.startswith(KEPT)
    parts = topic.removeprefix(KEPT).split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE:
        return None
    kinds = NODE_KINDS if len(parts) == 4 else DEVICE_KINDS
    if parts[2] not in kinds:
        return None
    return Address(parts[2], (parts[1], parts[3]), "".join(parts[4:]), kept)


def place_of(tag: str) -> Place:
    """What ``tag`` names.

    Raises:
        ConfigError: it can name nothing.
    """
    origin, metric = split_tag(tag)
    parts = origin.split("/")
    if len(parts) not in (2, 3) or not all(parts) or set(origin) & set("+#\0") or not metric:
        raise ConfigError(f"tag {tag!r} names no metric", remedy=_REMEDY)
    return Place(tag, (parts[0], parts[1]), "".join(parts[2:]), metric)


def tag_of(node: NodeName, device: str, metric: str) -> str:
    """The tag that names a metric."""
    return join_tag("/".join((*node, device) if device else node), metric)


def filters_of(node: NodeName) -> list[str]:
    """What has to be listened to, to hear one node and its devices; ``+`` is any."""
    group, name = node
    births = [f"{NAMESPACE}/{group}/NBIRTH/{name}", f"{NAMESPACE}/{group}/DBIRTH/{name}/+"]
    others = [f"{NAMESPACE}/{group}/{kind}/{name}" for kind in NODE_KINDS[1:]]
    others += [f"{NAMESPACE}/{group}/{kind}/{name}/+" for kind in DEVICE_KINDS[1:]]
    return [*births, *others, *(KEPT + birth for birth in births)]


def command_of(node: NodeName) -> str:
    """Where a node takes commands."""
    return f"{NAMESPACE}/{node[0]}/NCMD/{node[1]}"


def state_of(host_id: str) -> str:
    """Where a host says whether it is there."""
    return f"{NAMESPACE}/STATE/{host_id}"
