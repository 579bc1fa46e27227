# SPDX-License-Identifier: Apache-2.0
"""What the file-based sources share."""

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources import files
from fedmill_shared.errors import DataError


class TestLines:
    @pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "misnamed.txt"])
    def test_reads_plain_and_gzip_by_content(self, tmp_path: Path, name: str) -> None:
        """Gzip is told by its first bytes, and a byte order mark is no text."""
        data = "\ufeffone\r\ntwö".encode()
        path = tmp_path / name
        path.write_bytes(data if name == "a.txt" else gzip.compress(data))
        assert [(n, t.rstrip()) for n, t in files.lines(str(path))] == [(1, "one"), (2, "twö")]

    def test_missing_and_folder_name_the_path(self, tmp_path: Path) -> None:
        """What cannot be opened is a DataError with the path and a remedy."""
        for path in (tmp_path / "none.txt", tmp_path):
            with pytest.raises(DataError, match=str(path)) as caught:
                list(files.lines(str(path)))
            assert caught.value.remedy

    @pytest.mark.parametrize("keep", [3, 5, 12, 20, -1])
    def test_cut_gzip_is_damaged(self, tmp_path: Path, keep: int) -> None:
        """A gzip file that ends early is a DataError, at whatever byte."""
        path = tmp_path / "cut.gz"
        path.write_bytes(gzip.compress(b"1 2 3\n" * 100)[:keep])
        with pytest.raises(DataError, match="damaged"):
            list(files.lines(str(path)))

    def test_binary_garbage_is_no_text(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8 name the line."""
        path = tmp_path / "a.txt"
        path.write_bytes(b"fine\n\xff\xfe\n")
        with pytest.raises(DataError, match="line 2 is not UTF-8"):
            list(files.lines(str(path)))

    def test_line_length_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A line over the bound is refused, one at the bound is read."""
        monkeypatch.setattr(files, "LONGEST_LINE", 10)
        path = tmp_path / "a.txt"
        path.write_text("123456789\n")
        assert len(list(files.lines(str(path)))) == 1
        path.write_text("1234567890\n")
        with pytest.raises(DataError, match="line 1 is longer than 10"):
            list(files.lines(str(path)))


class TestNumbers:
    def test_rows_skip_empty_lines_and_keep_numbers_of_lines(self, tmp_path: Path) -> None:
        """Blank lines count, but are no rows."""
        path = tmp_path / "a.txt"
        path.write_text("1 2e1  \n\n -3 nan\n")
        rows = list(files.number_rows(str(path)))
        assert rows[0] == (1, [1.0, 20.0])
        assert rows[1][0] == 3
        assert math.isnan(rows[1][1][1])

    @pytest.mark.parametrize("text", ["x", "1,5", "inf", "-Infinity", "1_000", ""])
    def test_bad_cell_names_place_and_value(self, text: str) -> None:
        """File, line, column and value are in the message."""
        with pytest.raises(DataError) as caught:
            files.cell_number("f.csv", 7, "pressure", text)
        assert f"f.csv: line 7, column pressure: {text!r}" in str(caught.value)


class TestRates:
    @given(st.floats(1e-3, 1e6), st.integers(1, 10_000))
    def test_whole_multiples_of_the_jobs_rate_fit(self, job_hz: float, factor: int) -> None:
        """Whatever rounding has done to them."""
        assert files.rate_factor("f", job_hz * factor, job_hz) == factor
        assert files.rate_factor("f", job_hz * factor * (1 + 1e-9), job_hz) == factor

    @given(st.floats(1e-3, 1e6))
    def test_a_file_that_tells_no_rate_has_that_of_the_job(self, job_hz: float) -> None:
        """0 stands for none."""
        assert files.rate_factor("f", 0.0, job_hz) == 1

    @pytest.mark.parametrize("file_hz", [15.0, 5.0, 9.99, 10.001, 1e-9])
    def test_other_rates_name_both(self, file_hz: float) -> None:
        """A half is no whole multiple, nor is a file that is slower than the job."""
        with pytest.raises(DataError, match=f"f: has {file_hz:g} samples per second") as caught:
            files.rate_factor("f", file_hz, 10.0)
        assert "the job wants 10" in str(caught.value)


class TestNames:
    def test_positions_follow_the_order_of_the_tags(self) -> None:
        """A tag may stand twice."""
        assert files.positions("f", ["c", "a", "c"], ["a", "b", "c"]) == [2, 0, 2]

    def test_unknown_and_double_tags_list_what_there_is(self) -> None:
        """The message helps to correct the mapping."""
        with pytest.raises(DataError, match="no tag 'x'; tags are a, b"):
            files.positions("f", ["x"], ["a", "b"])
        with pytest.raises(DataError, match="more than one tag 'a'"):
            files.positions("f", ["a"], ["a", "a"])

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("a/train_FD001.txt.gz", "train_FD001"), ("OR007@6_0.mat", "OR007@6_0"), ("x", "x")],
    )
    def test_stem_drops_folder_and_extensions(self, path: str, expected: str) -> None:
        """What a run is named after."""
        assert files.stem(path) == expected

    def test_shorten_cuts_long_lists(self) -> None:
        """A message does not list a thousand columns."""
        assert files.shorten(["a", "b", "c"], 2) == "a, b and 1 more"
