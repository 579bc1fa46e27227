# SPDX-License-Identifier: Apache-2.0
"""What an agent has of its plant: live sources, labels that come by themselves, and a disk.

A gateway that only plays recordings does not even import what reads live ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedmill_agent.changes import Change, touches
from fedmill_agent.config import AgentConfig
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.sources.base import ReplayOptions, SourceOptions
from fedmill_agent.sources.state import Standing
from fedmill_agent.store.space import DiskWatch
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

if TYPE_CHECKING:
    from fedmill_agent.sources.hub import Hub

STOP_SECONDS = 5.0
"""Time that live sources have to let go of their connections."""


class Plant:
    """Owns the hub of the live sources, the desk of the labels and the watch on the disk.

    Attributes:
        hub: None where no source is live.
    """

    def __init__(
        self,
        config: AgentConfig,
        clock: Clock,
        log: Logger,
        *,
        failed: Callable[[FedmillError], None],
    ) -> None:
        """Nothing is opened yet; ``failed`` is told why the agent is to end."""
        self._clock = clock
        self._log = log
        self._failed = failed
        self.disk = DiskWatch(Path(config.agent.state), config.store.min_free_bytes, clock, log)
        self.labels = LabelDesk(config, clock, log)
        self.hub: Hub | None = None
        self._renew_hub(config)

    def start(self) -> None:
        """Open the live sources that map tags themselves, and listen for labels."""
        if self.hub is not None:
            self.hub.start()
        self.labels.start()

    def tick(self) -> None:
        """Do what is due about once a second."""
        self.disk.tick()
        self.labels.tick()

    def standings(self) -> dict[str, Standing]:
        """How each live source is."""
        return self.hub.standings() if self.hub is not None else {}

    def late(self) -> dict[str, float]:
        """Live sources and labels that hang, and for how many seconds they have been overdue."""
        sources = self.hub.late() if self.hub is not None else {}
        late = {f"source {name}": each for name, each in sources.items()}
        return late | {f"labels {name}": each for name, each in self.labels.late().items()}

    def adopt(self, config: AgentConfig, found: Sequence[Change]) -> None:
        """Take what changed; sources that are the same go on undisturbed."""
        if touches(found, "sources", "store"):
            self._renew_hub(config, anew=touches(found, "store"))
            if self.hub is not None:
                self.hub.start()
        if touches(found, "labels"):
            self.labels.close()
            self.labels = LabelDesk(config, self._clock, self._log)
            self.labels.start()

    def close(self) -> None:
        """Close all connections."""
        if self.hub is not None:
            self.hub.close(STOP_SECONDS)
        self.labels.close()

    def _renew_hub(self, config: AgentConfig, *, anew: bool = False) -> None:
        live = _live(config)
        if not live and self.hub is None:
            return
        from fedmill_agent.sources.hub import Hub  # noqa: PLC0415  few agents need it
        from fedmill_agent.store.samples import SampleStore, recording  # noqa: PLC0415  the same

        def ring(source: str) -> SampleStore | None:
            state = config.agent.state
            return recording(config.store, state, source, self._clock, self.disk.level)

        if self.hub is not None:
            self.hub.reconfigure(live, ring if anew else None)
        else:
            self.hub = Hub(
                live, clock=self._clock, log=self._log, failed=self._failed, recording=ring
            )


def _live(config: AgentConfig) -> list[SourceOptions]:
    """The live sources of ``config``, with a place for what they remember."""
    live = [each for each in config.sources if not isinstance(each, ReplayOptions)]
    if not live:
        return []
    from fedmill_agent.sources.position import placed  # noqa: PLC0415  few agents need it

    folder = Path(config.agent.state) / "sources"
    return [placed(each, folder) for each in live]
