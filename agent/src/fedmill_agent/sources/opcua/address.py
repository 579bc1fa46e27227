# SPDX-License-Identifier: Apache-2.0
"""What tags name: node ids (OPC 10000-6, 5.3.1.10) and browse paths (OPC 10000-4, A.2)."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from fedmill_shared.errors import ConfigError

MOST_STEPS = 32
MOST_SHOWN, LONGEST_SHOWN = 16, 100
_NODE = re.compile(
    r"(?:ns=(?P<index>\d{1,5});|nsu=(?P<uri>.+?);)?(?P<form>[isgb])=(?P<name>.*)", re.DOTALL
)
_STEP = re.compile(r"(?:(?P<index>\d{1,5}):)?(?P<name>.+)", re.DOTALL)
_LARGEST = {"index": 0xFFFF, "i": 0xFFFFFFFF}


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node id; its namespace is given by number, or by URI."""

    index: int
    uri: str
    form: str
    name: str

    def written(self, spaces: Sequence[str]) -> str:
        """The node id with the namespace's number at the server that has these ``spaces``.

        Raises:
            ConfigError: the server does not have the namespace.
        """
        index = self.index
        if self.uri:
            if self.uri not in spaces:
                raise ConfigError(
                    f"the server has no namespace {self.uri!r}",
                    remedy=f"it has {_some(spaces[1:]) or 'none of its own'}",
                )
            index = spaces.index(self.uri)
        return f"ns={index};{self.form}={self.name}" if index else f"{self.form}={self.name}"


def _some(spaces: Sequence[str]) -> str:
    """A server may have many, with whatever names."""
    more = f" and {len(spaces) - MOST_SHOWN} more" if len(spaces) > MOST_SHOWN else ""
    return ", ".join(each[:LONGEST_SHOWN] for each in spaces[:MOST_SHOWN]) + more


@dataclass(frozen=True, slots=True)
class Path:
    """Names to go by from the folder Objects, each with the number of its namespace or None."""

    steps: tuple[tuple[int | None, str], ...]


def parse(tag: str) -> NodeName | Path:
    """What ``tag`` names.

    A path may begin with ``Objects`` or ``Root/Objects``; ``2:Line1`` is the name in namespace 2,
    and ``&`` takes the meaning from the character behind it.

    Raises:
        ConfigError: it can name nothing.
    """
    found = _NODE.fullmatch(tag)
    return _node(tag, found) if found else _path(tag)


def _node(tag: str, found: re.Match[str]) -> NodeName:
    index, form, name = int(found["index"] or 0), found["form"], found["name"]
    good = index <= _LARGEST["index"] and bool(name)
    try:
        if form == "i":
            good = good and name.isascii() and name.isdecimal() and int(name) <= _LARGEST["i"]
        elif form == "g":
            name = str(UUID(name))
        elif form == "b":
            base64.b64decode(name, validate=True)
    except (ValueError, binascii.Error):
        good = False
    if not good:
        raise ConfigError(
            f"{tag!r} is no node id", remedy="write one such as ns=2;s=Line1.Temperature or i=2258"
        )
    return NodeName(index, found["uri"] or "", form, name)


def _path(tag: str) -> Path:
    parts = re.split(r"(?<!&)/", tag.strip("/"))
    if parts[:1] in (["Root"], ["0:Root"]):
        parts = parts[1:]
    if parts[:1] in (["Objects"], ["0:Objects"]):
        parts = parts[1:]
    steps = [_STEP.fullmatch(part) for part in parts]
    if not parts or len(parts) > MOST_STEPS or not all(steps):
        raise ConfigError(
            f"{tag!r} is neither a node id nor a path",
            remedy="write ns=2;s=Line1.Temperature or Objects/Line1/Temperature",
        )
    return Path(
        tuple(
            (int(step["index"]) if step["index"] else None, re.sub(r"&(.)", r"\1", step["name"]))
            for step in steps
            if step
        )
    )
