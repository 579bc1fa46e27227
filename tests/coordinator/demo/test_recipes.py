# SPDX-License-Identifier: Apache-2.0
"""Recipes: every folder of recordings becomes a fair federation, or an error that says why not."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.config import load as load_agent
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import LabelInterval, Samples
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.recipes import Plan, Plant, plan_for
from fedmill_coordinator.demo.recipes.plan import deal, example, fitted
from fedmill_shared.errors import DataError
from fedmill_shared.job_check import check, load_job

Make = Callable[..., Path]


def of(plant: Plant, split: str, field: str = "label") -> list[object]:
    """What a plant's sources of one split have in a field."""
    name = "fault" if field == "label" and plant.sources[0]["kind"] == "rig" else field
    return [source[name] for source in plant.sources if source["split"] == split]


def labels(plan: Plan, split: str) -> list[set[object]]:
    """The classes of each plant in one split."""
    return [set(of(plant, split)) for plant in plan.plants]


def read_all(plan: Plan, folder: Path) -> list[list[object]]:
    """The first events of every source of every plant, read as its agent would."""
    layout = Layout.write(folder, plan, 1883)
    job = load_job(layout.job)
    tags = [signal.tag or signal.name for signal in job.signals]
    found = []
    for path in layout.agents.values():
        for source in load_agent(path).sources:
            events = list(kind_of(source).read(source, tags, job.signals[0].rate_hz))
            assert any(isinstance(event, Samples) for event in events)
            assert any(isinstance(event, LabelInterval) for event in events)
            found.append(events)
    return found


class TestChoice:
    """Which recipe a folder calls for."""

    def test_without_data_the_rig(self) -> None:
        """It needs no files."""
        name, plan = plan_for(None, 0)
        assert name == "rig"
        assert len(plan.plants) == 4

    def test_by_file_names(self, cwru: Make, cmapss: Make, tep: Make) -> None:
        """Also in folders below."""
        folders = {"cwru": cwru(), "cmapss": cmapss(), "tep": tep(range(6))}
        assert {name: plan_for(folder, 0)[0] for name, folder in folders.items()} == {
            name: name for name in folders
        }

    def test_an_unknown_format(self, tmp_path: Path) -> None:
        """What would be known is named."""
        (tmp_path / "data.csv").write_text("1,2\n")
        with pytest.raises(DataError, match=r"no recordings in a format .*train_\*\.txt"):
            plan_for(tmp_path, 0)

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        """Named; a file is no folder either."""
        (tmp_path / "file").touch()
        for name in ("none", "file"):
            with pytest.raises(DataError, match=f"{name}: no such folder"):
                plan_for(tmp_path / name, 0)

    @pytest.mark.parametrize("kind", ["rig", "cwru", "cmapss", "tep"])
    def test_the_seed_decides_everything(
        self, kind: str, cwru: Make, cmapss: Make, tep: Make
    ) -> None:
        """Twice the same seed is the same federation, another is another, also by name."""
        folders = {"cwru": cwru, "cmapss": cmapss, "tep": lambda: tep(range(9))}
        folder = folders[kind]() if kind in folders else None
        assert plan_for(folder, 3) == plan_for(folder, 3)
        plans = [plan_for(folder, seed)[1] for seed in range(4)]
        assert len({plan.job.name for plan in plans}) == 4
        assert any(plan.plants != plans[0].plants for plan in plans[1:])


