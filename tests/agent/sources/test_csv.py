# SPDX-License-Identifier: Apache-2.0
"""Historian exports."""

import gzip
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import CsvOptions, read, told_rate
from fedmill_shared.errors import DataError

START = 1_704_067_200_000_000_000
SECOND = 10**9


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Where a test writes its file."""
    return tmp_path / "line7.csv"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a property."""
    return tmp_path_factory.mktemp("csv") / "a.csv"


def events(path: Path, tags: list[str], rate_hz: float = 1.0, **options: object) -> list[Event]:
    """All events."""
    return list(read(CsvOptions(name="x", path=str(path), **options), tags, rate_hz))


def samples(found: list[Event]) -> list[Samples]:
    """The samples among events."""
    return [event for event in found if isinstance(event, Samples)]


def labels(found: list[Event]) -> list[LabelInterval]:
    """The labels among events."""
    return [event for event in found if isinstance(event, LabelInterval)]


class TestCells:
    def test_literal_events(self, csv: Path) -> None:
        """Tags in the asked order, one period apart, missing cells as NaN."""
        csv.write_text("a;b;c\n1;2;x\n; 4 ;x\n5;NaN;y\n")
        found = events(csv, ["b", "a"], delimiter=";", label_column="c")
        first = found[0]
        assert isinstance(first, Samples)
        assert (first.run, first.unit) == ("line7", "line7")
        assert (first.start_ns, first.period_ns) == (START, SECOND)
        nan = float("nan")
        np.testing.assert_array_equal(first.values, [[2, 4, nan], [1, nan, 5]])
        assert found[1:] == [
            LabelInterval("line7", START, START + SECOND, text="x"),
            LabelInterval("line7", START + 2 * SECOND, START + 2 * SECOND, text="y"),
            RunEnded("line7"),
        ]

    def test_gzip_quotes_and_byte_order_mark(self, tmp_path: Path) -> None:
        """What Excel and historians write is read."""
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress('\ufeff"Temp, in °C",b\r\n"1.5",2\r\n\r\n'.encode()))
        assert samples(events(path, ["Temp, in °C"]))[0].values.tolist() == [[1.5]]

    @pytest.mark.parametrize("tag", ["force_kn", "FORCE_kN", "forse_kN"])
    def test_a_misspelt_tag(self, csv: Path, tag: str) -> None:
        """The column that is meant is proposed, whatever its case."""
        csv.write_text("time,part,force_kN\n0,1,2\n")
        with pytest.raises(DataError, match=f"no tag '{tag}'") as told:
            events(csv, [tag])
        assert told.value.remedy.startswith("did you mean 'force_kN'? map the signal to one")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty"),
            ("1,2\n3,4\n", "line 1 has the number 1 where the name"),
            ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, the header has 2"),
            ("a,b\n1,2\nx,4\n", "line 3, column a: 'x' is not a number"),
            ("a,b\n1,2\n\n1e999,4\n", "line 4, column a: '1e999' is not a number"),
            ("a,b\n1,inf\n", "column b: 'inf'"),
            ("a,a,b\n1,2,3\n", "more than one tag 'a'"),
            ("x,b\n1,2\n", "no tag 'a'; tags are x, b"),
            ('a,b\n1,"2\n' + "y" * 140_000, "field larger than field limit"),
        ],
    )
    def test_bad_files_name_the_place(self, csv: Path, text: str, message: str) -> None:
        """Line, column and value of what is wrong."""
        csv.write_text(text)
        with pytest.raises(DataError, match=message):
            events(csv, ["a", "b"])

    @pytest.mark.parametrize("option", ["run_column", "unit_column", "time_column", "label_column"])
    @pytest.mark.parametrize(
        ("name", "problem"), [("c", "the file has no such column"), ("b", "several have this name")]
    )
    def test_a_column_that_an_option_names(
        self, csv: Path, option: str, name: str, problem: str
    ) -> None:
        """The option is at fault, and not the mapping of a signal."""
        csv.write_text("a,b,b\n1,2,3\n")
        with pytest.raises(DataError) as caught:
            events(csv, ["a"], **{option: name})
        assert str(caught.value) == (
            f"{csv}: {option} is {name!r}: {problem}; columns are a, b, b "
            f"(correct `{option}` of the source, or leave it out)"
        )

    @given(
        data=st.one_of(st.binary(max_size=200), st.text('ab,1.\n"nan-;é', max_size=80)),
        timed=st.booleans(),
    )
    def test_garbage_is_events_or_a_data_error(
        self, scratch: Path, data: bytes | str, *, timed: bool
    ) -> None:
        """No file ends in another exception."""
        scratch.write_bytes(data if isinstance(data, bytes) else b"a,b\n" + data.encode())
        try:
            found = events(scratch, ["a"], time_column="b" if timed else "", label_column="b")
        except DataError:
            return
        assert all(event.values.shape[0] == 1 for event in samples(found))


