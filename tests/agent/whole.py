# SPDX-License-Identifier: Apache-2.0
"""A whole agent on a broker in memory; its trainer works in this process."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.agent.kit import (
    Coordinator,
    Journal,
    Versions,
    a_job,
    classes_of,
    two_classes,
    write_csv,
)

from fedmill_agent.config import AgentConfig, AgentSection, TrainingSection
from fedmill_agent.daemon import Daemon
from fedmill_agent.governor import Machine
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.line import subscriptions
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.status import Status, read_status
from fedmill_agent.training import governed, protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied
from fedmill_agent.training.worker import Worker
from fedmill_shared.clock import Clock, ManualClock
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Evaluation, Job
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.messages import AgentState, RoundNotice

PATIENCE = 30.0
ONLY_TRAIN = Evaluation(validation=0.0, test=0.0)
JOB = a_job(evaluation=ONLY_TRAIN)


class Dial:
    """Stands in for the machine: idle and cool until a test says otherwise."""

    machine: Machine

    def read(self, _clock: Clock) -> Machine:
        """What was set."""
        return Dial.machine

    @classmethod
    def turn(cls, **fields: Any) -> None:
        """Let the machine do something else."""
        cls.machine = replace(cls.machine, **fields)


class Trainer:
    """Stands in for the training process: the real worker, in this process, when told to."""

    made: "list[Trainer]"

    def __init__(self, _settings: TrainingSection, sink: Callable[..., None], _clock: Any) -> None:
        self.sink = sink
        self.pid: int | None = None
        self.requests: list[Any] = []
        self.waiting: list[Any] = []
        self.lazy = False
        self.paused = False
        self.worker = Worker()
        Trainer.made.append(self)

    def submit(self, request: protocol.Request) -> None:
        """Take work, and do it unless lazy."""
        self.pid = 4711
        self.requests.append(request)
        self.waiting.append(request)
        if not self.lazy:
            self.work()

    def work(self) -> None:
        """Do all work in hand."""
        while self.waiting:
            request = self.waiting.pop(0)
            try:
                answer = self.worker.answer(request)
            except FedmillError as error:
                answer = protocol.Failed(
                    number=request.number, error=type(error).__name__, message=str(error)
                )
            self.sink(TrainerAnswered(answer))

    def die(self) -> None:
        """End with the work in hand."""
        numbers = tuple(request.number for request in self.waiting)
        self.waiting.clear()
        self.sink(TrainerDied(-9, numbers))

    def asked(self, kind: type) -> list[Any]:
        """Requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]

    def tick(self) -> None:
        """Nothing is ever idle too long."""

    def hold(self, *, wanted: bool) -> str | None:
        """Pause or go on if there is work."""
        if not self.waiting or wanted == self.paused:
            return None
        self.paused = wanted
        return "paused" if wanted else "resumed"

    def stop(self) -> None:
        """Forget everything."""
        self.waiting.clear()


