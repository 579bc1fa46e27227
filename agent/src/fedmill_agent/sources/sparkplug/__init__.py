# SPDX-License-Identifier: Apache-2.0
"""Edge nodes on the plant's own MQTT broker that speak Sparkplug B (Sparkplug 3.0, Eclipse)."""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_shared.clock import Clock


def open_session(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    """Connect, listen to the nodes of ``tags``, and ask for their births.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a tag can name nothing, or a password, certificate or key file is missing.
    """
    from fedmill_agent.sources.sparkplug import session  # noqa: PLC0415  only where one is opened

    return session.open_session(narrow(options, SparkplugOptions), tags, clock)


def discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    """The metrics of the nodes that are heard while it listens, at most 50,000.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a password, certificate or key file is missing.
    """
    from fedmill_agent.sources.sparkplug import discovery  # noqa: PLC0415  only if somebody asks

    yield from discovery.discover(narrow(options, SparkplugOptions), clock)


KIND = SourceKind(SparkplugOptions, live=Live(open_session, discover))
