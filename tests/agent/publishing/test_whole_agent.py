# SPDX-License-Identifier: Apache-2.0
"""A whole agent tells others what its model said, if its configuration wants that."""

import json
import sys
from typing import Any

import pytest
from msgspec import structs
from tests.agent.whole import Agent, Plant, joined

from fedmill_agent.changes import changes
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.publishing.stream import REFUSED_SECONDS
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.link.rejections import TOLD_SECONDS

TOPIC = "fedmill/v1/a/out/prediction/press"


class Scada:
    """Another system of the plant."""

    def __init__(self, plant: Plant) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.link = MemoryLink(plant.coordinator.broker, ["fedmill/v1/+/out/#"], self._hear)
        self.link.start()

    def _hear(self, event: Any) -> None:
        if hasattr(event, "payload"):
            self.heard.append((event.topic, json.loads(event.payload)))


@pytest.fixture
def plant(plant: Plant) -> Plant:
    """A plant whose agent has a version already, and is stopped."""
    agent, _ = joined(plant)
    plant.stop(agent)
    return plant


def again(plant: Plant, **inference: Any) -> Agent:
    """The agent starts once more; its recording is scored as it is replayed."""
    agent = plant.agent(inference=InferenceSection(**inference))
    agent.until(lambda: agent.word().jobs["press"].windows_scored == 12)
    agent.run()
    return agent


class TestPublishing:
    def test_every_prediction_is_told(self, plant: Plant) -> None:
        """In the order of the windows, by the version that serves."""
        scada = Scada(plant)
        agent = again(plant, publish="all")
        assert [topic for topic, _ in scada.heard] == [TOPIC] * 12
        with WindowReader(next(agent.state.glob("jobs/press/windows-*.sqlite"))) as store:
            stored = store.predictions()
            assert store.publication("predictions") == (12, 0)
        assert [(told["run"], told["time_ns"]) for _, told in scada.heard] == [
            (each.run, each.end_ns) for each in stored
        ]
        assert {told["version"] for _, told in scada.heard} == {stored[0].version}
        assert {told["class"] for _, told in scada.heard} <= {"good", "worn"}

    @pytest.mark.parametrize("publish", ["off", "alarms"])
    def test_nothing_that_nobody_wants(self, plant: Plant, publish: str) -> None:
        """Neither is it told, nor is it remembered to be told."""
        scada = Scada(plant)
        agent = again(plant, publish=publish)
        assert scada.heard == []
        with WindowReader(next(agent.state.glob("jobs/press/windows-*.sqlite"))) as store:
            assert store.publication("predictions")[0] is None
            assert (store.publication("alarms")[0] is None) == (publish == "off")

    def test_without_a_broker_it_waits(self, plant: Plant) -> None:
        """It is told when the agent is back, also after another start of the agent."""
        scada = Scada(plant)
        agent = plant.agent(online=False, inference=InferenceSection(publish="all"))
        agent.until(lambda: agent.word().jobs["press"].windows_scored == 12)
        agent.run()
        assert scada.heard == []
        plant.stop(agent)
        agent = plant.agent(inference=InferenceSection(publish="all"))
        agent.run()
        assert len(scada.heard) == 12

    def test_a_broker_that_refuses_them_gets_them_later(self, plant: Plant) -> None:
        """All of them, once it takes them; rounds and the state go on meanwhile."""
        scada = Scada(plant)
        broker = plant.coordinator.broker
        broker.forbidden = ["fedmill/v1/+/out/#"]
        agent = again(plant, publish="all")
        assert scada.heard == []
        [told] = agent.journal.of("publication.refused")
        assert (told["topic"], told["kind"]) == (TOPIC, "prediction")
        assert agent.journal.of("broker.refused") == []
        assert agent.status().connected
        broker.forbidden = []
        agent.clock.advance(REFUSED_SECONDS)
        agent.until(lambda: len(scada.heard) == 12)
        agent.run()
        assert len({told["id"] for _, told in scada.heard}) == len(scada.heard) == 12
        assert len(agent.journal.of("publication.resumed")) == 1

    def test_a_broker_that_refuses_the_protocol(self, plant: Plant) -> None:
        """It is told, each minute anew, and what others are told goes out all the same."""
        scada = Scada(plant)
        plant.coordinator.broker.forbidden = ["fedmill/v1/+/up/#"]
        agent = again(plant, publish="all")
        [told, *more] = agent.journal.of("broker.refused")
        assert told["topic"].startswith("fedmill/v1/a/up/")
        assert len(scada.heard) == 12
        agent.clock.advance(TOLD_SECONDS)
        agent.until(lambda: len(agent.journal.of("broker.refused")) > 1 + len(more))

    def test_it_can_be_switched_on_while_the_agent_works(self, plant: Plant) -> None:
        """What was made before is not told."""
        scada = Scada(plant)
        agent = again(plant)
        old = agent.daemon._config
        new = structs.replace(old, inference=InferenceSection(publish="all"))
        agent.daemon._adopt(new, changes(old, new))
        agent.run()
        assert scada.heard == []
        assert agent.daemon._outlet is not None
        assert agent.daemon._outlet.share == 8
        old, new = new, old
        agent.daemon._adopt(new, changes(old, new))
        agent.run()
        assert agent.seat()._work.equipment.tellers == []


def test_agents_that_publish_nothing_do_not_import_it(plant: Plant) -> None:
    """A gateway has no memory for what it does not use."""
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if "publishing" in name}
    try:
        again(plant)
        assert not [name for name in sys.modules if name.startswith("fedmill_agent.publishing")]
    finally:
        sys.modules.update(loaded)
