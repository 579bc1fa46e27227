# SPDX-License-Identifier: Apache-2.0
"""A whole agent on a live source that comes and goes: windows are stored and scored."""

import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, SECOND, Versions, a_job
from tests.agent.sources.live.scripted import Script, ScriptedOptions, ScriptedSession, block
from tests.agent.whole import Agent, Plant, Trainer, release, stand_in

from fedmill_agent.changes import changes
from fedmill_agent.config import AgentConfig
from fedmill_agent.places import samples_file
from fedmill_agent.sources import hub as hub_module
from fedmill_agent.sources import supervisor
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.live import GOOD, Readings, reading
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_shared.errors import SourceError
from fedmill_shared.job import Evaluation

JOB = a_job(evaluation=Evaluation(validation=0.0, test=0.0))


class Adopting(Trainer):
    """Takes other settings."""

    def adopt(self, _settings: Any) -> None:
        """They change nothing here."""


class Line:
    """A plant with one machine that a test lets speak."""

    def __init__(self, folder: Path) -> None:
        self.plant = Plant(folder)
        self.script = Script()
        self.options = ScriptedOptions(name="line", tags={"vibration": "v"})
        self.said = 0
        self.begin = 0

    def agent(self, **fields: Any) -> Agent:
        """An agent that reads it, with its broker."""
        agent = self.plant.agent(structs.replace(self.options, **fields))
        agent.daemon._plant.start()
        self.begin = self.begin or agent.clock.now_ns()
        return agent

    def joined(self, **offer: Any) -> tuple[Agent, ScriptedSession]:
        """An agent that has a seat in the job, and its session with the machine."""
        agent = self.agent()
        self.plant.coordinator.offer(JOB, **offer)
        agent.until(lambda: agent.phase() == "waiting")
        return agent, self.script.session

    def say(self, session: ScriptedSession, windows: int, *, pause: int = 0) -> None:
        """So many windows more, a sample a second, after ``pause`` seconds of nothing."""
        self.said += pause
        values = np.sin(np.arange(self.said, self.said + windows * LENGTH))
        session.shelf.put(block("v", self.begin + self.said * SECOND, values.tolist()))
        self.said += windows * LENGTH

    def stored(self, agent: Agent) -> int:
        """Windows of the job."""
        job = agent.word().jobs.get("press")
        return job.windows.get("train", 0) if job else 0

    def until_stored(self, agent: Agent, windows: int) -> None:
        """Wait until there are so many."""
        agent.until(lambda: self.stored(agent) == windows, f"{self.stored(agent)} windows")


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """It is closed in the end, and leaves no thread."""
    stand_in(monkeypatch, Adopting)
    made = Line(tmp_path)
    monkeypatch.setattr(hub_module, "live_of", lambda _: made.script.live)
    monkeypatch.setattr(supervisor, "READ_SECONDS", 0.02)
    monkeypatch.setattr(supervisor.Backoff, "wait", lambda *_, **__: 0.0)
    yield made
    made.plant.close()
    left = [thread.name for thread in threading.enumerate()]
    assert not [name for name in left if name.startswith(("source-", "samples", "backfill"))]


class TestWindows:
    def test_are_stored_and_scored(self, line: Line) -> None:
        """From the first version on each window has a prediction; the status tells the source."""
        (agent, session), versions = line.joined(state="running"), Versions(JOB)
        line.say(session, 3)
        line.until_stored(agent, 3)
        release(line.plant, agent, versions)
        line.say(session, 4)
        line.until_stored(agent, 7)
        agent.until(lambda: agent.scored() == 4)
        found = agent.status().sources["line"]
        assert (found.phase, found.readings, found.connections) == ("running", 7 * LENGTH, 1)
        assert found.dropped == {}
        assert line.plant.said("refusal") == []

    def test_labels_of_a_live_source_make_it_join(self, line: Line) -> None:
        """Windows are of the machine's own run."""
        agent, session = line.joined()
        line.say(session, 2)
        line.until_stored(agent, 2)
        end = line.begin + 2 * LENGTH * SECOND
        session.shelf.put(LabelInterval("line", line.begin, end, text="good"))
        agent.until(lambda: line.plant.said("join"))
        assert line.plant.said("join")[0].windows["train"] == 2

    def test_the_source_dies_and_comes_back(self, line: Line) -> None:
        """What was being cut is lost, nothing else; the log tells it once, each way."""
        agent, session = line.joined()
        line.say(session, 2)
        line.until_stored(agent, 2)
        line.script.refusals = deque(SourceError("nothing listens") for _ in range(3))
        session.shelf.fail(SourceError("the connection is lost"))
        session = line.script.session
        line.say(session, 2, pause=1000)
        line.until_stored(agent, 4)
        found = agent.status().sources["line"]
        assert (found.phase, found.connections) == ("running", 2)
        assert found.error == "nothing listens"
        told = [fields["error"] for fields in agent.journal.of("source.failed")]
        assert told == ["the connection is lost", "nothing listens"]
        assert len(agent.journal.of("source.running")) == 2

    def test_bad_values_are_no_windows(self, line: Line) -> None:
        """They are counted, by what is wrong."""
        agent, session = line.joined()
        nan = [float("nan")] * 2 * LENGTH
        session.shelf.put(block("v", line.begin, nan, quality=GOOD))
        line.said += 2 * LENGTH
        line.say(session, 1)
        line.until_stored(agent, 1)
        phase = agent.word().jobs["press"]
        assert phase.windows_bad == 2
        assert phase.faults == {"vibration: missing": 2}


