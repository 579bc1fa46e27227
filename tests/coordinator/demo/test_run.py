# SPDX-License-Identifier: Apache-2.0
"""The demo as a whole, with stand-ins for its processes: what it waits for, and how it ends."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from msgspec import structs

from fedmill_coordinator.demo import run as module
from fedmill_coordinator.demo.baselines import Baselines
from fedmill_coordinator.demo.recipes import Plan, Plant
from fedmill_coordinator.demo.watch import Snapshot
from fedmill_coordinator.progress import Metric
from fedmill_coordinator.store.records import AgentRecord, JobRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, Interrupted
from fedmill_shared.job import Job

WAIT = "import time; time.sleep(600)"
DIE = "import sys; sys.exit('fedmill: the disk is full')"
DEAF = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path({folder!r}) / "here").touch()
time.sleep(600)
"""
LEAVE = """
import pathlib, signal, sys, time
folder = pathlib.Path({folder!r})
def leave(*_):
    (folder / "left").touch()
    sys.exit()
signal.signal(signal.SIGTERM, leave)
(folder / "here").touch()
time.sleep(600)
"""
HEAR = """
import pathlib, sqlite3, time
folder = pathlib.Path({folder!r})
def wait_and_write(name, text):
    while not (folder / name).exists():
        time.sleep(0.01)
    with sqlite3.connect(folder / "coordinator" / "fedmill.sqlite", timeout=30) as database:
        database.execute(text)
wait_and_write("here", "UPDATE jobs SET state = 'finished'")
wait_and_write("left", "UPDATE agents SET online = 0, windows_scored = 9")
time.sleep(600)
"""


class View:
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.shown: list[Snapshot] = []

    def update(self, snapshot: Snapshot) -> None:
        """A look at the job."""
        self.shown.append(snapshot)

    def baseline(self, name: str, total: int) -> None:
        """No baseline is reached here."""
        raise AssertionError(name, total)


