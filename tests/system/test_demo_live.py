# SPDX-License-Identifier: Apache-2.0
"""A whole federation whose machines speak a protocol of the plant, and whose labels come as a list.

Device, server, source, grid, parts, labels, windows, rounds, model, scores: all of it is real.
"""

from pathlib import Path

import pytest
from msgspec import structs

from fedmill_agent.status import read_status
from fedmill_coordinator.demo.floor import PROTOCOLS, Protocol
from fedmill_coordinator.demo.recipes import Plan, rig
from fedmill_coordinator.demo.recipes.plan import Plant, Source
from fedmill_coordinator.demo.run import run_demo
from fedmill_coordinator.demo.watch import LogView
from fedmill_shared.log import get_logger

ROUNDS = 2
CLASSES = ("normal", "outer")


def small() -> Plan:
    """Two plants; each has one recording of two classes to learn from, and one to test with."""
    whole = rig.plan(0)
    plants = [Plant(plant.agent, _few(plant)) for plant in whole.plants[:2]]
    job = whole.job
    federation = structs.replace(job.federation, rounds=ROUNDS, goal=2, minimum=2)
    labels = structs.replace(job.labels, classes=list(CLASSES))
    return Plan(structs.replace(job, federation=federation, labels=labels), plants)


def _few(plant: Plant) -> list[Source]:
    recording = next(each for each in plant.sources if each.get("split") == "train")
    return [
        recording | {"name": f"{fault}-{split}", "fault": fault, "split": split, "seconds": 1.5}
        for split in ("train", "test")
        for fault in CLASSES
    ]


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_device_to_the_model(protocol: Protocol, tmp_path: Path) -> None:
    """Windows of every part are learned from, held out and scored, with the class of its part."""
    plan = small()
    report = run_demo(
        "rig", plan, tmp_path, LogView(get_logger()), lambda: False, protocol=protocol
    )
    assert report.rounds == ROUNDS
    window = plan.job.window
    per_part = (1.5 * 12_000 - window.length) // window.stride
    assert report.overall.windows == pytest.approx(2 * 2 * per_part, rel=0.2)
    assert {row.agent for row in report.agents} == {"plant-1", "plant-2"}
    assert Path(report.artifacts.onnx).stat().st_size > 10_000
    for plant in plan.plants:
        status = read_status(tmp_path / "agents" / plant.agent / "state")
        assert set(status.sources) == {"train", "test"}
        for standing in status.sources.values():
            assert standing.phase == "running"
            assert standing.connections >= 1
            assert not standing.bad
