# SPDX-License-Identifier: Apache-2.0
"""Follows a running job through its database: a live bar on a terminal, log events otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from msgspec import json
from rich import progress
from rich.console import Console

from fedmill_coordinator.progress import Metric, latest_metric
from fedmill_coordinator.store.base import Store
from fedmill_shared.log import Logger
from fedmill_shared.messages import JobPhase

WAITING = "waiting"
"""State of a job before enough agents have joined."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a job is.

    Attributes:
        state: of the job.
        closed: rounds that are.
        rounds: that the job has.
        agents: online.
        metric: newest one of the fleet; None before the first.
        windows: that agents have stored to learn from, as they last said.
    """

    state: str
    closed: int
    rounds: int
    agents: int
    metric: Metric | None
    windows: int = 0


def look(store: Store, job: str, rounds: int) -> Snapshot | None:
    """How far ``job`` is; None before the coordinator has it."""
    record = store.job(job)
    if record is None:
        return None
    closed = sum(r.state == "closed" for r in store.rounds(job))
    agents = [agent for agent in store.agents() if agent.online]
    windows = sum(_windows(agent.jobs, job) for agent in agents)
    return Snapshot(record.state, closed, rounds, len(agents), latest_metric(store, job), windows)


def _windows(jobs: str, job: str) -> int:
    """Training windows of ``job`` in what an agent says of its jobs."""
    phases = json.decode(jobs, type=dict[str, JobPhase])
    return phases[job].windows.get("train", 0) if job in phases else 0


class View(Protocol):
    """Shows what happens."""

    def update(self, snapshot: Snapshot) -> None:
        """The job moved on, or not."""
        ...

    def baseline(self, name: str, total: int) -> None:
        """One of ``total`` baselines is ready."""
        ...


class LogView:
    """One event for each step forward."""

    def __init__(self, log: Logger) -> None:
        """Write to ``log``."""
        self._log = log
        self._last: tuple[str, int, int] = ("", -1, 0)

    def update(self, snapshot: Snapshot) -> None:
        """An event when the state or the round changes or, before the first, the windows."""
        collected = snapshot.windows if snapshot.state == WAITING else 0
        if (snapshot.state, snapshot.closed, collected) == self._last:
            return
        self._last = snapshot.state, snapshot.closed, collected
        metric = snapshot.metric
        details: dict[str, object] = {"windows": collected} if collected else {}
        if metric is not None:
            details[metric.name] = round(metric.value, 4)
        self._log.info(
            "demo.progress",
            state=snapshot.state,
            round=snapshot.closed,
            rounds=snapshot.rounds,
            agents=snapshot.agents,
            **details,
        )

    def baseline(self, name: str, total: int) -> None:
        """An event for each."""
        self._log.info("demo.baseline", name=name, total=total)


@contextmanager
def live_view() -> Iterator[View]:
    """A progress bar on standard error."""
    columns = (
        progress.TextColumn("{task.description:<12}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(
            bar.add_task("rounds", total=None, note="starting"),
            bar.add_task("baselines", total=None, note="", visible=False),
            bar.update,
        )


class _Bar:
    def __init__(self, rounds: int, baselines: int, change: Callable[..., None]) -> None:
        self._rounds = rounds
        self._baselines = baselines
        self._change = change

    def update(self, snapshot: Snapshot) -> None:
        metric = snapshot.metric
        score = f", {metric.name} {metric.value:.4g}" if metric is not None else ""
        if snapshot.state == WAITING and snapshot.windows:
            score = f": {snapshot.windows} windows so far"
        self._change(
            self._rounds,
            total=snapshot.rounds,
            completed=snapshot.closed,
            note=f"{snapshot.agents} agents, {snapshot.state}{score}",
        )

    def baseline(self, name: str, total: int) -> None:
        self._change(self._baselines, visible=True, total=total, advance=1, note=name)
