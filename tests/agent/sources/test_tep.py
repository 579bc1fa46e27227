# SPDX-License-Identifier: Apache-2.0
"""Tennessee Eastman recordings."""

import gzip
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources import tep
from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.tep import TAGS, TepOptions, read
from fedmill_shared.errors import DataError

START = 1_704_067_200_000_000_000
STEP = 180 * 10**9


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("tep")


def events(path: Path, tags: list[str], **options: object) -> list[Event]:
    """All events at one row in three minutes."""
    return list(read(TepOptions(name="x", path=str(path), **options), tags, 1 / 180))


def write(path: Path, table: np.ndarray) -> Path:
    """``table`` as blank-separated text."""
    np.savetxt(path, table, fmt="%16.7e")
    return path


def table(rows: int) -> np.ndarray:
    """Row r, column c holds ``100 r + c``, both from 1."""
    return 100.0 * np.arange(1, rows + 1)[:, np.newaxis] + np.arange(1, 53)


class TestRead:
    def test_literal_events(self, tmp_path: Path) -> None:
        """Rows first_row to last_row, both included, with their class."""
        path = write(tmp_path / "d04_te.dat", table(6))
        found = events(path, ["xmv1", "xmeas1"], label="fault 4", first_row=3, last_row=5)
        assert isinstance(found[0], Samples)
        assert (found[0].run, found[0].unit) == ("d04_te-3-5", "d04_te")
        assert (found[0].start_ns, found[0].period_ns) == (START, STEP)
        assert found[0].values.tolist() == [[342.0, 442.0, 542.0], [301.0, 401.0, 501.0]]
        assert found[1:] == [
            LabelInterval("d04_te-3-5", START, START + 2 * STEP, text="fault 4"),
            RunEnded("d04_te-3-5"),
        ]

    def test_without_label_no_interval(self, tmp_path: Path) -> None:
        """An unlabelled recording only has samples and an end."""
        found = events(write(tmp_path / "a.dat", table(2)), ["xmeas1"], run="r", unit="u")
        assert [type(event) for event in found] == [Samples, RunEnded]
        assert (found[0].run, found[0].unit) == ("r", "u")

    @pytest.mark.parametrize("rows", [1, 51, 53, 500])
    def test_both_layouts_are_the_same(self, tmp_path: Path, rows: int) -> None:
        """A transposed file gives what the plain one gives."""
        plain = events(write(tmp_path / "a.dat", table(rows)), list(TAGS))[0]
        turned = events(write(tmp_path / "b.dat", table(rows).T), list(TAGS))[0]
        assert isinstance(plain, Samples)
        assert isinstance(turned, Samples)
        assert np.array_equal(plain.values, turned.values)
        assert np.array_equal(plain.values, table(rows).T)

    def test_square_file_is_not_transposed(self, tmp_path: Path) -> None:
        """52 x 52 has rows in lines, as the module says."""
        first = events(write(tmp_path / "a.dat", table(52)), ["xmeas2"])[0]
        assert isinstance(first, Samples)
        assert first.values[0, :2].tolist() == [102.0, 202.0]

    def test_gzip(self, tmp_path: Path) -> None:
        """The compressed file is the same recording."""
        plain = write(tmp_path / "a.dat", table(3))
        packed = tmp_path / "a.dat.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        assert str(events(plain, ["xmeas1"])) == str(events(packed, ["xmeas1"]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "message"),
        [((10, 51), "51 columns and 10 lines"), ((60, 51), "51 columns and more than 52 lines")],
    )
    def test_neither_layout(self, tmp_path: Path, shape: tuple[int, int], message: str) -> None:
        """A table that is 52 wide neither way is refused."""
        with pytest.raises(DataError, match=message):
            events(write(tmp_path / "a.dat", np.ones(shape)), ["xmeas1"])

    def test_ragged_and_empty(self, tmp_path: Path) -> None:
        """A line of another length is named; so is a file without any."""
        path = tmp_path / "a.dat"
        path.write_text("1 " * 52 + "\n" + "1 " * 40 + "\n")
        with pytest.raises(DataError, match="line 2 has 40 columns, line 1 has 52"):
            events(path, ["xmeas1"])
        path.write_text("\n\n")
        with pytest.raises(DataError, match="is empty"):
            events(path, ["xmeas1"])

    @pytest.mark.parametrize(("first", "last"), [(7, 0), (1, 7), (7, 9)])
    def test_rows_beyond_the_end(self, tmp_path: Path, first: int, last: int) -> None:
        """Rows that are not there are refused with the number of rows."""
        path = write(tmp_path / "a.dat", table(6))
        with pytest.raises(DataError, match="has 6 rows"):
            events(path, ["xmeas1"], first_row=first, last_row=last)

    def test_reversed_rows_do_not_decode(self) -> None:
        """The configuration is refused when it is read."""
        raw = {"kind": "tep", "name": "x", "path": "y", "first_row": 5, "last_row": 4}
        with pytest.raises(msgspec.ValidationError, match="last_row"):
            msgspec.convert(raw, TepOptions)

    def test_rows_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file of more rows than memory should hold is refused."""
        path = write(tmp_path / "a.dat", table(6))
        monkeypatch.setattr(tep, "MOST_ROWS", 5)
        with pytest.raises(DataError, match="more than 5 rows"):
            events(path, ["xmeas1"])
        monkeypatch.setattr(tep, "MOST_ROWS", 6)
        assert len(events(path, ["xmeas1"])) == 2


class TestGarbage:
    @given(
        data=st.one_of(
            st.binary(max_size=100),
            st.text("12 .e-+naif\n", max_size=200),
            st.lists(st.integers(0, 60), max_size=4).map(
                lambda widths: "".join("1 " * width + "\n" for width in widths)
            ),
        ),
    )
    def test_is_events_or_a_data_error(self, scratch: Path, data: bytes | str) -> None:
        """No file ends in another exception."""
        path = scratch / "a.dat"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        with suppress(DataError):
            first = events(path, ["xmeas1"])[0]
            assert isinstance(first, Samples)
            assert first.values.shape[0] == 1


@pytest.mark.data
class TestRealFiles:
    @pytest.mark.parametrize(("name", "rows"), [("d00", 500), ("d01", 480), ("d01_te", 960)])
    def test_the_original_quirks(self, data_folder: Path, name: str, rows: int) -> None:
        """d00 is transposed; either way XMEAS(9), the reactor temperature, is about 120 degC."""
        first = events(data_folder / "tep" / f"{name}.dat.gz", ["xmeas9", "xmv11"])[0]
        assert isinstance(first, Samples)
        assert first.values.shape == (2, rows)
        assert np.all(np.abs(first.values[0] - 120.4) < 1.0)