class TestRuns:
    def test_runs_and_units_by_column(self, csv: Path) -> None:
        """A run ends where the cell changes; time goes on."""
        csv.write_text("batch,press,a\nA,p1,1\nA,p1,2\nB,p1,3\nB,p2,4\n")
        found = events(csv, ["a"], run_column="batch", unit_column="press")
        assert [(s.run, s.unit, s.start_ns - START) for s in samples(found)] == [
            ("line7-p1-A", "p1", 0),
            ("line7-p1-B", "p1", 2 * SECOND),
            ("line7-p2-B", "p2", 3 * SECOND),
        ]
        assert [e.run for e in found if isinstance(e, RunEnded)] == [s.run for s in samples(found)]

    def test_run_and_unit_options(self, csv: Path) -> None:
        """`run` precedes the cell of the run column; `unit` names the machine."""
        csv.write_text("batch,a\nA,1\n")
        first = samples(events(csv, ["a"], run_column="batch", run="shift2", unit="mill"))[0]
        assert (first.run, first.unit) == ("shift2-A", "mill")

    def test_scattered_runs_are_refused(self, csv: Path) -> None:
        """A run that starts again would mix two recordings."""
        csv.write_text("batch,a\nA,1\nB,2\nA,3\n")
        with pytest.raises(DataError, match="line 4: run 'line7-A' starts again"):
            events(csv, ["a"], run_column="batch")

    def test_header_alone_is_no_run(self, csv: Path) -> None:
        """A file without rows has no events."""
        csv.write_text("a\n")
        assert events(csv, ["a"]) == []


