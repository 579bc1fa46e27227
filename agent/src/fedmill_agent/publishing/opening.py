# SPDX-License-Identifier: Apache-2.0
"""What publishes, as the configuration wants it: of an agent, and of one of its jobs."""

from collections.abc import Callable

from fedmill_agent.config import AgentConfig
from fedmill_agent.line import Line
from fedmill_agent.publishing.outlet import Outlet, Teller
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import Clock
from fedmill_shared.job import Job
from fedmill_shared.log import Logger


def open_outlet(
    config: AgentConfig,
    line: Line,
    soon: Callable[[Callable[[], None]], None],
    clock: Clock,
    log: Logger,
) -> Outlet:
    """The way out of an agent; ``soon`` has something called on its loop."""
    section = config.inference.sparkplug
    if section is None:
        return Outlet(line, soon)
    from fedmill_agent.publishing.node import SparkplugNode  # noqa: PLC0415  few agents show

    node = SparkplugNode(config.agent.id, config.broker, section, clock=clock, log=log)
    return Outlet(line, soon, node)


def tellers(
    config: AgentConfig,
    job: Job,
    store: WindowStore,
    outlet: Outlet,
    newest: Callable[[], Prediction | None],
    *,
    clock: Clock,
    log: Logger,
) -> list[Teller]:
    """All that tells of ``job``; ``newest`` is its last prediction.

    Raises:
        StoreError: the store cannot say what was told before.
    """
    found: list[Teller] = []
    options = config.inference
    if options.publish != "off":
        from fedmill_agent.publishing.publisher import Publisher  # noqa: PLC0415  others only show

        found.append(
            Publisher(
                config.agent.id,
                job,
                store,
                outlet,
                options,
                newest=newest,
                clock=clock,
                log=log,
            )
        )
    if outlet.node is not None:
        from fedmill_agent.publishing.node import Shown  # noqa: PLC0415  few agents show

        found.append(Shown(job, outlet.node, outlet, newest))
    return found
