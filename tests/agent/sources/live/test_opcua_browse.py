# SPDX-License-Identifier: Apache-2.0
"""What servers that mean harm, or err, may answer where their nodes are looked through."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest
from asyncua import ua

from fedmill_agent.sources.opcua import browse
from fedmill_agent.sources.opcua.address import NodeName
from fedmill_agent.sources.opcua.connection import Connection
from fedmill_shared.errors import ConfigError


class Endless:
    """Always has more to tell, and never tells anything."""

    def __init__(self) -> None:
        self.asked: list[ua.BrowseNextParameters] = []

    @property
    def service(self) -> "Endless":
        """Itself."""
        return self

    async def in_chunks(
        self,
        _kind: str,
        items: Sequence[ua.NodeId],
        call: Callable[[Sequence[ua.NodeId]], Awaitable[list[list[browse.Child]]]],
    ) -> list[list[browse.Child]]:
        """All at once."""
        return await call(items)

    async def browse(self, parameters: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """The first part."""
        return [ua.BrowseResult(ContinuationPoint=b"more") for _ in parameters.NodesToBrowse]

    async def browse_next(self, parameters: ua.BrowseNextParameters) -> list[ua.BrowseResult]:
        """The next part."""
        self.asked.append(parameters)
        return [ua.BrowseResult(ContinuationPoint=b"more")]


def test_children_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many parts the server is told that it may forget the rest."""
    monkeypatch.setattr(browse, "MOST_PAGES", 5)
    server = Endless()
    found = asyncio.run(
        browse.children(cast("Connection", server), [browse.OBJECTS], ua.NodeClass.Variable)
    )
    assert found == [[]]
    assert [each.ReleaseContinuationPoints for each in server.asked] == [False] * 4 + [True]


def test_a_server_with_very_many_namespaces() -> None:
    """Some of them are named, and not all of a long name."""
    with pytest.raises(ConfigError) as caught:
        NodeName(0, "urn:mine", "i", "1").written(["", *("u" * 5000 for _ in range(60_000))])
    assert len(str(caught.value)) < 2500
    assert "and 59984 more" in str(caught.value)