class TestCwru:
    """Bearing recordings: a load is a plant's machine, divided by time."""

    @pytest.mark.parametrize(
        ("loads", "agents"),
        [((0, 1), 4), ((2, 3), 4), ((2,), 4), ((0, 1, 2), 6), ((0, 1, 2, 3), 8)],
    )
    def test_loads(self, cwru: Make, loads: Sequence[int], agents: int) -> None:
        """Whatever loads there are: at least four agents, two for each load."""
        plan = plan_for(cwru(loads), 0)[1]
        assert len(plan.plants) == agents == plan.job.federation.goal
        assert {plant.agent.rsplit("-", 1)[0] for plant in plan.plants} == {
            f"load-{load}" for load in loads
        }
        check(plan.job)

    def test_every_class_is_known_by_someone(self, cwru: Make) -> None:
        """At each load the faults are dealt out; all know what healthy is."""
        plan = plan_for(cwru((2, 3)), 1)[1]
        everything = {"B007", "B014", "IR007", "IR014", "OR007@6", "Normal"}
        known = labels(plan, "train")
        for half in (known[:2], known[2:]):
            assert set.union(*half) == everything
            assert set.intersection(*half) == {"Normal"}
        assert plan.job.labels.classes == sorted(everything)

    def test_everything_of_the_load_is_held_out(self, cwru: Make) -> None:
        """The last quarter of every recording, a gap after the part that trains."""
        plan = plan_for(cwru(), 0)[1]
        assert all(held == set(plan.job.labels.classes) for held in labels(plan, "test"))
        for plant in plan.plants:
            assert set(of(plant, "train", "end")) == {0.6}
            assert set(of(plant, "test", "begin")) == {0.75}
            load = plant.agent.split("-")[1]
            paths = {Path(str(source["path"])).stem for source in plant.sources}
            assert all(path.endswith(f"_{load}") for path in paths)

    def test_the_live_stream_is_of_something_unknown(self, cwru: Make) -> None:
        """It shows what the federation is for; its samples have the rate of their own file."""
        plan = plan_for(cwru(), 0)[1]
        for plant, known in zip(plan.plants, labels(plan, "train"), strict=True):
            [live] = [source for source in plant.sources if source["split"] == "live"]
            assert live["label"] not in known
            assert live["unit"] == Path(str(live["path"])).stem
            assert live["repeat"] is True

    def test_the_healthy_recording_has_a_rate_of_its_own(self, cwru: Make) -> None:
        """48 kHz, whatever stands first in the alphabet."""
        plan = plan_for(cwru(faults=["ball", "inner", "outer", "race"], healthy="NORMAL"), 0)[1]
        for plant in plan.plants:
            for source in plant.sources:
                assert source.get("rate_hz") == (48_000 if source["label"] == "NORMAL" else None)

    def test_without_healthy_recordings(self, cwru: Make) -> None:
        """Then it is only the faults that are told apart."""
        plan = plan_for(cwru(healthy=""), 0)[1]
        assert "Normal" not in plan.job.labels.classes
        assert all(labels(plan, "train"))
        assert all(held == set(plan.job.labels.classes) for held in labels(plan, "test"))

    def test_too_few_faults(self, cwru: Make) -> None:
        """The load is named."""
        with pytest.raises(DataError, match="load 3 has 1 faults for 4 agents"):
            plan_for(cwru([3], faults=["B007"]), 0)

    def test_a_name_that_tells_nothing(self, cwru: Make) -> None:
        """The file is named, and how it should be called."""
        folder = cwru()
        (folder / "118.mat").touch()
        with pytest.raises(DataError, match=r"118\.mat: .* not tell .*IR007_0\.mat"):
            plan_for(folder, 0)

    def test_agents_can_read_it(self, cwru: Make, tmp_path: Path) -> None:
        """Every source of the plan gives samples and a label."""
        plan = plan_for(cwru([2]), 0)[1]
        found = read_all(plan, tmp_path / "demo")
        assert len(found) == sum(len(plant.sources) for plant in plan.plants)