class TestTime:
    def test_gap_starts_new_samples_at_its_own_time(self, csv: Path) -> None:
        """The first row is at `start`; jitter is put on the grid, a gap is kept."""
        csv.write_text("t,a\n100,1\n101.2,2\n101.9,3\n105,4\n106,5\n")
        found = samples(events(csv, ["a"], time_column="t"))
        assert [(s.start_ns - START, s.values.tolist()) for s in found] == [
            (0, [[1.0, 2.0, 3.0]]),
            (5 * SECOND, [[4.0, 5.0]]),
        ]

    def test_iso_times(self, csv: Path) -> None:
        """ISO 8601 spaces rows like seconds do."""
        csv.write_text("t,a\n2020-03-09 10:14:33,1\n2020-03-09T10:14:34,2\n")
        found = samples(events(csv, ["a"], time_column="t", start="2020-03-09T10:14:33Z"))
        assert [(s.start_ns, s.values.tolist()) for s in found] == [
            (1_583_748_873_000_000_000, [[1.0, 2.0]])
        ]

    def test_no_sample_is_more_than_half_a_period_off(self, csv: Path) -> None:
        """A clock that drifts by 2 % is followed by new Samples before it is half a period off."""
        times = [i * 1.02 for i in range(200)]
        csv.write_text("t,a\n" + "".join(f"{t:.3f},{t:.3f}\n" for t in times))
        found = samples(events(csv, ["a"], time_column="t"))
        stamped = np.hstack([s.start_ns + np.arange(s.values.shape[1]) * SECOND for s in found])
        told = np.hstack([s.values[0] for s in found])
        assert len(told) == 200
        assert np.abs((stamped - START) / 1e9 - told).max() <= 0.5
        assert len(found) < 10

    @given(
        steps=st.lists(st.sampled_from([1, 1, 1, 1, 2, 7]), min_size=1, max_size=60),
        jitter=st.lists(st.floats(-0.2, 0.2), min_size=61, max_size=61),
    )
    def test_gaps_and_jitter(self, scratch: Path, steps: list[int], jitter: list[float]) -> None:
        """Rows stay in order and within half a period, and only gaps divide samples."""
        times = np.cumsum([0, *steps]) + np.array(jitter[: len(steps) + 1])
        scratch.write_text("t,a\n" + "".join(f"{t:.6f},{i}\n" for i, t in enumerate(times)))
        try:
            found = samples(events(scratch, ["a"], time_column="t"))
        except DataError:
            assert len(steps) >= 15  # sixteen rows without two in a row
            assert 1 not in steps[:15]
            return
        assert np.hstack([s.values[0] for s in found]).tolist() == list(range(len(times)))
        stamps = np.hstack([s.start_ns + np.arange(s.values.shape[1]) * SECOND for s in found])
        assert np.all(np.diff(stamps) > 0)
        assert np.abs((stamps - START) / 1e9 - (times - times[0])).max() <= 0.5 + 1e-5
        assert len(found) >= 1 + sum(step > 1 for step in steps)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("t,a\n5,1\n4,2\n", "line 3 is -1 s after the line before"),
            ("t,a\n5,1\n5,2\n", "line 3 is 0 s after"),
            ("t,a\n5,1\n5.1,2\n", "line 3 is 0.1 s after"),
            ("t,a\nsoon,1\n", "line 2, column t: 'soon' is not a time"),
            ("t,a\n,1\n", "line 2, column t: '' is not a time"),
            ("t,a\n" + "".join(f"{10 * i},1\n" for i in range(20)), "no two rows are 1 s apart"),
        ],
    )
    def test_times_that_do_not_fit(self, csv: Path, text: str, message: str) -> None:
        """Time that goes back, and another rate than the job's, are refused."""
        csv.write_text(text)
        with pytest.raises(DataError, match=message):
            events(csv, ["a"], time_column="t")

    def test_another_rate_is_refused(self, csv: Path) -> None:
        """The file's own rate must be the job's, or a whole multiple."""
        csv.write_text("a\n1\n")
        for rate, told in ((2.5, "has 2.5"), (0.5, "has 0.5")):
            with pytest.raises(DataError, match=f"{told} samples per second, the job wants 1"):
                list(read(CsvOptions(name="x", path=str(csv), rate_hz=rate), ["a"], 1.0))

    @pytest.mark.parametrize("times", [False, True])
    def test_a_faster_file(self, csv: Path, *, times: bool) -> None:
        """Is delivered at its own rate, with or without times; what cuts windows decimates it."""
        rows = "".join(f"{i / 10},{i}\n" for i in range(5))
        csv.write_text(f"t,a\n{rows}")
        column = "t" if times else ""
        options = CsvOptions(name="x", path=str(csv), rate_hz=10.0, time_column=column)
        [found] = samples(list(read(options, ["a"], 1.0)))
        assert found.period_ns == 10**8
        assert found.values.tolist() == [[0, 1, 2, 3, 4]]


class TestToldRate:
    @pytest.mark.parametrize(
        ("text", "options", "rate"),
        [
            ("t,a\n0,1\n0.1,1\n0.21,1\n5,1\n5.1,1\n5.2,1\n", {"time_column": "t"}, 10.0),
            ("t,a\n0,x\n9,y\n9.5,y\n99,z\n", {"time_column": "t", "run_column": "a"}, 2.0),
            ("t,a\n0,1\n0.1,1\n", {"time_column": "t", "rate_hz": 5.0}, 5.0),
            ("t,a\n0,1\n", {"time_column": "t"}, 0.0),
            ("t,a\n3,1\n3,1\n", {"time_column": "t"}, 0.0),
            ("t,a\n0,1\n1,1\n", {}, 0.0),
        ],
    )
    def test_from_times_or_options(
        self, csv: Path, text: str, options: dict[str, object], rate: float
    ) -> None:
        """The usual spacing within runs, whatever gaps there are; 0 where nothing tells."""
        csv.write_text(text)
        assert told_rate(CsvOptions(name="x", path=str(csv), **options)) == pytest.approx(rate)


