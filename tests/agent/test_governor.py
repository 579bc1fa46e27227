# SPDX-License-Identifier: Apache-2.0
"""When training may run, and what is read from the kernel's files."""

import calendar
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmill_agent.config import TrainingSection
from fedmill_agent.governor import Gauge, Governor, Machine, why_not
from fedmill_shared.clock import Clock, ManualClock, SystemClock

IDLE = Machine(
    cpu_percent=1.0,
    available_bytes=800_000_000,
    temperature_celsius=40.0,
    weekday=0,
    minute=600,
)
UNKNOWN = replace(IDLE, cpu_percent=None, available_bytes=None, temperature_celsius=None)
STRICT = TrainingSection(
    max_cpu_percent=80,
    min_free_bytes=500_000_000,
    max_temperature_celsius=75,
    max_pressure_percent=10,
    shifts=["mon-fri 06:00-14:00", "sat 22:00-06:00"],
)


class Dial:
    """A machine that a test sets."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.reads = 0

    def read(self, clock: Clock) -> Machine:
        """What was set."""
        self.reads += 1
        return self.machine


@pytest.fixture
def place() -> Iterator[str]:
    """A time zone with summer time, whatever the machine's is."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield os.environ["TZ"]
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The kernel's files of a small gateway."""
    zones = tmp_path / "sys/class/thermal"
    for number, text in enumerate(["41500\n", "63250\n", "-274000\n", "broken\n", "999000\n"]):
        (zones / f"thermal_zone{number}").mkdir(parents=True)
        (zones / f"thermal_zone{number}/temp").write_text(text)
    (zones / "thermal_zone9/temp").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal:  948304 kB\nMemFree:  91000 kB\nMemAvailable:  512000 kB\n"
    )
    ticks(tmp_path, user=100, nice=100, idle=800)
    return tmp_path


