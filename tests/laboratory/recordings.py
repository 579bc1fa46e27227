# SPDX-License-Identifier: Apache-2.0
"""Windows of the CWRU bearing recordings, cut once per process by the agent's own source."""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_agent.cutter import Cutter
from fedmill_agent.sources.mat import KIND, MatOptions
from fedmill_coordinator.demo.recipes.cwru import HEALTHY, HEALTHY_RATE_HZ, TEST_BEGIN, TRAIN_END
from fedmill_shared.errors import DataError
from fedmill_shared.job import Cleaning, Job, Signal, Window

NAME = re.compile(r"(?P<fault>.+)_(?P<load>\d+)")


class Recording(Struct, frozen=True, eq=False):
    """One fault at one motor load.

    Attributes:
        fault: class of the windows.
        load: of the motor, in hp; it stands for a machine.
        train: float32 (n, signals, length), in g and in order of time, of the first part.
        test: the same of the last part, behind a gap.
    """

    fault: str
    load: int
    train: NDArray[np.float32]
    test: NDArray[np.float32]


class _Cut(Struct, frozen=True):
    """What decides how recordings are cut."""

    signals: list[Signal]
    window: Window


def data_folder() -> Path:
    """The folder of CWRU: below FEDMILL_DATA, or in shared/data beside the repository.

    Raises:
        DataError: it is not there.
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FEDMILL_DATA", beside)) / "cwru"
    if not folder.is_dir():
        raise DataError(f"no recordings in {folder}", remedy="set FEDMILL_DATA")
    return folder


def recordings_of(folder: Path, job: Job) -> tuple[Recording, ...]:
    """The recordings ``<fault>_<load>.mat`` below ``folder`` in windows of ``job``, by load.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    found = _recordings(folder, msgspec.json.encode(_Cut(job.signals, job.window)))
    if not found:
        raise DataError(f"no recordings <fault>_<load>.mat below {folder}")
    return found


@cache
def _recordings(folder: Path, key: bytes) -> tuple[Recording, ...]:
    cut = msgspec.json.decode(key, type=_Cut)
    names = [(NAME.fullmatch(path.stem), path) for path in sorted(folder.rglob("*.mat"))]
    found = [
        _recording(path, name["fault"], int(name["load"]), cut) for name, path in names if name
    ]
    return tuple(sorted(found, key=lambda each: (each.load, each.fault)))


def _recording(path: Path, fault: str, load: int, cut: _Cut) -> Recording:
    train, test = (_windows(path, cut, *part) for part in ((0.0, TRAIN_END), (TEST_BEGIN, 1.0)))
    return Recording(fault, load, train, test)


def _windows(path: Path, cut: _Cut, begin: float, end: float) -> NDArray[np.float32]:
    rate = HEALTHY_RATE_HZ if HEALTHY.search(path.stem) else 0
    source = MatOptions(name="it", path=str(path), rate_hz=rate, begin=begin, end=end)
    cutter = Cutter("laboratory", cut.signals, cut.window, source, cleaning=Cleaning())
    events = KIND.read(source, cutter.tags, cut.signals[0].rate_hz)
    return stacked([window.values for event in events for window in cutter.take(event)])


def stacked(windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Windows (n, signals, length).

    Raises:
        DataError: there are none.
    """
    if not windows:
        raise DataError("a recording is shorter than one window")
    return np.stack(windows)
