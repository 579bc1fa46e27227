# SPDX-License-Identifier: Apache-2.0
"""Before the first round: the statistics of the agents, and the normaliser that follows."""

from msgspec import msgpack

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import MomentsRecord
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Job
from fedmill_shared.messages import MomentsReport
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import Moments, validate


class Statistics:
    """Owns what the agents of one job told of their training windows."""

    def __init__(self, job: Job, store: Store, clock: Clock) -> None:
        """Continue from what ``store`` holds."""
        self._job = job
        self._store = store
        self._clock = clock

    def take(self, agent: str, report: MomentsReport) -> None:
        """Keep an agent's statistics; they are durable on return.

        Raises:
            FrameError: they are impossible, or of too few samples to tell anything.
        """
        regimes = self._job.regimes if self._job.window.normalise == "regime" else []
        validate(report.moments, signals=len(self._job.channels), regimes=len(regimes))
        if not report.moments.cells:
            raise FrameError(
                f"moments: agent {agent} has too few complete samples to tell anything",
                remedy="check its sources with `fedmill-agent check`",
            )
        record = MomentsRecord(
            job=self._job.name,
            agent=agent,
            payload=msgpack.encode(report.moments),
            received_ns=self._clock.now_ns(),
        )
        self._store.save_moments(record)

    def agents(self) -> set[str]:
        """Agents whose statistics are there."""
        return {record.agent for record in self._store.moments(self._job.name)}

    def agree(self) -> Normaliser:
        """What follows from all that was told; stored first, so that a restart agrees again.

        Raises:
            DataError: the statistics do not fit together.
        """
        record = self._store.job(self._job.name)
        if record is not None and record.normaliser is not None:
            return msgpack.decode(record.normaliser, type=Normaliser)
        told = [
            msgpack.decode(record.payload, type=Moments)
            for record in self._store.moments(self._job.name)
        ]
        normaliser = normaliser_of(self._job, told)
        self._store.update_job(
            self._job.name,
            updated_ns=self._clock.now_ns(),
            normaliser=msgpack.encode(normaliser),
        )
        return normaliser
