# SPDX-License-Identifier: Apache-2.0
"""A whole agent on a broker in memory; its trainer works in this process."""

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import (
    LENGTH,
    Coordinator,
    Journal,
    Versions,
    a_job,
    choosing,
    classes_of,
    two_classes,
    write_csv,
)

from fedmill_agent import daemon as daemon_module
from fedmill_agent.announcements import STRANGERS_LIMIT
from fedmill_agent.config import AgentConfig, AgentSection, TrainingSection
from fedmill_agent.daemon import (
    BACKLOG_LIMIT,
    Daemon,
    subscriptions,
)
from fedmill_agent.governor import Machine
from fedmill_agent.home import current
from fedmill_agent.places import windows_file
from fedmill_agent.seat import TRAINER_TRIES
from fedmill_agent.skew import SKEW_SECONDS
from fedmill_agent.sources.base import LabelInterval, Samples, SourceOptions
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.status import read_status
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied
from fedmill_agent.training.worker import Worker
from fedmill_agent.work import Fed
from fedmill_shared.clock import Clock, ManualClock
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.job import Evaluation, Job, Learning
from fedmill_shared.job_check import canonical
from fedmill_shared.learning.home import personalised
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.messages import BlobRequest, JobNotice, Receipt, RoundNotice, Wait
from fedmill_shared.models.manifest import version_of
from fedmill_shared.protocol import NEWEST
from fedmill_shared.schema import schema_hash

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
    ) -> None:
        self.clock, self.journal = ManualClock(), Journal()
        config = AgentConfig(
            agent=AgentSection(
                id="a", state=str(folder / "state"), jobs=list(jobs), labels=dict(labels or {})
            ),
            training=TrainingSection(enabled=training, max_cpu_percent=80.0),
            sources=list(sources),
        )
        self.state = Path(config.agent.state)

        def connect(sink: Any, will: Any) -> MemoryLink:
            self.link = MemoryLink(coordinator.broker, subscriptions("a"), sink, will)
            return self.link

        self.daemon = Daemon(config, connect, self.clock, self.journal)
        self.trainer = Trainer.made[-1]
        self.daemon._resume()

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

    def phase(self, job: str = "press") -> str:
        """Where the agent says it stands in a job; empty without a seat."""
        phase = self.daemon._state().jobs.get(job)
        return phase.phase if phase else ""

    def scored(self, job: str = "press") -> int:
        """Windows that were scored."""
        return self.daemon._state().jobs[job].windows_scored

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
            self._agents[-1].daemon._link.start()
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


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A plant whose agents have a trainer in this process."""
    Trainer.made = []
    monkeypatch.setattr(daemon_module, "TrainerProcess", Trainer)
    monkeypatch.setattr(daemon_module, "Gauge", Dial)
    Dial.machine = Machine(
        cpu_percent=1.0, available_bytes=10**9, temperature_celsius=40.0, weekday=0, minute=0
    )
    monkeypatch.setattr(os, "fsync", lambda _: None)
    plant = Plant(tmp_path)
    yield plant
    plant.close()


def release(plant: Plant, agent: Agent, versions: Versions, **fields: Any) -> None:
    """Announce the newest version and wait until it is active."""
    plant.coordinator.versions = {**plant.coordinator.versions, versions.job.name: versions}
    plant.coordinator.tell("version", versions.notice(**fields))
    job, version = versions.job.name, versions.newest.version
    agent.until(lambda: agent.daemon._state().jobs[job].version == version, "install")


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


class TestJoin:
    def test_a_job_that_fits(self, plant: Plant) -> None:
        """Its recordings are read, then the agent joins and tells its statistics."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: plant.said("moments"))
        [join] = plant.said("join")
        assert join.job == "press"
        assert join.schema == schema_hash(JOB)
        assert join.windows == {"train": 12, "validation": 0, "test": 0}
        [report] = plant.said("moments")
        assert report.moments.cells[0].count == 12 * LENGTH
        assert plant.said("refusal") == []
        assert agent.phase() == "joined"
        agent.daemon._beat()
        assert plant.said("state")[-1].jobs["press"].phase == "joined"

    @pytest.mark.parametrize("newest", [NEWEST, 0])
    def test_the_whole_way_to_an_update(self, plant: Plant, newest: int) -> None:
        """Version, round, training, update, receipt; and the result's version as a delta.

        With a coordinator of this protocol, and with one that knows of the first one only.
        """
        plant.coordinator.newest = newest
        agent, versions = joined(plant, evaluate=True)
        base = versions.newest.version
        open_round(plant, versions)
        agent.until(lambda: plant.coordinator.frames and plant.said("evaluation"))
        [offer] = plant.said("update")
        assert (offer.round, offer.base, offer.examples) == (1, base, 12)
        assert (offer.protocol, offer.offered_again) == (newest or 1, False)
        frame = plant.coordinator.frames[offer.sha256]
        header, delta = decode_frame(frame, elements=versions.architecture.learned)
        assert header.base == base[:16]
        assert np.abs(delta).max() > 0
        plant.coordinator.answer(
            Receipt(job="press", round=1, sha256=offer.sha256, fate="received")
        )
        made = versions.advance()
        plant.coordinator.tell("version", versions.notice())
        plant.coordinator.tell(
            "round",
            RoundNotice(job="press", round=0, closed=1, included={"a": offer.sha256}),
        )
        agent.until(lambda: agent.daemon._state().jobs["press"].version == made.version)
        assert list((agent.state / "jobs" / "press" / "outbox").iterdir()) == []
        agent.run(200)
        assert len(plant.said("update")) == 1

    @pytest.mark.parametrize("order", [("version", "round", "job"), ("round", "job", "version")])
    def test_retained_notices_in_any_order(self, plant: Plant, order: Sequence[str]) -> None:
        """A broker may deliver them as it likes; none is lost."""
        versions = Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        messages = {
            "job": JobNotice(job="press", text=canonical(JOB), state="running"),
            "version": versions.notice(),
            "round": RoundNotice(job="press", round=1, base=versions.newest.version),
        }
        for kind in order:
            plant.coordinator.tell(kind, messages[kind])
        agent = plant.agent()
        agent.until(lambda: plant.said("update"))
        assert plant.said("update")[0].round == 1

    def test_two_jobs_at_once(self, plant: Plant) -> None:
        """Each has its own windows, model and rounds; a block finds the job that wants it."""
        other = a_job("drill", evaluation=ONLY_TRAIN)
        agent = plant.agent()
        for job in (JOB, other):
            plant.coordinator.offer(job, state="running")
        agent.until(lambda: len(plant.said("join")) == 2)
        for job in (JOB, other):
            versions = Versions(job)
            release(plant, agent, versions)
            open_round(plant, versions)
        agent.until(lambda: len(plant.said("update")) == 2)
        assert sorted(offer.job for offer in plant.said("update")) == ["drill", "press"]
        assert len({offer.sha256 for offer in plant.said("update")}) == 2

    def test_a_gateway_that_only_scores(self, plant: Plant) -> None:
        """Training switched off: it neither joins nor trains nor evaluates, and scores."""
        agent = plant.agent(structs.replace(plant.recording(), split="live"), training=False)
        versions = Versions(JOB)
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: agent.phase() == "waiting")
        release(plant, agent, versions, evaluate=True)
        open_round(plant, versions)
        agent.run()
        assert agent.trainer.requests == []
        assert plant.said("join") == plant.said("refusal") == []

    def test_labels_that_come_later(self, plant: Plant) -> None:
        """Until then the agent waits; it joins when it can learn."""
        values = two_classes(runs=1, windows=12)
        path = write_csv(plant.folder / "live.csv", values)
        live = CsvOptions(name="live", path=str(path), speed=1e4, repeat=True, split="train")
        agent = plant.agent(live)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.daemon._state().jobs.get("press"))
        agent.until(lambda: agent.daemon._state().jobs["press"].windows.get("train", 0) > 2)
        agent.run()
        assert agent.phase() == "waiting"
        work = agent.daemon._seats["press"]._work
        [first] = work.store._database.execute("SELECT run, start_ns, end_ns FROM windows LIMIT 1")
        work.store.add_labels([LabelInterval(*first, text="good")])
        agent.until(lambda: plant.said("join"))
        assert plant.said("refusal") == []


