# SPDX-License-Identifier: Apache-2.0
"""Tennessee Eastman: four plants, each of which has seen normal operation and a few faults.

Training files hold one state each. In test files the fault begins at row 161; each plant holds out
a stretch of its own of every test file.
"""

import re
from pathlib import Path
from random import Random

from fedmill_coordinator.demo.recipes.plan import Plan, Plant, Source, deal, example, fitted
from fedmill_shared.errors import DataError

AGENTS = 4
FIRST_FAULT_ROW, TEST_ROWS = 161, 960
LIVE_SPEED = 40.0
_NAME = re.compile(r"^d(?P<fault>\d{2})(?P<test>_te)?\.dat(\.gz)?$")


def recognises(folder: Path) -> bool:
    """Whether there are ``dNN.dat`` files."""
    return any(_NAME.match(path.name) for path in folder.rglob("d*.dat*"))


def plan(folder: Path, seed: int) -> Plan:
    """Four plants with the states found in ``folder``.

    Raises:
        DataError: a state has no test file, or there are too few faults.
    """
    train, test = _files(folder)
    states = sorted(train)
    missing = [state for state in states if state not in test]
    if missing:
        raise DataError(f"{train[missing[0]]}: its test file d{missing[0]}_te.dat is missing")
    faults = [state for state in states if state != "00"]
    if len(faults) < AGENTS:
        raise DataError(
            f"{folder}: {len(faults)} faults for {AGENTS} plants", remedy="add dNN.dat files"
        )
    classes = [label(state) for state in states]
    job = fitted(example("tep"), agents=AGENTS, seed=seed, classes=classes)
    plants = []
    for number, known in enumerate(deal(faults, AGENTS, Random(seed))):
        sources = [
            _source(train[state], state, "train", 1, 0)
            for state in states
            if state in known or state == "00"
        ]
        sources += [_source(test[state], state, "test", *_rows(state, number)) for state in states]
        unknown = next(state for state in faults if state not in known)
        live = _source(test[unknown], unknown, "live", FIRST_FAULT_ROW, 0)
        sources.append(live | {"speed": LIVE_SPEED, "repeat": True})
        plants.append(Plant(f"plant-{number + 1}", sources))
    return Plan(job, plants)


def label(state: str) -> str:
    """Class of a file's number."""
    return "normal" if state == "00" else f"fault{state}"


def _rows(state: str, number: int) -> tuple[int, int]:
    """First and last row of what plant ``number`` holds out."""
    first = 1 if state == "00" else FIRST_FAULT_ROW
    share = (TEST_ROWS - first + 1) // AGENTS
    return first + number * share, first + (number + 1) * share - 1


def _source(path: Path, state: str, split: str, first_row: int, last_row: int) -> Source:
    return {
        "kind": "tep",
        "name": f"{path.name.split('.')[0]}-{split}",
        "split": split,
        "path": str(path),
        "label": label(state),
        "first_row": first_row,
        "last_row": last_row,
    }


def _files(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Training and test files by the number of their state."""
    train: dict[str, Path] = {}
    test: dict[str, Path] = {}
    for path in sorted(folder.rglob("d*.dat*")):
        name = _NAME.match(path.name)
        if name is not None:
            (test if name["test"] else train)[name["fault"]] = path
    return train, test
