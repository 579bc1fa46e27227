# SPDX-License-Identifier: Apache-2.0
"""Web servers that answer with numbers: JSON, CSV or plain text over HTTP."""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.rest.options import RestOptions
from fedmill_shared.clock import Clock

__all__ = ["KIND", "RestOptions"]


def _open(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    from fedmill_agent.sources.rest.opening import open_session  # noqa: PLC0415  takes memory

    return open_session(narrow(options, RestOptions), tags, clock)


def _discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    from fedmill_agent.sources.rest.opening import listed  # noqa: PLC0415  only where somebody asks

    return listed(narrow(options, RestOptions), clock)


KIND = SourceKind(RestOptions, live=Live(_open, _discover))