class TestRefuse:
    def refusal(self, plant: Plant, agent: Agent, job: Job = JOB) -> Any:
        """The first refusal; there is no second one while nothing changes."""
        plant.coordinator.offer(job)
        agent.until(lambda: plant.said("refusal"))
        agent.run(100)
        assert agent.phase(job.name) == "refused"
        [refusal] = plant.said("refusal")
        [told] = agent.journal.of("job.refused")
        assert told["error"] == refusal.text
        assert plant.said("join") == []
        return refusal

    def test_a_unit_that_cannot_be_converted(self, plant: Plant) -> None:
        """Before anything is read."""
        source = structs.replace(plant.recording(), units={"vibration": "degC"})
        refusal = self.refusal(plant, plant.agent(source))
        assert refusal.reason == "SchemaError"
        assert "degC" in refusal.text

    def test_a_signal_that_the_source_lacks(self, plant: Plant) -> None:
        """The recording has no such column: no source works."""
        source = structs.replace(plant.recording(), tags={"vibration": "current"})
        refusal = self.refusal(plant, plant.agent(source))
        assert refusal.reason == "DataError"
        assert "current" in refusal.text

    def test_no_sources(self, plant: Plant) -> None:
        """There is nothing to read."""
        plant.recording()
        agent = Agent(plant.folder, plant.coordinator, [])
        agent.daemon._link.start()
        plant._agents.append(agent)
        assert "no [[sources]]" in self.refusal(plant, agent).text

    def test_recordings_without_a_value(self, plant: Plant) -> None:
        """They were read, and every window was bad."""
        agent = plant.agent(plant.recording(good=["nan"] * 24))
        assert "no training window" in self.refusal(plant, agent).text
        phase = agent.daemon._state().jobs["press"]
        assert phase.windows_bad == 3
        assert phase.faults == {"vibration: missing": 3}

    def test_recordings_without_a_label(self, plant: Plant) -> None:
        """The windows are there, and nobody can learn from them."""
        source = structs.replace(plant.recording(), label_column="")
        refusal = self.refusal(plant, plant.agent(source))
        assert "12 training windows" in refusal.text
        assert "no label" in refusal.text

    def test_a_text_that_is_no_job(self, plant: Plant) -> None:
        """Of another fedmill, or damaged; another job's text is not taken for this one's."""
        agent = plant.agent()
        for text in (b"not json", b'{"job": {}}', canonical(a_job("drill"))):
            plant.coordinator.tell("job", JobNotice(job="press", text=text, state="waiting"))
        agent.until(lambda: len(plant.said("refusal")) == 3)
        assert {refusal.reason for refusal in plant.said("refusal")} == {"JobError"}
        assert not (agent.state / "jobs" / "drill").exists()

    def test_another_protocol(self, plant: Plant) -> None:
        """A coordinator of the future is told so, and nothing of it is used."""
        agent = plant.agent()
        notice = JobNotice(job="press", text=canonical(JOB), state="waiting", protocol=9)
        plant.coordinator.tell("job", notice)
        agent.until(lambda: plant.said("refusal"))
        assert plant.said("refusal")[0].reason == "ProtocolError"
        assert agent.phase() == ""

    def test_another_protocol_for_a_job_that_is_served(self, plant: Plant) -> None:
        """The coordinator was upgraded too far: it is told, and scoring goes on."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        notice = JobNotice(job="press", text=canonical(JOB), state="running", protocol=3, newest=4)
        plant.coordinator.tell("job", notice)
        agent.until(lambda: plant.said("refusal"))
        [refusal] = plant.said("refusal")
        assert refusal.reason == "ProtocolError"
        assert "the coordinator speaks protocol 3 to 4, this side 1 to 2" in refusal.text
        assert agent.phase() == "joined"

    def test_is_told_again_when_asked_again(self, plant: Plant) -> None:
        """After a reconnection, and when the coordinator announces the job again."""
        agent = plant.agent(structs.replace(plant.recording(), units={"vibration": "degC"}))
        self.refusal(plant, agent)
        agent.daemon._link.vanish()
        agent.daemon._link.start()
        agent.run()
        assert len(plant.said("refusal")) == 3
        assert len(agent.journal.of("job.refused")) == 1


class TestIgnore:
    def test_jobs_that_are_not_ours(self, plant: Plant) -> None:
        """An agent with a list of jobs has no seat in others, also not after a restart."""
        agent = plant.agent(jobs=["press"])
        plant.coordinator.offer(a_job("drill"))
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        assert agent.phase("drill") == ""
        plant.stop(agent)
        again = plant.agent(jobs=["drill"], online=False)
        assert again.phase() == ""

    @pytest.mark.parametrize("kind", ["job", "version", "round", "block", "weather"])
    def test_garbage_is_only_logged(self, plant: Plant, kind: str) -> None:
        """Whatever the broker delivers, the agent works on."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        garbage = [b"", b"garbage", b"\xc1", b"\x91" * 5000, b"\x81\xa3job\xa5press"]
        for payload in garbage:
            plant.coordinator.tell(kind, payload, retain=False)
        agent.until(lambda: len(agent.journal.of("message.refused")) == len(garbage))
        assert agent.phase() == "joined"

    def test_a_blob_that_arrives_damaged(self, plant: Plant) -> None:
        """It is told, and asked for again."""
        agent, versions = plant.agent(), Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.coordinator.deaf = True
        notice = versions.notice()
        plant.coordinator.tell("version", notice)
        size = notice.snapshot.size
        head = struct.Struct("<4s32sIIQI").pack(
            b"FMB1", bytes.fromhex(notice.version), 0, 1, size, zlib.crc32(bytes(size))
        )
        plant.coordinator.tell("block", head + bytes(size), retain=False)
        agent.until(lambda: agent.journal.of("block.refused"))
        plant.coordinator.deaf = False
        agent.until(lambda: agent.daemon._state().jobs["press"].version == versions.newest.version)

    def test_a_job_that_was_refused_gets_nothing(self, plant: Plant) -> None:
        """Its versions, rounds, blocks and receipts pass by."""
        agent, versions = plant.agent(), Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        plant.coordinator.tell("job", JobNotice(job="press", text=b"", state="running"))
        plant.coordinator.tell("version", versions.notice())
        plant.coordinator.tell("round", RoundNotice(job="press", round=1))
        plant.coordinator.answer(Receipt(job="press", round=1, sha256="a" * 64, fate="late"))
        for block in blocks_of(b"blob"):
            plant.coordinator.tell("block", block, retain=False)
        agent.until(lambda: plant.said("refusal"))
        agent.trainer.sink(TrainerAnswered(protocol.Ready(number=1)))
        agent.trainer.sink(TrainerDied(1, (1,)))
        agent.run()
        assert plant.said("request") == []
        assert agent.journal.of("event.failed") == agent.journal.of("message.refused") == []

    def test_foreign_topics_are_only_logged(self, plant: Plant) -> None:
        """Of another program, or of another version."""
        agent = plant.agent()
        for topic in ("fedmill/v1/a/down/reboot", "fedmill/v1/all/job"):
            plant.coordinator.link.publish(topic, b"x")
        agent.until(lambda: len(agent.journal.of("message.refused")) == 2)

    def test_notices_of_jobs_that_never_come(self, plant: Plant) -> None:
        """The newest few are kept, and a job that comes later finds its own."""
        versions = Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        agent = plant.agent()
        for number in range(40):
            plant.coordinator.tell("round", RoundNotice(job=f"j-{number}", round=1), retain=False)
        base = versions.newest.version
        plant.coordinator.tell("version", versions.notice(), retain=False)
        plant.coordinator.tell("round", RoundNotice(job="press", round=1, base=base), retain=False)
        agent.until(lambda: ("press", "round") in agent.daemon._heard._newest)
        assert len({job for job, _ in agent.daemon._heard._newest}) == STRANGERS_LIMIT
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: plant.said("update"))
        for number in range(40):
            plant.coordinator.tell("round", RoundNotice(job=f"k-{number}", round=1), retain=False)
        agent.until(lambda: ("k-39", "round") in agent.daemon._heard._newest)
        assert ("press", "round") in agent.daemon._heard._newest
        assert len({job for job, _ in agent.daemon._heard._newest}) == STRANGERS_LIMIT + 1

    def test_messages_of_unknown_jobs(self, plant: Plant) -> None:
        """They may belong to another fleet."""
        agent = plant.agent()
        receipt = Receipt(job="mill", round=1, sha256="a" * 64, fate="included")
        plant.coordinator.answer(receipt)
        plant.coordinator.tell("round", RoundNotice(job="mill", round=1))
        agent.run()
        assert agent.journal.of("message.refused") == agent.journal.of("event.failed") == []


