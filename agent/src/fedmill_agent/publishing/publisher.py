# SPDX-License-Identifier: Apache-2.0
"""Publishes what comes of one job's windows: alarms, and predictions where they are wanted too."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.publishing import records
from fedmill_agent.publishing.outlet import Outlet
from fedmill_agent.publishing.stream import Kind, Stream
from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger

RETRY_SECONDS = 10.0
"""How long a store is left alone that could not be read."""


class Publisher:
    """Owns the streams of one job."""

    def __init__(
        self,
        agent: str,
        job: Job,
        store: WindowStore,
        outlet: Outlet,
        options: InferenceSection,
        *,
        newest: Callable[[], Prediction | None],
        clock: Clock,
        log: Logger,
    ) -> None:
        """Go on where it was left; ``newest`` tells the last prediction of the job.

        Raises:
            StoreError: the store cannot say how far it was.
        """
        self._outlet = outlet
        self._newest = newest
        self._seen: Prediction | None = None
        self._clock = clock
        self._log = log
        self._due = -inf
        self._streams: list[Stream[Any]] = []
        told: list[tuple[Kind[Any], float]] = [(_alarms(agent, job, store), inf)]
        if options.publish == "all":
            told.append((_predictions(agent, job, store), options.publish_max_age_seconds))
        else:
            store.end_publishing("predictions")
        for kind, oldest in told:
            stream: Stream[Any] = Stream(
                kind, store, outlet, clock, log, room=self._room, max_age_seconds=oldest
            )
            self._streams.append(stream)
        outlet.join(self)

    def pump(self) -> None:
        """Send what may be sent now; the alarms first."""
        newest = self._newest()
        if newest is not self._seen:
            self._seen = newest
            for stream in self._streams:
                stream.note()
        self._each(lambda stream: stream.pump())

    def tick(self) -> None:
        """Do what is due about once a second."""
        self._each(lambda stream: stream.tick())

    def close(self) -> None:
        """Keep how far it came."""
        self._outlet.leave(self)
        self._due = -inf
        self._each(lambda stream: stream.close())

    def _room(self) -> bool:
        return sum(stream.flying for stream in self._streams) < self._outlet.share

    def _each(self, what: Callable[[Stream[Any]], None]) -> None:
        if self._clock.monotonic() < self._due:
            return
        for stream in self._streams:
            try:
                what(stream)
            except FedmillError as error:
                self._due = self._clock.monotonic() + RETRY_SECONDS
                self._log.error("publication.delayed", error=str(error))
                return


def _alarms(agent: str, job: Job, store: WindowStore) -> Kind[AlarmRow]:
    name = job.job.name
    encode = partial(records.alarm, agent, name)
    return Kind("alarm", name, "alarms", store.alarms_after, encode)


def _predictions(agent: str, job: Job, store: WindowStore) -> Kind[Prediction]:
    return Kind(
        "prediction",
        job.job.name,
        "predictions",
        store.predictions_after,
        partial(records.prediction, agent, job),
        made_ns=lambda prediction: prediction.scored_ns,
    )