@pytest.fixture
def stage(
    tmp_path: Path, tiny_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> SimpleNamespace:
    """A demo without broker whose programs are scripts, and a database that tests fill."""
    job = tiny_job()
    plan = Plan(job, [Plant("a", [])])
    scripts = {"fedmill_coordinator": WAIT, "fedmill_agent": WAIT}

    @contextmanager
    def no_broker(_folder: Path) -> Iterator[int]:
        yield 1

    def program(name: str, *_: object) -> list[str]:
        return [sys.executable, "-S", "-c", scripts[name]]

    monkeypatch.setattr(module, "broker", no_broker)
    monkeypatch.setattr(module, "program", program)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    view = View()

    def run(stopped: Callable[[], bool] = lambda: False) -> None:
        module.run_demo("data", plan, tmp_path / "demo", view, stopped)

    def write(state: str) -> None:
        folder = tmp_path / "demo" / "coordinator"
        folder.mkdir(parents=True, exist_ok=True)
        record = JobRecord(
            name=job.name, text="", sha256="0" * 64, state="waiting", created_ns=1, updated_ns=1
        )
        with SqlStore.in_file(folder / "fedmill.sqlite") as store:
            store.add_job(structs.replace(record, state=state))

    return SimpleNamespace(
        run=run, scripts=scripts, write=write, view=view, folder=tmp_path / "demo"
    )


def children() -> list[psutil.Process]:
    """Stand-ins that still run."""
    return [p for p in psutil.Process().children() if "-S" in p.cmdline()]


class TestEnds:
    """However it ends, nothing is left running."""

    @pytest.mark.parametrize("who", ["fedmill_coordinator", "fedmill_agent"])
    @pytest.mark.parametrize("begun", [False, True])
    def test_a_program_that_dies(self, stage: SimpleNamespace, who: str, *, begun: bool) -> None:
        """Before and after there is a database: its name and its last words."""
        stage.scripts[who] = DIE
        if begun:
            stage.write("running")
        name = "coordinator" if who == "fedmill_coordinator" else "a"
        with pytest.raises(FedmillError, match=f"{name} ended with exit code 1: fedmill: the disk"):
            stage.run()
        assert children() == []

    def test_a_job_that_was_stopped(self, stage: SimpleNamespace) -> None:
        """The coordinator gave up on it: where to look is told."""
        stage.write("stopped")
        with pytest.raises(FedmillError, match="job tiny was stopped after 0 rounds") as caught:
            stage.run()
        assert caught.value.remedy == f"see {stage.folder / 'logs'}"
        assert children() == []

    @pytest.mark.parametrize("begun", [False, True])
    def test_interrupted(self, stage: SimpleNamespace, *, begun: bool) -> None:
        """Ctrl-C, before and after there is a database."""
        if begun:
            stage.write("running")
        answers = iter([False, False, True])
        with pytest.raises(Interrupted, match="the demo was stopped"):
            stage.run(lambda: next(answers))
        assert children() == []
        assert bool(stage.view.shown) is begun

    def test_finished(self, stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then come the baselines, with everything else ended."""

        def baselines(*_: object) -> None:
            assert children() == []
            raise Interrupted("here")

        stage.write("finished")
        monkeypatch.setattr(module, "_baselines", baselines)
        with pytest.raises(Interrupted, match="here"):
            stage.run()
        assert [each.state for each in stage.view.shown] == ["finished"]


class TestFarewell:
    """Agents end first, and the coordinator hears what they scored at last."""

    @pytest.fixture
    def playing(
        self, stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], AgentRecord]:
        """Run to the baselines with an agent known to be online with 5 windows; what is told then.

        The stand-in of the coordinator ends the job once the agent is there, and writes 9 windows
        once it has gone.
        """
        told: list[AgentRecord] = []
        stage.write("running")
        database = stage.folder / "coordinator" / "fedmill.sqlite"
        record = AgentRecord(agent="a", online=True, last_seen_ns=1, windows_scored=5)
        with SqlStore.in_file(database) as store:
            store.save_agent(record)
        folder = str(stage.folder)
        stage.scripts["fedmill_agent"] = LEAVE.format(folder=folder)
        stage.scripts["fedmill_coordinator"] = HEAR.format(folder=folder)

        def baselines(*_: object) -> None:
            assert children() == []
            with SqlStore.in_file(database) as store:
                told.extend(store.agents())
            raise Interrupted("here")

        monkeypatch.setattr(module, "_baselines", baselines)

        def play() -> AgentRecord:
            with pytest.raises(Interrupted, match="here"):
                stage.run()
            return told[0]

        return play

    def test_the_last_windows_are_counted(self, playing: Callable[[], AgentRecord]) -> None:
        """The coordinator is not ended before it has written them."""
        record = playing()
        assert (record.online, record.windows_scored) == (False, 9)

    def test_one_that_never_leaves_is_not_waited_for(
        self,
        stage: SimpleNamespace,
        playing: Callable[[], AgentRecord],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is ended with the others, and the count of its last heartbeat stays."""
        monkeypatch.setattr(module, "FAREWELL_SECONDS", 0.05)
        stage.scripts["fedmill_agent"] = DEAF.format(folder=str(stage.folder))
        record = playing()
        assert (record.online, record.windows_scored) == (True, 5)

    def test_interrupted_meanwhile(
        self, stage: SimpleNamespace, playing: Callable[[], AgentRecord]
    ) -> None:
        """Ctrl-C waits for nobody's farewell."""
        stage.scripts["fedmill_agent"] = DEAF.format(folder=str(stage.folder))

        def stopped() -> bool:
            return any(each.state == "finished" for each in stage.view.shown)

        with pytest.raises(Interrupted, match="the demo was stopped"):
            stage.run(stopped)
        assert children() == []

    def test_a_coordinator_that_dies_meanwhile(
        self, stage: SimpleNamespace, playing: Callable[[], AgentRecord]
    ) -> None:
        """Is reported; that the agents end is no fault."""
        lines = stage.scripts["fedmill_coordinator"].splitlines()
        stage.scripts["fedmill_coordinator"] = "\n".join([*lines[:-2], DIE])
        with pytest.raises(FedmillError, match="coordinator ended with exit code 1"):
            stage.run()
        assert children() == []


class TestCurves:
    """The chart of a job."""

    def test_one_point_for_each_scored_version(
        self, tiny_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By round; baselines are level lines from the first round to the last."""
        versions = [SimpleNamespace(version=str(n), round=n or None) for n in (0, 1, 2)]
        store = SimpleNamespace(versions=lambda _: versions)
        values = {"0": 0.25, "1": None, "2": 0.75}

        def metric_of(_store: object, _job: str, version: str) -> Metric | None:
            value = values[version]
            return None if value is None else Metric("accuracy", value, True, 4)

        monkeypatch.setattr(module, "metric_of", metric_of)
        drawn = {}

        def line_chart(title: str, x: str, y: str, curves: list[module.Curve]) -> str:
            drawn.update({curve.name: (list(curve.points), curve.flat) for curve in curves})
            return f"{title}|{x}|{y}"

        monkeypatch.setattr(module, "line_chart", line_chart)
        monkeypatch.setattr(Baselines, "merged", lambda _: {"pooled": 0.9})
        text = module._curves(store, tiny_job(), Baselines({}, {}))
        title = "tiny: accuracy on the same held-out windows, higher is better"
        assert text == f"{title}|round|accuracy (%)"
        assert drawn == {
            "federated 75.0 %": ([(0, 25.0), (2, 75.0)], False),
            "pooled 90.0 %": ([(0, 90.0), (2, 90.0)], True),
        }

    def test_an_error_is_drawn_in_its_unit(
        self, tiny_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same numbers as in the table."""
        store = SimpleNamespace(versions=lambda _: [SimpleNamespace(version="1", round=3)])
        monkeypatch.setattr(module, "metric_of", lambda *_: Metric("rmse", 12.345, False, 4))
        monkeypatch.setattr(Baselines, "merged", lambda _: {})
        job = tiny_job()
        labels = structs.replace(job.labels, classes=[], unit="cycle")
        text = module._curves(store, structs.replace(job, labels=labels), Baselines({}, {}))
        for words in ("rmse (cycle)", "federated 12.35", "lower is better"):
            assert words in text