class TestLabels:
    def test_numbers_on_a_line_are_one_interval(self, csv: Path) -> None:
        """A countdown is one interval; a jump starts another."""
        csv.write_text("a,rul\n0,5\n0,4\n0,3\n0,9\n0,8\n")
        found = labels(events(csv, ["a"], label_column="rul", label_kind="number"))
        assert found == [
            LabelInterval("line7", START, START + 2 * SECOND, start_value=5.0, end_value=3.0),
            LabelInterval(
                "line7", START + 3 * SECOND, START + 4 * SECOND, start_value=9.0, end_value=8.0
            ),
        ]

    def test_missing_labels_and_gaps_end_an_interval(self, csv: Path) -> None:
        """Nothing is claimed where the file says nothing."""
        csv.write_text("t,a,c\n0,1,ok\n1,1,ok\n2,1,\n3,1,ok\n9,1,ok\n")
        found = labels(events(csv, ["a"], label_column="c", time_column="t"))
        assert [((e.start_ns - START) // SECOND, (e.end_ns - START) // SECOND) for e in found] == [
            (0, 1),
            (3, 3),
            (9, 9),
        ]

    def test_labels_follow_their_samples(self, csv: Path) -> None:
        """An interval is told after the samples that it covers."""
        csv.write_text("a,c\n" + "1,x\n" * 8000 + "2,y\n" * 8000)
        kinds = [type(event) for event in events(csv, ["a"], label_column="c")]
        assert kinds == [Samples, LabelInterval, Samples, LabelInterval, RunEnded]

    def test_bad_number_is_named(self, csv: Path) -> None:
        """A class text where a number is declared."""
        csv.write_text("a,c\n1,good\n")
        with pytest.raises(DataError, match="line 2, column c: 'good'"):
            events(csv, ["a"], label_column="c", label_kind="number")

    @given(values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, 7.0, None]), max_size=30))
    def test_intervals_say_what_every_row_says(
        self, scratch: Path, values: list[float | None]
    ) -> None:
        """Interpolating the intervals gives back each row's number, and nothing elsewhere."""
        cells = ["" if value is None else f"{value}" for value in values]
        scratch.write_text("a,c\n" + "".join(f"1,{cell}\n" for cell in cells))
        found = labels(events(scratch, ["a"], label_column="c", label_kind="number"))
        for index, value in enumerate(values):
            time = START + index * SECOND
            told = [
                np.interp(time, [e.start_ns, e.end_ns], [e.start_value, e.end_value])
                for e in found
                if e.start_ns <= time <= e.end_ns
            ]
            assert told == ([] if value is None else [pytest.approx(value)])


