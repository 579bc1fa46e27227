# SPDX-License-Identifier: Apache-2.0
from msgspec import structs

from fedmill_agent.changes import RESTART, Change, adopted, changes, touches
from fedmill_agent.config import (
    AgentConfig,
    AgentSection,
    BrokerSection,
    StoreSection,
    TrainingSection,
)
from fedmill_agent.sources.rig import RigOptions

PRESS = RigOptions(name="press-4", seed=1)
OLD = AgentConfig(agent=AgentSection(id="a"), sources=[PRESS, RigOptions(name="lathe")])


class TestChanges:
    def test_of_equal_configurations_there_are_none(self) -> None:
        """Whatever object they are."""
        assert changes(OLD, structs.replace(OLD, sources=list(OLD.sources))) == []

    def test_every_field_is_named(self) -> None:
        """With what needs a restart."""
        new = structs.replace(
            OLD,
            agent=AgentSection(id="b", labels={"line": "A"}),
            broker=BrokerSection(port=1884),
            training=TrainingSection(nice=5),
            store=StoreSection(max_age_days=3.0),
        )
        assert changes(OLD, new) == [
            Change("agent.id", restart=True),
            Change("agent.labels"),
            Change("broker.port", restart=True),
            Change("training.nice"),
            Change("store.max_age_days"),
        ]

    def test_sources_by_name_not_by_place(self) -> None:
        """Another order is no change; one that went, one that came, one that differs."""
        lathe = OLD.sources[1]
        assert changes(OLD, structs.replace(OLD, sources=[lathe, PRESS])) == []
        changed = RigOptions(name="press-4", seed=2)
        new = structs.replace(OLD, sources=[changed, RigOptions(name="mill")])
        assert changes(OLD, new) == [
            Change("sources.press-4"),
            Change("sources.lathe", "removed"),
            Change("sources.mill", "added"),
        ]

    def test_restart_names_fields_that_there_are(self) -> None:
        """A renamed field would silently be taken while running."""
        for name in RESTART:
            section, _, field = name.partition(".")
            assert field in getattr(OLD, section).__struct_fields__


class TestAdopted:
    def test_what_needs_a_restart_stays(self) -> None:
        """The rest is new."""
        new = structs.replace(
            OLD,
            agent=AgentSection(id="b", labels={"line": "A"}),
            broker=BrokerSection(host="other"),
            training=TrainingSection(nice=5),
        )
        taken = adopted(OLD, new)
        assert taken.agent == AgentSection(id="a", labels={"line": "A"})
        assert taken.broker == OLD.broker
        assert taken.training.nice == 5
        assert all(each.restart for each in changes(taken, new))


class TestTouches:
    def test_by_section_or_field(self) -> None:
        """What needs a restart touches nothing."""
        found = [Change("training.nice"), Change("broker.port", restart=True)]
        assert touches(found, "training")
        assert touches(found, "store", "training.nice")
        assert not touches(found, "broker")
        assert not touches(found, "train")