class TestTrainer:
    def test_a_death_is_tried_again(self, plant: Plant) -> None:
        """Statistics and rounds alike, a few times; then the coordinator is told."""
        agent = plant.agent()
        agent.trainer.lazy = True
        plant.coordinator.offer(JOB)
        for attempt in range(1, TRAINER_TRIES + 1):
            agent.until(lambda a=attempt: len(agent.trainer.asked(protocol.CollectMoments)) == a)
            assert plant.said("refusal") == []
            agent.trainer.die()
        agent.until(lambda: plant.said("refusal"))
        [refusal] = plant.said("refusal")
        assert (refusal.reason, refusal.text) == (
            "TrainerError",
            "the training process died 3 times",
        )
        agent.run()
        assert len(agent.trainer.asked(protocol.CollectMoments)) == TRAINER_TRIES
        assert len(agent.journal.of("trainer.died")) == TRAINER_TRIES

    def test_the_count_starts_anew_with_a_success(self, plant: Plant) -> None:
        """Now and then a death is nothing to give up for."""
        agent, versions = joined(plant)
        for round_ in range(1, 5):
            agent.trainer.lazy = True
            open_round(plant, versions, round_)
            agent.until(lambda: agent.trainer.waiting)
            agent.trainer.die()
            agent.until(lambda: agent.journal.of("trainer.died"))
            agent.until(lambda: agent.trainer.waiting)
            agent.trainer.lazy = False
            agent.trainer.work()
            agent.until(lambda r=round_: len(plant.said("update")) == r)
        assert plant.said("refusal") == []

    def test_a_training_that_fails_is_told(self, plant: Plant) -> None:
        """With the error's class and text."""
        agent, versions = joined(plant)
        agent.run()
        Path(agent.daemon._seats["press"]._work.deployment.weights_path()).write_bytes(b"rust")
        open_round(plant, versions)
        agent.until(lambda: plant.said("refusal"))
        assert plant.said("refusal")[0].reason == "StoreError"
        agent.run(100)
        assert len(plant.said("refusal")) == 1


