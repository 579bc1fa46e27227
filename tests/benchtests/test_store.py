# SPDX-License-Identifier: Apache-2.0
"""The bench of the stores: what it makes of what it finds, and a small real run with 20 kills."""

import random
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from tests.bench import recorder, store
from tests.benchtests.measured import measured

from fedmill_agent.sources.live import Readings
from fedmill_shared.errors import UsageError


def a_recording(folder: Path, commits: int, *, spoil: int | None = None) -> None:
    """What the program leaves after some commits; value number ``spoil`` is another one."""
    times = np.arange(commits * recorder.SAMPLES)
    values = recorder.values_of(times)
    if spoil is not None:
        values[spoil] += 1
    with recorder.samples_at(folder) as samples, recorder.windows_at(folder) as windows:
        samples.append([Readings("v", times, values, np.full(len(times), 192, np.uint16), 0)])
        samples.commit()
        for number in range(commits):
            recorder.add_windows(windows, number * recorder.WINDOWS)


class TestLooked:
    def safe(self, samples: int, windows: int) -> tuple[int, int]:
        """What was acknowledged after so many commits of each."""
        return samples * recorder.SAMPLES, windows * recorder.WINDOWS

    def test_all_is_there(self, tmp_path: Path) -> None:
        """Also where the program died before it could say so."""
        a_recording(tmp_path, 5)
        for safe in (self.safe(5, 5), self.safe(4, 4), self.safe(5, 4)):
            found = store.looked(tmp_path, safe)
            assert (found.samples_lost, found.windows_lost, found.wrong) == (0, 0, 0)
            assert found.samples_seconds > 0 < found.windows_seconds

    def test_what_is_lost_is_counted(self, tmp_path: Path) -> None:
        """A commit of each was acknowledged and is not there."""
        a_recording(tmp_path, 5)
        found = store.looked(tmp_path, self.safe(6, 6))
        assert (found.samples_lost, found.windows_lost) == self.safe(1, 1)
        assert found.wrong == 2

    def test_more_than_can_be_is_wrong(self, tmp_path: Path) -> None:
        """Two commits that nobody heard of: the program says each."""
        a_recording(tmp_path, 5)
        assert store.looked(tmp_path, self.safe(3, 3)).wrong == 2

    def test_a_wrong_value_is_counted(self, tmp_path: Path) -> None:
        """One among the last, seen after every kill; one among the first, seen at the end."""
        a_recording(tmp_path, 30, spoil=30 * recorder.SAMPLES - 7)
        assert store.looked(tmp_path, self.safe(30, 30)).wrong == 1
        (tmp_path / "early").mkdir()
        a_recording(tmp_path / "early", 30, spoil=7)
        assert store.looked(tmp_path / "early", self.safe(30, 30)).wrong == 0
        assert store.whole(tmp_path / "early").wrong == 1

    def test_a_damaged_store_is_wrong(self, tmp_path: Path) -> None:
        """It opens, empty, and everything that was safe is lost."""
        a_recording(tmp_path, 5)
        (tmp_path / "samples.sqlite").write_bytes(b"noise" * 1000)
        found = store.looked(tmp_path, self.safe(5, 5))
        assert found.samples_lost == 5 * recorder.SAMPLES
        assert found.wrong >= 2


class TestFigures:
    good = store.Recovery(0.01, 0.02, 0, 0, 0)

    def test_nothing_may_be_lost_or_wrong(self) -> None:
        """One row is enough to fail; so is one that only the last look found."""
        spoilt = store.Recovery(0.01, 0.02, 1, 2, 0)
        figures = {each.name: each for each in store.recoveries([self.good, spoilt, self.good])}
        assert figures["kills"].value == 2
        assert figures["acknowledged rows lost"].value == 3
        assert not figures["acknowledged rows lost"].ok
        last = store.Recovery(0, 0, 0, 0, 5)
        figures = {each.name: each for each in store.recoveries([self.good, last])}
        assert figures["rows that are wrong"].value == 5
        assert not figures["rows that are wrong"].ok

    def test_slow_recoveries(self) -> None:
        """The 99th percentile has a target, the median has none."""
        found = [self.good] * 98 + [store.Recovery(9.0, 0.02, 0, 0, 0)] * 3
        figures = {each.name: each for each in store.recoveries(found)}
        assert figures["samples: open after a kill, p50"].value == 0.01
        assert not figures["samples: open after a kill, p99"].ok
        assert figures["windows: open after a kill, p99"].ok

    def test_a_stream(self) -> None:
        """Rates, bytes and share of a core, each by its definition."""
        shape = store.SHAPES[0]
        found = store.Written(100, 1_200_000, 0.5, 0.25, 8.1, 2_000_000)
        figures = [each.value for each in store.figures_of(shape, found)]
        assert figures == [200.0, 2_400_000.0, 8.1, 0.25, 20_000.0]
        assert all(each.ok for each in store.figures_of(shape, found))

    @pytest.mark.parametrize("shape", store.SHAPES, ids=lambda shape: shape.name)
    def test_streams_are_what_they_are_called(self, shape: store.Shape) -> None:
        """So many tags and samples in a second, in the order of arrival, without overlap."""
        batch = store.second_of(shape, 7, np.random.default_rng(0))
        assert len({each.tag for each in batch}) == shape.tags
        assert sum(map(len, batch)) == shape.tags * shape.blocks * shape.samples
        arrived = [each.arrived_ns for each in batch]
        assert arrived == sorted(arrived)
        times = np.sort(np.concatenate([each.times_ns for each in batch]))
        assert times[0] >= store.NOW + 7 * store.SECOND > times[-1] - store.SECOND


class TestRun:
    @pytest.mark.parametrize("changes", [{"kills": 0}, {"seconds": 0}])
    def test_impossible_options(self, changes: dict[str, int], tmp_path: Path) -> None:
        """They are refused before anything is started."""
        options = {"kills": 1, "seconds": 1, "seed": 0, "folder": tmp_path / "run"} | changes
        with pytest.raises(UsageError):
            store.run(Namespace(**options))
        assert not (tmp_path / "run").exists()

    def test_a_program_that_dies_before_it_has_done_anything(self, tmp_path: Path) -> None:
        """Killed while it opens: nothing was promised, nothing is lost."""
        generator = random.Random(0)
        generator.uniform = lambda *_: 0.0  # type: ignore[method-assign]
        [found] = store.killed(tmp_path, 1, generator)
        assert (found.samples_lost, found.windows_lost, found.wrong) == (0, 0, 0)

    @pytest.mark.slow
    def test_twenty_kills(self, tmp_path: Path) -> None:
        """Nothing acknowledged is lost, whatever the machine makes of the seconds."""
        size = ["--kills", "20", "--seconds", "60", "--folder", str(tmp_path / "run")]
        figures = measured("store", *size)
        assert figures["kills"].value == 20
        assert figures["acknowledged rows lost"].value == 0
        assert figures["rows that are wrong"].value == 0
        assert figures["1 tag, 12 kHz: bytes of a sample"].ok
