# SPDX-License-Identifier: Apache-2.0
"""Recordings in Parquet files."""

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq
from pyarrow.parquet import encryption

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.csv import read as read_csv
from fedmill_agent.sources.parquet import ParquetOptions, read, told_rate
from fedmill_agent.sources.parquet import table as reader
from fedmill_shared.errors import DataError

START = 1_704_067_200_000_000_000
SECOND = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes its file."""
    return tmp_path / "line7.parquet"


def write(path: Path, columns: dict[str, Any], **options: Any) -> None:
    """A file with these columns."""
    pq.write_table(pa.table(columns), path, **options)


def events(path: Path, tags: list[str], rate_hz: float = 1.0, **options: Any) -> list[Event]:
    """All events."""
    return list(read(ParquetOptions(name="x", path=str(path), **options), tags, rate_hz))


def samples(found: list[Event]) -> list[Samples]:
    """The samples among events."""
    return [event for event in found if isinstance(event, Samples)]


def same(one: Event, other: Event) -> bool:
    """Whether two events are equal, with the arrays in them."""
    if isinstance(one, Samples) and isinstance(other, Samples):
        np.testing.assert_array_equal(one.values, other.values)
        heads = [(e.run, e.unit, e.start_ns, e.period_ns) for e in (one, other)]
        return heads[0] == heads[1]
    return one == other


class TestColumns:
    def test_literal_events(self, path: Path) -> None:
        """Tags in the asked order, missing values as NaN, one period apart."""
        write(
            path, {"a": [1.0, None, 5.0], "b": pa.array([2, 4, None], pa.int16()), "c": ["x"] * 3}
        )
        first, end = events(path, ["b", "a"], 2.0)
        assert isinstance(first, Samples)
        assert (first.run, first.unit) == ("line7", "line7")
        assert (first.start_ns, first.period_ns) == (START, SECOND // 2)
        nan = float("nan")
        np.testing.assert_array_equal(first.values, [[2, 4, nan], [1, nan, 5]])
        assert end == RunEnded("line7")

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([True, False, True]),
            pa.array([1, 0, 1], pa.uint8()),
            pa.array([1, 0, 1], pa.int64()),
            pa.array(np.array([1, 0, 1], np.float16)),
            pa.array([1, 0, 1], pa.float32()),
            pa.array([Decimal("1.00"), Decimal("0.00"), Decimal("1.00")]),
        ],
    )
    def test_every_kind_of_number(self, path: Path, column: Any) -> None:
        """Becomes float64."""
        write(path, {"a": column})
        assert samples(events(path, ["a"]))[0].values.tolist() == [[1.0, 0.0, 1.0]]

    def test_infinities_are_no_values(self, path: Path) -> None:
        """As a CSV source has none either."""
        write(path, {"a": [1.0, float("inf"), -float("inf"), float("nan")]})
        assert np.isnan(samples(events(path, ["a"]))[0].values[0, 1:]).all()

    @pytest.mark.parametrize(
        ("tag", "options", "message"),
        [
            ("z", {}, "no tag 'z'; tags are a, s, n"),
            ("s", {}, "column 's' has values of type string, no numbers"),
            ("n", {}, "column 'n' has values of type struct"),
            ("a", {"run_column": "r"}, "run_column is 'r'"),
            ("a", {"time_column": "s"}, "row 1, column s: 'x' is not a time"),
            ("a", {"label_column": "s", "label_kind": "number"}, "no numbers"),
        ],
    )
    def test_what_cannot_be_used_is_named(
        self, path: Path, tag: str, options: dict[str, Any], message: str
    ) -> None:
        """File, column and value."""
        write(path, {"a": [1.0], "s": ["x"], "n": [{"k": 1}]})
        with pytest.raises(DataError, match=message) as caught:
            events(path, [tag], **options)
        assert str(path) in str(caught.value)

    def test_two_columns_of_one_name(self, path: Path) -> None:
        """Nobody knows which is meant."""
        pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
        with pytest.raises(DataError, match="more than one tag 'a'"):
            events(path, ["a"])

    def test_nothing_in_it(self, path: Path) -> None:
        """No samples, and no error of the reader."""
        write(path, {"a": pa.array([], pa.float64())})
        assert events(path, ["a"]) == []


class TestLikeCsv:
    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 1, 2, 5]),
                st.floats(-100, 100) | st.none(),
                st.sampled_from(["good", "bad", ""]),
            ),
            min_size=1,
            max_size=60,
        ),
        st.integers(1, 40),
    )
    def test_the_same_recording_gives_the_same_events(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        rows: list[tuple[int, float | None, str]],
        group: int,
    ) -> None:
        """Runs, gaps and labels, whatever the row groups."""
        folder = tmp_path_factory.mktemp("both")
        seconds = np.cumsum([step for step, _, _ in rows])
        values, labels = [value for _, value, _ in rows], [label for _, _, label in rows]
        runs = [str(i // 20) for i in range(len(rows))]
        lines = [
            f"{time},{'' if value is None else repr(value)},{label},{run}\n"
            for time, value, label, run in zip(seconds, values, labels, runs, strict=True)
        ]
        (folder / "x.csv").write_text("t,v,state,batch\n" + "".join(lines))
        columns = {"t": seconds, "v": pa.array(values, pa.float64()), "state": labels}
        write(folder / "x.parquet", columns | {"batch": runs}, row_group_size=group)
        options = {"time_column": "t", "label_column": "state", "run_column": "batch"}
        try:
            expected = list(
                read_csv(CsvOptions(name="x", path=str(folder / "x.csv"), **options), ["v"], 1.0)
            )
        except DataError:
            with pytest.raises(DataError):
                events(folder / "x.parquet", ["v"], **options)
            return
        found = events(folder / "x.parquet", ["v"], **options)
        assert len(found) == len(expected)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))

    @pytest.mark.parametrize(
        ("column", "unit"),
        [
            (pa.array([0, 1, 2], pa.timestamp("s")), "s"),
            (pa.array([0, 1000, 2000], pa.timestamp("ms", "Europe/Berlin")), "s"),
            (pa.array([0, SECOND, 2 * SECOND], pa.timestamp("ns", "UTC")), "s"),
            ([datetime(2024, 1, 1, 0, 0, i, tzinfo=UTC) for i in range(3)], "s"),
            ([0.0, 1.0, 2.0], "s"),
            ([0, 1000, 2000], "ms"),
            ([f"2024-01-01T00:00:0{i}Z" for i in range(3)], "s"),
        ],
    )
    def test_times(self, path: Path, column: Any, unit: str) -> None:
        """As timestamps of any unit, numbers or texts; they space the rows."""
        write(path, {"t": column, "v": [1, 2, 3]})
        found = samples(events(path, ["v"], time_column="t", time_unit=unit))
        assert [(each.start_ns, each.values.tolist()) for each in found] == [(START, [[1, 2, 3]])]
        own = ParquetOptions(name="x", path=str(path), time_column="t", time_unit=unit)  # type: ignore[arg-type]
        assert told_rate(own) == pytest.approx(1.0)

    def test_days(self, path: Path) -> None:
        """A row a day."""
        write(path, {"t": [date(2024, 1, 1), date(2024, 1, 2)], "v": [1, 2]})
        found = samples(events(path, ["v"], 1 / 86_400, time_column="t"))
        assert found[0].values.tolist() == [[1, 2]]

    def test_machines_and_numbers_as_labels(self, path: Path) -> None:
        """Integers name machines too; a label that is missing is none."""
        write(path, {"v": [1, 2, 3], "m": [7, 7, 8], "life": [3.0, 2.0, None]})
        found = events(path, ["v"], unit_column="m", label_column="life", label_kind="number")
        assert [(each.run, each.unit) for each in samples(found)] == [
            ("line7-7", "7"), ("line7-8", "8")
        ]  # fmt: skip
        labels = [each for each in found if isinstance(each, LabelInterval)]
        assert labels == [
            LabelInterval("line7-7", START, START + SECOND, start_value=3.0, end_value=2.0)
        ]

    def test_rates(self, path: Path) -> None:
        """Of the option; else the file tells none."""
        write(path, {"v": [1.0]})
        assert told_rate(ParquetOptions(name="x", path=str(path))) == 0.0
        assert told_rate(ParquetOptions(name="x", path=str(path), rate_hz=5.0)) == 5.0
        with pytest.raises(DataError, match="has 5 samples per second, the job wants 2"):
            list(read(ParquetOptions(name="x", path=str(path), rate_hz=5.0), ["v"], 2.0))


class TestBounds:
    def test_memory_is_bounded(self, path: Path) -> None:
        """By a piece of a column, not by the file."""
        values = np.random.default_rng(1).random(2_000_000)
        write(path, {"a": values, "b": values}, row_group_size=500_000, data_page_size=1 << 16)
        before = pa.default_memory_pool().bytes_allocated()
        most = count = 0
        for event in read(ParquetOptions(name="x", path=str(path)), ["a"], 1.0):
            most = max(most, pa.default_memory_pool().bytes_allocated() - before)
            count += event.values.shape[1] if isinstance(event, Samples) else 0
        assert count == 2_000_000
        assert most < 8 << 20
        assert pa.default_memory_pool().bytes_allocated() == before

    def test_row_groups_that_are_too_large_are_refused(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before anything of them is read."""
        monkeypatch.setattr(reader, "LARGEST_GROUP", 10_000)
        write(path, {"a": np.arange(5000.0)})
        with pytest.raises(DataError, match="row group 0 has more than") as caught:
            events(path, ["a"])
        assert "smaller row groups" in caught.value.remedy
        write(path, {"a": np.arange(5000.0)}, row_group_size=500)
        assert samples(events(path, ["a"]))

    def test_too_deep(self, path: Path) -> None:
        """Columns in columns in columns."""
        kind = pa.int32()
        for _ in range(40):
            kind = pa.struct([("a", kind)])
        write(path, {"x": pa.nulls(1, kind)})
        with pytest.raises(DataError, match="too deep"):
            events(path, ["x"])


