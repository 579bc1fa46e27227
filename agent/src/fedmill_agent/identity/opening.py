# SPDX-License-Identifier: Apache-2.0
"""Opens what keeps a daemon's identity, and imports none of it where a daemon needs no identity."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.line import Line
from fedmill_shared.audit import Audit
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger

if TYPE_CHECKING:
    from fedmill_agent.identity.keeper import Keeper


def open_keeper(
    config: AgentConfig,
    line: Line,
    audit: Audit,
    *,
    background: Background,
    hurry: Callable[[], None],
    clock: Clock,
    log: Logger,
) -> "Keeper | None":
    """Who watches and renews the agent's certificate; None for a link in the clear."""
    tls = config.broker.tls
    if tls is None:
        return None
    from fedmill_agent.identity.keeper import Keeper  # noqa: PLC0415  memory of those without TLS
    from fedmill_agent.identity.place import place_named  # noqa: PLC0415  the same

    place = place_named(tls, Path(config.agent.state))
    return Keeper(
        place, config, line, audit, background=background, hurry=hurry, clock=clock, log=log
    )