class TestCmapss:
    """Engines, dealt to ten agents."""

    @pytest.mark.parametrize("name", ["FD001", "FD002", "FD004"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_sets(self, cmapss: Make, name: str, *, zipped: bool) -> None:
        """Any of the sets, compressed or not."""
        plan = plan_for(cmapss(name, zipped=zipped), 0)[1]
        assert len(plan.plants) == 10
        end = ".txt.gz" if zipped else ".txt"
        for plant in plan.plants:
            assert Path(str(of(plant, "train", "path")[0])).name == f"train_{name}{end}"
            assert Path(str(of(plant, "test", "path")[0])).name == f"test_{name}{end}"
            assert Path(str(of(plant, "test", "truth")[0])).name == f"RUL_{name}.txt"

    def test_no_engine_is_at_two_plants(self, cmapss: Make) -> None:
        """Training and test engines are each dealt out whole, without a rest."""
        plan = plan_for(cmapss(engines=33), 5)[1]
        for split in ("train", "test"):
            hands = [of(plant, split, "engines")[0] for plant in plan.plants]
            assert sorted(chain.from_iterable(hands)) == list(range(1, 34))
            assert {len(hand) for hand in hands} == {3, 4}

    def test_the_first_set_of_several(self, cmapss: Make) -> None:
        """FD001 before FD003: a demo is of one set."""
        cmapss("FD003")
        plan = plan_for(cmapss("FD001"), 0)[1]
        assert {path for plant in plan.plants for path in of(plant, "train", "path")} == {
            str(cmapss("FD001") / "train_FD001.txt.gz")
        }

    @pytest.mark.parametrize("missing", ["RUL_FD001.txt", "test_FD001.txt.gz"])
    def test_a_missing_part(self, cmapss: Make, missing: str) -> None:
        """It is named, and what it belongs to."""
        folder = cmapss()
        (folder / missing).unlink()
        with pytest.raises(DataError, match=rf"{missing}: missing \(it belongs to train_FD001"):
            plan_for(folder, 0)

    def test_too_few_engines(self, cmapss: Make) -> None:
        """Ten agents need ten engines."""
        with pytest.raises(DataError, match="fewer engines than 10 agents"):
            plan_for(cmapss(engines=9), 0)

    @pytest.mark.parametrize("content", [b"unit cycle s1\n", b"\x1f\x8b broken", b"\xff\xfe1 2"])
    def test_a_file_that_is_something_else(self, cmapss: Make, content: bytes) -> None:
        """Recognised by name, refused by content."""
        folder = cmapss(zipped=False)
        (folder / "train_FD001.txt").write_bytes(content)
        with pytest.raises(DataError, match="is no C-MAPSS file"):
            plan_for(folder, 0)

    @pytest.mark.parametrize("place", [5, 12, 60])
    def test_a_damaged_archive(self, cmapss: Make, place: int) -> None:
        """Whatever the decompression finds wrong."""
        folder = cmapss()
        path = folder / "train_FD001.txt.gz"
        data = bytearray(path.read_bytes())
        data[place:] = b"\xff" * 40
        path.write_bytes(data)
        with pytest.raises(DataError, match="is no C-MAPSS file"):
            plan_for(folder, 0)

    def test_agents_can_read_it(self, cmapss: Make, tmp_path: Path) -> None:
        """Every engine gives samples and its remaining life."""
        found = read_all(plan_for(cmapss(), 0)[1], tmp_path / "demo")
        assert len(found) == 30


class TestTep:
    """Four plants with a few faults each."""

    @pytest.mark.parametrize("states", [range(12), [0, *range(12, 22)], range(1, 6)])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_states(self, tep: Make, states: Sequence[int], *, zipped: bool) -> None:
        """Any faults, with and without normal operation, compressed or not."""
        plan = plan_for(tep(states, zipped=zipped), 0)[1]
        classes = ["normal" if state == 0 else f"fault{state:02d}" for state in states]
        assert plan.job.labels.classes == classes
        known = labels(plan, "train")
        assert set.union(*known) == set(classes)
        assert set.intersection(*known) == set(classes) & {"normal"}
        assert all(held == set(classes) for held in labels(plan, "test"))
        check(plan.job)

    def test_each_plant_holds_out_rows_of_its_own(self, tep: Make) -> None:
        """Stretches of a test file do not overlap, and a fault's begin after its onset."""
        plan = plan_for(tep(range(5)), 0)[1]
        for state in range(5):
            name = f"d{state:02d}_te-test"
            rows = [
                (source["first_row"], source["last_row"])
                for plant in plan.plants
                for source in plant.sources
                if source["name"] == name
            ]
            first = 1 if state == 0 else 161
            share = (960 - first + 1) // 4
            assert rows == [(first + i * share, first + (i + 1) * share - 1) for i in range(4)]

    def test_the_live_stream_is_of_something_unknown(self, tep: Make) -> None:
        """A fault that the plant has never seen, after its onset."""
        plan = plan_for(tep(range(8)), 0)[1]
        for plant, known in zip(plan.plants, labels(plan, "train"), strict=True):
            [live] = [source for source in plant.sources if source["split"] == "live"]
            assert live["label"] not in known
            assert live["first_row"] == 161

    def test_a_missing_test_file(self, tep: Make) -> None:
        """It is named."""
        folder = tep(range(6))
        (folder / "d03_te.dat").unlink()
        with pytest.raises(DataError, match=r"d03\.dat: its test file d03_te\.dat is missing"):
            plan_for(folder, 0)

    def test_too_few_faults(self, tep: Make) -> None:
        """Four plants need four."""
        with pytest.raises(DataError, match="3 faults for 4 plants"):
            plan_for(tep(range(4)), 0)

    def test_agents_can_read_it(self, tep: Make, tmp_path: Path) -> None:
        """Every source gives samples and a label."""
        assert read_all(plan_for(tep(range(5), whole=True), 0)[1], tmp_path / "demo")


class TestRig:
    """The built-in simulator."""

    @pytest.mark.parametrize("seed", range(8))
    def test_every_class_is_known_by_someone(self, seed: int) -> None:
        """All hold out all classes; all know what normal is; nobody knows everything."""
        plan = plan_for(None, seed)[1]
        classes = set(plan.job.labels.classes)
        known = labels(plan, "train")
        assert set.union(*known) == classes
        assert set.intersection(*known) >= {"normal"}
        assert all(each < classes for each in known)
        assert labels(plan, "test") == [classes] * 4

    def test_every_recording_is_another(self) -> None:
        """No seed is used twice, so no held-out recording was trained on; names are unique."""
        plan = plan_for(None, 0)[1]
        seeds = [source["seed"] for plant in plan.plants for source in plant.sources]
        assert len(seeds) == len(set(seeds))
        for plant in plan.plants:
            names = [source["name"] for source in plant.sources]
            assert len(names) == len(set(names))


class TestParts:
    """What recipes are made of."""

    @given(st.lists(st.integers(), max_size=40), st.integers(1, 12), st.integers())
    def test_dealing(self, items: list[int], hands: int, seed: int) -> None:
        """Every card to one hand, none left, and hands differ by at most one card."""
        dealt = deal(items, hands, Random(seed))
        assert sorted(chain.from_iterable(dealt)) == sorted(items)
        sizes = [len(hand) for hand in dealt]
        assert max(sizes) - min(sizes) <= 1
        assert dealt == deal(items, hands, Random(seed))

    def test_fitted(self) -> None:
        """The job gets the fleet's size and the seed; the classes only if there are others."""
        job = example("rig")
        one = fitted(job, agents=7, seed=3)
        assert (one.name, one.federation.goal, one.federation.minimum) == ("bearing-rig-3", 7, 3)
        assert one.labels == job.labels
        assert fitted(job, agents=1, seed=0, classes=["a", "b"]).labels.classes == ["a", "b"]
        check(fitted(job, agents=1, seed=2**32 - 1))

    def test_an_example_that_is_not_there(self) -> None:
        """The installation is at fault."""
        with pytest.raises(DataError, match=r"none\.toml is not installed"):
            example("none")


@pytest.mark.data
class TestRealData:
    """The recordings themselves."""

    @pytest.mark.parametrize(("name", "agents"), [("cwru", 4), ("cmapss", 10), ("tep", 4)])
    def test_plans(self, name: str, agents: int, data_folder: Path) -> None:
        """Each folder is recognised, and its classes are those of the example."""
        found, plan = plan_for(data_folder / name, 0)
        assert (found, len(plan.plants)) == (name, agents)
        assert plan.job.labels == example(name).labels
