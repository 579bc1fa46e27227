# SPDX-License-Identifier: Apache-2.0
"""A federation as it is deployed, small enough for a test; its processes can be hurt singly."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil
from tests.exported import sharing

from fedmill_agent.places import job_folder, windows_file
from fedmill_agent.status import Status, read_status
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.windows import WindowStore
from fedmill_coordinator.config import load
from fedmill_coordinator.demo.broker import broker, free_port
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_coordinator.demo.recipes.plan import Plan, Plant
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import RoundRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.job import (
    Evaluation,
    Federation,
    Job,
    Labels,
    Learning,
    Mlp,
    Signal,
    Task,
    Window,
)

COORDINATOR = "coordinator"
CLASSES = ["normal", "outer"]
MARK = "FEDMILL_TEST_FLEET"
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 5.0  # two on a free machine; tests share theirs
POLL_SECONDS = 0.02

Source = dict[str, object]


def a_job(name: str = "tiny", **federation: object) -> Job:
    """A job whose rounds take well under a second."""
    settings: dict[str, object] = {"rounds": 5, "deadline_seconds": 10.0, "rule": "fedavgm"}
    return Job(
        job=Task(name=name),
        signals=[Signal(name="vibration", unit="g", rate_hz=12_000.0)],
        window=Window(length=256),
        labels=Labels(classes=list(CLASSES)),
        model=Mlp(hidden=[16, 8]),
        learning=Learning(optimiser="sgd", learning_rate=0.05, momentum=0.0, steps=4),
        federation=msgspec.convert(settings | federation, Federation),
        evaluation=Evaluation(every=2),
    )


def recording(name: str, **options: object) -> Source:
    """One second of the simulated rig."""
    return {"kind": "rig", "name": name, "seconds": 1.0} | options


def a_plant(number: int) -> Plant:
    """An agent with a training and a test recording of every class, and a live stream."""
    sources = [
        recording(f"{fault}-{split}", fault=fault, split=split, seed=number)
        for fault in CLASSES
        for split in ("train", "test")
    ]
    live = recording("live", fault="outer", split="live", speed=1.0, repeat=True)
    return Plant(f"agent-{number}", [*sources, live])


def a_pair() -> list[Plant]:
    """Two agents: enough where it does not matter how many there are, and each costs seconds."""
    return [a_plant(number) for number in (1, 2)]


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Whatever is started inside, and all that it starts, carries a mark in its environment."""
    os.environ[MARK] = str(folder)
    try:
        yield
    finally:
        del os.environ[MARK]


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes that carry the mark of ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            dead = process.status() == psutil.STATUS_ZOMBIE
            if not dead and process.environ().get(MARK) == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def sweep(folder: Path, seconds: float = 0.0) -> list[str]:
    """Kill what still carries the mark after ``seconds``; the command lines of those processes."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    names = []
    for process in left:
        try:
            names.append(" ".join(process.cmdline()))
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return names


class Daemons(Processes):
    """Children that can be ended one at a time."""

    def end(self, name: str, number: int, seconds: float = STOP_SECONDS) -> int:
        """Send a signal, wait for the end of the process, and give its exit code."""
        child = self._children.pop(name)
        child.send_signal(number)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise


class Fleet:
    """Owns broker, coordinator and agents of one federation; leaving the context ends them all."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.job = plan.job
        self.port = free_port()
        self.layout = Layout.write(folder, plan, self.port)
        self.agents = list(self.layout.agents)
        settings = load(self.layout.coordinator)
        self._database = settings.database
        self.blobs = Blobs(settings.blobs)
        self._stack = ExitStack()
        self._brokers = 0
        self._daemons = Daemons(self.layout.logs)
        self._store: SqlStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._store is not None:
            self._store.close()
        for process in processes_of(self.folder):
            process.resume()
        self._daemons.stop()
        self._stack.close()
        left = sweep(self.folder, STOP_SECONDS)
        assert not left, f"left behind: {left}"

    # Life and death

    def start_broker(self) -> None:
        """Start a broker that remembers nothing."""
        self._brokers += 1
        with marked(self.folder):
            self._stack.enter_context(broker(self.folder / f"broker-{self._brokers}", self.port))

    def broker(self) -> psutil.Process:
        """The living broker."""
        (found,) = [p for p in processes_of(self.folder) if p.name() == "mosquitto"]
        return found

    def kill_broker(self) -> None:
        """Kill -9 the broker; its port is free again on return."""
        process = self.broker()
        process.kill()
        process.wait(STOP_SECONDS)

    def start(self, *names: str) -> None:
        """Start the coordinator or agents."""
        for name in names:
            command = (
                sharing(program("fedmill_coordinator", "serve", self.layout.coordinator))
                if name == COORDINATOR
                else program("fedmill_agent", "run", self.layout.agents[name])
            )
            with marked(self.folder):
                self._daemons.start(name, command)

    def kill(self, name: str) -> None:
        """Kill -9 the coordinator or an agent."""
        self._daemons.end(name, signal.SIGKILL)

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ask the coordinator or an agent to end; its exit code, which must come in time."""
        return self._daemons.end(name, number)

    def process(self, name: str) -> psutil.Process:
        """The coordinator or an agent."""
        return psutil.Process(self._daemons.pid(name))

    def trainers(self, agent: str) -> list[psutil.Process]:
        """The training process of an agent; none before it is one, between fork and exec."""
        children = self.process(agent).children()
        return [child for child in children if "fedmill_agent.training" in child.cmdline()]

    def trainer(self, agent: str) -> psutil.Process:
        """The training process of an agent, which runs or is about to."""
        self.wait(f"trainer of {agent}", lambda: self.trainers(agent) != [])
        return self.trainers(agent)[0]

    def hold(self, agent: str) -> psutil.Process:
        """Freeze the trainer of an agent once its statistics are in: the first round stays open.

        Until it is frozen another agent owes its statistics, without which no round begins.
        """
        gate = self.trainer(next(each for each in self.agents if each != agent))
        gate.suspend()
        self.wait(f"statistics of {agent}", lambda: self.heard("moments.received", agent=agent))
        trainer = self.trainer(agent)
        trainer.suspend()
        gate.resume()
        return trainer

    # What can be seen

    @property
    def store(self) -> SqlStore:
        """The coordinator's database, once it is there."""
        if self._store is None:
            self.wait("database", self._database.exists)
            self._store = SqlStore.in_file(self._database)
        return self._store

    def stable(self) -> str:
        """The version that the job ended with."""
        alias = self.store.alias(self.job.name, "stable")
        assert alias is not None
        return alias.version

    def state(self, agent: str) -> Path:
        """State folder of an agent."""
        return self.layout.agents[agent].parent / "state"

    def windows(self, agent: str) -> WindowReader:
        """What an agent has stored of its data."""
        return WindowStore.reader(windows_file(self.state(agent), self.job))

    def status(self, agent: str) -> Status:
        """The last word of an agent's daemon."""
        return read_status(self.state(agent))

    def events(self, name: str, event: str = "", **fields: object) -> list[dict[str, str]]:
        """What the coordinator or an agent logged, all or one kind of event with these fields."""
        path = self.layout.logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        found = []
        for line in lines:
            parts = (part.partition("=") for part in shlex.split(line))
            record = {key: value for key, _, value in parts}
            wanted = {key: str(value) for key, value in fields.items()}
            if event in ("", record.get("event")) and wanted.items() <= record.items():
                found.append(record)
        return found

    def heard(self, event: str, **fields: object) -> bool:
        """Whether the coordinator logged such an event."""
        return bool(self.events(COORDINATOR, event, **fields))

    def rounds(self) -> list[RoundRecord]:
        """Rounds of the job."""
        return self.store.rounds(self.job.name)

    def closed(self) -> int:
        """Rounds that are closed."""
        return sum(record.state == "closed" for record in self.rounds())

    def received(self, number: int) -> list[str]:
        """Agents whose update of an open round the coordinator holds, by name."""
        updates = self.store.updates(self.job.name, number)
        return sorted(update.agent for update in updates if update.state == "received")

    def finished(self) -> bool:
        """Whether the job has ended well."""
        record = self.store.job(self.job.name)
        return record is not None and record.state == "finished"

    def parcels(self, agent: str) -> list[Path]:
        """Updates of an agent that wait for their fate."""
        return sorted((job_folder(self.state(agent), self.job.name) / "outbox").glob("*"))

    # Waiting

    def wait(self, what: str, done: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until ``done``; fail if a process ends or it takes too long."""
        deadline = time.monotonic() + seconds
        while not done():
            self._daemons.check()
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            time.sleep(POLL_SECONDS)

    def finish(self) -> None:
        """Wait until the job has ended well and all agents have settled their updates."""
        self.wait("end of the job", self.finished)
        self.wait("settled", lambda: not any(self.parcels(agent) for agent in self.agents))

    def run(self, module: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run one command of ours to its end."""
        return run(self.folder, program(module, *arguments))


def run(folder: Path, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, under the mark of ``folder``."""
    with marked(folder):
        return subprocess.run(
            command, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS, check=False
        )


@contextmanager
def federation(
    folder: Path,
    job: Job | None = None,
    plants: Sequence[Plant] | None = None,
    *,
    only: Sequence[str] | None = None,
) -> Iterator[Fleet]:
    """Run a federation, by default of three agents; ``only`` names who is started at once."""
    plan = Plan(job or a_job(), list(plants or [a_plant(number) for number in (1, 2, 3)]))
    with Fleet(folder, plan) as fleet:
        fleet.start_broker()
        fleet.start(*([COORDINATOR, *fleet.agents] if only is None else only))
        yield fleet
