# SPDX-License-Identifier: Apache-2.0
"""Labels on their way through a running agent: from files to the windows of every job."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.agent.kit import Coordinator, Journal, a_job

from fedmill_agent.config import AgentConfig, AgentSection, TrainingSection
from fedmill_agent.daemon import Daemon
from fedmill_agent.labels import spool
from fedmill_agent.labels.decode import from_json
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.labels.record import Label
from fedmill_agent.line import subscriptions
from fedmill_agent.places import labels_file, labels_folder
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import governed
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Evaluation, Job
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.signals.windows import Window

SECOND = 10**9
JOB = a_job(evaluation=Evaluation(validation=0.0, test=0.0))


def label(text: str = "good", **fields: Any) -> Label:
    """A label of the first two seconds of the press."""
    usual: dict[str, Any] = {"unit": "press", "start": 0, "end": 2, "made": 1}
    return Label(class_=text, **(usual | fields))


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Trainer:
    """Stands in for the training process, which nobody needs here."""

    pid = None

    def __init__(self, *_: object) -> None: ...

    def submit(self, _request: object) -> None:
        """Nothing is done."""

    def hold(self, *, wanted: bool) -> None:
        """There is nothing to hold."""

    tick = stop = lambda _self: None


class Agent:
    """A daemon that a test drives, whose windows it stores itself."""

    def __init__(self, folder: Path, coordinator: Coordinator, clock: ManualClock) -> None:
        self.clock, self.journal = clock, Journal()
        self.state = str(folder / "state")
        config = AgentConfig(
            agent=AgentSection(id="a", state=self.state), training=TrainingSection(enabled=False)
        )
        self.daemon = Daemon(
            config,
            lambda sink, will: MemoryLink(coordinator.broker, subscriptions("a"), sink, will),
            self.clock,
            self.journal,
        )
        self.daemon._seats.resume()
        self.daemon._line.start()

    def run(self) -> None:
        """Three seconds."""
        for _ in range(30):
            self.daemon.step(0.0)
            self.clock.advance(0.1)

    def store(self, job: str = "press") -> WindowStore:
        """The windows of a job; one from 0 to 1 s is there."""
        work = self.daemon._seats._seats[job]._work
        assert work is not None
        values = np.zeros((1, 8), np.float32)
        work.store.add([Window("press", "press", 0, SECOND, values, 1.0, 0)], "train")
        return work.store

    def texts(self, job: str = "press") -> list[str]:
        """Classes of its labelled windows."""
        return self.store(job).load("train").texts

    def hand_over(self, *labels: Label) -> None:
        """As the command line does."""
        spool.hand_over(labels_folder(self.state), labels, self.clock.now_ns())

    def close(self) -> None:
        """Stop in order."""
        self.daemon._close()


@pytest.fixture
def coordinator() -> Coordinator:
    """It offers one job."""
    made = Coordinator.of()
    made.offer(JOB)
    return made


@pytest.fixture
def start(
    tmp_path: Path, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Agent]]:
    """Starts the agent, again on the same folder."""
    monkeypatch.setattr(governed, "TrainerProcess", Trainer)
    made: list[Agent] = []
    clock = ManualClock()

    def make() -> Agent:
        if made:
            made.pop().close()
        made.append(Agent(tmp_path, coordinator, clock))
        made[-1].run()
        return made[-1]

    yield make
    made.pop().close()


def other_job(name: str = "second") -> Job:
    """The same job under another name."""
    return msgspec.structs.replace(JOB, job=msgspec.structs.replace(JOB.job, name=name))


class TestWay:
    def test_from_the_command_line_to_the_windows(self, start: Callable[[], Agent]) -> None:
        """Within seconds; then the file is gone and the book has the label."""
        agent = start()
        assert agent.texts() == []
        agent.hand_over(label())
        agent.run()
        assert agent.texts() == ["good"]
        assert spool.waiting(labels_folder(agent.state)) == []
        agent.hand_over(label("worn", made=2))
        agent.run()
        assert agent.texts() == ["worn"]
        agent.hand_over(Label(unit="press", start=0, end=2, deleted=True))
        agent.run()
        assert agent.texts() == []

    def test_while_the_agent_is_away(self, start: Callable[[], Agent]) -> None:
        """They wait in their folder."""
        agent = start()
        agent.store()
        agent.close()
        agent.close = lambda: None  # type: ignore[method-assign]
        agent.hand_over(label())
        agent = start()
        assert agent.texts() == ["good"]

    def test_jobs_that_come_later_get_them_too(
        self, start: Callable[[], Agent], coordinator: Coordinator
    ) -> None:
        """Those of all jobs and their own, not those of others."""
        agent = start()
        agent.hand_over(label(), label("worn", job="second", part="p", start=None, end=None))
        agent.run()
        assert labels_file(agent.state).exists()
        coordinator.offer(other_job())
        agent.run()
        assert agent.store("second").labels_position == agent.store().labels_position
        assert agent.texts("second") == ["good"]
        assert agent.store("second").label_report().labels == 2
        assert agent.store().label_report().labels == 1

    def test_a_job_whose_windows_were_lost_gets_them_again(
        self, start: Callable[[], Agent]
    ) -> None:
        """Its file was damaged; the book was not."""
        agent = start()
        agent.hand_over(label())
        agent.run()
        path = agent.store()._path
        agent.close()
        agent.close = lambda: None  # type: ignore[method-assign]
        path.write_bytes(b"garbage" * 1000)
        agent = start()
        assert agent.journal.of("store.set_aside")
        assert agent.texts() == ["good"]

    def test_a_book_that_was_lost_costs_no_label(self, start: Callable[[], Agent]) -> None:
        """Jobs keep what they have, and hear of what is new."""
        agent = start()
        agent.hand_over(label())
        agent.run()
        agent.close()
        agent.close = lambda: None  # type: ignore[method-assign]
        labels_file(agent.state).write_bytes(b"garbage" * 1000)
        agent = start()
        assert agent.journal.of("labels.set_aside")
        assert agent.texts() == ["good"]
        agent.hand_over(label("worn", made=2))
        agent.run()
        assert agent.texts() == ["worn"]


class TestRefused:
    def test_an_unknown_class_is_told_and_counted(self, start: Callable[[], Agent]) -> None:
        """As an error where the label names the job; and it withdraws what it corrects."""
        agent = start()
        agent.hand_over(label(), label("brunt", unit="oven", job="press"))
        agent.run()
        [told] = agent.journal.of("label.refused")
        assert told["reason"] == "'brunt' is none of the job's classes: good, worn"
        assert agent.store().label_report().refused == 1
        agent.hand_over(label("brunt", made=2))
        agent.run()
        assert agent.texts() == []
        assert agent.store().label_report().refused == 2
        assert len(agent.journal.of("label.refused")) == 1

    def test_a_file_that_is_no_label_is_set_aside(self, start: Callable[[], Agent]) -> None:
        """It is told, and nothing else waits for it."""
        agent = start()
        agent.hand_over(label())
        folder = labels_folder(agent.state)
        (folder / "0-0-0.json").write_text("nonsense")
        agent.run()
        assert agent.texts() == ["good"]
        [told] = agent.journal.of("label.unreadable")
        assert "0-0-0.json: is not JSON" in told["error"]
        assert [path.name for path in folder.iterdir()] == ["0-0-0.json.damaged"]

    def test_a_full_disk_costs_no_label(
        self, start: Callable[[], Agent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither on the way into the book nor from there to a job; scoring goes on."""
        agent = start()
        agent.hand_over(label())

        def full(*_: object, **_more: object) -> int:
            raise StoreError("disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(LabelDesk, "take", full)
            agent.run()
            assert agent.journal.of("labels.failed")
            assert len(spool.waiting(labels_folder(agent.state))) == 1
        with monkeypatch.context() as patch:
            patch.setattr(WindowStore, "add_truths", full)
            for _ in range(5):
                agent.run()
            assert len(agent.journal.of("labels.delayed")) >= 1
        for _ in range(5):
            agent.run()
        assert agent.texts() == ["good"]


class TestDesk:
    @pytest.fixture
    def desk(self, tmp_path: Path) -> Iterator[LabelDesk]:
        """A desk of its own."""
        config = AgentConfig(agent=AgentSection(id="a", state=str(tmp_path)))
        made = LabelDesk(config, ManualClock(), Journal())
        yield made
        made.close()

    def test_without_labels_there_is_no_book(self, desk: LabelDesk, tmp_path: Path) -> None:
        """Most agents get theirs with recordings; they pay nothing."""
        desk.start()
        desk.tick()
        assert (desk.newest, desk.since(7, "j")) == (0, ([], 7))
        assert list(tmp_path.iterdir()) == []

    def test_a_position_of_another_book_begins_anew(self, desk: LabelDesk) -> None:
        """Nothing is missed where the clock was set back as well."""
        desk.take(from_json(msgspec.json.encode(label()), "here"), "here")
        assert len(desk.since(1 << 62, "j")[0]) == 1

    def test_faults_are_told_once_a_minute(self, desk: LabelDesk) -> None:
        """With their number since."""
        wrong = from_json(b"nonsense", "here")
        for _ in range(5):
            desk.take(wrong, "line")
        desk._clock.advance(61.0)  # type: ignore[attr-defined]
        desk.take(wrong, "line")
        told = desk._log.of("label.unreadable")  # type: ignore[attr-defined]
        assert [each["labels"] for each in told] == [1, 5]