class TestRound:
    def test_who_is_not_asked_does_not_train(self, plant: Plant) -> None:
        """Until another attempt of the round asks this agent too."""
        agent, versions = joined(plant)
        open_round(plant, versions, cohort=["b"])
        agent.run()
        assert agent.trainer.asked(protocol.Train) == []
        open_round(plant, versions, cohort=["a"], attempt=1)
        agent.until(lambda: plant.said("update"))

    def test_an_agent_that_is_not_selected(self, plant: Plant) -> None:
        """Its state says why, and what labels it has."""
        agent = plant.agent(labels={"line": "B"})
        plant.coordinator.offer(a_job(evaluation=ONLY_TRAIN, select='line == "A"'))
        agent.until(lambda: agent.phase() == "refused")
        agent.daemon._beat()
        state = plant.said("state")[-1]
        assert state.labels == {"line": "B"}
        assert state.newest == NEWEST
        assert "line" in state.jobs["press"].ineligible
        assert plant.said("join") == plant.said("refusal") == []


class TestGovernor:
    def test_training_waits_for_the_machine(self, plant: Plant) -> None:
        """It starts when the load has gone; both are told at once, once each."""
        agent, versions = joined(plant)
        Dial.turn(cpu_percent=99.0)
        agent.until(lambda: agent.journal.of("training.held"))
        agent.until(lambda: plant.said("state")[-1].jobs["press"].ineligible)
        open_round(plant, versions)
        for percent in (98.0, 97.0, 99.0):
            Dial.turn(cpu_percent=percent)
            agent.run()
        assert agent.trainer.asked(protocol.Train) == []
        reason = "processor at 99 %, at most 80 % wanted"
        assert agent.journal.of("training.held") == [{"reason": reason}]
        agent.daemon._beat()
        assert "processor at 99 %" in plant.said("state")[-1].jobs["press"].ineligible
        Dial.turn(cpu_percent=5.0)
        agent.until(lambda: plant.said("update"))
        assert agent.journal.of("training.allowed") == [{"reason": ""}]
        agent.until(lambda: not plant.said("state")[-1].jobs["press"].ineligible)

    def test_training_in_hand_makes_way(self, plant: Plant) -> None:
        """It is paused while something else needs the machine, and goes on after."""
        agent, versions = joined(plant)
        agent.trainer.lazy = True
        open_round(plant, versions)
        agent.until(lambda: agent.trainer.asked(protocol.Train))
        Dial.turn(temperature_celsius=99.0)
        agent.run()
        assert not agent.trainer.paused  # nobody set a limit
        Dial.turn(cpu_percent=99.0)
        agent.until(lambda: agent.trainer.paused)
        [told] = agent.journal.of("training.paused")
        assert told["reason"] == "processor at 99 %, at most 80 % wanted"
        Dial.turn(cpu_percent=1.0)
        agent.until(lambda: not agent.trainer.paused)
        assert agent.journal.of("training.resumed") == [{}]
        agent.trainer.work()
        agent.until(lambda: plant.said("update"))


