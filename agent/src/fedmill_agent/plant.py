# SPDX-License-Identifier: Apache-2.0
"""What an agent has of its plant: the live sources, if its configuration names any.

A gateway that only plays recordings does not even import what reads live ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedmill_agent.config import AgentConfig
from fedmill_agent.sources.base import ReplayOptions
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

if TYPE_CHECKING:
    from fedmill_agent.sources.hub import Hub


def hub_of(
    config: AgentConfig, *, clock: Clock, log: Logger, failed: Callable[[FedmillError], None]
) -> "Hub | None":
    """The live sources of ``config``, not yet opened; None if it has none."""
    live = [each for each in config.sources if not isinstance(each, ReplayOptions)]
    if not live:
        return None
    from fedmill_agent.sources.hub import Hub  # noqa: PLC0415
    from fedmill_agent.sources.position import placed  # noqa: PLC0415

    folder = Path(config.agent.state) / "sources"
    return Hub([placed(each, folder) for each in live], clock=clock, log=log, failed=failed)
