# SPDX-License-Identifier: Apache-2.0
import argparse
import csv
import tomllib
from pathlib import Path

import pytest
from msgspec import structs

from fedmill_agent.cli.simulate import add_arguments
from fedmill_agent.config import load
from fedmill_agent.cutter import cutter_for
from fedmill_agent.sources.live import LiveOptions
from fedmill_coordinator.demo.floor import PROTOCOLS, Protocol, behind, listening
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.recipes import Plan, rig
from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_shared.errors import UsageError

PLAN = rig.plan(0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEveryProtocol:
    def test_configurations_load_and_fit_the_job(self, protocol: Protocol, tmp_path: Path) -> None:
        """Those of the lines and those of the agents; a source for each line, one for ever."""
        floor = behind(PLAN, protocol, tmp_path, 4840)
        layout = Layout.write(tmp_path, floor.plan, 1883)
        for plant in floor.plan.plants:
            config = load(layout.agents[plant.agent])
            assert [source.name for source in config.sources] == ["train", "test", "live"]
            assert [source.split for source in config.sources] == ["train", "test", "live"]
            assert len(config.labels) == 1
            for source in config.sources:
                assert isinstance(source, LiveOptions)
                assert source.run_tag
                cutter_for(floor.plan.job, source)
        lines = sorted((tmp_path / "floor").glob("*.toml"))
        assert len(lines) == 3 * len(PLAN.plants)
        for line in lines:
            assert load(line).agent.id == line.stem

    def test_the_command_is_one_that_the_agent_has(
        self, protocol: Protocol, tmp_path: Path
    ) -> None:
        """With all lines, in the order of their devices' numbers."""
        floor = behind(PLAN, protocol, tmp_path, 4840)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        options = parser.parse_args(floor.command[1:])
        assert floor.command[0] == "simulate"
        assert options.protocol == protocol
        named = [f"{p.agent}-{split}" for p in PLAN.plants for split in ("train", "test", "live")]
        assert [path.stem for path in options.lines] == named

    def test_every_part_has_its_label(self, protocol: Protocol, tmp_path: Path) -> None:
        """By line and number, in the order in which they are played."""
        behind(PLAN, protocol, tmp_path, 4840)
        for plant in PLAN.plants:
            with (tmp_path / "floor" / f"{plant.agent}-labels.csv").open() as file:
                rows = list(csv.DictReader(file))
            for split in ("train", "test", "live"):
                played = tomllib.loads(
                    (tmp_path / "floor" / f"{plant.agent}-{split}.toml").read_text()
                )["sources"]
                told = [row for row in rows if row["unit"] == f"{plant.agent}-{split}"]
                assert [int(row["part"]) for row in told] == list(range(1, len(played) + 1))
                assert [row["class"] for row in told] == [each["fault"] for each in played]


class TestJob:
    def test_agents_wait_for_most_of_their_parts(self, tmp_path: Path) -> None:
        """Training begins once four fifths of the poorest plant's windows are there."""
        floor = behind(PLAN, "opcua", tmp_path, 4840)
        window = PLAN.job.window
        per_part = (2.5 * 12_000 - window.length) // window.stride + 1
        parts = min(
            sum(source.get("split") == "train" for source in plant.sources) for plant in PLAN.plants
        )
        assert floor.plan.job.federation.min_examples == int(0.8 * parts * per_part)
        others = structs.replace(floor.plan.job.federation, min_examples=1)
        assert others == PLAN.job.federation

    def test_recordings_are_longer_by_what_is_lost_at_their_edges(self, tmp_path: Path) -> None:
        """Half a block at either side."""
        behind(PLAN, "modbus", tmp_path, 5020)
        text = (tmp_path / "floor" / "plant-1-train.toml").read_text()
        assert {each["seconds"] for each in tomllib.loads(text)["sources"]} == {3.0}

    def test_other_recordings_than_the_rigs_are_refused(self, tmp_path: Path) -> None:
        """They have no fixed class."""
        plan = Plan(PLAN.job, [Plant("a", [{"kind": "csv", "split": "train", "path": "x"}])])
        with pytest.raises(UsageError, match="built-in rig"):
            behind(plan, "opcua", tmp_path, 4840)


class TestListening:
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            ('{"state": {"jobs": {"j": {}}}, "sources": {"train": {"connections": 1}}}', True),
            ('{"state": {"jobs": {"j": {}}}, "sources": {"train": {"connections": 0}}}', False),
            ('{"state": {"jobs": {}}, "sources": {"train": {"connections": 1}}}', False),
            ("half of", False),
            (None, False),
        ],
    )
    def test_once_all_lines_are_read_for_the_job(
        self, tmp_path: Path, told: str | None, *, expected: bool
    ) -> None:
        """By what agents say of themselves; one that has said nothing yet is not there."""
        good = tmp_path / "good"
        good.mkdir()
        (good / "status.json").write_text(
            '{"pid": 1, "state": {"online": true, "jobs": {"j": {}}}, "sources": {}}'
        )
        other = tmp_path / "other"
        other.mkdir()
        if told is not None:
            (other / "status.json").write_text(told)
        assert listening([good, other]) is expected
