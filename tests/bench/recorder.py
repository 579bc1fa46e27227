# SPDX-License-Identifier: Apache-2.0
"""The program that the bench ``store`` kills: records for ever, and says what is safe.

``python -m tests.bench.recorder FOLDER``. It writes ``opening``, and then, after every commit, how
many samples and how many windows the stores have acknowledged ever.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.live import Readings
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import SystemClock
from fedmill_shared.signals.windows import Window

SAMPLES = 2400
"""Samples of a commit, in four readings."""
WINDOWS = 3
SAMPLES_BYTES = 48_000_000
WINDOWS_BYTES = 4_000_000
AGE = 1e9


def samples_at(folder: Path) -> SampleStore:
    """The recording that is killed; opening it is the recovery."""
    return SampleStore(folder / "samples.sqlite", Keep(SAMPLES_BYTES, AGE), SystemClock())


def windows_at(folder: Path) -> WindowStore:
    """The window store that is killed."""
    return WindowStore(
        folder / "windows.sqlite",
        clock=SystemClock(),
        max_bytes=WINDOWS_BYTES,
        max_age_seconds=AGE,
    )


def values_of(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """What was measured at these times."""
    return np.sin(times * 0.01)


def recorded(store: SampleStore) -> int:
    """Samples that were ever committed."""
    found = store.recorded()
    return sum(found.counts.values()) + found.discarded


def windowed(store: WindowStore) -> int:
    """Windows that were ever committed."""
    return sum(store.counts().values()) + store.discarded


def main(folder: Path) -> None:
    """Go on from what is there."""
    print("opening", flush=True)
    with samples_at(folder) as samples, windows_at(folder) as windows:
        taken, cut = recorded(samples), windowed(windows)
        while True:
            times = np.arange(taken, taken + SAMPLES)
            samples.append(
                Readings("v", part, values_of(part), np.full(len(part), 192, np.uint16), taken)
                for part in np.split(times, 4)
            )
            taken += samples.commit()
            cut += add_windows(windows, cut)
            print(taken, cut, flush=True)


def add_windows(store: WindowStore, first: int) -> int:
    """Store windows from number ``first`` on, one channel of 1024 samples each, and predictions."""
    values = np.full((1, 1024), first, np.float32)
    rows = [Window("r", "u", n, n, values, 1.0, n) for n in range(first, first + WINDOWS)]
    number = store.add(rows, "train")
    store.add_predictions([Prediction("r", each.end_ns, "v", values[0, :4], 0) for each in rows])
    return number


if __name__ == "__main__":
    main(Path(sys.argv[1]))
