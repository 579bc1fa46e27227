# SPDX-License-Identifier: Apache-2.0
"""MATLAB recordings as a source."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.io import savemat

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.mat import MatOptions, read
from fedmill_shared.errors import DataError
from fedmill_shared.signals.resample import decimate

DRIVE = np.arange(20_000.0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file as the CWRU data centre makes them."""
    path = tmp_path / "IR007_1.mat"
    content = {
        "X106_DE_time": DRIVE[:, np.newaxis],
        "X106_FE_time": -DRIVE[:, np.newaxis],
        "X106RPM": 1772,
        "X106_note": "inner race",
        "table": np.ones((3, 4)),
    }
    savemat(path, content, do_compression=True)
    return path


def events(path: Path, tags: list[str], rate_hz: float = 1000.0, **options: object) -> list[Event]:
    """All events of a job at ``rate_hz``; the option of that name is ``file_hz``."""
    options["rate_hz"] = options.pop("file_hz", 0.0)
    return list(read(MatOptions(name="x", path=str(path), **options), tags, rate_hz))


def values(found: list[Event]) -> np.ndarray:
    """All samples, (tags, n)."""
    return np.hstack([event.values for event in found if isinstance(event, Samples)])


class TestRead:
    def test_patterns_choose_the_variables(self, recording: Path) -> None:
        """Tags are in the asked order, cut into chunks, labelled and ended."""
        found = events(recording, ["*_FE_time", "X???_DE_time"], label="inner")
        assert [e.values.shape for e in found if isinstance(e, Samples)] == [
            (2, 8192),
            (2, 8192),
            (2, 3616),
        ]
        np.testing.assert_array_equal(values(found), [-DRIVE, DRIVE])
        start = 1_704_067_200_000_000_000
        assert found[-2:] == [
            LabelInterval("IR007_1", start, start + 19_999_000_000, text="inner"),
            RunEnded("IR007_1"),
        ]

    def test_parts_join_without_overlap(self, recording: Path) -> None:
        """Fractions that meet divide the recording; the run is named after its part."""
        bounds = [0.0, 0.123456, 0.5, 1.0]
        parts = [
            events(recording, ["*DE*"], begin=begin, end=end) for begin, end in pairwise(bounds)
        ]
        np.testing.assert_array_equal(np.hstack([values(part)[0] for part in parts]), DRIVE)
        assert [part[0].run for part in parts] == [
            "IR007_1-0-0.123456",
            "IR007_1-0.123456-0.5",
            "IR007_1-0.5-1",
        ]
        assert {part[0].unit for part in parts if isinstance(part[0], Samples)} == {"IR007_1"}

    def test_higher_rate_is_decimated(self, recording: Path) -> None:
        """A whole multiple of the job's rate goes through the anti-aliasing filter."""
        found = events(recording, ["*DE*"], rate_hz=1000.0, file_hz=4000.0, begin=0.5)
        assert isinstance(found[0], Samples)
        assert found[0].period_ns == 1_000_000
        np.testing.assert_array_equal(values(found), decimate(DRIVE[np.newaxis, 10_000:], 4))

    def test_names_can_be_given(self, recording: Path) -> None:
        """`run` and `unit` replace the names taken from the file."""
        first = events(recording, ["*DE*"], run="r", unit="u", end=0.1)[0]
        assert isinstance(first, Samples)
        assert (first.run, first.unit) == ("r", "u")


class TestRefusals:
    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            (["vibration"], "'vibration' matches no variable; variables are X106_DE_time .20000x1"),
            (["*_time"], r"more than one variable \(X106_DE_time .*, X106_FE_time"),
            (["*_note"], "matches no real numbers but X106_note .* char"),
            (["x106_de_time"], "matches no variable"),
            (["table"], "table .3x4 double. is not one series"),
            (["*DE*", "*RPM"], "are not equally long"),
        ],
    )
    def test_tags_that_do_not_fit(self, recording: Path, tags: list[str], message: str) -> None:
        """The message lists what the file has."""
        with pytest.raises(DataError, match=message):
            events(recording, tags)

    @pytest.mark.parametrize("file_hz", [500.0, 1500.0, 999.0])
    def test_rates_that_do_not_divide(self, recording: Path, file_hz: float) -> None:
        """Neither up-sampling nor a broken ratio."""
        with pytest.raises(DataError, match=f"has {file_hz:g} samples per second"):
            events(recording, ["*DE*"], file_hz=file_hz)

    def test_empty_part(self, recording: Path, tmp_path: Path) -> None:
        """A part without a sample, or an empty variable, is refused."""
        with pytest.raises(DataError, match=r"no samples between 0\.5 and 0\.50001 of 20000"):
            events(recording, ["*DE*"], begin=0.5, end=0.50001)
        savemat(tmp_path / "empty.mat", {"a": np.zeros((0, 1))})
        with pytest.raises(DataError, match="no samples"):
            events(tmp_path / "empty.mat", ["a"])

    def test_too_much_for_memory(self, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All tags together are bounded, before anything is read."""
        monkeypatch.setattr("fedmill_agent.sources.mat.LARGEST_VARIABLE", 8 * 20_000)
        assert len(events(recording, ["*DE*", "*DE*"])) == 4
        with pytest.raises(DataError, match="all tags need more than 160000 bytes"):
            events(recording, ["*DE*", "*FE*"])

    def test_begin_after_end_does_not_decode(self) -> None:
        """The configuration is refused when it is read."""
        raw = {"kind": "mat", "name": "x", "path": "y", "begin": 0.7, "end": 0.7}
        with pytest.raises(msgspec.ValidationError, match="begin"):
            msgspec.convert(raw, MatOptions)


@pytest.mark.data
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "file_hz", "count"),
        [("12k_DE/IR007_0", 12_000.0, 121_265), ("normal/Normal_0", 48_000.0, 60_985)],
    )
    def test_cwru_at_12_khz(self, data_folder: Path, name: str, file_hz: float, count: int) -> None:
        """Faults are recorded at 12 kHz, the healthy bearing at 48 kHz."""
        path = data_folder / "cwru" / f"{name}.mat"
        found = values(events(path, ["*_DE_time"], rate_hz=12_000.0, file_hz=file_hz))
        assert found.shape == (1, count)
        assert 0.01 < found.std() < 1.0
