# SPDX-License-Identifier: Apache-2.0
"""When a disk fills: closed forms for the prediction, a gauge of ours for what is said of it."""

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.kit import Journal
from tests.small_disk import MIB, small_disk

from fedmill_agent.store.space import (
    FARTHEST,
    LEAST_READINGS,
    DiskStatus,
    DiskWatch,
    free_and_total,
    seconds_until,
)
from fedmill_shared.clock import ManualClock

GB = 10**9
MINUTE, HOUR = 60.0, 3600.0


class TestSecondsUntil:
    @given(
        st.floats(1.0, 1e7),
        st.floats(0.0, 1e11),
        st.floats(1.0, 600.0),
        st.integers(LEAST_READINGS, 60),
    )
    def test_a_straight_line(self, rate: float, floor: float, step: float, readings: int) -> None:
        """What falls by ``rate`` a second from a known height: the schoolbook's answer."""
        times = [step * n for n in range(readings)]
        height = floor + rate * (times[-1] + 3 * step)
        free = [height - rate * moment for moment in times]
        assert seconds_until(times, free, floor) == pytest.approx(3 * step, rel=1e-4)

    def test_up_to_29_percent_may_be_anything(self) -> None:
        """A backup that is there for some minutes changes nothing."""
        times = np.arange(0.0, 600.0, 10.0)
        free = 10 * GB - 1e6 * times
        spoilt = free.copy()
        spoilt[20:36] -= 5 * GB
        clean = seconds_until(times.tolist(), free.tolist(), 9 * GB)
        assert clean == pytest.approx(410.0, rel=1e-6)
        found = seconds_until(times.tolist(), spoilt.tolist(), 9 * GB)
        assert found == pytest.approx(clean, rel=0.02)

    def test_noise_around_a_level_is_no_alarm(self) -> None:
        """Files come and go by megabytes, nothing grows: nobody is told anything."""
        generator = np.random.default_rng(7)
        for _ in range(50):
            times = np.arange(0.0, 600.0, 10.0)
            free = 50 * GB + 1e7 * generator.normal(size=60)
            assert seconds_until(times.tolist(), free.tolist(), 0.2 * GB) is None

    @given(st.integers(0, 60), st.integers(-1, 1))
    def test_one_large_file_that_stays_is_no_trend(self, place: int, drift: int) -> None:
        """Wherever in the memory it came."""
        times = np.arange(0.0, 600.0, 10.0)
        free = 10 * GB + drift * 100.0 * times
        free[place:] -= 8 * GB
        assert seconds_until(times.tolist(), free.tolist(), GB) is None

    @pytest.mark.parametrize("rate", [0.0, -1e6])
    def test_what_does_not_fall_never_arrives(self, rate: float) -> None:
        """Level, or rising."""
        times = [10.0 * n for n in range(10)]
        assert seconds_until(times, [GB - rate * moment for moment in times], 0.0) is None

    def test_below_the_floor_is_now(self) -> None:
        """Also where it rises."""
        times = [10.0 * n for n in range(10)]
        assert seconds_until(times, [1e6 + moment for moment in times], 1e9) == 0.0

    def test_too_little_to_go_by(self) -> None:
        """A few readings, or all of one moment."""
        few = [float(n) for n in range(LEAST_READINGS - 1)]
        assert seconds_until(few, [100 - n for n in few], 0.0) is None
        assert seconds_until([5.0] * 9, [float(n) for n in range(9)], -1.0) is None

    def test_it_does_not_tell_farther_than_it_can_see(self) -> None:
        """Twelve times the span, and not a second more."""
        times = [10.0 * n for n in range(11)]
        free = [100.0 - moment for moment in times]
        edge = free[-1] - FARTHEST * 100.0
        assert seconds_until(times, free, edge) == pytest.approx(1200.0)
        assert seconds_until(times, free, edge - 1.0) is None


class Disk:
    """A disk whose free space is what a test says."""

    def __init__(self, free: float, total: float = 100 * GB) -> None:
        self.free, self.total = free, total
        self.broken = False

    def __call__(self, _folder: Path) -> tuple[int, int]:
        """What it tells."""
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return int(self.free), int(self.total)


class Watch:
    """A watch over such a disk, and what it says."""

    def __init__(self, disk: Disk, floor: int = GB) -> None:
        self.disk, self.clock, self.journal = disk, ManualClock(), Journal()
        folder = Path("/state")
        self.watch = DiskWatch(folder, floor, self.clock, self.journal, gauge=disk)

    def run(self, seconds: float, rate: float = 0.0) -> None:
        """Let time pass while ``rate`` bytes a second are used up."""
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            self.disk.free -= rate
            self.watch.tick()

    @property
    def status(self) -> DiskStatus:
        """What people see."""
        found = self.watch.status()
        assert found is not None
        return found


