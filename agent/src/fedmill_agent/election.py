# SPDX-License-Identifier: Apache-2.0
"""When the models are made that an agent chooses from, in the time that the rounds leave.

The local model keeps step with the federation, one round's worth of work at a time, so that a
training never waits for more than that. Every ``serving.every`` rounds, and at the last version,
the candidates are made and the best of them is chosen.
"""

from pathlib import Path
from typing import TypedDict

from fedmill_agent.home import HOME_FILE, keeps_home
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.served import SERVED_FILE
from fedmill_agent.training import protocol
from fedmill_shared.job import Job

ALONE_FILE = "alone.msgpack"
LIVES = 3
"""Times that the training process may die of this before it is left alone until a restart."""


class Task(TypedDict):
    """What every request to the trainer begins with."""

    number: int
    job: bytes
    store: str


Ballot = protocol.TrainAlone | protocol.Choose


class Election:
    """Says what the trainer is to do next for one job's candidates.

    Attributes:
        over: whether the job has ended, so that there will be no other version.
        settling: whether what was chosen is being put into force.
    """

    def __init__(self, job: Job, folder: Path, deployment: Deployment, *, agent: str) -> None:
        """``folder`` is the job's; what it holds is found out from the trainer."""
        self._job = job
        self._folder = folder
        self._deployment = deployment
        self._agent = agent
        self.over = False
        self.settling = False
        self._rounds = -1
        self._failed: dict[type[Ballot], str] = {}
        self._lives = LIVES

    @property
    def last(self) -> bool:
        """Whether the active version is the last one."""
        notice = self._deployment.followed
        return notice is not None and (self.over or notice.number >= self._job.federation.rounds)

    def pending(self) -> type[Ballot] | None:
        """What is to be done for the active version."""
        notice = self._deployment.followed
        if self._job.serving.candidates != "best" or not self._lives or self.settling:
            return None
        if notice is None or notice.number == 0:  # nobody has learned anything yet
            return None
        due, alone = self._due(notice.number), self._may(protocol.TrainAlone)
        if alone and not due <= self._rounds <= notice.number:  # more: the federation began anew
            return protocol.TrainAlone
        choice = self._deployment.serving.choice
        if (choice.number if choice is not None else 0) < due and self._may(protocol.Choose):
            return protocol.Choose
        return protocol.TrainAlone if alone and self._rounds < notice.number else None

    def request(self, kind: type[Ballot], task: Task) -> Ballot:
        """What ``pending`` has named, for the active version.

        Raises:
            ModelError: no version is active, or it cannot be read.
        """
        notice, alone = self._deployment.followed, str(self._folder / ALONE_FILE)
        weights, regimes = self._deployment.weights_path(), self._deployment.regimes()
        number, version = (notice.number, notice.version) if notice is not None else (0, "")
        if kind is protocol.TrainAlone:
            return protocol.TrainAlone(
                **task,
                weights=weights,
                regimes=regimes,
                agent=self._agent,
                rounds=number,
                alone=alone,
            )
        return protocol.Choose(
            **task,
            weights=weights,
            regimes=regimes,
            version=version,
            ordinal=number,
            agent=self._agent,
            home=str(self._folder / HOME_FILE) if keeps_home(self._job) else "",
            alone=alone,
            canary=self._deployment.canary_path(),
            served=str(self._folder / SERVED_FILE),
        )

    def advanced(self, rounds: int) -> None:
        """The local model has had the work of so many rounds."""
        self._rounds = rounds

    def failed(self, task: Ballot) -> None:
        """It could not be done: it is tried again with the next version."""
        self._failed[type(task)] = task.weights

    def died(self) -> None:
        """The trainer died of it, for instance for lack of memory."""
        self._lives -= 1

    def _may(self, kind: type[Ballot]) -> bool:
        return self._failed.get(kind) != self._deployment.weights_path()

    def _due(self, number: int) -> int:
        """Number of the newest version at which there was to be a choice; 0 for none."""
        every = self._job.serving.every
        if self.last:
            return number
        return number // every * every if every else 0
