# SPDX-License-Identifier: Apache-2.0
"""C-MAPSS engine lives."""

import gzip
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.cmapss import TAGS, CmapssOptions, read
from fedmill_shared.errors import DataError

START = 1_704_067_200_000_000_000
SECOND = 10**9


def row(unit: int, cycle: int) -> str:
    """One line whose column k (from 1) holds ``unit * 1000 + cycle * 100 + k``."""
    cells = " ".join(f"{unit * 1000 + cycle * 100 + k}.5" for k in range(3, 27))
    return f"{unit} {cycle} {cells}  \n"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("cmapss")


@pytest.fixture
def lives(tmp_path: Path) -> Path:
    """Engine 1 lives 3 cycles, engine 2 lives 2."""
    path = tmp_path / "test_FD009.txt.gz"
    rows = [row(1, 1), row(1, 2), row(1, 3), row(2, 1), row(2, 2)]
    path.write_bytes(gzip.compress("".join(rows).encode()))
    return path


def events(path: Path, tags: list[str], **options: object) -> list[Event]:
    """All events at one cycle per second."""
    return list(read(CmapssOptions(name="x", path=str(path), **options), tags, 1.0))


class TestRead:
    def test_literal_events_of_run_to_failure(self, lives: Path) -> None:
        """One run per engine on one time line, counting down to 0."""
        found = events(lives, ["s21", "setting1"])
        first, second = found[0], found[3]
        assert isinstance(first, Samples)
        assert isinstance(second, Samples)
        assert (first.run, first.unit) == ("test_FD009-1", "test_FD009-1")
        assert (first.start_ns, first.period_ns) == (START, SECOND)
        assert first.values.tolist() == [[1126.5, 1226.5, 1326.5], [1103.5, 1203.5, 1303.5]]
        assert second.start_ns == START + 3 * SECOND
        assert second.values.tolist() == [[2126.5, 2226.5], [2103.5, 2203.5]]
        assert found[1] == LabelInterval(
            "test_FD009-1", START, START + 2 * SECOND, start_value=2.0, end_value=0.0
        )
        assert found[2] == RunEnded("test_FD009-1")
        assert found[4] == LabelInterval(
            "test_FD009-2", START + 3 * SECOND, START + 4 * SECOND, start_value=1.0, end_value=0.0
        )

    def test_truth_is_added_in_unit_order(self, lives: Path, tmp_path: Path) -> None:
        """The truth is what is left after the last row, one line per engine."""
        truth = tmp_path / "RUL.txt"
        truth.write_text("112 \n98 \n")
        found = [
            event
            for event in events(lives, ["s1"], truth=str(truth))
            if isinstance(event, LabelInterval)
        ]
        assert [(e.start_value, e.end_value) for e in found] == [(114.0, 112.0), (99.0, 98.0)]

    def test_selected_engines_keep_their_own_truth(self, lives: Path, tmp_path: Path) -> None:
        """Leaving engine 1 out does not shift the truth of engine 2."""
        truth = tmp_path / "RUL.txt"
        truth.write_text("112\n98\n")
        found = events(lives, ["s1"], truth=str(truth), engines=(2,))
        assert len(found) == 3
        assert found[1] == LabelInterval(
            "test_FD009-2", START, START + SECOND, start_value=99.0, end_value=98.0
        )

    def test_every_tag_is_a_column(self, lives: Path) -> None:
        """setting1..3 and s1..21 are columns 3 to 26."""
        first = events(lives, list(TAGS))[0]
        assert isinstance(first, Samples)
        assert first.values[:, 0].tolist() == [1100.5 + k for k in range(3, 27)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty"),
            ("unit cycle\n", "line 1, column 1: 'unit' is not a number"),
            ("1 1 2 3\n", "line 1 has 4 columns"),
            (row(1, 1) + row(2, 1) + row(1, 2), "engine 1 are not together"),
            (row(1, 1) + row(1, 3), "line 2: cycle 3 follows cycle 1"),
            (row(1, 1).replace("1 1 ", "1 1.5 ", 1), "not whole numbers"),
            (row(1, 1).replace("1 1 ", "nan 1 ", 1), "not whole numbers"),
        ],
    )
    def test_foreign_files(self, tmp_path: Path, text: str, message: str) -> None:
        """What is not C-MAPSS is refused with the line."""
        path = tmp_path / "a.txt"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            events(path, ["s1"])

    @pytest.mark.parametrize(
        ("truth", "message"),
        [
            ("1\n", "has 1 lines, .* has 2 engines"),
            ("1\n2\n3\n", "has 3 lines"),
            ("1 2\n3\n", "line 1 is not one number"),
            ("-1\n3\n", "line 1 is not one number"),
            ("nan\n3\n", "line 1 is not one number"),
        ],
    )
    def test_truth_of_another_file(
        self, lives: Path, tmp_path: Path, truth: str, message: str
    ) -> None:
        """A truth that cannot belong to the file is refused before anything is emitted."""
        path = tmp_path / "RUL.txt"
        path.write_text(truth)
        reader = read(CmapssOptions(name="x", path=str(lives), truth=str(path)), ["s1"], 1.0)
        with pytest.raises(DataError, match=message):
            next(reader)

    def test_endless_engine(self, lives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One engine is in memory at a time, so its cycles are bounded."""
        monkeypatch.setattr("fedmill_agent.sources.cmapss.MOST_CYCLES", 2)
        with pytest.raises(DataError, match="an engine of 3 cycles, at most 2"):
            events(lives, ["s1"])

    def test_unknown_engine(self, lives: Path) -> None:
        """An engine that the file does not have is named."""
        with pytest.raises(DataError, match="no engine 7; it has 2"):
            events(lives, ["s1"], engines=(2, 7))


class TestGarbage:
    @given(
        data=st.one_of(st.binary(max_size=100), st.text("12 .e-+naif\n", max_size=200)),
        truth=st.text("12 .e-\n", max_size=10),
    )
    def test_is_a_data_error(self, scratch: Path, data: bytes | str, truth: str) -> None:
        """No file, and no truth, ends in another exception."""
        path, left = scratch / "a.txt", scratch / "rul.txt"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        left.write_text(truth)
        with pytest.raises(DataError):
            events(path, ["s1"], truth=str(left))

    @given(place=st.integers(0, 400), character=st.sampled_from("19 .-e\nnx"))
    def test_one_wrong_character(self, scratch: Path, place: int, character: str) -> None:
        """A damaged file still reads, or it is a DataError."""
        text = row(1, 1) + row(1, 2) + row(2, 1)
        place %= len(text)
        path = scratch / "a.txt"
        path.write_text(text[:place] + character + text[place + 1 :])
        with suppress(DataError):
            assert {type(event) for event in events(path, ["s1"])} == {
                Samples,
                LabelInterval,
                RunEnded,
            }


@pytest.mark.data
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "rows", "truth"),
        [("train_FD001", 20631, ""), ("test_FD001", 13096, "RUL_FD001.txt")],
    )
    def test_counts_of_the_original(
        self, data_folder: Path, name: str, rows: int, truth: str
    ) -> None:
        """100 engines; the test ends with the truth's last line, the training at 0."""
        folder = data_folder / "cmapss"
        found = events(
            folder / f"{name}.txt.gz", ["s2", "s21"], truth=str(folder / truth) if truth else ""
        )
        samples = [event for event in found if isinstance(event, Samples)]
        labels = [event for event in found if isinstance(event, LabelInterval)]
        assert len(samples) == len(labels) == 100
        assert sum(event.values.shape[1] for event in samples) == rows
        assert np.isfinite(np.hstack([event.values for event in samples])).all()
        assert labels[-1].end_value == (20.0 if truth else 0.0)
        assert labels[0].start_value == (142.0 if truth else 191.0)
