# SPDX-License-Identifier: Apache-2.0
"""A whole federation on this machine for a bench: real broker, coordinator, agents and trainers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil

from fedmill_coordinator.config import load
from fedmill_coordinator.demo.broker import broker
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_coordinator.demo.recipes import Plan, Plant
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, TrainerError
from fedmill_shared.job import (
    Evaluation,
    Federation,
    Job,
    Labels,
    Learning,
    Model,
    Signal,
    Task,
    Window,
)

RATE_HZ = 12_000.0
CLASSES = ("normal", "outer")
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 180.0
COORDINATOR, AGENTS, TRAINERS, BROKER = "coordinator", "agents", "trainers", "broker"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a fleet have used so far, by group.

    Attributes:
        cpu_seconds: user and system time of all processes of the group.
        resident_bytes: RSS of the largest process of the group.
    """

    cpu_seconds: Mapping[str, float]
    resident_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running federation."""

    job: Job
    layout: Layout
    store: Store
    processes: Processes

    def wait(self, what: str, done: Callable[[], bool], poll: float = POLL_SECONDS) -> None:
        """Wait until ``done``.

        Raises:
            FedmillError: a process ended, the job was stopped, or it takes too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.processes.check()
            record = self.store.job(self.job.name)
            if record is not None and record.state == "stopped":
                raise FedmillError("the job was stopped", remedy=f"see {self.layout.logs}")
            if time.monotonic() > deadline:
                raise FedmillError(
                    f"{what}: not within {PATIENCE_SECONDS:g} s", remedy=f"see {self.layout.logs}"
                )
            time.sleep(poll)

    def finished(self) -> bool:
        """Whether the job has ended well."""
        record = self.store.job(self.job.name)
        return record is not None and record.state == "finished"

    def closed(self) -> int:
        """Rounds that are over, while one is open."""
        current = self.store.current_round(self.job.name)
        return current.round - 1 if current is not None else 0

    def agent(self, name: str) -> psutil.Process:
        """The daemon of an agent."""
        return psutil.Process(self.processes.pid(name))

    def trainer(self, name: str) -> psutil.Process:
        """The training process of an agent.

        Raises:
            TrainerError: it does not run.
        """
        children = self.agent(name).children()
        if not children:
            raise TrainerError(f"agent {name} has no training process")
        return children[0]

    def usage(self) -> Usage:
        """What all processes have used so far."""
        names = list(self.layout.agents)
        ours = psutil.Process().children()
        groups = {
            COORDINATOR: [psutil.Process(self.processes.pid(COORDINATOR))],
            AGENTS: [self.agent(name) for name in names],
            TRAINERS: list(chain.from_iterable(self.agent(name).children() for name in names)),
            BROKER: [process for process in ours if process.name() == "mosquitto"],
        }
        times = {name: [p.cpu_times() for p in members] for name, members in groups.items()}
        return Usage(
            {name: sum(t.user + t.system for t in found) for name, found in times.items()},
            {
                name: max((p.memory_info().rss for p in members), default=0)
                for name, members in groups.items()
            },
        )


@contextmanager
def fleet(plan: Plan, folder: Path) -> Iterator[Fleet]:
    """Start what ``plan`` describes; every process has ended when the context has.

    Raises:
        FedmillError: the broker or the coordinator does not start.
    """
    with broker(folder / "broker") as port:
        layout = Layout.write(folder, plan, port)
        settings = load(layout.coordinator)
        with Processes(layout.logs) as processes:
            processes.start(COORDINATOR, program("fedmill_coordinator", "serve", layout.coordinator))
            for name, path in layout.agents.items():
                processes.start(name, program("fedmill_agent", "run", path))
            while not settings.database.exists():
                processes.check()
                time.sleep(POLL_SECONDS)
            with SqlStore.in_file(settings.database) as store:
                yield Fleet(plan.job, layout, store, processes)


def rig_plan(
    name: str, model: Model, *, agents: int, length: int, rounds: int, seconds: float = 1.0
) -> Plan:
    """Short recordings of the simulated rig for each agent, and a job of next to no local work."""
    job = Job(
        job=Task(name=name),
        signals=[Signal(name="vibration", unit="g", rate_hz=RATE_HZ)],
        window=Window(length=length),
        labels=Labels(classes=list(CLASSES)),
        model=model,
        learning=Learning(optimiser="sgd", learning_rate=0.01, batch_size=16, steps=1),
        federation=Federation(rounds=rounds, minimum=agents, goal=agents, deadline_seconds=60.0),
        evaluation=Evaluation(every=0),
    )
    return Plan(job, [_plant(number, seconds) for number in range(agents)])


def _plant(number: int, seconds: float) -> Plant:
    recording = {"kind": "rig", "seconds": seconds, "seed": number}
    sources = [
        recording | {"name": f"{fault}-{split}", "fault": fault, "split": split}
        for fault in CLASSES
        for split in ("train", "test")
    ]
    live = {"name": "live", "split": "live", "fault": "outer", "speed": 1.0, "repeat": True}
    return Plant(f"agent-{number + 1:02d}", [*sources, recording | live])
