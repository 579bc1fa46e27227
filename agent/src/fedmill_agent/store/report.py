# SPDX-License-Identifier: Apache-2.0
"""How the labels of a job do: how many, how late, how evenly, and what became of them."""

import math
import sqlite3
from collections import Counter
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fedmill_agent.store.dataset import LabelRow, Truth, WindowRow
from fedmill_agent.store.joining import Joining, TruthRow, matches, truth_of
from fedmill_agent.store.truths import State

DAY_NS = 86_400 * 10**9
RATE_DAYS = 7.0
"""The rate is that of the last week."""


class LabelReport(Struct, frozen=True, kw_only=True):
    """Labels of one job.

    Attributes:
        labels: that came by themselves and hold.
        recorded: that came with a recording.
        per_day: labels a day over the last week, or since the first one if that is shorter; the
            first day counts as a whole one.
        delay_median_seconds: half of them came sooner after what they are about; NaN if there is
            none with a time. Counted until the truth was determined, where that is known.
        delay_p95_seconds: 95 % came sooner.
        windows: that are stored.
        labelled: windows with a truth.
        balance: class -> windows.
        lowest: smallest number; NaN where there is none.
        highest: largest number.
        late: labels that came after a window that they are about.
        corrected: labels that were replaced by a newer record.
        deleted: labels that were withdrawn.
        refused: labels that the job cannot use.
        conflicting: windows about which labels contradict each other.
        without_window: labels that no stored window belongs to.
    """

    labels: int
    recorded: int
    per_day: float
    delay_median_seconds: float
    delay_p95_seconds: float
    windows: int
    labelled: int
    balance: dict[str, int]
    lowest: float
    highest: float
    late: int
    corrected: int
    deleted: int
    refused: int
    conflicting: int
    without_window: int


def report(
    database: sqlite3.Connection,
    rows: tuple[list[WindowRow], list[LabelRow], list[TruthRow]],
    joining: Joining,
    now_ns: int,
) -> LabelReport:
    """The labels of a store; ``rows`` are its windows, by (run, end_ns, start_ns), and labels."""
    windows, labels, truths = rows
    truth = truth_of(windows, labels, truths, joining)
    delays, late, without = _arrivals(database, windows, truths, joining)
    states = Counter[int](dict(database.execute("SELECT state, count(*) FROM truths GROUP BY 1")))
    (corrected,) = database.execute(
        "SELECT count(*) FROM truths WHERE changes > 0 AND state = ?", (State.HOLDS,)
    ).fetchone()
    median, p95 = np.quantile(delays, (0.5, 0.95)) if delays else (math.nan, math.nan)
    numbers = truth.numbers[~np.isnan(truth.numbers)]
    return LabelReport(
        labels=len(truths),
        recorded=int(database.execute("SELECT count(*) FROM labels").fetchone()[0]),
        per_day=_per_day([each.arrived_ns for each in truths], now_ns),
        delay_median_seconds=float(median),
        delay_p95_seconds=float(p95),
        windows=len(windows),
        labelled=int(truth.known(None).sum()),
        balance=_balance(truth),
        lowest=float(numbers.min()) if len(numbers) else math.nan,
        highest=float(numbers.max()) if len(numbers) else math.nan,
        late=late,
        corrected=int(corrected),
        deleted=states[State.WITHDRAWN],
        refused=states[State.REFUSED],
        conflicting=int(truth.conflicting.sum()),
        without_window=without,
    )


def _balance(truth: Truth) -> dict[str, int]:
    return dict(sorted(Counter(text for text in truth.texts if text).items()))


def _arrivals(
    database: sqlite3.Connection,
    windows: Sequence[WindowRow],
    truths: Sequence[TruthRow],
    joining: Joining,
) -> tuple[list[float], int, int]:
    """Delay (s) of each label, how many came after their windows, and how many have none."""
    stored = dict(database.execute("SELECT id, stored_ns FROM windows"))
    stored_ns = np.array([stored[window.id] for window in windows], np.int64)
    ends = np.array([window.end_ns for window in windows], np.int64)
    delays, late, without = [], 0, 0
    events = joining.source == "event"
    for label, (places, _) in matches(windows, truths, joining.tolerance_ns):
        end_ns = label.end_ns
        if len(places):
            late += bool((stored_ns[places] <= label.arrived_ns).any())
            end_ns = int(ends[places].max()) if end_ns is None else end_ns
        elif not events:  # an event is about all that went before it
            without += 1
        if end_ns is not None:
            known_ns = label.arrived_ns if label.made_ns is None else label.made_ns
            delays.append(max(0.0, (known_ns - end_ns) / 1e9))
    return delays, late, without


def _per_day(arrived: list[int], now_ns: int) -> float:
    if not arrived:
        return 0.0
    days = min(max((now_ns - min(arrived)) / DAY_NS, 1.0), RATE_DAYS)
    return sum(now_ns - each <= days * DAY_NS for each in arrived) / days
