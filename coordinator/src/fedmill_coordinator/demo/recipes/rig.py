# SPDX-License-Identifier: Apache-2.0
"""The built-in rig: four plants with their own machines, each of which has seen some faults."""

from random import Random

from fedmill_coordinator.demo.recipes.plan import Plan, Plant, Source, deal, example, fitted

PLANTS = 4
TRAIN_RUNS, TEST_RUNS = 4, 2
SECONDS = 2.5
LIVE_SPEED = 0.5


def plan(seed: int) -> Plan:
    """Plants with different speed, load, resonance, noise and sensor gain."""
    job = fitted(example("rig"), agents=PLANTS, seed=seed)
    random = Random(seed)
    faults = [name for name in job.labels.classes if name != "normal"]
    hands = deal(faults * 2, PLANTS, random)
    plants = []
    for number, known in enumerate(hands):
        machine = _machine(random)
        agent = f"plant-{number + 1}"
        sources: list[Source] = []
        for fault in job.labels.classes:
            runs = {"train": TRAIN_RUNS if fault in {"normal", *known} else 0, "test": TEST_RUNS}
            sources += [
                _recording(machine, random, agent, fault, f"{split}-{run + 1}")
                for split, count in runs.items()
                for run in range(count)
            ]
        live = _recording(machine, random, agent, hands[number - 1][0], "live-1")
        sources.append(live | {"speed": LIVE_SPEED, "repeat": True})
        plants.append(Plant(agent, sources))
    return Plan(job, plants)


def _machine(random: Random) -> Source:
    return {
        "speed_rpm": round(random.uniform(1600, 2000)),
        "load": round(random.uniform(0.7, 1.3), 3),
        "resonance_hz": [round(random.uniform(2500, 3100)), round(random.uniform(3800, 4500))],
        "noise_g": round(random.uniform(0.04, 0.08), 3),
        "sensor_gain": round(random.uniform(0.85, 1.15), 3),
    }


def _recording(machine: Source, random: Random, agent: str, fault: str, part: str) -> Source:
    name = f"{fault}-{part}"
    return {
        "kind": "rig",
        "name": name,
        "split": part.split("-", maxsplit=1)[0],
        "fault": fault,
        "severity": round(random.uniform(0.7, 1.6), 3),
        "seconds": SECONDS,
        "seed": random.randrange(2**31),
        "run": name,
        "unit": f"{agent}-{name}",
        **machine,
    }
