# SPDX-License-Identifier: Apache-2.0
"""OPC UA servers: PLCs, machines and gateways that speak ``opc.tcp`` (OPC 10000, parts 3 to 6).

The library is asyncua, an extra of its own (LGPL-3.0); it takes 27 MiB and is imported where a
session is opened.
"""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, lacking, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_shared.clock import Clock


def open_session(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    """Connect, sign in, find the nodes of ``tags`` and subscribe to them or begin to ask.

    Raises:
        SourceError: the server cannot be reached, does not answer or refuses.
        ConfigError: a certificate, key or password file is missing or wrong, or the library is.
    """
    own = narrow(options, OpcuaOptions)
    try:
        from fedmill_agent.sources.opcua.session import open_session as opened  # noqa: PLC0415  an extra
    except ImportError as error:
        raise lacking(own, "opcua", error) from error
    return opened(own, tags, clock)


def discover(options: SourceOptions, _clock: Clock) -> Iterator[Found]:
    """The variables below the folder Objects, at most 5000.

    Raises:
        SourceError: the server cannot be reached, does not answer or refuses.
        ConfigError: as for ``open_session``.
    """
    own = narrow(options, OpcuaOptions)
    try:
        from fedmill_agent.sources.opcua.discovery import discover as found  # noqa: PLC0415  an extra
    except ImportError as error:
        raise lacking(own, "opcua", error) from error
    yield from found(own)


KIND = SourceKind(OpcuaOptions, live=Live(open_session, discover))
