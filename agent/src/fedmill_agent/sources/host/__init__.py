# SPDX-License-Identifier: Apache-2.0
"""The machine that the agent runs on: processors, memory, temperatures, disks, networks.

So an agent has something real to learn from before any machine of the plant is connected.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fedmill_agent.sources.base import SourceKind, SourceOptions, narrow
from fedmill_agent.sources.live import Found, Live, PolledOptions, Session
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError

if TYPE_CHECKING:
    from fedmill_agent.sources.host.session import Machine


class HostOptions(PolledOptions, frozen=True, kw_only=True, tag="host"):
    """The gateway itself. `sources.md` lists the tags; rates need two polls."""


def _machine(clock: Clock) -> "Machine":
    from fedmill_agent.sources.host.look import Look  # noqa: PLC0415  psutil takes memory
    from fedmill_agent.sources.host.session import Machine, system  # noqa: PLC0415  the same

    return Machine(lambda: Look(system()), clock)


def _open(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    """Begin to ask.

    Raises:
        ConfigError: a tag is of no kind that any machine has.
    """
    from fedmill_agent.sources.host.families import FAMILIES, split  # noqa: PLC0415  takes memory
    from fedmill_agent.sources.host.session import HostSession  # noqa: PLC0415  the same

    own = narrow(options, HostOptions)
    for tag in tags:
        if split(tag)[0] not in FAMILIES:
            raise ConfigError(
                f"source {own.name!r}: a host has no tag {tag!r}",
                remedy=f"tags begin with one of {', '.join(FAMILIES)}; "
                "`fedmill-agent discover` lists those of this machine",
            )
    return HostSession(_machine(clock), tags, own.interval_seconds)


def _discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    from fedmill_agent.sources.host.session import found_on  # noqa: PLC0415  only where somebody asks

    narrow(options, HostOptions)
    return found_on(_machine(clock))


KIND = SourceKind(HostOptions, live=Live(_open, _discover))
