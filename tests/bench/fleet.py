# SPDX-License-Identifier: Apache-2.0
"""A whole federation on this machine for a bench: real broker, coordinator, agents and trainers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types

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
from fedmill_shared.models.manifest import Manifest

RATE_HZ = 12_000.0
CLASSES = ("normal", "outer")
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 180.0
COORDINATOR, AGENTS, TRAINERS, BROKER = "coordinator", "agents", "trainers", "broker"
Groups = Mapping[str, Sequence[psutil.Process]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a fleet have used so far, by group.

    Attributes:
        cpu_seconds: user and system time of all processes of the group.
        resident_bytes: RSS of the largest process of the group.
        elapsed: when this was, monotonic seconds.
        busy_seconds: time that all processors of the machine have been busy, with whatever.
    """

    cpu_seconds: Mapping[str, float]
    resident_bytes: Mapping[str, int]
    elapsed: float
    busy_seconds: float


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
        """Rounds that are over."""
        current = self.store.current_round(self.job.name)
        if current is not None:
            return current.round - 1
        return len(self.store.rounds(self.job.name))

    def manifest(self) -> Manifest:
        """Layout of the job's model.

        Raises:
            FedmillError: the job has none yet.
        """
        record = self.store.job(self.job.name)
        if record is None or record.manifest is None:
            raise FedmillError(f"job {self.job.name} has no model")
        return msgspec.json.decode(record.manifest, type=Manifest)

    def agent(self, name: str) -> psutil.Process:
        """The daemon of an agent."""
        return psutil.Process(self.processes.pid(name))

    def trainer(self, name: str) -> psutil.Process:
        """The training process of an agent.

        Raises:
            TrainerError: it does not run.
        """
        children: list[psutil.Process] = self.agent(name).children()
        if not children:
            raise TrainerError(f"agent {name} has no training process")
        return children[0]

    def groups(self) -> Groups:
        """All processes by kind; slow, because it looks at every process of the machine."""
        names = list(self.layout.agents)
        ours = psutil.Process().children()
        return {
            COORDINATOR: [psutil.Process(self.processes.pid(COORDINATOR))],
            AGENTS: [self.agent(name) for name in names],
            TRAINERS: [self.trainer(name) for name in names],
            BROKER: [process for process in ours if process.name() == "mosquitto"],
        }


def usage(groups: Groups) -> Usage:
    """What the processes have used so far."""
    times = {name: [process.cpu_times() for process in group] for name, group in groups.items()}
    machine = psutil.cpu_times()
    return Usage(
        {name: sum(each.user + each.system for each in found) for name, found in times.items()},
        {name: max(p.memory_info().rss for p in group) for name, group in groups.items()},
        time.monotonic(),
        sum(machine[:3]) + machine.irq + machine.softirq + machine.steal,
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
            processes.start(
                COORDINATOR, program("fedmill_coordinator", "serve", layout.coordinator)
            )
            for name, path in layout.agents.items():
                processes.start(name, program("fedmill_agent", "run", path))
            while not settings.database.exists():
                processes.check()
                time.sleep(POLL_SECONDS)
            with SqlStore.in_file(settings.database) as store:
                yield Fleet(plan.job, layout, store, processes)


def rig_plan(name: str, model: Model, *, agents: int, length: int, rounds: int, live: bool) -> Plan:
    """A second of the simulated rig for each agent, and a job of next to no local work.

    With ``live``, each agent also scores a stream in real time.
    """
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
    return Plan(job, [_plant(number, live=live) for number in range(agents)])


def _plant(number: int, *, live: bool) -> Plant:
    recording = {"kind": "rig", "seconds": 1.0, "seed": number}
    sources = [
        recording | {"name": f"{fault}-{split}", "fault": fault, "split": split}
        for fault in CLASSES
        for split in ("train", "test")
    ]
    if live:
        stream = {"name": "live", "split": "live", "fault": "outer", "speed": 1.0, "repeat": True}
        sources.append(recording | stream)
    return Plant(f"agent-{number + 1:02d}", sources)