class TestDialect:
    """What historians and spreadsheets write; each refusal names the line and the remedy."""

    def test_semicolons_and_decimal_commas(self, csv: Path) -> None:
        """A spreadsheet where decimals have a comma, with its first line about itself."""
        csv.write_text("sep=;\nt;a;b\n1704067200,5;1,5;-2,25e1\n1704067201,5;3;4,0\n")
        options = {"delimiter": ";", "decimal": ",", "time_column": "t"}
        [found] = samples(events(csv, ["a", "b"], **options))
        assert found.values.tolist() == [[1.5, 3.0], [-22.5, 4.0]]

    def test_status_texts(self, csv: Path) -> None:
        """Texts that the configuration names are missing values, whatever their case."""
        csv.write_text("a\n1\nBad Input\nI/O TIMEOUT\n4\n")
        [found] = samples(events(csv, ["a"], missing=["bad input", " I/O Timeout"]))
        nan = float("nan")
        np.testing.assert_array_equal(found.values, [[1, nan, nan, 4]])

    def test_what_windows_writes(self, csv: Path) -> None:
        """A degree sign that is no UTF-8."""
        csv.write_bytes("Temp °C\n20\n".encode("cp1252"))
        [found] = samples(events(csv, ["Temp °C"], encoding="cp1252"))
        assert found.values.tolist() == [[20.0]]

    @pytest.mark.parametrize(
        ("text", "options", "told"),
        [
            ("a;b\n1;2\n", {}, r"line 1 is one single column, 'a;b' \(write delimiter = \";\""),
            ("a\tb\n1\t2\n", {}, r'write delimiter = "\\t"'),
            ("a\n1,5\n", {"delimiter": ";"}, r"line 2, column a: '1,5' .* decimal = \",\""),
            ("a\nBad\n", {}, r"line 2, column a: 'Bad' .* missing = \[\"Bad\"\]"),
            (
                "a\n1.234\n",
                {"delimiter": ";", "decimal": ","},
                "line 2, column a: '1.234' has a point",
            ),
            ("a\n-\n", {}, r"'-' is not a number .* missing = \[\"-\"\]"),
            ('a\n"x ""y\\"\n', {}, r'missing = \["x \\"y\\\\"\]'),
            ("sep=;\n1;2\n", {"delimiter": ";"}, "line 2 has the number 1"),
            ("a\n1,2,3\n", {"delimiter": ";", "decimal": ","}, "line 2, column a: .*not a number"),
        ],
    )
    def test_what_is_not_understood(
        self, csv: Path, text: str, options: dict[str, object], told: str
    ) -> None:
        """Is refused, not guessed."""
        csv.write_text(text)
        with pytest.raises(DataError, match=told):
            events(csv, ["a"], **options)

    def test_a_name_with_a_delimiter_in_it(self, csv: Path) -> None:
        """A single column that is asked for by its name is no wrong delimiter."""
        csv.write_text("Line 1 | Temp\n5\n")
        assert samples(events(csv, ["Line 1 | Temp"]))[0].values.tolist() == [[5.0]]

    def test_one_sign_for_two_things(self) -> None:
        """Nobody could tell cells from fractions."""
        raw = {"kind": "csv", "name": "x", "path": "y", "decimal": ","}
        with pytest.raises(msgspec.ValidationError, match="`decimal` and `delimiter` are both"):
            msgspec.convert(raw, CsvOptions)


class TestOptions:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("delimiter", ""), ("delimiter", "\n"), ("delimiter", '"'), ("label_kind", "x")],
    )
    def test_are_checked_while_decoding(self, field: str, value: str) -> None:
        """The configuration is refused when it is read."""
        raw = {"kind": "csv", "name": "x", "path": "y", field: value}
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert(raw, CsvOptions)


class TestMemory:
    def test_long_files_stream(self, tmp_path: Path) -> None:
        """What is in memory does not grow with the file."""
        peaks = []
        for rows in (9_000, 36_000):
            path = tmp_path / f"{rows}.csv.gz"
            path.write_bytes(gzip.compress(b"a,b,c\n" + b"1.25,2.25,x\n" * rows))
            tracemalloc.start()
            try:
                reader = read(CsvOptions(name="x", path=str(path)), ["a", "b"], 1.0)
                count = sum(e.values.shape[1] for e in reader if isinstance(e, Samples))
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
            assert count == rows
        assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.data
class TestRealFiles:
    def test_skab(self, data_folder: Path) -> None:
        """A water rig with one-second samples and gaps: every row is there, every label told."""
        path = data_folder / "skab" / "valve1" / "0.csv"
        found = events(
            path, ["Current"], delimiter=";", time_column="datetime", label_column="anomaly"
        )
        rows = len(path.read_text().splitlines()) - 1
        assert sum(s.values.shape[1] for s in samples(found)) == rows
        assert {label.text for label in labels(found)} == {"0.0", "1.0"}

    def test_etth1(self, data_folder: Path) -> None:
        """Two years of hours without a gap."""
        found = events(
            data_folder / "ett" / "ETTh1.csv.gz", ["OT"], rate_hz=1 / 3600, time_column="date"
        )
        assert [s.values.shape[1] for s in samples(found)] == [8192, 8192, 1036]