class TestPast:
    def test_a_job_that_begins_late_learns_from_what_was_recorded(self, line: Line) -> None:
        """The machine spoke before anybody asked; after a restart it is not read again."""
        agent = line.agent()
        session = line.script.session
        line.say(session, 5)
        agent.until(lambda: agent.daemon._plant.standings()["line"].readings == 5 * LENGTH)
        line.plant.coordinator.offer(JOB)
        line.until_stored(agent, 5)
        line.say(session, 2)
        line.until_stored(agent, 7)
        assert agent.journal.of("backfill.done")
        line.plant.stop(agent)
        again = line.agent()
        session = line.script.session
        line.say(session, 1)
        line.until_stored(again, 8)
        assert not again.journal.of("backfill.started")

    def test_what_is_only_scored_has_no_past(self, line: Line) -> None:
        """Nobody wants predictions of last week."""
        agent = line.agent(split="live")
        line.say(line.script.session, 5)
        agent.until(lambda: agent.daemon._plant.standings()["line"].readings == 5 * LENGTH)
        line.plant.coordinator.offer(JOB)
        agent.until(lambda: agent.word().jobs.get("press"))
        agent.run()
        assert not agent.journal.of("backfill.started")

    def test_what_came_is_on_disk(self, line: Line) -> None:
        """Once the agent has ended, all of it."""
        agent = line.agent()
        line.say(line.script.session, 5)
        agent.until(lambda: agent.daemon._plant.standings()["line"].readings == 5 * LENGTH)
        line.plant.stop(agent)
        with SampleReader(samples_file(str(agent.state), "line")) as reader:
            good = [each for each in reader.read() if (each.quality == GOOD).all()]
        assert sum(map(len, good)) == 5 * LENGTH


class TestStart:
    def test_a_source_that_must_be_there(self, line: Line) -> None:
        """The agent ends with its error, and leaves nothing behind."""
        line.script.refusals = deque([SourceError("nothing listens at press-7:4840")])
        agent = line.plant.agent(structs.replace(line.options, startup="error"), online=False)
        with pytest.raises(SourceError, match="press-7"):
            agent.daemon.run()
        assert line.script.attempts == 1
        line.plant._agents.remove(agent)

    def test_jobs_that_are_known_wait_for_no_connection(self, line: Line) -> None:
        """The source is away: the agent runs, and says so."""
        line.script.away = SourceError("nothing listens")
        agent = line.agent()
        line.plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "waiting")
        agent.until(lambda: agent.daemon._plant.standings()["line"].phase == "waiting")
        assert agent.status().sources["line"].error == "nothing listens"


class TestReload:
    def test_by_difference(self, line: Line) -> None:
        """Another interval of training leaves the source alone; another wait connects it anew."""
        agent, session = line.joined()
        line.say(session, 2)
        line.until_stored(agent, 2)
        old = agent.daemon._config
        nice = structs.replace(old, training=structs.replace(old.training, nice=3))
        self.adopt(agent, nice)
        line.say(session, 2)
        line.until_stored(agent, 4)
        assert line.script.attempts == 1
        changed = structs.replace(line.options, wait_seconds=2.0)
        self.adopt(agent, structs.replace(nice, sources=[changed]))
        session = line.script.session
        line.say(session, 2)
        line.until_stored(agent, 6)
        self.adopt(agent, structs.replace(nice, sources=[]))
        agent.until(session.closed.is_set)
        assert agent.daemon._plant.standings() == {}

    def adopt(self, agent: Agent, config: AgentConfig) -> None:
        """What the loop does with a file that has changed."""
        agent.daemon._adopt(config, changes(agent.daemon._config, config))


def test_a_reading_of_another_tag(line: Line) -> None:
    """A source may tell more than it was asked for."""
    agent, session = line.joined()
    now = agent.clock.now_ns()
    other: Readings = reading("other", 1.0, time_ns=now, arrived_ns=now)
    session.shelf.put(other)
    line.say(session, 1)
    line.until_stored(agent, 1)
