# SPDX-License-Identifier: Apache-2.0
"""How often drift is seen where there is none, how soon where there is, and what acting gains.

Synthetic streams tell false alarms and delays, ELEC2 what refitting on drift gains where the truth
comes soon, and aging gas sensors what a recalibration without labels and a head by few labels do.
The real sets are looked for where FEDMILL_DATA says, or in shared/data beside the repository.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from tests.agent.drift.kit import Plant, a_watched_job, steady
from tests.bench import drift_elec2, drift_gas, drift_synthetic
from tests.bench.harness import Figure, at_most

from fedmill_shared.errors import DataError, UsageError

SUMMARY = "drift: false alarms, delays, and what acting gains on ELEC2 and aging gas sensors"
WINDOWS = 3000
COST_LIMIT = 1000.0
"""Microseconds of a window: a thousandth of a core for one window a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--streams", type=int, default=16, help="references of each kind")
    parser.add_argument("--rows", type=int, default=50_000, help="of ELEC2, at most")


def run(options: argparse.Namespace) -> list[Figure]:
    """All three, one after the other.

    Raises:
        UsageError: there is nothing to do.
        DataError: a data set is not there.
    """
    if options.streams < 2 or options.rows < 5000:
        raise UsageError("--streams of at least 2 and --rows of at least 5000 are wanted")
    beside = Path(__file__).parents[3] / "shared" / "data"
    data = Path(os.environ.get("FEDMILL_DATA", beside))
    for name in ("elec2", "gas_drift"):
        if not (data / name).is_dir():
            raise DataError(f"no data set {name} in {data}", remedy="set FEDMILL_DATA")
    return [
        *drift_synthetic.run(options.streams),
        cost(),
        *drift_elec2.run(data / "elec2", rows=options.rows),
        *drift_gas.run(data / "gas_drift"),
    ]


def cost() -> Figure:
    """What a window costs where everything but labels is watched."""
    job = a_watched_job('watch = ["input", "representation", "output"]')
    with tempfile.TemporaryDirectory(prefix="fedmill-bench-") as folder:
        plant = Plant(job, Path(folder))
        plant.add(steady(1, 500), "train")
        plant.add(steady(2, 500), "validation")
        watch = plant.watch()
        watch.observe(plant.scored(steady(3, 1)))
        plant.settle(watch)
        scored = [plant.scored(each[None]) for each in steady(4, WINDOWS)]
        started = time.process_time()
        for each in scored:
            watch.observe(each)
        spent = time.process_time() - started
        plant.close()
    name = "processor time of a window, 2 signals, input, representation and output"
    return at_most(name, 1e6 * spent / WINDOWS, "us", COST_LIMIT)