class Agent:
    """A daemon that a test drives step by step."""

    def __init__(
        self,
        folder: Path,
        coordinator: Coordinator,
        sources: Sequence[SourceOptions],
        *,
        jobs: Sequence[str] = (),
        training: bool = True,
        labels: Mapping[str, Any] | None = None,
        inference: InferenceSection = InferenceSection(),  # noqa: B008  it cannot change
    ) -> None:
        self.clock, self.journal = ManualClock(), Journal()
        config = AgentConfig(
            agent=AgentSection(
                id="a", state=str(folder / "state"), jobs=list(jobs), labels=dict(labels or {})
            ),
            training=TrainingSection(enabled=training, max_cpu_percent=80.0),
            inference=inference,
            sources=list(sources),
        )
        self.state = Path(config.agent.state)

        def connect(sink: Any, will: Any) -> MemoryLink:
            self.link = MemoryLink(coordinator.broker, subscriptions("a"), sink, will)
            return self.link

        self.daemon = Daemon(config, connect, self.clock, self.journal)
        self.trainer = Trainer.made[-1]
        self.daemon._seats.resume()

    def until(self, done: Callable[[], object], what: str = "") -> None:
        """Let the loop run, and time pass a tenth of a second each turn, until ``done``."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, what or self.journal.entries
            self.daemon.step(0.002)
            self.clock.advance(0.1)

    def run(self, turns: int = 30) -> None:
        """Three seconds, and until nothing is left to take."""
        for _ in range(turns):
            self.daemon.step(0.001)
            self.clock.advance(0.1)

    def word(self) -> AgentState:
        """What the agent says of itself."""
        return self.daemon._heartbeat.state()

    def status(self) -> Status:
        """What it leaves of itself on its disk now."""
        heartbeat = self.daemon._heartbeat
        self.until(lambda: not heartbeat._writing)
        heartbeat.beat()
        self.until(lambda: not heartbeat._writing)
        return read_status(self.state)

    def seat(self, job: str = "press") -> Any:
        """Its seat in a job."""
        return self.daemon._seats._seats[job]

    def phase(self, job: str = "press") -> str:
        """Where the agent says it stands in a job; empty without a seat."""
        phase = self.word().jobs.get(job)
        return phase.phase if phase else ""

    def scored(self, job: str = "press") -> int:
        """Windows that were scored."""
        return self.word().jobs[job].windows_scored

    def close(self) -> None:
        """Stop in order."""
        self.daemon._close()


class Plant:
    """A folder with recordings, a coordinator, and agents that are closed in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = Coordinator.of()
        self._agents: list[Agent] = []

    def recording(self, name: str = "press", **runs: Any) -> CsvOptions:
        """Four runs of three windows each, of two classes, or the ``runs`` given."""
        values = runs or two_classes()
        path = write_csv(self.folder / f"{name}.csv", values, classes_of(values))
        return CsvOptions(name=name, path=str(path), run_column="run", label_column="label")

    def agent(self, *sources: SourceOptions, online: bool = True, **fields: Any) -> Agent:
        """An agent with a recording of its own unless told otherwise."""
        given = sources or (self.recording(),)
        self._agents.append(Agent(self.folder, self.coordinator, given, **fields))
        if online:
            self._agents[-1].link.start()
        return self._agents[-1]

    def stop(self, agent: Agent) -> None:
        """Stop an agent."""
        self._agents.remove(agent)
        agent.close()

    def close(self) -> None:
        """Stop all agents."""
        for agent in self._agents:
            agent.close()

    def said(self, kind: str) -> list[Any]:
        """Messages that the agent has sent."""
        return self.coordinator.said(kind)


@contextmanager
def whole_plant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A plant whose agents have a trainer in this process; they are closed in the end."""
    stand_in(monkeypatch, Trainer)
    plant = Plant(folder)
    try:
        yield plant
    finally:
        plant.close()


def stand_in(monkeypatch: pytest.MonkeyPatch, trainer: type[Trainer]) -> None:
    """``trainer`` for the training process, a dial for the machine, and no waiting for a disk."""
    Trainer.made = []
    Dial.machine = Machine(
        cpu_percent=1.0, available_bytes=10**9, temperature_celsius=40.0, weekday=0, minute=0
    )
    monkeypatch.setattr(governed, "TrainerProcess", trainer)
    monkeypatch.setattr(governed, "Gauge", Dial)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def release(plant: Plant, agent: Agent, versions: Versions, **fields: Any) -> None:
    """Announce the newest version and wait until it is active."""
    plant.coordinator.versions = {**plant.coordinator.versions, versions.job.name: versions}
    plant.coordinator.tell("version", versions.notice(**fields))
    job, version = versions.job.name, versions.newest.version
    agent.until(lambda: agent.word().jobs[job].version == version, "install")


def joined(
    plant: Plant, *sources: SourceOptions, job: Job = JOB, **fields: Any
) -> tuple[Agent, Versions]:
    """An agent that has joined the job and has its first version, announced with ``fields``."""
    agent, versions = plant.agent(*sources), Versions(job)
    plant.coordinator.offer(job, state="running")
    agent.until(lambda: plant.said("join"))
    release(plant, agent, versions, **fields)
    return agent, versions


def open_round(plant: Plant, versions: Versions, number: int = 1, **fields: Any) -> None:
    """Announce a round on the newest version."""
    job, base = versions.job.name, versions.newest.version
    plant.coordinator.tell("round", RoundNotice(job=job, round=number, base=base, **fields))