class TestClock:
    def notice(self, agent: Agent, seconds: float) -> RoundNotice:
        """A round notice from a coordinator whose clock is ``seconds`` behind."""
        sent_ns = agent.clock.now_ns() - int(seconds * 1e9)
        return RoundNotice(job="press", round=0, sent_ns=sent_ns)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_a_wrong_one_is_told_once(self, plant: Plant, sign: int) -> None:
        """With the second notice that says so, and again if it was right in between."""
        agent = plant.agent()
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        steps = ((50, 0), (100, 0), (100, 1), (100, 1), (-1, 1), (100, 1), (100, 2))
        for skew, warnings in steps:
            plant.coordinator.tell("round", self.notice(agent, sign * skew))
            agent.run(60)
            assert len(agent.journal.of("clock.skewed")) == warnings
        told = agent.journal.of("clock.skewed")[0]
        assert abs(told["seconds"] - sign * 100) <= 1
        assert SKEW_SECONDS == 60

    def test_what_was_queued_while_it_was_away_says_nothing_about_it(self, plant: Plant) -> None:
        """The session keeps reminders: they come all at once, and each is as old as it is."""
        agent = plant.agent()
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        agent.daemon._link.vanish()
        for age in (900, 890, 880, 300, 290, 100):
            plant.coordinator.tell("round", self.notice(agent, age), retain=False)
        agent.daemon._link.start()
        agent.run(60)
        plant.coordinator.tell("round", self.notice(agent, 0), retain=False)
        agent.run(60)
        assert agent.journal.of("clock.skewed") == []

    def test_a_notice_that_was_kept_says_nothing_about_it(self, plant: Plant) -> None:
        """Nor does one of software that does not tell the time."""
        agent = plant.agent(online=False)
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        plant.coordinator.tell("round", self.notice(agent, 1000))
        agent.daemon._link.start()
        agent.until(lambda: agent.phase() == "joined")
        plant.coordinator.tell("round", RoundNotice(job="press", round=0))
        agent.run()
        assert agent.journal.of("clock.skewed") == []