class TestDamage:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"PAR1",
            b"a,b\n1,2\n",
            b"PAR1" + b"\0" * 100 + b"PAR1",
            b"PAR1\xff\xff\xff\x7fPAR1",
        ],
    )
    def test_what_is_no_parquet(self, path: Path, content: bytes) -> None:
        """Names the file and what to do."""
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged, or no Parquet file"):
            events(path, ["a"])

    def test_cut_off(self, path: Path) -> None:
        """At any place."""
        write(path, {"a": np.arange(2000.0)})
        data = path.read_bytes()
        for size in range(0, len(data), 997):
            path.write_bytes(data[:size])
            with pytest.raises(DataError, match="line7"):
                events(path, ["a"])

    def test_values_that_were_changed_are_noticed(self, path: Path) -> None:
        """Where the writer left checksums."""
        write(path, {"a": np.arange(2000.0)}, write_page_checksum=True, use_dictionary=False)
        data = bytearray(path.read_bytes())
        data[3000] ^= 0x55
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"is damaged.*"):
            events(path, ["a"])

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=5))
    def test_changed_bytes(
        self, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
    ) -> None:
        """Are read, or a DataError."""
        path = tmp_path_factory.mktemp("any") / "x.parquet"
        write(path, {"a": np.arange(200.0), "s": ["x"] * 200}, compression="none")
        data = bytearray(path.read_bytes())
        for place, value in changes:
            data[place % len(data)] = value
        path.write_bytes(data)
        with suppress(DataError):
            events(path, ["a"], label_column="s")

    def test_encrypted(self, path: Path) -> None:
        """Says so: an agent has no keys."""

        class Keys(encryption.KmsClient):  # type: ignore[misc]
            def __init__(self, _: Any) -> None:
                super().__init__()

            def wrap_key(self, key: bytes, _name: str) -> str:
                return key.hex()

            def unwrap_key(self, wrapped: str, _name: str) -> bytes:
                return bytes.fromhex(wrapped)

        for plain in (True, False):
            settings_ = encryption.EncryptionConfiguration(
                footer_key="f", column_keys={"c": ["a"]}, plaintext_footer=plain
            )
            how = encryption.CryptoFactory(Keys).file_encryption_properties(
                encryption.KmsConnectionConfig(), settings_
            )
            secret = pa.table({"a": [1.0, 2.0]})
            with pq.ParquetWriter(path, secret.schema, encryption_properties=how) as out:
                out.write_table(secret)
            with pytest.raises(DataError, match="is encrypted") as caught:
                events(path, ["a"])
            assert "without encryption" in caught.value.remedy


def test_without_pyarrow_the_extra_is_named(path: Path) -> None:
    """A gateway that has it not is told what to install, and loads nothing before it reads."""
    code = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from fedmill_agent.sources.parquet import ParquetOptions, read\n"
        "from fedmill_shared.errors import ConfigError\n"
        f"try: list(read(ParquetOptions(name='x', path={str(path)!r}), ['a'], 1.0))\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"pip install fedmill-agent[parquet]" in done.stdout
