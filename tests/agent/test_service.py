# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells of itself, and when a start counts as good."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.kit import Journal
from tests.agent.whole import Plant, joined

from fedmill_agent.background import STUCK_SECONDS
from fedmill_agent.changes import Change
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.service import GOOD_SECONDS, Service, in_words
from fedmill_agent.sources.state import Standing
from fedmill_agent.starts import STARTS_FILE, StartRecord, Starts
from fedmill_shared.clock import ManualClock
from fedmill_shared.messages import AgentState, JobPhase


class TestWords:
    @pytest.mark.parametrize(
        ("jobs", "connected", "words"),
        [
            ({}, False, "no job yet; broker not connected"),
            ({"press": "a" * 64}, True, "1 job: press (joined, model aaaaaaaa); broker connected"),
            ({"press": ""}, True, "1 job: press (joined, model none yet); broker connected"),
        ],
    )
    def test_for_people(self, jobs: dict[str, str], words: str, *, connected: bool) -> None:
        """Jobs with their models, and the broker."""
        phases = {name: JobPhase(phase="joined", version=each) for name, each in jobs.items()}
        assert in_words(AgentState(online=True, jobs=phases), {}, connected=connected) == words

    def test_many_jobs_and_sources(self) -> None:
        """They are counted."""
        phases = {f"job{number}": JobPhase(phase="joined") for number in range(5)}
        sources = {
            "a": Standing(phase="running"),
            "b": Standing(phase="running"),
            "c": Standing(phase="waiting"),
        }
        words = in_words(AgentState(online=True, jobs=phases), sources, connected=True)
        assert words.startswith("5 jobs: job0 (joined, model none yet), ")
        assert "job2 (joined, model none yet) and 2 more; sources: 2 running, 1 waiting" in words


class TestGood:
    def _service(self, folder: Path) -> tuple[Service, ManualClock]:
        clock, journal = ManualClock(), Journal()
        (folder / "agent.toml").touch()
        starts = Starts(folder, folder / "agent.toml", journal)
        return Service(clock, journal, starts=starts), clock

    def _running(self, folder: Path) -> bool:
        data = (folder / STARTS_FILE).read_bytes()
        return msgspec.json.decode(data, type=StartRecord).running

    def test_after_some_minutes(self, tmp_path: Path) -> None:
        """Not before, and not while something hangs."""
        service, clock = self._service(tmp_path)
        late: dict[str, float] = {}
        service.turn(str, lambda: late)
        service.begin()
        clock.advance(GOOD_SECONDS - 1)
        service.turn(str, lambda: late)
        assert self._running(tmp_path)
        late = {"link": 3.0}
        clock.advance(2)
        service.turn(str, lambda: late)
        assert self._running(tmp_path)
        late = {}
        service.turn(str, lambda: late)
        assert not self._running(tmp_path)


class TestDaemon:
    def test_it_advances_as_a_whole(self, plant: Plant) -> None:
        """The daemon says what it does, and which of its threads hang."""
        agent = plant.agent()
        agent.run()
        assert "broker" in agent.daemon._words()
        assert agent.daemon._late() == {}
        agent.link.late = 7.0
        agent.daemon._background._pulse.beat(rest=-STUCK_SECONDS)
        agent.clock.advance(3.0)
        late = {name: round(each) for name, each in agent.daemon._late().items()}
        assert late == {"link": 7, "background": 3}

    def test_what_brings_labels_may_hang(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told apart from a source of the same name."""
        agent = plant.agent()
        monkeypatch.setattr(LabelDesk, "late", lambda _: {"lab": 4.0})
        assert agent.daemon._late() == {"labels lab": 4.0}

    def test_it_advances_before_each_store_is_opened(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a job that comes, is changed, or is taken up anew: stores of some GB take a minute."""
        steps: list[int] = []
        monkeypatch.setattr(Service, "step", lambda _: steps.append(1))
        agent, _ = joined(plant)
        assert len(steps) == 1
        agent.daemon._adopt(agent.daemon._config, [Change("store.max_bytes")])
        assert len(steps) == 2

    def test_it_is_told_at_each_turn(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where an event fails."""
        agent = plant.agent()
        turns: list[Any] = []
        monkeypatch.setattr(agent.daemon._service, "turn", lambda *what: turns.append(what))
        agent.daemon.step(0.0)
        agent.daemon.step(0.0)
        assert len(turns) == 2