class TestRestart:
    def test_offline_it_goes_on_scoring(self, plant: Plant) -> None:
        """Job, windows and model are on disk: no broker is needed."""
        live = structs.replace(plant.recording("live"), split="live")
        agent, versions = joined(plant, plant.recording(), live)
        plant.stop(agent)
        again = plant.agent(plant.recording(), live, online=False)
        again.until(lambda: again.scored() == 24)
        assert again.daemon._state().jobs["press"].version == versions.newest.version
        again.until(lambda: again.phase() == "joined")

    def test_a_job_file_that_cannot_be_read(self, plant: Plant) -> None:
        """It is told, and the broker's notice brings the job again."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        path = agent.state / "jobs" / "press" / "job.json"
        path.write_bytes(b"rust")
        again = plant.agent()
        again.until(lambda: again.phase() == "joined")
        assert again.journal.of("job.refused")[0]["kind"] == "JobError"
        path.unlink()
        path.mkdir()
        plant.stop(again)
        third = plant.agent(online=False)
        assert len(third.journal.of("job.unreadable")) == 1

    def test_an_update_is_delivered_by_the_next_process(self, plant: Plant) -> None:
        """It waits on disk; it is not trained again."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("update"))
        [offer] = plant.said("update")
        plant.stop(agent)
        plant.coordinator.heard.clear()
        again = plant.agent()
        plant.coordinator.frames.clear()
        again.until(lambda: plant.coordinator.frames)
        assert plant.said("update")[0] == structs.replace(offer, offered_again=True)
        assert list(plant.coordinator.frames) == [offer.sha256]
        again.until(lambda: again.phase() == "joined")
        again.run()
        assert again.trainer.asked(protocol.Train) == []


class TestBroker:
    def test_lost_and_back(self, plant: Plant) -> None:
        """Scoring goes on; an update that was made meanwhile is sent once there is a broker."""
        agent, versions = joined(plant)
        agent.trainer.lazy = True
        open_round(plant, versions)
        agent.until(lambda: agent.trainer.asked(protocol.Train))
        agent.daemon._link.vanish()
        agent.trainer.work()
        agent.run(300)
        assert plant.said("update") == plant.said("block") == []
        [told] = agent.journal.of("broker.unreachable")
        assert told["broker"] == "127.0.0.1:1883"
        assert not read_status(agent.state).connected
        agent.daemon._link.start()
        agent.until(lambda: plant.coordinator.frames)
        agent.run()
        # Told once because the agent is back, and once because the coordinator may be.
        offers = plant.said("update")
        assert {(offer.round, offer.sha256) for offer in offers} == {(1, offers[0].sha256)}
        assert len(offers) <= 2
        assert len(plant.said("join")) == 3
        assert list(plant.coordinator.frames) == [offers[0].sha256]
        assert read_status(agent.state).connected

    def test_a_busy_coordinator_is_offered_the_update_later(self, plant: Plant) -> None:
        """When it said, and not after the usual ten seconds."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("update"))
        [offer] = plant.said("update")
        plant.coordinator.answer(
            Wait(job="press", sha256=offer.sha256, retry_after=60.0), kind="wait"
        )
        agent.run(500)
        assert len(plant.said("update")) == 1
        agent.until(lambda: len(plant.said("update")) == 2)
        assert plant.said("update")[1].offered_again

    def test_its_will_and_its_farewell(self, plant: Plant) -> None:
        """Vanished or stopped: retained, so that everyone knows."""
        agent = plant.agent()
        agent.until(lambda: plant.said("state"))
        assert plant.said("state")[-1].online
        agent.daemon._link.vanish()
        assert not plant.said("state")[-1].online
        agent.daemon._link.start()
        agent.until(lambda: plant.said("state")[-1].online)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        farewell = plant.said("state")[-1]
        assert not farewell.online
        assert farewell.jobs["press"].phase == "joined"

    def test_requests_pass_by_while_much_is_on_its_way_out(self, plant: Plant) -> None:
        """A small one asks for a mebibyte; whoever sent it asks again."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("block"))
        [offer] = plant.said("update")
        request = BlobRequest(job="press", blob=offer.sha256, missing=[0])
        agent.link.backlog = BACKLOG_LIMIT
        for _ in range(10):
            plant.coordinator.answer(request, kind="request")
        agent.run()
        assert len(plant.said("block")) == 1
        agent.link.backlog = BACKLOG_LIMIT - 1
        plant.coordinator.answer(request, kind="request")
        agent.until(lambda: len(plant.said("block")) == 2)

    def test_a_message_that_is_too_large_is_told(self, plant: Plant) -> None:
        """And the agent lives on."""
        agent = plant.agent()
        plant.coordinator.broker.largest_packet = 2000
        agent.daemon._send("state", agent.daemon._state())
        agent.daemon._send("refusal", b"x" * 2000)
        [told] = agent.journal.of("message.unsent")
        assert told["kind"] == "refusal"


