# SPDX-License-Identifier: Apache-2.0
"""What the running coordinator tells of itself: on its own listener, and for commands on disk."""

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.exposition.collector import exposition
from fedmill_coordinator.exposition.metric import Live
from fedmill_coordinator.exposition.server import MetricsServer
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger

FRESH_SECONDS = 1.0
"""How long what was told once is told again: many who ask cost no more than one."""
SHARE = 0.1
"""Of the time at most for telling: the rounds of a large fleet share the processor with it."""


class Report:
    """Owns the listener of ``[metrics]``, if the configuration has one; a context manager."""

    def __init__(
        self, config: CoordinatorConfig, live: Callable[[], Live], clock: Clock, log: Logger
    ) -> None:
        """``live`` says what the daemon knows, and is called on another thread.

        Raises:
            FedmillError: the address cannot be listened on.
        """
        self._config = config
        self._live = live
        self._server: MetricsServer | None = None
        self._clock = clock
        self._due, self._told = -math.inf, b""
        section = config.metrics
        if section is not None:
            self._server = MetricsServer(section.host, section.port, self._tell, log)
            log.info("metrics.listening", host=section.host, port=self._server.port)

    @property
    def port(self) -> int:
        """The port that is listened on; 0 for none."""
        return self._server.port if self._server is not None else 0

    def __enter__(self) -> Self:
        if self._server is not None:
            self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.stop()

    def _tell(self) -> bytes:
        begin = self._clock.monotonic()
        if begin >= self._due:
            live = self._live()
            with SqlStore.in_file(self._config.database) as store:  # one belongs to one thread
                now_ns = self._clock.now_ns()
                self._told = exposition(self._config, store, live.counts, live, now_ns=now_ns)
            end = self._clock.monotonic()
            self._due = end + max(FRESH_SECONDS, (end - begin) / SHARE)
        return self._told
