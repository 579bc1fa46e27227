# SPDX-License-Identifier: Apache-2.0
"""C-MAPSS: whole engines spread over ten agents; the official test engines are held out."""

import gzip
import zlib
from pathlib import Path
from random import Random

from fedmill_coordinator.demo.recipes.plan import Plan, Plant, Source, deal, example, fitted
from fedmill_shared.errors import DataError

AGENTS = 10
LIVE_SPEED = 8.0


def recognises(folder: Path) -> bool:
    """Whether there are training files."""
    return bool(_training_files(folder))


def plan(folder: Path, seed: int) -> Plan:
    """Ten agents with the engines of the first set in ``folder`` (FD001 before FD002).

    Raises:
        DataError: the test file or its RUL file is missing, or there are too few engines.
    """
    train = _training_files(folder)[0]
    test = train.with_name(train.name.replace("train_", "test_", 1))
    truth = train.with_name(f"RUL_{train.name.removeprefix('train_').split('.')[0]}.txt")
    for needed in (test, truth):
        if not needed.is_file():
            raise DataError(f"{needed}: missing", remedy=f"it belongs to {train.name}")
    random = Random(seed)
    hands = zip(
        deal(_engines(train), AGENTS, random), deal(_engines(test), AGENTS, random), strict=True
    )
    plants = []
    for number, (known, held_out) in enumerate(hands):
        if not known or not held_out:
            raise DataError(f"{train}: fewer engines than {AGENTS} agents")
        sources: list[Source] = [
            {
                "kind": "cmapss",
                "name": "fleet",
                "split": "train",
                "path": str(train),
                "engines": sorted(known),
            },
            {
                "kind": "cmapss",
                "name": "held-out",
                "split": "test",
                "path": str(test),
                "truth": str(truth),
                "engines": sorted(held_out),
            },
        ]
        live = sources[1] | {"name": "live", "split": "live", "speed": LIVE_SPEED, "repeat": True}
        plants.append(Plant(f"fleet-{number + 1:02d}", [*sources, live]))
    return Plan(fitted(example("cmapss"), agents=AGENTS, seed=seed), plants)


def _training_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("train_*.txt*") if p.suffix in {".txt", ".gz"})


def _engines(path: Path) -> list[int]:
    """Numbers of the engines in a file: its first column."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="ascii") as file:
            return sorted({int(line.split(maxsplit=1)[0]) for line in file if line.strip()})
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is no C-MAPSS file: {error}") from error