class TestLevel:
    def test_down_and_up_again(self) -> None:
        """Low below the floor, scarce below half; each is left with a margin of 5 %."""
        watch = Watch(Disk(2 * GB))
        seen = []
        for free in (1.0, 0.99, 1.04, 0.51, 0.49, 0.52, 0.53, 1.04, 1.06):
            watch.disk.free = free * GB
            watch.run(1)
            seen.append(watch.watch.level())
        expected = "ample low low low scarce scarce low low ample"
        assert seen == expected.split()
        assert len(watch.journal.of("disk.floor")) == len(watch.journal.of("disk.ample")) == 1
        assert watch.journal.of("disk.floor")[0]["floor_bytes"] == GB

    def test_it_is_told_at_the_start(self) -> None:
        """The first look is the constructor's."""
        watch = Watch(Disk(0.7 * GB))
        assert watch.watch.level() == "low"
        assert watch.journal.of("disk.floor") != []

    def test_a_small_disk_has_a_small_floor(self) -> None:
        """A tenth of it: an agent on 24 MB works."""
        watch = Watch(Disk(20e6, 24e6))
        assert (watch.watch.level(), watch.status.floor_bytes) == ("ample", 2_400_000)

    def test_no_floor(self) -> None:
        """0 switches it off; that the disk fills is still foreseen."""
        watch = Watch(Disk(1e6), floor=0)
        assert watch.watch.level() == "ample"
        watch.run(300, 1000.0)
        assert watch.status.hours == pytest.approx(700 / 3600, abs=0.02)

    def test_a_disk_that_does_not_tell(self) -> None:
        """Nothing is given up on a guess, and nothing is shown."""
        watch = Watch(Disk(0.1 * GB))
        watch.disk.broken = True
        watch.run(1)
        assert (watch.watch.level(), watch.watch.status()) == ("ample", None)
        watch.disk.broken = False
        watch.run(1)
        assert watch.watch.level() == "scarce"

    def test_it_looks_once_a_second(self) -> None:
        """However often it is asked."""
        watch = Watch(Disk(2 * GB))
        watch.disk.free = 0
        watch.watch.tick()
        assert watch.watch.level() == "ample"
        watch.run(1)
        assert watch.watch.level() == "scarce"


class TestFilling:
    def test_a_log_that_runs_away(self) -> None:
        """Ten megabytes a second: foreseen within two minutes, said once."""
        watch = Watch(Disk(10 * GB))
        watch.run(120, 10e6)
        assert watch.status.hours == pytest.approx((9 * GB - 120 * 10e6) / 10e6 / HOUR, abs=0.02)
        watch.run(300, 10e6)
        [warning] = watch.journal.of("disk.filling")
        assert 0.1 < warning["hours"] < 0.3
        assert warning["floor_bytes"] == GB

    def test_slow_growth_is_seen_by_the_long_memory(self) -> None:
        """2 GB a day with 1.5 GB to go: ten minutes are too short to say so, hours are not."""
        watch = Watch(Disk(2.5 * GB))
        rate = 2 * GB / 86400
        watch.run(30 * MINUTE, rate)
        assert watch.journal.of("disk.filling") == []
        watch.run(3 * HOUR, rate)
        [warning] = watch.journal.of("disk.filling")
        assert warning["hours"] == pytest.approx(16.5, abs=2.0)

    def test_said_again_only_after_it_was_over(self) -> None:
        """A clean-up ends the alarm; the next one is said anew."""
        watch = Watch(Disk(10 * GB))
        watch.run(300, 10e6)
        watch.disk.free = 90 * GB
        watch.run(1200)
        assert watch.status.hours is None
        assert len(watch.journal.of("disk.filling")) == 1
        watch.disk.free = 10 * GB
        watch.run(1200)
        watch.run(300, 10e6)
        assert len(watch.journal.of("disk.filling")) == 2

    def test_a_file_that_is_there_for_a_minute(self) -> None:
        """Three gigabytes come and go: no alarm."""
        watch = Watch(Disk(8 * GB))
        watch.run(600)
        watch.run(60, 50e6)
        watch.disk.free += 3 * GB
        watch.run(600)
        assert watch.journal.entries == []


class TestRealDisk:
    def test_what_is_written_is_missed(self, tmp_path: Path) -> None:
        """Free and total are those of the disk that holds the folder."""
        with small_disk(tmp_path / "disk", 8 * MIB) as disk:
            assert free_and_total(disk.folder) == (8 * MIB, 8 * MIB)
            watch = DiskWatch(disk.folder, GB, ManualClock(), Journal())
            assert watch.level() == "ample"
            (disk.folder / "recording").write_bytes(bytes(7_700_000))
            free, _ = free_and_total(disk.folder)
            assert free == pytest.approx(8 * MIB - 7_700_000, abs=8192)
            watch = DiskWatch(disk.folder, GB, ManualClock(), Journal())
            assert watch.level() == "low"
