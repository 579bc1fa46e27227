# SPDX-License-Identifier: Apache-2.0
"""Recordings of processes with faults in them: SKAB's water circulation, Tennessee Eastman."""

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError

Rows = NDArray[np.float64]

SKAB_SIGNALS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)
TEP_BEGIN = 160
"""Rows of a test run of Tennessee Eastman before its fault."""


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """One run of a rig: rows (n, signals), and which of them (n,) are called abnormal."""

    name: str
    rows: Rows
    abnormal: NDArray[np.bool_]


def folder_of(name: str) -> Path:
    """The recordings ``name``: below FEDMILL_DATA, or in shared/data beside the repository.

    Raises:
        DataError: they are not there.
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FEDMILL_DATA", beside)) / name
    if not folder.is_dir():
        raise DataError(f"no recordings in {folder}", remedy="set FEDMILL_DATA")
    return folder


def skab(folder: Path) -> list[Experiment]:
    """Every labelled experiment below ``folder``, by name.

    Raises:
        DataError: there are none, or a file has other columns.
    """
    found = [_experiment(path) for path in sorted(folder.glob("[!a]*/*.csv"))]
    if not found:
        raise DataError(f"{folder}: no experiments of SKAB")
    return found


def tep(folder: Path) -> tuple[Rows, Rows, dict[int, Rows]]:
    """Normal rows (500, 52) to fit, a normal run (960, 52), and the test run of each fault.

    Raises:
        DataError: there are none.
    """
    runs = {
        int(path.name[1:3]): _table(path) for path in sorted(folder.glob("d[0-9][0-9]_te.dat.gz"))
    }
    if 0 not in runs or len(runs) < 2:
        raise DataError(f"{folder}: no runs of Tennessee Eastman")
    normal = runs.pop(0)
    return _table(folder / "d00.dat.gz").T, normal, runs  # d00 is stored transposed


def _experiment(path: Path) -> Experiment:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter=";"))
    try:
        rows = np.array([[float(line[name]) for name in SKAB_SIGNALS] for line in lines])
        abnormal = np.array([float(line["anomaly"]) > 0 for line in lines])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: not an experiment of SKAB: {error}") from error
    return Experiment(f"{path.parent.name}/{path.stem}", rows, abnormal)


def _table(path: Path) -> Rows:
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, ndmin=2)