class TestChange:
    def test_another_window_starts_another_store(self, plant: Plant) -> None:
        """The old windows stay for the old job; the old model is not used for the new one."""
        agent, versions = joined(plant)
        longer = a_job(length=12, evaluation=ONLY_TRAIN)
        plant.coordinator.offer(longer)
        agent.until(lambda: len(plant.said("join")) == 2)
        assert plant.said("join")[-1].windows["train"] == 8
        assert plant.said("join")[-1].schema == schema_hash(longer)
        assert plant.said("refusal") == []
        assert agent.daemon._state().jobs["press"].version == ""
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: len(plant.said("join")) == 3)
        assert agent.daemon._state().jobs["press"].version == versions.newest.version

    def test_what_the_old_sources_still_deliver_is_dropped(self, plant: Plant) -> None:
        """What a source said before the job was changed is not taken for what it says now."""
        stream = structs.replace(plant.recording("stream"), repeat=True, split="train")
        agent = plant.agent(stream)
        for length in (8, 12, 8):
            job = a_job(length=length, evaluation=ONLY_TRAIN)
            plant.coordinator.offer(job)
            agent.until(
                lambda j=job: any(join.schema == schema_hash(j) for join in plant.said("join"))
            )
        assert agent.journal.of("windows.lost") == agent.journal.of("source.failed") == []
        seat = agent.daemon._seats["press"]
        late = Samples("late", "late", 0, 1, np.ones((1, LENGTH)))
        for ticket in (
            seat._work.streams.ticket("stream") - 1,
            seat._work.streams.ticket("stream"),
        ):
            assert "late" not in seat._work.intake._feeds["stream"].cutter._windower._runs
            agent.daemon._take(Fed("press", ticket, SourceEvent("stream", late)))
        assert "late" in seat._work.intake._feeds["stream"].cutter._windower._runs

    def test_another_learning_rate_keeps_the_windows(self, plant: Plant) -> None:
        """And the model: the schema is the same."""
        agent, versions = joined(plant)
        changed = structs.replace(JOB, learning=structs.replace(JOB.learning, epochs=2))
        plant.coordinator.offer(changed, state="running")
        agent.until(lambda: len(plant.said("join")) == 2)
        assert agent.daemon._state().jobs["press"].version == versions.newest.version
        assert windows_file(str(agent.state), JOB) == windows_file(str(agent.state), changed)


class TestDisk:
    def test_a_damaged_store_is_set_aside_loudly(self, plant: Plant) -> None:
        """The agent starts with a fresh one, and says so."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        path = windows_file(str(agent.state), JOB)
        path.write_bytes(b"rust" * 4096)
        again = plant.agent()
        again.until(lambda: again.journal.of("store.set_aside"))
        [told] = again.journal.of("store.set_aside")
        assert Path(told["path"]).read_bytes() == b"rust" * 4096
        again.until(lambda: again.phase() == "joined")
        again.run()
        assert len(again.journal.of("store.set_aside")) == 1

    def test_a_full_disk_is_told_once_a_minute(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A minute, and not for each window; the agent lives on and tells its state."""

        def full(*_: object) -> None:
            raise StoreError("windows.sqlite: database or disk is full")

        stream = structs.replace(plant.recording("stream"), repeat=True)
        agent = plant.agent(stream)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        with monkeypatch.context() as patch:
            patch.setattr(WindowStore, "add", full)
            patch.setattr(daemon_module, "write_status", lambda *_, **__: full())
            agent.until(lambda: agent.journal.of("windows.lost"))
            agent.run(100)
            assert len(agent.journal.of("windows.lost")) == 1
            agent.until(lambda: len(agent.journal.of("windows.lost")) == 2)
            assert agent.journal.of("event.failed")
        stored = agent.daemon._state().jobs["press"].windows["train"]
        agent.until(lambda: agent.daemon._state().jobs["press"].windows["train"] > stored)

    def test_a_broken_store_keeps_nobody_from_leaving(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The farewell is sent without what the store would have told."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")

        def broken(*_: object) -> None:
            raise StoreError("windows.sqlite: cannot be read")

        monkeypatch.setattr(WindowStore, "counts", broken)
        plant.stop(agent)
        assert not plant.said("state")[-1].online
        assert agent.journal.of("agent.stopped")


class TestOrder:
    def test_recordings_are_read_one_after_another(self, plant: Plant) -> None:
        """In the order of the configuration, and beside them what is paced."""
        paced = structs.replace(plant.recording("paced"), speed=1e6)
        sources = [plant.recording(name) for name in ("first", "second", "third")]
        agent = plant.agent(paced, *sources)
        heard: list[str] = []
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.daemon._seats)
        seat = agent.daemon._seats["press"]
        feed = seat.feed

        def listening(fed: Any) -> None:
            if fed.event.source not in heard:
                heard.append(fed.event.source)
            feed(fed)

        seat.feed = listening
        agent.until(lambda: agent.phase() == "joined")
        assert [name for name in heard if name != "paced"] == ["first", "second", "third"]
        assert agent.daemon._state().jobs["press"].windows["train"] in (36, 48)


