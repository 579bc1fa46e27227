# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.store.dataset import LabelRow, WindowRow, join

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 10)),
    max_size=12,
    unique=True,
).map(
    lambda rows: sorted(
        (WindowRow(n, run, "u", start, start + span) for n, (run, start, span) in enumerate(rows)),
        key=lambda row: (row.run, row.end_ns, row.start_ns),
    )
)
LABELS = st.lists(
    st.builds(
        lambda run, start, span, text, a, b: LabelRow(run, start, start + span, text, a, b),
        st.sampled_from("abc"),
        st.integers(0, 30),
        st.integers(0, 25),
        st.sampled_from(["", "ok", "worn"]),
        st.floats(-100, 100),
        st.floats(-100, 100),
    ),
    max_size=10,
)


def windows(*spans: tuple[str, int, int]) -> list[WindowRow]:
    """Windows of (run, start, end)."""
    return [WindowRow(n, run, "unit", start, end) for n, (run, start, end) in enumerate(spans)]


class TestJoin:
    @given(ROWS, LABELS)
    def test_equals_the_definition(self, rows: list[WindowRow], labels: list[LabelRow]) -> None:
        """Each window against each label, the last one that fits holds."""
        truth = join(rows, labels)
        for place, row in enumerate(rows):
            text, number = "", np.nan
            for label in labels:
                if label.run != row.run:
                    continue
                if label.text:
                    if label.start_ns <= row.start_ns and row.end_ns <= label.end_ns:
                        text = label.text
                elif label.start_ns <= row.end_ns <= label.end_ns:
                    number = np.interp(
                        row.end_ns,
                        [label.start_ns, label.end_ns],
                        [label.start_value, label.end_value],
                    )
            assert truth.texts[place] == text
            assert truth.numbers[place] == pytest.approx(number, nan_ok=True)

    def test_a_class_must_cover_the_whole_window(self) -> None:
        """One nanosecond short at either end is not enough."""
        rows = windows(("r", 9, 20), ("r", 10, 20), ("r", 10, 21))
        truth = join(rows, [LabelRow("r", 10, 20, "worn", 0, 0)])
        assert truth.texts.tolist() == ["", "worn", ""]

    def test_a_number_is_that_of_the_windows_end(self) -> None:
        """Remaining life from 100 at 0 to 0 at 100; both ends are exact and included."""
        rows = windows(("r", 0, 0), ("r", 0, 25), ("r", 50, 100), ("r", 60, 101))
        truth = join(rows, [LabelRow("r", 0, 100, "", 100.0, 0.1)])
        assert truth.numbers[[0, 2]].tolist() == [100.0, 0.1]
        assert truth.numbers[1] == pytest.approx(75.025)
        assert np.isnan(truth.numbers[3])

    def test_the_latest_label_wins(self) -> None:
        """The operator corrects the lower half."""
        rows = windows(("r", 0, 4), ("r", 5, 9))
        labels = [LabelRow("r", 0, 10, "ok", 0, 0), LabelRow("r", 0, 4, "worn", 0, 0)]
        assert join(rows, labels).texts.tolist() == ["worn", "ok"]
        assert join(rows, labels[::-1]).texts.tolist() == ["ok", "ok"]

    def test_kinds_of_truth(self) -> None:
        """A task wants its own kind; without a task any will do."""
        rows = windows(("r", 0, 1), ("r", 2, 3), ("r", 8, 9))
        labels = [LabelRow("r", 0, 1, "ok", 0, 0), LabelRow("r", 2, 3, "", 5, 5)]
        truth = join(rows, labels)
        assert truth.known("classification").tolist() == [True, False, False]
        assert truth.known("regression").tolist() == [False, True, False]
        assert truth.known(None).tolist() == [True, True, False]
