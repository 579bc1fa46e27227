# SPDX-License-Identifier: Apache-2.0
"""Messages on the plant's own MQTT broker (MQTT 5.0 and 3.1.1): bare values, and JSON by path."""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_shared.clock import Clock


def open_session(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    """Connect and subscribe to the topics of ``tags``.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a tag can name nothing, or a password, certificate or key file is missing.
    """
    from fedmill_agent.sources.mqtt import session  # noqa: PLC0415  only where one is opened

    return session.open_session(narrow(options, MqttOptions), tags, clock)


def discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    """The values that are published while it listens, at most 10,000.

    Raises:
        SourceError: the broker cannot be reached, does not answer or refuses.
        ConfigError: a password, certificate or key file is missing.
    """
    from fedmill_agent.sources.mqtt import discovery  # noqa: PLC0415  only where somebody asks

    yield from discovery.discover(narrow(options, MqttOptions), clock)


KIND = SourceKind(MqttOptions, live=Live(open_session, discover))
