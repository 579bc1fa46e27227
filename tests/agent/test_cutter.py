# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmill_agent import cutter as cutter_module
from fedmill_agent.cutter import Cutter, told_faults
from fedmill_agent.sources.base import LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import KIND, CsvOptions
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Cleaning, Signal, Window
from fedmill_shared.signals.windows import Window as CutWindow

SIGNALS = [Signal(name="heat", unit="degC", tag="PLC.heat"), Signal(name="force", unit="N")]
NAN = float("nan")


def cutter(window: Window | None = None, **fields: Any) -> Cutter:
    """Cuts windows of 4 samples unless told otherwise; nothing is read from the source's file."""
    source = CsvOptions(name="s", path="unread.csv", **fields)
    return Cutter("oven", SIGNALS, window or Window(length=4), source, cleaning=Cleaning())


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

    def test_much_overlap_comes_in_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many windows at a time as there is room for values; all of them, and the same."""
        whole = cutter(Window(length=4, stride=1)).take(samples(range(100)))
        monkeypatch.setattr(cutter_module, "MOST_VALUES", 8 * 5)  # 8 values are a window
        made = cutter(Window(length=4, stride=1))
        batches = list(made.batches(samples(range(100))))
        assert max(map(len, batches)) == 5
        found = [window for batch in batches for window in batch]
        assert [(w.start_ns, w.index) for w in found] == [(w.start_ns, w.index) for w in whole]
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one.values, other.values)

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


class TestCleaning:
    """What a job says about good values holds for live and stored windows alike."""

    def made(self, *ranges: list[float], **cleaning: Any) -> Cutter:
        """Cuts windows of 4 samples of two signals with these ranges."""
        signals = [Signal(name=f"s{i}", range=each) for i, each in enumerate(ranges)]
        source = CsvOptions(name="s", path="unread.csv", units={"s0": "1"})
        return Cutter("oven", signals, Window(length=4), source, cleaning=Cleaning(**cleaning))

    def test_a_spike_in_the_jobs_unit(self) -> None:
        """The range is that of the canonical unit: 932 degF are 500 degC."""
        signals = [Signal(name="heat", unit="degC", range=[0.0, 300.0])]
        source = CsvOptions(name="s", path="unread.csv", units={"heat": "degF"})
        made = Cutter("oven", signals, Window(length=4), source, cleaning=Cleaning())
        row = np.array([[212.0, 932.0, 212.0, 212.0]])
        [window] = made.take(Samples("run", "oven-1", 0, 1, row))
        np.testing.assert_allclose(window.values, [[100.0] * 4], rtol=1e-6)
        assert window.good_share == 0.75

    def test_why_windows_are_bad(self) -> None:
        """Each is counted once, by its worst signal and what is wrong with most of that."""
        made = self.made([0.0, 5.0], [])
        for number, (first, second) in enumerate(
            [([9.0] * 4, [1.0] * 4), ([9.0, NAN, NAN, NAN], [NAN, 1.0, 1.0, 1.0])]
        ):
            values = np.array([first, second])
            assert made.take(Samples("run", "oven-1", 4 * number, 1, values)) == []
        assert made.bad == 2
        assert made.faults == {"s0: out of range": 1, "s0: missing": 1}

    def test_what_was_repaired_is_not_to_blame(self) -> None:
        """The signal with the one long gap is, not the one with many short ones."""
        made = self.made([], [])
        values = np.array([[1.0, NAN, 3.0, 4.0], [1.0, 2.0, 3.0, NAN]])
        assert made.take(Samples("run", "oven-1", 0, 1, values)) == []
        assert made.faults == {"s1: missing": 1}

    def test_too_little_is_good(self) -> None:
        """Though every gap could be filled."""
        made = self.made([], least_good=0.8)
        row = np.array([[1.0, NAN, 3.0, 4.0]])
        assert made.take(Samples("run", "oven-1", 0, 1, row)) == []
        assert told_faults(made.faults) == "s0: missing 1"

    def test_told(self) -> None:
        """The most frequent first, and not without end."""
        faults = {f"s{i:02}: missing": 1 for i in range(10)} | {"s05: out of range": 7}
        assert told_faults(faults).startswith("s05: out of range 7, s00: missing 1, s01")
        assert told_faults(faults).endswith("and 3 more")


class TestRates:
    """Signals of different rates, and sources that are faster than the job."""

    SIGNALS = (
        Signal(name="vibration", unit="g", rate_hz=100.0),
        Signal(name="speed", unit="rpm", rate_hz=10.0, role="regime"),
    )

    def made(self, path: Path, **fields: Any) -> tuple[Cutter, list[CutWindow]]:
        """What is cut of a file with windows of 20 samples at 100 Hz."""
        source = CsvOptions(name="s", path=str(path), **fields)
        cut = Cutter("rig", self.SIGNALS, Window(length=20), source, cleaning=Cleaning())
        events = KIND.read(source, cut.tags, 100.0)
        return cut, [window for event in events for window in cut.take(event)]

    def test_a_column_with_holes(self, tmp_path: Path) -> None:
        """The speed is written once in ten rows, and known in all of them."""
        rows = [f"{i},{600 + i if i % 10 == 0 else ''}" for i in range(60)]
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["vibration,speed", *rows]) + "\n")
        cut, windows = self.made(path)
        assert [window.values[1].tolist() for window in windows] == [
            [600.0 + 20 * n] * 10 + [610.0 + 20 * n] * 10 for n in range(3)
        ]
        assert (cut.bad, [window.good_share for window in windows]) == (0, [1.0] * 3)

    def test_a_signal_that_stays_away(self, tmp_path: Path) -> None:
        """One value is missed: a window later nobody believes the one before it."""
        rows = [f"{i},{'' if i % 10 or i == 30 else 600}" for i in range(60)]
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["vibration,speed", *rows]) + "\n")
        cut, windows = self.made(path)
        assert [window.index for window in windows] == [0, 2]
        assert cut.faults == {"speed: missing": 1}

    def test_a_faster_recording(self, tmp_path: Path) -> None:
        """400 Hz for a job of 100 Hz: what would fold back is gone, and times are kept."""
        time = np.arange(4000) / 400
        values = np.sin(2 * np.pi * 5 * time) + np.sin(2 * np.pi * 130 * time)
        rows = [f"{value:.9f},{600 if i < 2000 else 900}" for i, value in enumerate(values)]
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["vibration,speed", *rows]) + "\n")
        _, windows = self.made(path, rate_hz=400.0)
        assert len(windows) == 50
        start = windows[0].start_ns
        assert [window.start_ns - start for window in windows] == [n * 2 * 10**8 for n in range(50)]
        found = np.concatenate([window.values for window in windows], axis=1)
        expected = np.sin(2 * np.pi * 5 * np.arange(1000) / 100)
        np.testing.assert_allclose(found[0, 30:-30], expected[30:-30], atol=2e-3)
        assert found[1].tolist() == [600.0] * 500 + [900.0] * 500

    def test_pieces_of_a_faster_source(self) -> None:
        """Live data comes in crumbs: the windows are the same bits as those of a recording."""
        generator = np.random.default_rng(0)
        values = np.stack([generator.normal(size=900), np.full(900, np.nan)])
        values[1, ::40] = np.arange(23)

        def cut(sizes: list[int]) -> list[tuple[int, bytes]]:
            source = CsvOptions(name="s", path="unread.csv")
            made = Cutter("rig", self.SIGNALS, Window(length=20), source, cleaning=Cleaning())
            found, first = [], 0
            for size in [*sizes, 900]:
                part = values[:, first : first + size]
                start, first = 10**9 + first * 2_500_000, first + part.shape[1]
                found += made.take(Samples("run", "rig-1", start, 2_500_000, part))
            found += made.take(RunEnded("run"))
            assert {window.unit for window in found} == {"rig-1"}
            return [(window.end_ns, window.values.tobytes()) for window in found]

        whole = cut([])
        assert len(whole) == 12
        assert cut([1, 2, 3, 399, 1, 100]) == whole


class TestTrigger:
    def test_strokes(self) -> None:
        """Windows stand where the force rises, in the job's unit, and labels find them by time."""
        window = Window(length=3, trigger="force", trigger_level=1000.0, trigger_before=1)
        made = cutter(window, units={"force": "kN"})
        row = [0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        found = made.take(samples(row)) + made.take(RunEnded("run"))
        assert [(each.start_ns, each.end_ns) for each in found] == [(1, 3), (6, 8)]
        assert found[0].values[1].tolist() == [0.0, 2000.0, 3000.0]


class TestSpikes:
    def test_told_as_other_faults(self) -> None:
        """In the job's unit: 90 degF a second are 50 degC a second."""
        signals = [Signal(name="heat", unit="degC", max_slope=20.0)]
        source = CsvOptions(name="s", path="unread.csv", units={"heat": "degF"})
        cleaning = Cleaning(missing="drop")
        made = Cutter("oven", signals, Window(length=4), source, cleaning=cleaning)
        for number, row in enumerate([[212.0, 212.0, 302.0, 212.0], [212.0, 240.0, 270.0, 300.0]]):
            values = np.array([row])
            found = made.take(Samples("run", "oven-1", 4 * number, 1, values))
            assert len(found) == number
        assert told_faults(made.faults) == "heat: spike 1"


class TestOrder:
    def test_windows_by_angle(self) -> None:
        """As many values as the model takes; a shaft that is too slow is named."""
        signals = [
            Signal(name="vibration", unit="g", rate_hz=100.0),
            Signal(name="speed", unit="rpm", rate_hz=100.0),
        ]
        source = CsvOptions(name="s", path="unread.csv", units={"speed": "Hz"})
        window = Window(length=100, order="speed", revolutions=4, per_revolution=8)
        made = Cutter("rig", signals, window, source, cleaning=Cleaning())
        rows = np.stack([np.sin(np.arange(200)), np.repeat([5.0, 2.0], 100)])
        [found] = made.take(Samples("run", "rig-1", 0, 10**7, rows))
        assert found.values.shape == (2, 32)
        assert found.values[1].tolist() == [300.0] * 32
        assert (found.start_ns, found.end_ns) == (0, 99 * 10**7)
        assert told_faults(made.faults) == "speed: too few revolutions 1"
