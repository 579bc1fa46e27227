# SPDX-License-Identifier: Apache-2.0
"""Training that starts, makes way and goes on as the machine allows."""

from typing import Any

import pytest
from tests.agent.kit import Journal
from tests.agent.whole import Dial, Plant, Trainer, joined, open_round, stand_in

from fedmill_agent.config import TrainingSection
from fedmill_agent.governor import INTERVAL
from fedmill_agent.training import governed, protocol
from fedmill_shared.clock import Clock, ManualClock


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
        agent.daemon._heartbeat.beat()
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


class Process:
    """Stands in for the training process, and is told what to do."""

    pid = 4711

    def __init__(self, _settings: TrainingSection, sink: Any, _clock: Clock) -> None:
        self.sink = sink
        self.done: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *what: self.done.append((name, *what))

    def hold(self, *, wanted: bool) -> str:
        """It always has work in hand."""
        self.done.append(("hold", wanted))
        return "paused" if wanted else "resumed"


class Workshop:
    """A governed trainer, and who hears of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in(monkeypatch, Trainer)
        monkeypatch.setattr(governed, "TrainerProcess", Process)
        self.clock, self.journal, self.turns = ManualClock(), Journal(), 0
        settings = TrainingSection(max_cpu_percent=80.0)
        self.trainer = governed.GovernedTrainer(
            settings, self.turn, self.clock, self.journal, turned=self.turn
        )
        self.process: Any = self.trainer._process

    def turn(self, *_: object) -> None:
        """Leave to train came or went."""
        self.turns += 1

    def look(self) -> None:
        """Once, when that is due."""
        self.clock.advance(INTERVAL)
        self.trainer.look()


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """On an idle machine."""
    return Workshop(monkeypatch)


class TestLook:
    def test_comes_no_sooner_than_its_interval(self, workshop: Workshop) -> None:
        """The loop turns ten times a second."""
        for _ in range(50):
            workshop.trainer.look()
            workshop.clock.advance(INTERVAL / 10)
        assert workshop.process.done.count(("hold", False)) == 5

    def test_leave_that_comes_and_goes_is_told_once_each(self, workshop: Workshop) -> None:
        """Its numbers change all the time."""
        for percent in (99.0, 98.0, 97.0, 1.0, 2.0):
            Dial.turn(cpu_percent=percent)
            workshop.look()
            assert bool(workshop.trainer.obstacle()) == (percent > 80)
        assert workshop.turns == 2
        assert len(workshop.journal.of("training.held")) == 1
        assert len(workshop.journal.of("training.allowed")) == 1

    def test_other_limits_count_from_the_next_one_on(self, workshop: Workshop) -> None:
        """And the process has them too."""
        Dial.turn(cpu_percent=70.0)
        workshop.look()
        assert workshop.trainer.obstacle() == ""
        settings = TrainingSection(max_cpu_percent=50.0)
        workshop.trainer.adopt(settings)
        assert ("adopt", settings) in workshop.process.done
        workshop.look()
        assert "at most 50 %" in workshop.trainer.obstacle()


class TestProcess:
    def test_it_gets_what_is_for_it(self, workshop: Workshop) -> None:
        """Work, time and an end."""
        request: Any = object()
        workshop.trainer.submit(request)
        workshop.trainer.tick()
        workshop.trainer.stop()
        assert workshop.process.done == [("submit", request), ("tick",), ("stop",)]
        assert workshop.trainer.pid == 4711
