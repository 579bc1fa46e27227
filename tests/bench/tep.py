# SPDX-License-Identifier: Apache-2.0
"""Faults 1 to 11 of the Tennessee Eastman process, found by T2 and Q.

The data of Chiang, Russell and Braatz: 500 normal rows (3 min apart) are fitted to; a normal run of
960 rows, which nothing was fitted to, gives the limits; each test run has its fault from row 161
on. The 160 rows before it are further normal rows: false alarms are counted there, in eleven runs.
The reference, T2 or Q with limits from unseen normal rows at 2.1 % false alarms: 100, 99, 2, 100,
26, 100, 100, 98, 4, 54 and 69 %, 68.4 in the mean. Limits from the rows that were fitted to find
more, and are wrong far more often: both are figures here.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_least, at_most, figure
from tests.bench.smoothing import causal_mean
from tests.laboratory.rigs import TEP_BEGIN, Rows, folder_of, tep

from fedmill_shared.monitoring import Components, fit, of_rows
from fedmill_shared.monitoring.limits import empirical_limit

SUMMARY = "faults of the Tennessee Eastman process: share of rows that T2 or Q finds"
REFERENCE = {1: 100, 2: 99, 3: 2, 4: 100, 5: 26, 6: 100, 7: 100, 8: 98, 9: 4, 10: 54, 11: 69}
ROWS = 3
"""Rows (9 min) that each row is the mean of."""
EXPLAINED = 0.9
FALSE_ALARMS = 0.02
MOST = 2.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--rows", type=int, default=ROWS, help="rows that each is the mean of")


def run(options: argparse.Namespace) -> list[Figure]:
    """Every fault.

    Raises:
        DataError: there are no recordings.
    """
    fitted, normal, faults = tep(folder_of("tep"))
    monitor = Monitor(fitted, normal, options.rows)
    found = {fault: detected(monitor, rows) for fault, rows in faults.items()}
    mean, reference = np.mean([*found.values()]), np.mean([REFERENCE[fault] for fault in found])
    before = np.concatenate([monitor.alarms(rows)[:TEP_BEGIN] for rows in faults.values()])
    plain, trap = Monitor(fitted, normal, 1), Monitor(fitted, fitted, 1)
    return [
        figure("rows without a fault that are judged", before.size, "1"),
        at_most("false alarms", 100 * before.mean(), "%", MOST),
        *(figure(f"fault {fault}", share, "%") for fault, share in found.items()),
        *(figure(f"fault {fault}, reference", REFERENCE[fault], "%") for fault in found),
        at_least("mean of the faults", float(mean), "%", round(float(reference), 2)),
        *beside("rows as they are", plain, faults),
        *beside("limits from the rows fitted to", trap, faults),
    ]


class Monitor:
    """T2 and Q of means over some rows, with limits from rows that may be unseen."""

    def __init__(self, fitted: Rows, unseen: Rows, length: int) -> None:
        """Fit to ``fitted``, and take limits from ``unseen``."""
        self._length = length
        self._model: Components = fit(of_rows(causal_mean(fitted, length)), explained=EXPLAINED)
        # One of both limits is crossed by a normal row as often as said, so each half as often.
        self._limits = [empirical_limit(each, FALSE_ALARMS / 2) for each in self._values(unseen)]

    def alarms(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of ``rows`` (n, 52) lie above a limit."""
        t2, q = self._values(rows)
        crossed: NDArray[np.bool_] = (t2 > self._limits[0]) | (q > self._limits[1])
        return crossed

    def _values(self, rows: Rows) -> tuple[Rows, Rows]:
        means = causal_mean(rows, self._length)
        return self._model.t2(means), self._model.q(means)


def detected(monitor: Monitor, rows: Rows) -> float:
    """Share (%) of the rows with the fault that are called abnormal."""
    return float(100 * monitor.alarms(rows)[TEP_BEGIN:].mean())


def beside(name: str, monitor: Monitor, faults: dict[int, Rows]) -> list[Figure]:
    """What another monitor would do."""
    before = np.concatenate([monitor.alarms(rows)[:TEP_BEGIN] for rows in faults.values()])
    mean = float(np.mean([detected(monitor, rows) for rows in faults.values()]))
    return [
        figure(f"{name}: false alarms", 100 * before.mean(), "%"),
        figure(f"{name}: mean of the faults", mean, "%"),
    ]
