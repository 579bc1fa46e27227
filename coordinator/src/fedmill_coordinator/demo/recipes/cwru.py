# SPDX-License-Identifier: Apache-2.0
"""CWRU bearing recordings ``<fault>_<load>.mat``: a load is a plant's machine.

There is one recording of each fault and load, so it is divided by time: the first part trains,
the last is held out, with a gap between them. An agent trains on some faults of its load and holds
out the last part of all of them.
"""

import re
from collections import defaultdict
from pathlib import Path
from random import Random

from fedmill_coordinator.demo.recipes.plan import Plan, Plant, Source, deal, example, fitted
from fedmill_shared.errors import DataError

AGENTS = 4
TRAIN_END, TEST_BEGIN = 0.6, 0.75
HEALTHY = re.compile(r"normal", re.IGNORECASE)
HEALTHY_RATE_HZ = 48_000
LIVE_SPEED = 0.5
_NAME = re.compile(r"^(?P<fault>.+)_(?P<load>\d+)$")


def recognises(folder: Path) -> bool:
    """Whether there are MATLAB files."""
    return next(folder.rglob("*.mat"), None) is not None


def plan(folder: Path, seed: int) -> Plan:
    """At least two agents for each load, at least four in all.

    Raises:
        DataError: a file name does not tell fault and load, or there are too few faults.
    """
    loads = _recordings(folder)
    classes = sorted({fault for files in loads.values() for fault in files})
    per_load = max(2, -(-AGENTS // len(loads)))
    job = fitted(example("cwru"), agents=per_load * len(loads), seed=seed, classes=classes)
    random = Random(seed)
    plants = []
    for load, files in sorted(loads.items()):
        faults = [fault for fault in files if not HEALTHY.search(fault)]
        if len(faults) < per_load:
            raise DataError(
                f"{folder}: load {load} has {len(faults)} faults for {per_load} agents",
                remedy="give recordings of more faults at this load",
            )
        for number, known in enumerate(deal(sorted(faults), per_load, random)):
            agent = f"load-{load}-{chr(ord('a') + number)}"
            plants.append(Plant(agent, _sources(files, {*known, *(files.keys() - set(faults))})))
    return Plan(job, plants)


def _sources(files: dict[str, Path], known: set[str]) -> list[Source]:
    sources: list[Source] = []
    for fault, path in sorted(files.items()):
        whole = _recording(fault, path)
        if fault in known:
            train = {"name": f"{path.stem}-train", "split": "train", "end": TRAIN_END}
            sources.append(whole | train)
        held_out = {"name": f"{path.stem}-test", "split": "test", "begin": TEST_BEGIN}
        sources.append(whole | held_out)
    unknown = min(files.keys() - known, default=min(files))
    live = {"name": "live", "split": "live", "begin": TEST_BEGIN}
    stream = {"speed": LIVE_SPEED, "repeat": True}
    return [*sources, _recording(unknown, files[unknown]) | live | stream]


def _recording(fault: str, path: Path) -> Source:
    recording: Source = {"kind": "mat", "path": str(path), "label": fault, "unit": path.stem}
    if HEALTHY.search(fault):
        recording["rate_hz"] = HEALTHY_RATE_HZ
    return recording


def _recordings(folder: Path) -> dict[str, dict[str, Path]]:
    """Files by load and fault."""
    loads: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*.mat")):
        name = _NAME.match(path.stem)
        if name is None:
            raise DataError(
                f"{path}: the name does not tell fault and motor load",
                remedy="name it <fault>_<load>.mat, such as IR007_0.mat",
            )
        loads[name["load"]][name["fault"]] = path
    return loads