class TestServing:
    """An agent that chooses what it scores with, from the first round to a restart."""

    JOB = choosing(1, rounds=2, learning=Learning(learning_rate=0.05, batch_size=4, epochs=8))

    def recording(self, plant: Plant) -> CsvOptions:
        """Eight runs, two to choose by and two for the test; worn machines vibrate around 2."""
        runs = two_classes(8, seed=3)
        worn = {name: [2.0 + value / 3 for value in runs[name]] for name in runs if "worn" in name}
        return plant.recording(**(runs | worn))

    def round(self, plant: Plant, agent: Agent, versions: Versions, number: int) -> None:
        """A round opens, this agent delivers, and a random version comes of it."""
        open_round(plant, versions, number)
        agent.until(lambda: len(plant.said("update")) == number)
        offer = plant.said("update")[-1]
        agent.run()
        versions.advance(seed=number)
        plant.coordinator.tell("version", versions.notice(evaluate=True))
        plant.coordinator.tell(
            "round", RoundNotice(job="press", closed=number, round=0, included={"a": offer.sha256})
        )

    def phase(self, agent: Agent) -> Any:
        """What the agent says of itself."""
        return agent.daemon._state().jobs["press"]

    def test_the_whole_way_to_a_choice_and_back(self, plant: Plant) -> None:
        """A federation that learns nothing is no reason to score badly; a restart goes on."""
        source, versions = self.recording(plant), Versions(self.JOB)
        agent = plant.agent(source)
        plant.coordinator.offer(self.JOB, state="running")
        agent.until(lambda: plant.said("join"))
        assert plant.said("join")[0].windows == {"train": 12, "validation": 6, "test": 6}
        release(plant, agent, versions)
        for number in (1, 2):
            self.round(plant, agent, versions, number)
            agent.until(lambda number=number: len(agent.journal.of("model.chosen")) == number)
        agent.until(lambda: plant.said("evaluation")[-1].version == versions.newest.version)
        told, phase = plant.said("evaluation")[-1], self.phase(agent)
        assert phase.version == told.version == versions.newest.version
        assert set(told.candidates) == set(told.validation) == {"global", "personal", "local"}
        assert told.served == phase.served == agent.journal.of("model.chosen")[-1]["candidate"]
        assert phase.scores == told.validation
        assert told.served != "global"
        assert told.validation[told.served] == max(told.validation.values())
        assert told.statistic == told.candidates["global"]
        served = agent.daemon._seats["press"]._work.scorer.version
        assert served not in [made.version for made in versions.made]
        folder = agent.state / "jobs" / "press"
        assert {"alone.msgpack", "served.msgpack"} <= {path.name for path in folder.iterdir()}
        plant.stop(agent)

        again = plant.agent(self.recording(plant), online=False)
        assert self.phase(again).served == told.served
        assert again.daemon._seats["press"]._work.scorer.version == served
        again.run()
        assert again.trainer.asked(protocol.Choose) == []

    def test_trainings_come_first(self, plant: Plant) -> None:
        """A round that opens while a slice is in hand waits for that slice alone."""
        source, versions = self.recording(plant), Versions(self.JOB)
        agent = plant.agent(source)
        agent.trainer.lazy = True
        plant.coordinator.offer(self.JOB, state="running")
        agent.until(lambda: plant.said("join"))
        agent.trainer.work()
        release(plant, agent, versions)
        versions.advance(seed=1)
        release(plant, agent, versions)
        agent.until(lambda: agent.trainer.asked(protocol.TrainAlone))
        open_round(plant, versions, 2)
        agent.run()
        kinds = [type(request) for request in agent.trainer.waiting]
        assert kinds == [protocol.TrainAlone, protocol.Train]
        agent.trainer.lazy = False
        agent.trainer.work()
        agent.until(lambda: plant.said("update"))

    def test_a_damaged_choice_is_made_again(self, plant: Plant) -> None:
        """The common version scores until then."""
        agent, versions = joined(plant, self.recording(plant), job=self.JOB)
        self.round(plant, agent, versions, 1)
        agent.until(lambda: agent.journal.of("model.chosen"))
        served = self.phase(agent).served
        path = agent.state / "jobs" / "press" / "served.msgpack"
        before = path.read_bytes()
        plant.stop(agent)
        path.write_bytes(before[:-1] + b"?")

        again = plant.agent(self.recording(plant))
        assert self.phase(again).served == ""
        scorer = again.daemon._seats["press"]._work.scorer
        assert scorer.version == versions.newest.version
        assert len(again.journal.of("served.refused")) == 1
        again.until(lambda: self.phase(again).served)
        assert self.phase(again).served == served
        assert path.read_bytes() == before

    def test_parts_of_its_own_score(self, plant: Plant) -> None:
        """With a personal head: after a round, the next version with the head of that round."""
        job = a_job(
            evaluation=ONLY_TRAIN, learning=Learning(batch_size=4, personal="head"), rounds=9
        )
        agent, versions = joined(plant, job=job)
        self.round(plant, agent, versions, 1)
        agent.until(lambda: self.phase(agent).version == versions.newest.version)
        manifest = versions.architecture.manifest
        mine = current(agent.state / "jobs" / "press" / "home.msgpack", manifest, job)
        assert mine.personal is not None
        expected = personalised(manifest, job, versions.newest.vector, mine)
        assert agent.daemon._seats["press"]._work.scorer.version == version_of(expected)
        assert expected.tobytes() != versions.newest.vector.tobytes()
