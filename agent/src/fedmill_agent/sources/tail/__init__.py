# SPDX-License-Identifier: Apache-2.0
"""CSV files that grow: loggers, historians and test benches that append a row now and then."""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.tail.options import TailOptions
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError

__all__ = ["KIND", "TailOptions"]


def _open(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    """Begin to look.

    Raises:
        SourceError: the folder cannot be read.
        ConfigError: the position cannot be kept.
    """
    from fedmill_agent.sources.position import Position  # noqa: PLC0415  only for the daemon
    from fedmill_agent.sources.tail.folder import Place  # noqa: PLC0415  takes memory
    from fedmill_agent.sources.tail.session import TailSession  # noqa: PLC0415  the same

    own = narrow(options, TailOptions)
    position = Position(own.position_file, Place, clock)
    try:
        return TailSession(own, tags, position, clock)
    except OSError as error:
        raise SourceError(
            f"source {own.name!r}: {own.path}: {error.strerror or error}",
            remedy="check `path` and that the service user may read it",
        ) from error


def _discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    from fedmill_agent.sources.tail.session import columns_of  # noqa: PLC0415  only where somebody asks

    return columns_of(narrow(options, TailOptions), clock)


KIND = SourceKind(TailOptions, live=Live(_open, _discover))
