# SPDX-License-Identifier: Apache-2.0
"""Remaining life counted down to events, in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.store.dataset import LabelRow, WindowRow
from fedmill_agent.store.joining import Joining, TruthRow, truth_of

HOUR = 3600 * 10**9


def windows(*spans: tuple[int, int], run: str = "pump", unit: str = "pump") -> list[WindowRow]:
    """Windows from one hour to another."""
    return [WindowRow(n, run, unit, a * HOUR, b * HOUR) for n, (a, b) in enumerate(spans)]


def event(
    start: float,
    end: float | None = None,
    *,
    unit: str = "pump",
    piece: str = "",
    text: str = "failed",
) -> TruthRow:
    """An event at some hour."""
    begin, stop = round(start * HOUR), round((start if end is None else end) * HOUR)
    name = f"{unit}{piece}{start}{text}"
    return TruthRow("", name, unit, piece, begin, stop, text, 0.0, 0.0, None, name.encode(), 0)


def lives(
    rows: list[WindowRow],
    *events: TruthRow,
    labels: tuple[LabelRow, ...] = (),
    only: tuple[str, ...] = (),
) -> list[float]:
    """Hours to go, -1 where nobody knows."""
    joining = Joining(source="event", events=only, unit_ns=float(HOUR))
    return np.nan_to_num(truth_of(rows, labels, events, joining).numbers, nan=-1.0).tolist()


class TestLives:
    def test_linear_to_zero_at_the_event(self) -> None:
        """The end of a window counts; one that ends with the event has nothing left."""
        assert lives(windows((0, 1), (5, 6), (8, 10), (9, 10)), event(10)) == [9, 4, 0, 0]

    def test_longer_than_64_bits_count(self) -> None:
        """From a wrong clock to an event of the far future: very long, and not negative."""
        century = 100 * 366 * 24
        found = lives(windows((-2 * century, 1 - 2 * century)), event(2 * century))
        assert found == [pytest.approx(4 * century - 1)]

    def test_what_has_not_ended_is_unknown(self) -> None:
        """Censored: the pump still runs."""
        assert lives(windows((0, 1), (12, 13)), event(10)) == [9, -1]
        assert lives(windows((0, 1))) == [-1]

    def test_every_event_begins_a_life(self) -> None:
        """A window counts down to the next one, and may begin with the one before."""
        assert lives(windows((0, 1), (10, 12), (19, 20), (20, 21)), event(10), event(20)) == [
            9, 8, 0, -1,
        ]  # fmt: skip

    def test_a_window_with_an_event_in_it_has_no_life(self) -> None:
        """Nor has one during the repair."""
        assert lives(windows((9, 11), (9, 14)), event(10), event(20)) == [-1, -1]
        assert lives(windows((8, 10), (11, 13), (13, 15), (14, 15)), event(10, 14), event(20)) == [
            0, -1, -1, 5,
        ]  # fmt: skip

    def test_only_events_that_count(self) -> None:
        """An inspection ends nothing, unless every label does."""
        rows, both = windows((0, 1)), (event(5, text="inspected"), event(10))
        assert lives(rows, *both, only=("failed",)) == [9]
        assert lives(rows, *both) == [4]

    def test_tools_and_machines(self) -> None:
        """The end of a tool is its own; that of the machine is everybody's."""
        rows = windows((0, 1), run="pump/t1") + windows((0, 1), run="pump/t2")
        rows += windows((0, 1), run="saw", unit="saw")
        assert lives(rows, event(4, piece="t1"), event(10)) == [3, 9, -1]
        assert lives(rows, event(4, piece="t1", unit=""), event(3, unit="saw")) == [3, -1, 2]

    def test_events_of_recordings(self) -> None:
        """A label column that says when it failed."""
        failed = LabelRow("pump", 10 * HOUR, 10 * HOUR, "failed", 0.0, 0.0)
        assert lives(windows((0, 1)), labels=(failed,), only=("failed",)) == [9]

    @given(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=8, unique=True),
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=5),
    )
    def test_equals_the_definition(
        self, spans: list[tuple[int, int]], repairs: list[tuple[int, int]]
    ) -> None:
        """Each window against each event."""
        rows = windows(*((a, a + n) for a, n in spans))
        rows.sort(key=lambda row: (row.run, row.end_ns, row.start_ns))
        events = [event(a, a + n, text=f"{k}") for k, (a, n) in enumerate(repairs)]
        for row, found in zip(rows, lives(rows, *events), strict=True):
            first, last = row.start_ns // HOUR, row.end_ns // HOUR
            hit = any(a < last and a + n > first for a, n in repairs)
            coming = [a - last for a, _ in repairs if a >= last]
            assert found == (-1 if hit or not coming else min(coming))


class TestForecasts:
    def test_the_store_remembers_them(self) -> None:
        """Nothing else is truth for such a job."""
        rows = [WindowRow(0, "a", "a", 0, 1, 2.5), WindowRow(1, "a", "a", 1, 2)]
        label = LabelRow("a", 0, 9, "", 7.0, 7.0)
        truth = truth_of(rows, [label], [], Joining(source="forecast"))
        assert truth.numbers[0] == 2.5
        assert np.isnan(truth.numbers[1])
        assert truth.known("regression").tolist() == [True, False]

    @pytest.mark.parametrize("unit", ["s", "min", "h", "d"])
    def test_units_of_a_life(self, unit: str) -> None:
        """As the job says."""
        from fedmill_agent.store.joining import joining_of
        from fedmill_shared.job import Labels

        seconds = {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
        assert joining_of(Labels(source="event", unit=unit)).unit_ns == seconds * 10**9