def ticks(root: Path, **counters: int) -> None:
    """Write the processor counters of proc(5)."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    fields = [counters.get(name, 0) for name in names]
    line = " ".join(map(str, [*fields, 0, 0]))
    (root / "proc/stat").write_text(f"cpu  {line}\ncpu0 {line}\nintr 12\n")


class TestWhyNot:
    def test_by_default_an_idle_machine_trains(self) -> None:
        """At any time, however hot or busy; only memory is protected."""
        settings = TrainingSection()
        busy = replace(IDLE, cpu_percent=100.0, temperature_celsius=99.0, weekday=6, minute=0)
        assert why_not(settings, busy) == ""
        low = replace(IDLE, available_bytes=299_999_999)
        assert why_not(settings, low) == "299 MB of memory free, at least 300 MB wanted"

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({}, ""),
            ({"cpu_percent": 80.0}, ""),
            ({"cpu_percent": 80.1}, "processor at 80.1 %, at most 80 % wanted"),
            ({"cpu_percent": 93.0}, "processor at 93 %, at most 80 % wanted"),
            ({"available_bytes": 500_000_000}, ""),
            (
                {"available_bytes": 499_999_999},
                "499 MB of memory free, at least 500 MB wanted",
            ),
            ({"temperature_celsius": 75.0}, ""),
            ({"temperature_celsius": 75.5}, "75.5 °C hot, at most 75 °C wanted"),
            ({"pressure_percent": 10.0}, ""),
            (
                {"pressure_percent": 12.5},
                "12.5 % of the time something waits for memory or disk, at most 10 % wanted",
            ),
            ({"minute": 840}, "outside the shifts mon-fri 06:00-14:00, sat 22:00-06:00"),
            ({"weekday": 6, "minute": 359}, ""),
            ({"weekday": 6}, "outside the shifts mon-fri 06:00-14:00, sat 22:00-06:00"),
        ],
    )
    def test_each_limit(self, changes: dict[str, float], told: str) -> None:
        """A limit itself is allowed; what is beyond it is told in figures."""
        machine = replace(IDLE, **changes)
        assert why_not(STRICT, machine) == told

    def test_what_is_unknown_does_not_matter(self) -> None:
        """A machine without sensors trains."""
        assert why_not(STRICT, UNKNOWN) == ""

    def test_the_shift_comes_first(self) -> None:
        """It is the one that nobody has to look into."""
        machine = replace(IDLE, cpu_percent=100.0, weekday=6)
        assert why_not(STRICT, machine).startswith("outside")


class TestGovernor:
    def test_other_settings_count_at_once(self) -> None:
        """Also within the half second for which the last look counts."""
        governor = Governor(STRICT, Dial(IDLE), ManualClock())
        assert governor.reason() == ""
        governor.adopt(TrainingSection(min_free_bytes=1 << 60))
        assert "memory" in governor.reason()
        governor.adopt(TrainingSection(min_free_bytes=0))
        assert governor.reason() == ""

    @pytest.mark.parametrize(
        ("field", "beyond", "near", "clear", "told"),
        [
            ("cpu_percent", 81.0, 76.1, 76.0, "processor at 76.1 %, at most 76 % wanted"),
            (
                "available_bytes",
                499_000_000,
                524_000_000,
                525_000_000,
                "524 MB of memory free, at least 525 MB wanted",
            ),
            (
                "pressure_percent",
                10.1,
                9.6,
                9.5,
                "9.6 % of the time something waits for memory or disk, at most 9.5 % wanted",
            ),
            ("temperature_celsius", 76.0, 72.5, 72.0, "72.5 °C hot, at most 72 °C wanted"),
        ],
    )
    def test_a_limit_is_left_clearly(
        self, field: str, beyond: float, near: float, clear: float, told: str
    ) -> None:
        """What was allowed before is not at once allowed again, and is once it was clear of it."""
        clock, dial = ManualClock(), Dial(IDLE)
        governor = Governor(STRICT, dial, clock)
        reasons = []
        for value in (near, beyond, near, clear, near):
            dial.machine = replace(IDLE, **{field: value})
            reasons.append(governor.reason())
            clock.advance(1)
        assert [bool(reason) for reason in reasons] == [False, True, True, False, False]
        assert reasons[2] == told

    def test_limits_do_not_hold_each_other(self) -> None:
        """One that was passed leaves the others as they are."""
        clock, dial = ManualClock(), Dial(replace(IDLE, cpu_percent=100.0))
        governor = Governor(STRICT, dial, clock)
        assert governor.reason()
        clock.advance(1)
        dial.machine = replace(IDLE, cpu_percent=10.0, temperature_celsius=74.9)
        assert governor.reason() == ""

    def test_a_small_limit_of_temperature_stays_one(self) -> None:
        """Three degrees below it are still no licence."""
        clock, dial = ManualClock(), Dial(IDLE)
        governor = Governor(TrainingSection(max_temperature_celsius=2), dial, clock)
        assert governor.reason() == "40 °C hot, at most 2 °C wanted"
        clock.advance(1)
        assert governor.reason().startswith("40 °C hot")

    @pytest.mark.parametrize(
        ("changes", "wanted"),
        [
            ({}, False),
            ({"cpu_percent": 99.0}, True),
            ({"temperature_celsius": 99.0}, True),
            ({"pressure_percent": 99.0}, True),
            ({"weekday": 6}, True),
            ({"available_bytes": 1}, False),
            ({"available_bytes": 1, "cpu_percent": 99.0}, True),
        ],
    )
    def test_what_training_in_hand_makes_way_for(
        self, changes: dict[str, float], *, wanted: bool
    ) -> None:
        """Not for memory: a paused process keeps what it has."""
        governor = Governor(STRICT, Dial(replace(IDLE, **changes)), ManualClock())
        assert bool(governor.pressing()) is wanted
        assert "memory of" not in governor.pressing()

    def test_its_own_work_is_no_reason(self) -> None:
        """Without a lower priority it is in the load: it would pause itself for ever."""
        machine, settings = replace(IDLE, cpu_percent=99.0), structs.replace(STRICT, nice=0)
        governor = Governor(settings, Dial(machine), ManualClock())
        assert governor.reason()
        assert not governor.pressing()

    def test_looks_twice_a_second(self) -> None:
        """However often it is asked."""
        clock, dial = ManualClock(), Dial(IDLE)
        governor = Governor(STRICT, dial, clock)
        assert [governor.reason() for _ in range(3)] == ["", "", ""]
        dial.machine = replace(IDLE, cpu_percent=100.0)
        clock.advance(0.45)
        assert governor.reason() == ""
        assert dial.reads == 1
        clock.advance(0.05)
        assert governor.reason() == "processor at 100 %, at most 80 % wanted"
        assert dial.reads == 2

    @given(st.lists(st.floats(0, 100), max_size=30))
    def test_never_flaps_within_the_margin(self, loads: list[float]) -> None:
        """Between two changes of mind the load has crossed the whole margin."""
        clock, dial = ManualClock(), Dial(IDLE)
        governor = Governor(STRICT, dial, clock)
        allowed = True
        for load in loads:
            dial.machine = replace(IDLE, cpu_percent=load)
            allowed = load <= (80 if allowed else 76)
            assert (governor.reason() == "") is allowed
            clock.advance(1)


class TestGauge:
    def test_a_reading(self, root: Path, place: str) -> None:
        """Counters since the last reading, memory, the hottest plausible sensor, local time."""
        now = calendar.timegm((2026, 7, 5, 22, 30, 0))  # Sunday, 00:30 on Monday in summer time
        gauge = Gauge(root)
        ticks(root, user=130, nice=300, system=10, idle=850, iowait=100, irq=4, softirq=5, steal=1)
        assert gauge.read(ManualClock(now * 10**9)) == Machine(
            cpu_percent=12.5,  # 50 of 400 ticks; 200 are of low priority
            available_bytes=512_000 * 1024,
            temperature_celsius=63.25,
            weekday=0,
            minute=30,
        )

    def test_winter(self, root: Path, place: str) -> None:
        """The same hour is another local time."""
        now = calendar.timegm((2026, 1, 4, 22, 30, 0))
        machine = Gauge(root).read(ManualClock(now * 10**9))
        assert (machine.weekday, machine.minute) == (6, 23 * 60 + 30)

    @pytest.mark.parametrize(
        ("files", "told"),
        [
            ({"memory": 1.25, "io": 7.5}, 7.5),
            ({"memory": 30.0}, 30.0),
            ({"io": None}, None),
            ({}, None),
        ],
    )
    def test_pressure(self, root: Path, files: dict[str, float | None], told: float | None) -> None:
        """The larger of the two; a kernel that has none, or writes it otherwise, tells nothing."""
        folder = root / "proc/pressure"
        folder.mkdir()
        for name, average in files.items():
            text = f"some avg10={average} avg60=99.00 avg300=99.00 total=1\nfull avg10=99.00\n"
            (folder / name).write_text(text if average is not None else "none\n")
        assert Gauge(root).read(ManualClock()).pressure_percent == told

    def test_at_most_twice_a_second(self, root: Path) -> None:
        """Within it the same reading is given; after it only what has happened since counts."""
        clock, gauge = ManualClock(), Gauge(root)
        ticks(root, user=200, nice=100, idle=800)
        first = gauge.read(clock)
        ticks(root, user=200, nice=100, idle=900)
        clock.advance(0.45)
        assert gauge.read(clock) is first
        clock.advance(0.05)
        assert (first.cpu_percent, gauge.read(clock).cpu_percent) == (100.0, 0.0)

    @pytest.mark.parametrize(
        "text", ["", "cpu", "cpu a b", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu  " + "1 " * 8]
    )
    def test_counters_that_tell_nothing(self, root: Path, text: str) -> None:
        """Of another form, or going back: the load is unknown."""
        gauge = Gauge(root)
        (root / "proc/stat").write_text(text)
        assert gauge.read(ManualClock()).cpu_percent is None

    @pytest.mark.parametrize(
        "text", ["", "MemFree: 1 kB\n", "MemAvailable:\n", "MemAvailable: x\n"]
    )
    def test_memory_that_is_not_told(self, root: Path, text: str) -> None:
        """An old kernel does not say it."""
        (root / "proc/meminfo").write_text(text)
        assert Gauge(root).read(ManualClock()).available_bytes is None

    def test_a_machine_without_such_files(self, tmp_path: Path) -> None:
        """Everything but the time is unknown."""
        machine = Gauge(tmp_path).read(ManualClock())
        unknown = (machine.cpu_percent, machine.available_bytes, machine.temperature_celsius)
        assert unknown == (None, None, None)
        assert machine.pressure_percent is None

    def test_this_machine(self) -> None:
        """The kernel's own files can be read, and mean what psutil says."""
        gauge, clock = Gauge(), SystemClock()
        memory = psutil.virtual_memory()
        machine = gauge.read(clock)
        assert machine.cpu_percent is None or 0 <= machine.cpu_percent <= 100
        assert machine.available_bytes is not None
        assert abs(machine.available_bytes - memory.available) < memory.total / 4
        assert gauge.read(clock).weekday in range(7)
