# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from fedmill_agent.cutter import Cutter
from fedmill_agent.sources.base import LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import CsvOptions
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Signal, Window

SIGNALS = [Signal(name="heat", unit="degC", tag="PLC.heat"), Signal(name="force", unit="N")]
NAN = float("nan")


def cutter(window: Window | None = None, **fields: Any) -> Cutter:
    """Cuts windows of 4 samples unless told otherwise; nothing is read from the source's file."""
    source = CsvOptions(name="s", path="unread.csv", **fields)
    return Cutter("oven", SIGNALS, window or Window(length=4), source)


def samples(values: Iterable[float], start: int = 0) -> Samples:
    """Both signals with the same values, one sample a nanosecond."""
    row = np.array(list(values), np.float64)
    return Samples("run", "oven-1", start, 1, np.stack([row, row]))


class TestTags:
    @pytest.mark.parametrize(
        ("tags", "asked"),
        [
            ({}, ["PLC.heat", "force"]),
            ({"heat": "T1"}, ["T1", "force"]),
            ({"force": "F", "heat": ""}, ["PLC.heat", "F"]),
        ],
    )
    def test_first_that_is_given(self, tags: dict[str, str], asked: list[str]) -> None:
        """The source's own tag, else the job's, else the signal's name."""
        assert cutter(tags=tags).tags == asked

    def test_foreign_signal(self) -> None:
        """A signal that the job does not have is refused before anything is read."""
        with pytest.raises(SchemaError, match=r"maps signal 'speed', which job 'oven'"):
            cutter(tags={"speed": "n"})


class TestTake:
    def test_windows_in_the_jobs_units(self) -> None:
        """Each chunk gives the windows that it completes; 50 degF is 10 degC, 2 kN is 2000 N."""
        made = cutter(units={"heat": "degF", "force": "kN"})
        assert made.take(samples([50.0] * 3)) == []
        [window] = made.take(samples([50.0] * 2, start=3))
        np.testing.assert_allclose(window.values, [[10.0] * 4, [50_000.0] * 4], rtol=1e-6)
        assert (window.run, window.unit, window.start_ns, window.end_ns) == ("run", "oven-1", 0, 3)

    def test_stride(self) -> None:
        """Windows overlap where the job says so, and lie end to end where it says nothing."""
        row = samples(range(8))
        assert [w.start_ns for w in cutter().take(row)] == [0, 4]
        assert [w.start_ns for w in cutter(Window(length=4, stride=2)).take(row)] == [0, 2, 4]

    def test_end_of_a_run(self) -> None:
        """Its last samples become a window of their own where they are in none yet."""
        for values, ends in (([1.0] * 3, []), ([1.0] * 4, []), ([1.0] * 6, [5])):
            made = cutter()
            made.take(samples(values))
            assert [w.end_ns for w in made.take(RunEnded("run"))] == ends

    def test_padded(self) -> None:
        """Where the job pads, the first window ends on the first sample."""
        [window] = cutter(Window(length=4, pad="edge")).take(samples([1.0, 2.0]))
        assert window.end_ns == 0
        np.testing.assert_array_equal(window.values, np.ones((2, 4), np.float32))

    def test_bad_windows_are_counted(self) -> None:
        """They are left out: nothing scores or stores them."""
        made = cutter()
        assert made.take(samples([NAN] * 8)) == []
        assert len(made.take(samples([1.0] * 4, start=8))) == 1
        assert made.bad == 2

    def test_labels_complete_nothing(self) -> None:
        """They are joined where windows are kept."""
        assert cutter().take(LabelInterval("run", 0, 3, "good")) == []
